"""Models of transformers that take a layout, those that do not, and those that are saved with one."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from small_models import GEMMA, SIZES, SPARSE, agree, model, results, tokens
from torch import nn

import bslang
from bslang.integrations.transformers import attach, positions, register
from bslang.integrations.transformers.attention import Attention

FEW: dict[str, Any] = {"block": 8, "target": "torch"}

# ---- attached ------------------------------------------------------------------------------------------


def test_attach_is_what_register_is() -> None:
    made = model()
    register(SPARSE, **FEW)
    truth = results(made, "bslang")
    name = attach(made, SPARSE, **FEW)
    assert name.startswith("bslang_") and made.config._attn_implementation == name
    agree(results(made, name), truth)
    other = model()
    assert attach(other, SPARSE, **FEW) == name, "equal layouts have one name"
    assert attach(other, "causal", **FEW) != name
    assert attach(other, "causal", name="mine", **FEW) == "mine"
    made.set_attn_implementation("sdpa")
    made(tokens())


def test_a_part_of_a_model() -> None:
    """The text of a model with images: its other parts keep their attention."""
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "image_size": 16,
              "num_attention_heads": 2, "patch_size": 8}  # fmt: skip
    config = transformers.Gemma3Config(
        text_config=GEMMA, vision_config=vision, mm_tokens_per_image=4, image_token_index=63
    )
    made = transformers.Gemma3ForConditionalGeneration(config).eval()
    dense = made(tokens()).logits
    name = attach(made.model.language_model, "last(3t)", **FEW)
    assert made.config.text_config._attn_implementation == name
    assert made.config.vision_config._attn_implementation == "sdpa"
    assert not torch.allclose(made(tokens()).logits, dense, atol=1e-3)


def test_what_cannot_be_attached() -> None:
    made = model()
    with pytest.raises(TypeError, match=r"must be a transformers\.PreTrainedModel, not Linear"):
        attach(nn.Linear(2, 2), "causal")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the model has 2 layers, and there are 3 layouts"):
        attach(made, ["causal"] * 3, **FEW)
    with pytest.raises(ValueError, match="has an attention named 'sdpa' already"):
        attach(made, "causal", name="sdpa", **FEW)
    assert made.config._attn_implementation == "sdpa"


# ---- attention of a model's own ------------------------------------------------------------------------

OWN: dict[str, dict[str, Any]] = {
    "BigBird": SIZES | {"block_size": 4, "num_random_blocks": 1},
    "Bloom": {"vocab_size": 64, "hidden_size": 32, "n_layer": 2, "n_head": 4},
    "DebertaV2": SIZES,
    "GPTJ": {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 8},
    "Longformer": SIZES | {"attention_window": 8},
    "XLNet": {"vocab_size": 64, "d_model": 32, "d_inner": 32, "n_head": 4, "n_layer": 2},
}


@pytest.mark.parametrize("name", OWN)
def test_models_with_an_attention_of_their_own_are_refused(name: str) -> None:
    register("all", allow_noncausal=True, **FEW)
    config = getattr(transformers, f"{name}Config")(**OWN[name])
    own = r"(has its own attention|chooses among attentions of its own).*the layout 'bslang'"
    with pytest.raises(ValueError, match=own):
        transformers.AutoModel.from_config(config, attn_implementation="bslang")
    config = getattr(transformers, f"{name}Config")(**OWN[name])
    with pytest.raises(ValueError, match=own.partition(".*")[0]):
        attach(transformers.AutoModel.from_config(config), "all", **FEW)


class OneDenseLayer(nn.Module):
    """An attention that asks for none, as the layer of a model may be."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.q_proj = inner.q_proj

    def forward(self, hidden_states: torch.Tensor, **kwargs: Any) -> tuple[torch.Tensor, None]:
        query = key = self.q_proj(hidden_states)
        return torch.softmax(query @ key.mT, -1) @ hidden_states, None


OneDenseLayer.__name__ = "OneDenseAttention"


@pytest.mark.parametrize("how", ["attached", "set"])
def test_a_layer_that_asks_for_no_layout_is_an_error(how: str) -> None:
    """Found in the first forward pass, and in each that follows until one has been checked."""
    made = model()
    made.model.layers[1].self_attn = OneDenseLayer(made.model.layers[1].self_attn)
    if how == "attached":
        attach(made, SPARSE, **FEW)
    else:
        register(SPARSE, **FEW)
        made.set_attn_implementation("bslang")
    with pytest.raises(
        ValueError, match=r"in 1 of 2 attention modules: OneDenseAttention did not use it"
    ):
        made(tokens(), use_cache=False)


