"""`bslang import` of model types that no table has: by transformers' own masks, or refused by name."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from imported import tokens
from transformers import AttentionInterface, AttentionMaskInterface, AutoConfig, AutoModel
from transformers.masking_utils import (
    and_masks,
    causal_mask_function,
    chunked_causal_mask_function,
    eager_mask,
    sliding_window_bidirectional_mask_function,
    sliding_window_causal_mask_function,
)

from bslang.configs import masks, spec_of
from bslang.configs.masks import Interval, interval_of
from bslang.configs.values import ConfigError
from bslang.ir.runs import Bools

SMALL: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 160, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
EXPERTS = {
    "num_local_experts": 2,
    "num_experts": 2,
    "num_experts_per_tok": 1,
    "moe_intermediate_size": 16,
}
SLIDING, FULL = "sliding_attention", "full_attention"

UNLISTED: dict[str, dict[str, Any]] = {
    "ultrabert": {"num_hidden_layers": 6},
    "openai_privacy_filter": {"num_hidden_layers": 2, **EXPERTS},
    "smollm3": {
        "num_hidden_layers": 8, "use_sliding_window": True, "no_rope_layers": [1, 1, 1, 0] * 2
    },
    "afmoe": {"num_hidden_layers": 8, "num_dense_layers": 1, **EXPERTS},
    "cwm": {"num_hidden_layers": 8},
    "exaone4": {"num_hidden_layers": 8, "sliding_window_pattern": 4},
    "modernbert-decoder": {"num_hidden_layers": 6, "local_attention": 12},
    "vaultgemma": {"num_hidden_layers": 4},
    "mistral": {"num_hidden_layers": 2, "is_causal": False},
    "gemma2": {"num_hidden_layers": 3, "use_bidirectional_attention": True},
}  # fmt: skip
"""Types that the table lacks, and types that a key takes out of it."""

LENGTH = 24


@pytest.fixture
def truth(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[tuple[int, Bools]]]:
    """truth(config): the layers and pairs that transformers gives its attention, in a real forward pass."""
    found: list[tuple[int, Bools]] = []

    def probe(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **_: Any) -> Any:
        pairs = np.ones((LENGTH, LENGTH), dtype=bool)
        if attention_mask is not None:
            pairs = (attention_mask > -1)[0, 0].numpy()
        else:
            assert not module.is_causal
        found.append((getattr(module, "layer_idx", len(found)), pairs))
        return torch.zeros_like(query).transpose(1, 2).contiguous(), None

    monkeypatch.setitem(AttentionInterface._global_mapping, "probe", probe)
    monkeypatch.setitem(AttentionMaskInterface._global_mapping, "probe", eager_mask)

    def run(config: Any) -> list[tuple[int, Bools]]:
        torch.manual_seed(0)
        model = AutoModel.from_config(config, attn_implementation="probe").eval()
        with torch.no_grad():
            model(torch.randint(4, 64, (1, LENGTH)))
        return found

    return run


@pytest.mark.parametrize("saved", [False, True], ids=["as written", "saved by transformers"])
@pytest.mark.parametrize("model_type", UNLISTED)
def test_layouts_are_those_of_transformers(
    model_type: str, saved: bool, tmp_path: Path, truth: Callable[[Any], list[tuple[int, Bools]]]
) -> None:
    given = SMALL | {"sliding_window": 6, "model_type": model_type} | UNLISTED[model_type]
    config = AutoConfig.for_model(**given)
    layers = truth(config)
    assert len(layers) == given["num_hidden_layers"]
    if saved:
        config.save_pretrained(tmp_path)
        given = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    text = spec_of(given, "config.json")
    name = re.findall(r"^(\w+) =", text, re.MULTILINE)[-1]
    assert name == model_type.replace("-", "_")
    for layer, pairs in layers:
        np.testing.assert_array_equal(tokens(text, name, LENGTH, layer), pairs)


def test_encoders_and_decoders_have_a_definition_each() -> None:
    small = SMALL | {"num_hidden_layers": 2, "layer_types": [SLIDING, FULL], "sliding_window": 4}
    text = spec_of({"model_type": "t5gemma", "encoder": small, "decoder": small}, "config.json")
    i, j = np.indices((12, 12))
    np.testing.assert_array_equal(tokens(text, "t5gemma_encoder", 12, 0), abs(i - j) <= 4)
    np.testing.assert_array_equal(tokens(text, "t5gemma_decoder", 12, 0), (j <= i) & (i - j < 4))
    assert tokens(text, "t5gemma_encoder", 12, 1).all()
    np.testing.assert_array_equal(tokens(text, "t5gemma_decoder", 12, 1), j <= i)
    assert "sees all of the encoder's output" in text


@pytest.mark.parametrize("key", ["text_config", "llm_config", "language_config"])
def test_text_models_lie_within(key: str) -> None:
    inner = SMALL | {"model_type": "cwm", "sliding_window": 6, "num_hidden_layers": 4}
    text = spec_of({"model_type": "some_vl", key: inner}, "config.json")
    assert "cwm" in text and "last(6t)" in text and "the text model" in text
    nested = {"model_type": "some_omni", "thinker_config": {"model_type": "t", key: inner}}
    assert "last(6t)" in spec_of(nested, "config.json")


def test_sizes_of_published_models_cost_no_memory() -> None:
    given = {
        "model_type": "cwm", "hidden_size": 16384, "intermediate_size": 53248, "num_hidden_layers": 126,
        "num_attention_heads": 128, "vocab_size": 128256, "sliding_window": 8192,
        "max_position_embeddings": 2**27,
    }  # fmt: skip
    text = spec_of(given, "config.json")
    assert "last(8192t)" in text and "layer % 4 == 0" in text


# ---- what is refused -------------------------------------------------------------------------------

CONTENT: dict[str, dict[str, Any]] = {
    "nsa": {"num_selected_blocks": 16, "sliding_window": 64},
    "reformer": {"attn_layers": ["local", "lsh"], "num_hashes": 2},
    "axk2": {},
}


@pytest.mark.parametrize("model_type", CONTENT)
def test_what_is_chosen_by_content_is_told(model_type: str) -> None:
    given = {"model_type": model_type, **CONTENT[model_type]}
    with pytest.raises(ConfigError, match=r"^chosen by content: `\w+`") as caught:
        spec_of(given, "config.json")
    assert "bslang does not know the rule" in str(caught.value)
    if CONTENT[model_type]:
        with pytest.raises(ConfigError, match=r"^chosen by content"):
            spec_of({"model_type": "outer", "llm_config": given}, "config.json")


STATIC: list[tuple[dict[str, Any], str]] = [
    ({"model_type": "new", "sliding_window": 64}, "`sliding_window`: the model type"),
    (
        {"model_type": "new", "layer_types": [SLIDING, FULL], "sliding_window": 4},
        "`layer_types`, `slid",
    ),
    (
        {"model_type": "new", "is_causal": False, "attention_window": 4},
        "`is_causal`, `attention_window`",
    ),
    ({"model_type": "blocks", "block_size": 4, "local_blocks": 3}, "`block_size`, `local_blocks`"),
    ({"model_type": "swinv2", "window_size": 7}, "`window_size`.*takes no tokens"),
    ({"model_type": "cwm", "sliding_window": 2**23}, "too large to make a model of"),
    (
        {"model_type": "cwm", "sliding_window": 4, "num_hidden_layers": 5000},
        "`num_hidden_layers` .5000.",
    ),
    ({"model_type": "cwm", "sliding_window": "x"}, "transformers cannot run a model of it"),
    (
        {"model_type": "deepseek_v4", "layer_types": ["striped"], "sliding_window": 4},
        "cannot run a model",
    ),
]


@pytest.mark.parametrize(("given", "message"), STATIC, ids=[json.dumps(g)[:60] for g, _ in STATIC])
def test_what_is_not_read_is_told_by_its_keys(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=r"^static, not read yet: ") as caught:
        spec_of(given, "config.json")
    assert re.search(message, str(caught.value)) and str(caught.value).isprintable()


def test_nothing_is_said_of_what_is_not_known() -> None:
    with pytest.raises(ConfigError, match=r'^unknown model type "new": .*does not prove'):
        spec_of({"model_type": "new", "hidden_size": 64}, "config.json")
    with pytest.raises(ConfigError, match=r'^no sparse attention .*"llama" has a window'):
        spec_of({"model_type": "llama", "num_hidden_layers": 2}, "config.json")


def test_without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is read as ever; of the rest, what is not known is said."""
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert "last(5t)" in spec_of({"model_type": "mistral", "sliding_window": 5}, "config.json")
    for given in (
        {"model_type": "cwm", "sliding_window": 5},
        {"model_type": "mistral", "is_causal": False},
    ):
        with pytest.raises(
            ConfigError,
            match=r"^static, not read yet: .*asking transformers needs transformers .* not installed",
        ):
            spec_of(given, "config.json")
    with pytest.raises(ConfigError, match=r"^unknown model type"):
        spec_of({"model_type": "llama"}, "config.json")


