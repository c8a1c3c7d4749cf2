"""Layouts as an attention of transformers: what is refused, and what is registered."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch
import transformers
from small_models import GEMMA, LENGTH, RIGHT, SPARSE, agree, model, pairs, results, tokens

import bslang
from bslang.integrations.transformers import register
from bslang.layouts import Layout

# ---- what is refused ----------------------------------------------------------------------------------


def test_decoders_see_no_later_key_unless_told_to() -> None:
    made = model()
    register("window(3)", block=8, target="torch")
    made.set_attn_implementation("bslang")
    reason = r"is a decoder, and in `window\(3\)` query 0 sees key 7, .*allow_noncausal=True"
    with pytest.raises(ValueError, match=reason):
        made(tokens())
    register("window(3)", block=8, target="torch", allow_noncausal=True)
    agree(results(made, "bslang"), results(made, "eager", attention_mask=pairs("window(3)")))


def test_what_a_layout_cannot_do_is_refused() -> None:
    register("causal", block=8, target="torch")
    made = model(attention_dropout=0.1)
    made.set_attn_implementation("bslang")
    made(tokens())
    with pytest.raises(
        ValueError, match=r"dropout of attention weights \(0.1 here\): .* attention_dropout is 0"
    ):
        made.train()(tokens())
    made.eval()
    with pytest.raises(
        ValueError, match=r"attention_mask must be \(batch, length\).*\(2, 1, 40, 40\)"
    ):
        made(tokens(), attention_mask=pairs("last(9t)"))
    with pytest.raises(ValueError, match="one entry per token so far; it is"):
        made(tokens(), attention_mask=RIGHT[:, :30])
    with pytest.raises(ValueError, match="use attn_implementation='eager' for them"):
        made(tokens(), output_attentions=True)
    with pytest.raises(ValueError, match="pairs of its own to its mask"):
        transformers.masking_utils.create_causal_mask(
            made.config,
            torch.zeros(2, LENGTH, 32),
            None,
            None,
            or_mask_function=transformers.masking_utils.padding_mask_function(RIGHT),
        )


def test_tokens_stay_in_a_row() -> None:
    with pytest.raises(ValueError, match=r"tokens of this layout have an order.*remove `order`"):
        register("order tiles(8, 8; 4, 4)\ncausal", target="torch")


def test_dropout_says_what_sets_it() -> None:
    register("causal", block=8, target="torch")
    sizes = {"vocab_size": 64, "n_embd": 32, "n_layer": 1, "n_head": 4, "attn_pdrop": 0.2}
    made = transformers.GPT2Model(transformers.GPT2Config(**sizes))
    made.set_attn_implementation("bslang")
    with pytest.raises(ValueError, match=r"\(0.2 here\): .* in which attn_pdrop is 0"):
        made.train()(tokens())


def test_bert_refuses_to_give_attention_weights() -> None:
    register("all", block=8, target="torch")
    made = model("Bert")
    made.set_attn_implementation("bslang")
    with pytest.raises(ValueError, match="use attn_implementation='eager' for them"):
        made(tokens(), output_attentions=True)


def test_sinks_of_another_kind_are_refused() -> None:
    register("causal", block=8, target="torch")
    made = model("Llama")
    given = torch.zeros(1, 2, 8, 16)
    call = transformers.AttentionInterface()["bslang"]
    with pytest.raises(ValueError, match=r"passes attention sinks that are not logits .*\(sinks\)"):
        call(made.model.layers[0].self_attn, given, given, given, None, sinks=given)


def test_the_text_of_a_model_with_images() -> None:
    """The layout is named for the text alone; a mask that lets the tokens of an image see later ones is not
    the layout's."""
    register("causal", block=8, target="torch")
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "image_size": 16,
              "num_attention_heads": 2, "patch_size": 8}  # fmt: skip
    config = transformers.Gemma3Config(
        text_config=GEMMA, vision_config=vision, mm_tokens_per_image=4, image_token_index=63
    )
    made = transformers.Gemma3ForConditionalGeneration(config).eval()
    truth = results(made, "eager")
    made.set_attn_implementation("eager")
    agree(results(made, {"text_config": "bslang"}), truth)  # type: ignore[arg-type]
    text = {"token_type_ids": torch.zeros_like(tokens()), "use_cache": False}
    agree(results(made, {"text_config": "bslang"}, **text), truth)  # type: ignore[arg-type]
    images = torch.zeros(2, LENGTH, dtype=torch.long)
    images[:, 5:9] = 1
    with pytest.raises(ValueError, match="pairs of its own to its mask"):
        made(tokens(), token_type_ids=images, use_cache=False)


# ---- registration -----------------------------------------------------------------------------------


def test_layouts_come_from_files_and_compiled(tmp_path: Path) -> None:
    file = tmp_path / "two.bsl"
    file.write_text(f"block 8\nnear = last(4t)\nsparse = {SPARSE}\n")
    made = model()
    register(SPARSE, block=8, target="torch")
    truth = results(made, "bslang")
    layout: Layout = bslang.compile(SPARSE, block=8, target="torch")
    other = file.rename(tmp_path / "other.bslang")
    file.write_bytes(other.read_bytes())
    for given in (layout, f"{file}:sparse", Path(f"{file}:sparse"), f"{other}:sparse"):
        register(given)
        agree(results(made, "bslang"), truth)


def test_registrations_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="the sequence is empty"):
        register([])
    with pytest.raises(ValueError, match=r"needs labels \(doc\)"):
        register("same(doc) & causal")
    with pytest.raises(ValueError, match="cannot be changed: the layout is compiled already"):
        register(bslang.compile("causal"), block=32)
    for name in ("eager", "sdpa"):
        with pytest.raises(ValueError, match=f"has an attention named '{name}' already"):
            register("causal", name=name)
    with pytest.raises(ValueError, match="name must be an identifier"):
        register("causal", name="flash/attention")
    with pytest.raises(bslang.SpecError, match="unknown name `windw`"):
        register("windw(3)")
    with pytest.raises(ValueError, match=r"needs selections \(pick\)"):
        register("select(pick) & causal", name="chosen")


@pytest.mark.parametrize("reason", ["missing", "old"])
def test_without_transformers(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("bslang.integrations.")]:
        monkeypatch.delitem(sys.modules, name)
    if reason == "missing":
        monkeypatch.setitem(sys.modules, "transformers", None)
    else:

        def old(batch_size: int, cache_position: torch.Tensor, kv_length: int) -> None: ...

        monkeypatch.setattr(transformers.masking_utils, "flash_attention_mask", old)
    with pytest.raises(ImportError, match=r'pip install "bslang\[transformers\]"'):
        importlib.import_module("bslang.integrations.transformers")