def test_a_model_that_never_asks_is_an_error() -> None:
    """It has no attention at all."""
    config = transformers.MambaConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=1, state_size=4
    )
    made = transformers.AutoModel.from_config(config).eval()
    attach(made, "causal", **FEW)
    with pytest.raises(ValueError, match="MambaModel never called the layout"):
        made(tokens())


def test_a_pass_that_fails_is_no_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is; and after one that was checked no hook is left."""
    made = model()
    attach(made, SPARSE, **FEW)
    monkeypatch.setattr(Attention, "__call__", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        made(tokens())
    monkeypatch.undo()
    assert _hooks(made) == _hooks(model()) + 1
    made(tokens())
    assert _hooks(made) == _hooks(model())


def _hooks(made: nn.Module) -> int:
    """How many there are, without those that note the positions of every call."""
    hooks = [
        hook
        for module in made.modules()
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    ]
    return sum(getattr(hook, "__module__", "") != positions.__name__ for hook in hooks)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_models_are_copied_before_their_first_pass(copied: Any) -> None:
    made = model()
    attach(made, SPARSE, **FEW)
    other = copied(made)
    assert torch.equal(other(tokens()).logits, made(tokens()).logits)
    assert _hooks(other) == _hooks(made) == _hooks(model())


# ---- layers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", [[None, None], [-1, -1], [0, 0], [1, 1]])
def test_layers_without_numbers_have_those_of_their_places(numbers: list[Any]) -> None:
    made = model()
    layouts = ["last(4t)", "last(8t)"]
    attach(made, layouts, **FEW)
    truth = made(tokens(), use_cache=False).logits
    for layer, number in zip(made.model.layers, numbers, strict=True):
        layer.self_attn.layer_idx = number
    attach(made, layouts, **FEW)
    agree([made(tokens(), use_cache=False).logits], [truth])


def test_encoders_without_numbers() -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 32,
             "patch_size": 8, "intermediate_size": 32}  # fmt: skip
    made = transformers.ViTModel(transformers.ViTConfig(**sizes)).eval()
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    found = []
    for last in ("all", "window(1t)"):
        register(["all", "all", last], **FEW)
        made.set_attn_implementation("bslang")
        found.append(made(image)[0])
    made.set_attn_implementation("eager")
    agree([found[0]], [made(image)[0]])
    assert not torch.allclose(*found, atol=1e-4)


def test_layers_whose_number_cannot_be_told_are_refused() -> None:
    """Models share a module between layers, and call it for each; others have attention outside of layers."""
    register("last((layer + 1) * 4t)", **FEW)
    made = model()
    made.model.layers[1] = made.model.layers[0]
    made.set_attn_implementation("bslang")
    with pytest.raises(ValueError, match="the layers of LlamaForCausalLM share their modules"):
        made(tokens(), use_cache=False)
    register(SPARSE, **FEW)
    made(tokens(), use_cache=False)
    function = Attention("f", [bslang.compile("last((layer + 1) * 4t)", **FEW)], False, False)
    for number in (None, -1):
        module = nn.Module()
        module.layer_idx = number  # type: ignore[assignment]
        with pytest.raises(ValueError, match="Module has no layer number"):
            function.layout(module)


# ---- saved ---------------------------------------------------------------------------------------------


def _forgotten(name: str) -> None:
    """As in a process that has not registered it."""
    for interface in (transformers.AttentionInterface, transformers.AttentionMaskInterface):
        interface._global_mapping.pop(name)


def loaded(folder: Path, **call: Any) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, **call).eval()


@pytest.mark.parametrize("layout", [SPARSE, ["last(4t)", "causal"], "last((layer + 1) * 4t)"])
def test_a_saved_model_comes_back_with_its_layout(layout: Any, tmp_path: Path) -> None:
    made = model()
    name = attach(made, layout, **FEW)
    made.save_pretrained(tmp_path / "first")
    _forgotten(name)
    again = loaded(tmp_path / "first")
    assert again.config._attn_implementation == name
    truth = again(tokens()).logits
    again.save_pretrained(tmp_path / "second")
    assert torch.equal(loaded(tmp_path / "second")(tokens()).logits, truth)
    attach(made, layout, **FEW)
    agree([made(tokens()).logits], [truth])


def test_tables_are_saved_by_their_content(tmp_path: Path) -> None:
    np.save(
        tmp_path / "blocks.npy", np.tril(np.ones((5, 5), bool), 0) ^ np.eye(5, k=-2, dtype=bool)
    )
    file = tmp_path / "table.bsl"
    file.write_text('block 8\nsome = table("blocks.npy") & causal\n')
    made = model()
    name = attach(made, file, target="torch")
    truth = made(tokens()).logits
    made.save_pretrained(tmp_path / "saved")
    _forgotten(name)
    (tmp_path / "blocks.npy").unlink()
    assert str(tmp_path) not in (tmp_path / "saved" / "config.json").read_text()
    assert torch.equal(loaded(tmp_path / "saved")(tokens()).logits, truth)


def test_another_attention_is_asked_for_by_name(tmp_path: Path) -> None:
    made = model()
    attach(made, SPARSE, **FEW)
    made.save_pretrained(tmp_path / "sparse")
    dense = loaded(tmp_path / "sparse", attn_implementation="eager")
    made.set_attn_implementation("eager")
    agree([dense(tokens()).logits], [made(tokens()).logits])
    for each, folder in ((dense, "loaded"), (made, "made")):
        each.save_pretrained(tmp_path / folder)
        assert "bslang" not in (tmp_path / folder / "config.json").read_text()


def test_another_layout_under_the_name_is_refused(tmp_path: Path) -> None:
    made = model()
    register(SPARSE, name="mine", **FEW)
    made.set_attn_implementation("mine")
    made.save_pretrained(tmp_path)
    register("causal", name="mine", **FEW)
    with pytest.raises(ValueError, match="another layout is registered under that name"):
        loaded(tmp_path)
    register(SPARSE, name="mine", block=8)
    loaded(tmp_path)
    config = tmp_path / "config.json"
    written = json.loads(config.read_text())
    written["bslang"]["version"] = 99
    config.write_text(json.dumps(written))
    with pytest.raises(ValueError, match="saved with layouts of a newer bslang"):
        loaded(tmp_path)


LAYOUT = {
    "spec": "causal",
    "block": [8, 8],
    "targets": ["torch"],
    "layer": 0,
    "first_head": 0,
    "tables": [],
}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"name": "sdpa"}, "transformers has an attention named 'sdpa' already"),
        ({"layouts": 3}, "cannot be read: TypeError"),
        ({"layouts": []}, "cannot be read: IndexError"),
        ({"layouts": [{"spec": "causal"}]}, "cannot be read: KeyError"),
        ({"layers": [7]}, "cannot be read: IndexError"),
        ({"layouts": [LAYOUT | {"block": [0, 8]}]}, "block"),
        ({"layouts": [LAYOUT | {"targets": ["none"]}]}, "none"),
        ({"layouts": [LAYOUT | {"layer": -1}]}, "layer must be an integer of at least 0"),
        ({"layouts": [LAYOUT | {"tables": ["?"]}]}, "cannot be read: Error"),
    ],
)
def test_descriptions_that_others_wrote(
    changed: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    """They take no name of transformers' own, and do not crash."""
    made = model()
    name = attach(made, SPARSE, **FEW)
    made.save_pretrained(tmp_path)
    _forgotten(name)
    config = tmp_path / "config.json"
    written = json.loads(config.read_text())
    written["bslang"] |= changed
    written["attn_implementation"] = written["bslang"]["name"]
    config.write_text(json.dumps(written))
    sdpa = transformers.AttentionInterface()["sdpa"]
    with pytest.raises((ValueError, bslang.BslangError), match=reason):
        loaded(tmp_path)
    assert transformers.AttentionInterface()["sdpa"] is sdpa


def test_parts_are_saved_with_their_layouts(tmp_path: Path) -> None:
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "image_size": 16,
              "num_attention_heads": 2, "patch_size": 8}  # fmt: skip
    config = transformers.Gemma3Config(
        text_config=GEMMA, vision_config=vision, mm_tokens_per_image=4, image_token_index=63
    )
    made = transformers.Gemma3ForConditionalGeneration(config).eval()
    name = attach(made.model.language_model, "last(3t)", **FEW)
    truth = made(tokens()).logits
    made.save_pretrained(tmp_path)
    _forgotten(name)
    again = transformers.Gemma3ForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert again.config.vision_config._attn_implementation == "sdpa"
    agree([again(tokens()).logits], [truth])


def test_without_bslang_a_saved_model_does_not_load(tmp_path: Path) -> None:
    made = model()
    name = attach(made, SPARSE, **FEW)
    made.save_pretrained(tmp_path)
    program = (
        f"import transformers; transformers.AutoModelForCausalLM.from_pretrained({str(tmp_path)!r})"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert found.returncode == 1
    assert f'`attn_implementation="{name}"` is not supported' in found.stderr