# ---- masks as intervals ----------------------------------------------------------------------------


def test_masks_are_read_as_what_they_are() -> None:
    padding = torch.zeros(1, dtype=torch.long)
    for function, expected in (
        (causal_mask_function, Interval(None, 0)),
        (lambda b, h, q, k: q >= 0, Interval(None, None)),
        (sliding_window_causal_mask_function(6), Interval(5, 0)),
        (sliding_window_causal_mask_function(4096), Interval(4095, 0)),
        (sliding_window_bidirectional_mask_function(6), Interval(6, 6)),
        (lambda b, h, q, k: (q - k <= 3) & (k - q <= 1), Interval(3, 1)),
        (lambda b, h, q, k: k - q <= 2, Interval(None, 2)),
        (chunked_causal_mask_function(5, padding), Interval(None, 0, 5)),
        (lambda b, h, q, k: q // 700 == k // 700, Interval(None, None, 700)),
        (lambda *at: torch.tensor(True), Interval(None, None)),
    ):
        assert interval_of(function, 10_000) == expected


@pytest.mark.parametrize(
    "function",
    [
        lambda b, h, q, k: (k <= q) & ((q - k) % 2 == 0),
        lambda b, h, q, k: (k <= q) & ((k < 4) | (q - k < 8)),
        lambda b, h, q, k: (k <= q) & ((h == 0) | (q - k < 8)),
        lambda b, h, q, k: (k <= q) & ((q < 5000) | (q - k < 8)),
        lambda b, h, q, k: (k <= q) & (q - k < 8 + q // 4000),
        lambda b, h, q, k: (k <= q) & ((k != 0) | (q != 77)),
        and_masks(
            causal_mask_function, lambda b, h, q, k: torch.ones(1, 24, dtype=torch.bool)[b, k]
        ),
        lambda b, h, q, k: k < 0,
    ],
)
def test_masks_of_other_kinds_are_not_read(function: masks.Function) -> None:
    assert interval_of(function, 10_000) is None
