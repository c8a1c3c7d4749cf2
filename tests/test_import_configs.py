"""`bslang import`: written specs against the layouts that the configurations stand for.

DeepSpeed's layouts are made here from the published definitions of its classes; masks of models are
those of transformers.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, BigBirdConfig, LongformerConfig, masking_utils
from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention
from transformers.models.gemma3.modeling_gemma3 import _bidirectional_window_overlay
from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

from bslang import compiler
from bslang.cli.main import main
from bslang.configs import deepspeed, huggingface, spec_of
from bslang.configs.values import ConfigError
from bslang.errors import LimitError
from bslang.ir.grid import Grid
from bslang.ir.oracle import dense, dense_blocks
from bslang.ir.runs import Bools
from bslang.limits import MAX_CONFIG_BYTES, MAX_LAYERS
from bslang.resolve.program import Resolved
from bslang.syntax.format import formatted
from bslang.syntax.source import Source


def resolved(text: str, name: str, **parameters: object) -> Resolved:
    """A definition of a written spec, which must be in the one style."""
    source = Source("imported.bsl", text)
    assert formatted(source) == text
    return compiler.resolve(source, name, parameters=parameters)


def blocks(text: str, name: str, n: int, head: int = 0) -> Bools:
    """Which of n x n blocks a definition has, by the oracle."""
    layout = resolved(text, name)
    length = n * layout.block[0]
    return dense_blocks(layout.pattern, Grid.of(length, length, layout.block, head=head))


def tokens(
    text: str, name: str, length: int, layer: int = 0, head: int = 0, **given: object
) -> Bools:
    """The token mask of a definition, by the oracle."""
    layout = resolved(text, name, **given)
    grid = Grid.of(length, length, layout.block, head=head, layer=layer)
    return dense(layout.pattern, grid)


# ---- DeepSpeed -------------------------------------------------------------------------------------


def tiled(n: int, widths: list[int], causal: bool) -> Bools:
    """Windows side by side, the last width again and again."""
    window = np.zeros(n, dtype=int)
    at, number = 0, 0
    while at < n:
        width = widths[min(number, len(widths) - 1)]
        window[at : at + width] = number
        at, number = at + width, number + 1
    same = window[:, None] == window[None, :]
    return same & np.tri(n, dtype=bool) if causal else same


def fixed(n: int, o: Mapping[str, Any], head: int) -> Bools:
    local, width = o["num_local_blocks"], o["num_global_blocks"]
    causal = o["attention"] == "unidirectional"
    seen = tiled(n, [local], causal)
    first = local - width * (1 + head % o["num_different_global_patterns"])
    whole = n // local * local
    starts = [*range(first, whole, local)]
    if whole < n:
        starts.append(min(whole + first, n - width))
    for start in starts:
        seen[start if causal else 0 :, start : start + width] = True
        if o["horizontal_global_attention"]:
            seen[start : start + width] = True
    return seen


def global_ranges(n: int, o: Mapping[str, Any]) -> list[slice]:
    starts, stops = o["global_block_indices"], o["global_block_end_indices"]
    if stops is None:
        stops = [None if at == -1 else at + 1 for at in starts]
    return [
        slice(a, b if b is None else min(b, n)) for a, b in zip(starts, stops, strict=True) if a < n
    ]


def variable(n: int, o: Mapping[str, Any], head: int) -> Bools:
    causal = o["attention"] == "unidirectional"
    seen = tiled(n, o["local_window_blocks"], causal)
    for at in global_ranges(n, o):
        seen[at.start if causal else 0 :, at] = True
        if o["horizontal_global_attention"]:
            seen[at] = True
    return seen


def sliding(n: int, o: Mapping[str, Any]) -> Bools:
    i, j = np.indices((n, n))
    near: Bools = abs(i - j) <= o["num_sliding_window_blocks"] // 2
    return near


def lower_only(seen: Bools, o: Mapping[str, Any]) -> Bools:
    return np.tril(seen) if o["attention"] == "unidirectional" else seen


def bigbird(n: int, o: Mapping[str, Any], head: int) -> Bools:
    seen = sliding(n, o)
    seen[: o["num_global_blocks"]] = seen[:, : o["num_global_blocks"]] = True
    return lower_only(seen, o)


def bslongformer(n: int, o: Mapping[str, Any], head: int) -> Bools:
    seen = sliding(n, o)
    for at in global_ranges(n, o):
        seen[at] = seen[:, at] = True
    return lower_only(seen, o)


def local_sliding_window(n: int, o: Mapping[str, Any], head: int) -> Bools:
    return lower_only(sliding(n, o), o)


LAYOUTS: dict[str, Callable[[int, Mapping[str, Any], int], Bools]] = {
    "dense": lambda n, o, head: np.ones((n, n), dtype=bool),
    "fixed": fixed,
    "variable": variable,
    "bigbird": bigbird,
    "bslongformer": bslongformer,
    "local_sliding_window": local_sliding_window,
}

DEFAULTS: dict[str, Any] = {
    "block": 16,
    "different_layout_per_head": False,
    "num_local_blocks": 4,
    "num_global_blocks": 1,
    "attention": "bidirectional",
    "horizontal_global_attention": False,
    "num_different_global_patterns": 1,
    "num_random_blocks": 0,
    "local_window_blocks": [4],
    "global_block_indices": [0],
    "global_block_end_indices": None,
    "num_sliding_window_blocks": 3,
}


def test_all_modes_and_options_are_known_here() -> None:
    assert LAYOUTS.keys() == deepspeed._MODES.keys()
    assert DEFAULTS.keys() == {*deepspeed.OPTIONS}


@st.composite
def sections(draw: st.DrawFn) -> dict[str, Any]:
    """Sections that DeepSpeed takes, without random blocks; some options are left to their defaults."""
    mode = draw(st.sampled_from(sorted(LAYOUTS)))
    attention = draw(st.sampled_from(["unidirectional", "bidirectional"]))
    width = draw(st.integers(1, 3))
    count = draw(st.integers(1, 4))
    patterns = draw(st.integers(1, count))
    ranges = draw(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 4)), max_size=3))
    with_ends = draw(st.booleans())
    starts = [start for start, _ in ranges]
    starts += [] if with_ends else draw(st.sampled_from([[], [-1]]))
    section = {
        "block": draw(st.sampled_from([1, 4])),
        "different_layout_per_head": patterns > 1 or draw(st.booleans()),
        "num_local_blocks": width * count,
        "num_global_blocks": width,
        "attention": attention,
        "horizontal_global_attention": attention == "bidirectional" and draw(st.booleans()),
        "num_different_global_patterns": patterns,
        "num_random_blocks": 0,
        "local_window_blocks": draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)),
        "global_block_indices": starts,
        "global_block_end_indices": [a + b for a, b in ranges] if with_ends else None,
        "num_sliding_window_blocks": draw(st.integers(1, 6)),
    }
    return {"mode": mode, **section}


@settings(max_examples=120, deadline=None)
@given(sections(), st.integers(1, 14), st.integers(0, 5))
def test_deepspeed_layouts(section: dict[str, Any], n: int, head: int) -> None:
    mode = section["mode"]
    text = spec_of({"train_batch_size": 8, "sparse_attention": section}, "ds_config.json")
    expected = LAYOUTS[mode](n, section, head)
    np.testing.assert_array_equal(blocks(text, mode, n, head), expected)
    size = section["block"]
    if section["attention"] == "unidirectional" and mode != "dense":
        whole = expected.repeat(size, 0).repeat(size, 1)
        found = tokens(text, f"{mode}_causal", n * size, head=head)
        np.testing.assert_array_equal(found, np.tril(whole))
    else:
        assert f"{mode}_causal" not in text


@pytest.mark.parametrize("mode", LAYOUTS)
def test_deepspeed_defaults(mode: str) -> None:
    text = spec_of({"mode": mode}, "section.json")
    options = DEFAULTS | ({"attention": "unidirectional"} if mode.startswith("local") else {})
    assert resolved(text, mode).block == (16, 16)
    for n in (3, 8, 11):
        np.testing.assert_array_equal(blocks(text, mode, n), LAYOUTS[mode](n, options, 0))
    assert mode != "fixed" or spec_of({"sparse_attention": {}}, "section.json") == text


@pytest.mark.parametrize("attention", ["unidirectional", "bidirectional"])
@pytest.mark.parametrize("mode", ["variable", "bigbird"])
@pytest.mark.parametrize("per_head", [False, True])
def test_deepspeed_random_blocks(mode: str, attention: str, per_head: bool) -> None:
    """As many blocks a row as DeepSpeed draws, from where it draws them, on top of all others."""
    options = DEFAULTS | {"attention": attention, "num_random_blocks": 3, "block": 1}
    options["different_layout_per_head"] = per_head
    text = spec_of({"mode": mode, **options}, "section.json")
    assert "no counterpart of the very same draw" in text.replace("\n# ", " ")
    n = 40
    base = LAYOUTS[mode](n, options, 0)
    heads = [blocks(text, mode, n, head) for head in range(2)]
    assert np.array_equal(*heads) != per_head
    drawn = heads[0] & ~base
    assert (base <= heads[0]).all() and drawn.sum(axis=1).max() == 3
    ahead = drawn & ~np.tri(n, dtype=bool)
    # DeepSpeed's variable mode draws ahead of the query even where it is unidirectional.
    assert ahead.any() == (attention == "bidirectional" or mode == "variable")


def test_options_of_other_modes_are_named() -> None:
    text = spec_of({"sparse_attention": {"mode": "dense", "num_local_blocks": 4}}, "ds_config.json")
    assert "Options that this mode does not use: num_local_blocks." in text


# ---- transformers ----------------------------------------------------------------------------------

WINDOWED: dict[str, dict[str, Any]] = {
    "mistral": {"model_type": "mistral", "sliding_window": 5},
    "mixtral": {"model_type": "mixtral", "sliding_window": 1},
    "phi3": {"model_type": "phi3", "sliding_window": 7, "pad_token_id": 0},
    "qwen2": {"model_type": "qwen2", "sliding_window": 6, "max_window_layers": 2},
    "qwen3": {"model_type": "qwen3", "sliding_window": 3, "max_window_layers": 4},
    "qwen2_moe": {"model_type": "qwen2_moe", "sliding_window": 6, "max_window_layers": 4},
    "gemma2": {"model_type": "gemma2", "sliding_window": 4},
    "gemma3": {"model_type": "gemma3_text", "sliding_window": 8, "sliding_window_pattern": 3},
    "gemma3 both ways": {
        "model_type": "gemma3_text", "sliding_window": 9, "use_bidirectional_attention": True
    },
    "gemma3n": {"model_type": "gemma3n_text", "sliding_window": 4},
    "cohere2": {"model_type": "cohere2", "sliding_window": 4, "sliding_window_pattern": 3},
    "olmo3": {"model_type": "olmo3", "sliding_window": 4},
    "gpt_oss": {"model_type": "gpt_oss", "sliding_window": 5},
    "llama4": {"model_type": "llama4_text", "attention_chunk_size": 5},
    "llama4 listed": {
        "model_type": "llama4_text", "attention_chunk_size": 6, "no_rope_layers": [1, 0, 0, 1, 1, 1, 0]
    },
    "layer_types": {
        "model_type": "qwen3",
        "sliding_window": 6,
        "layer_types": [
            f"{kind}_attention" for kind in ("full", "sliding", "sliding", "full", "full", "full", "sliding")
        ],
    },
    "modernbert": {"model_type": "modernbert", "local_attention": 10},
}  # fmt: skip
"""Small configurations; those of Qwen ask for their windows, too."""

for _given in WINDOWED.values():
    if "qwen" in _given["model_type"]:
        _given["use_sliding_window"] = True

LAYERS, LENGTH = 7, 20


def mask_of_model(config: Any, layer: int) -> Bools:
    """The mask of a layer, (LENGTH, LENGTH), by transformers' own functions."""
    config._attn_implementation = "sdpa"
    embeds = torch.zeros(1, LENGTH, 4)
    given = {"config": config, "inputs_embeds": embeds, "attention_mask": None}
    kinds = getattr(config, "layer_types", None)
    kind = kinds[layer] if kinds else "sliding_attention"
    if config.model_type == "modernbert":
        both = {"full_attention": masking_utils.create_bidirectional_mask,
                "sliding_attention": masking_utils.create_bidirectional_sliding_window_mask}  # fmt: skip
        mask = both[kind](**given)
        return np.ones((LENGTH, LENGTH), dtype=bool) if mask is None else mask[0, 0].numpy()
    if getattr(config, "use_bidirectional_attention", False):
        window = config.sliding_window
        given["or_mask_function"] = (
            _bidirectional_window_overlay(window)
            if kind == "sliding_attention"
            else lambda *at: torch.tensor(True)
        )
    make = masking_utils.LAYER_PATTERN_TO_MASK_FUNCTION_MAPPING[kind]
    mask = make(**given, past_key_values=None, allow_is_causal_skip=False)
    found: Bools = mask[0, 0].numpy()
    return found


@pytest.mark.parametrize("saved", [False, True], ids=["as written", "saved by transformers"])
@pytest.mark.parametrize("name", WINDOWED)
def test_windows_are_those_of_transformers(name: str, saved: bool, tmp_path: Path) -> None:
    given = WINDOWED[name] | {"num_hidden_layers": LAYERS}
    config = AutoConfig.for_model(**given)
    if saved:
        config.save_pretrained(tmp_path)
        given = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    text = spec_of(given, "config.json")
    for layer in range(LAYERS):
        found = tokens(text, given["model_type"], LENGTH, layer)
        np.testing.assert_array_equal(found, mask_of_model(config, layer))


@pytest.mark.parametrize(
    "model_type", [name for name, model in huggingface._MODELS.items() if model.make is None]
)
def test_defaults_are_those_of_transformers(model_type: str) -> None:
    """Of a file that leaves everything out, as nested ones may, but asks for windows that are off."""
    given: dict[str, Any] = {"model_type": model_type}
    if "qwen" in model_type:
        given["use_sliding_window"] = True
    config = AutoConfig.for_model(**given).get_text_config()
    window, chunk = (
        getattr(config, "sliding_window", None),
        getattr(config, "attention_chunk_size", 0),
    )
    if not window and not chunk:
        with pytest.raises(ConfigError, match="no layer of"):
            spec_of(given, "config.json")
        return
    text = spec_of(given, "config.json")
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
    layout, length = resolved(text, model_type), 9000
    q, k = np.array([[length - 2], [length - 1]]), np.arange(length)[None, :]
    both = model_type == "modernbert"
    seen = {
        "full_attention": (k <= q) | both,
        "sliding_attention": abs(q - k) <= window if both else (k <= q) & (q - k < (window or 0)),
        "chunked_attention": (k <= q) & (q // (chunk or 1) == k // (chunk or 1)),
    }
    for layer, kind in enumerate(kinds):
        grid = Grid.of(2, length, layout.block, layer=layer)
        np.testing.assert_array_equal(dense(layout.pattern, grid), seen[kind])
    assert f"{len(kinds) - 1}" in text or "All layers" in text


def test_nested_configurations_and_what_has_no_counterpart() -> None:
    inner = {"model_type": "gemma3_text", "sliding_window": 8, "attn_logit_softcapping": 30.0}
    outer = {"model_type": "gemma3", "text_config": inner, "vision_config": {}}
    text = spec_of(outer, "config.json")
    assert "softcap=30.0" in text and "the text model" in text
    del inner["model_type"]  # older files have the outer one alone
    assert "gemma3 = sliding" in spec_of(outer, "config.json")
    assert "attention sink" in spec_of({"model_type": "gpt_oss"}, "config.json")
    dropped = spec_of({"model_type": "mistral", "attention_dropout": 0.1}, "config.json")
    assert "`attention_dropout` (0.1) has no counterpart" in dropped
    assert "softcap=50.0" in spec_of({"model_type": "gemma2"}, "config.json")


def test_any_model_with_types_of_layers() -> None:
    kinds = ["linear_attention", "sliding_attention", "full_attention", "sliding_attention"]
    text = spec_of({"model_type": "new", "layer_types": kinds, "sliding_window": 3}, "config.json")
    assert '# Layer 0: type "linear_attention", which has no counterpart here.' in text
    assert "# Layers 1, 3: the 3 latest tokens.\nsliding = last(3t)" in text
    i, j = np.indices((9, 9))
    for layer, window in ((1, 3), (2, 9), (3, 3)):
        found = tokens(text, "model", 9, layer)
        np.testing.assert_array_equal(found, (j <= i) & (i - j < window))
    one = spec_of({"layer_types": kinds[1::2], "sliding_window": 3}, "config.json")
    assert "# All layers: the 3 latest tokens.\nmodel = last(3t)" in one


def test_layers_in_no_order_are_told_in_comments_alone() -> None:
    random = np.random.default_rng(0)
    kinds = random.choice(["sliding_attention", "full_attention"], 100).tolist()
    text = spec_of({"layer_types": kinds, "sliding_window": 3}, "config.json")
    assert "sliding = last(3t)" in text and "model =" not in text


def depends(attend: Callable[[torch.Tensor], torch.Tensor], length: int, hidden: int) -> Bools:
    """Which inputs the outputs of an attention depend on: bool (queries, keys), by derivatives."""
    x = torch.randn(1, length, hidden, dtype=torch.float64, requires_grad=True)
    out = attend(x)[0]
    weights = torch.randn(out.shape[1:], dtype=torch.float64)
    rows = [
        torch.autograd.grad((row * weights).sum(), x, retain_graph=True)[0][0].abs().sum(-1) > 0
        for row in out
    ]
    found: Bools = torch.stack(rows).numpy()
    return found


@pytest.mark.parametrize("first", [0, 2])
@pytest.mark.parametrize("layer", [0, 1])
def test_longformer(first: int, layer: int) -> None:
    """The pairs that transformers' own attention of a layer looks at, with the first tokens global."""
    torch.manual_seed(0)
    config = LongformerConfig(
        attention_window=[4, 8], num_hidden_layers=2, hidden_size=8, num_attention_heads=2,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    attention = LongformerSelfAttention(config, layer).double().eval()
    length = 24
    mask = torch.zeros(1, length, dtype=torch.float64)
    mask[:, :first] = 1.0
    expected = depends(
        lambda x: attention(
            x, attention_mask=mask, is_index_masked=mask < 0, is_index_global_attn=mask > 0,
            is_global_attn=bool(first),
        )[0],
        length, 8,
    )  # fmt: skip
    given = {"model_type": "longformer", "attention_window": [4, 8], "num_hidden_layers": 2}
    text = spec_of(given, "config.json")
    np.testing.assert_array_equal(
        tokens(text, "longformer", length, layer, g=f"{first}t"), expected
    )
    width = given["attention_window"][layer]
    np.testing.assert_array_equal(tokens(text, f"window_{width}", length, g=f"{first}t"), expected)


def test_led_has_longformers_encoder() -> None:
    text = spec_of({"model_type": "led", "attention_window": 4, "encoder_layers": 3}, "config.json")
    assert "led(g = 1t) = window(5t) | global(0:g)" in text and "This is the encoder" in text


@pytest.mark.parametrize("training", [False, True])
def test_bigbird(training: bool) -> None:
    """The pairs of transformers' own attention: all but random blocks, of which there are as many."""
    torch.manual_seed(0)
    block, n, r = 2, 16, 2
    sizes = {"block_size": block, "num_random_blocks": r, "num_attention_heads": 1}
    config = BigBirdConfig(**sizes, hidden_size=4, max_position_embeddings=n * block)
    attention = BigBirdBlockSparseAttention(config, 1).double().train(training)
    length = n * block
    ones = torch.ones(1, length, dtype=torch.float64)
    of_blocks = ones.view(1, n, block)
    band = torch.ones(1, 1, n - 4, block, 3 * block, dtype=torch.float64)

    def attend(x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = attention(
            x, band, ones.view(1, 1, length, 1), ones.view(1, 1, 1, length), of_blocks, of_blocks
        )[0]
        return out

    found = depends(attend, length, 4)
    whole = found.reshape(n, block, n, block)
    held = whole.any(axis=(1, 3))
    np.testing.assert_array_equal(held, whole.all(axis=(1, 3)))
    text = spec_of({"model_type": "big_bird", **sizes}, "config.json")
    seen = blocks(text.replace("_seen", "seen"), "seen", n)
    if not training:
        np.testing.assert_array_equal(held, seen)
        return
    ours = blocks(text, "big_bird", n)
    assert (seen <= held).all() and (seen <= ours).all()
    # transformers' draw does not fill the rows near the ends; no row has more than r.
    drawn = (held & ~seen).sum(axis=1)
    assert drawn.max() == r and ((ours & ~seen).sum(axis=1)[1:-1] == r).all()


def test_bigbird_layers_and_heads_draw_by_themselves() -> None:
    text = spec_of({"model_type": "bigbird_pegasus", "encoder_attention_heads": 2}, "config.json")
    assert "layer * 2 + head" in text and "This is the encoder" in text
    layout = resolved(text, "bigbird_pegasus")
    drawn = set()
    for layer in range(2):
        for head in range(2):
            graph = compiler.lower(layout, 2048, 2048, layer=layer, head=head)
            drawn.add(graph.held.dense(32).tobytes())
    assert len(drawn) == 4
    full = {"model_type": "bigbird_pegasus", "attention_type": "original_full"}
    assert "bigbird_pegasus = all" in spec_of(full, "config.json")
    decoder = {"model_type": "big_bird", "attention_type": "original_full", "is_decoder": True}
    assert "big_bird = causal" in spec_of(decoder, "config.json")


@pytest.mark.parametrize("heads, stride, same", [(3, 4, False), (2, 5, False), (2, 4, True)])
def test_phi3_small(heads: int, stride: int, same: bool) -> None:
    """The rule of the model: the latest blocks, and every `stride`th, moved on by head."""
    given = {
        "model_type": "phi3small", "num_hidden_layers": 4, "num_attention_heads": heads,
        "blocksparse_block_size": 2, "blocksparse_num_local_blocks": 3, "blocksparse_vert_stride": stride,
        "blocksparse_homo_head_pattern": same, "dense_attention_every_n_layers": 2,
    }  # fmt: skip
    text = spec_of(given, "config.json")
    n = 17
    i, j = np.indices((n, n))
    for head in range(heads):
        moved = 0 if same else head * max(1, stride // heads)
        sparse = (j <= i) & ((i - j < 3) | ((j + moved + 1) % stride == 0))
        for layer in range(4):
            expected = (j <= i) if layer % 2 else sparse
            expected = np.tril(expected.repeat(2, 0).repeat(2, 1))
            np.testing.assert_array_equal(tokens(text, "phi3small", 2 * n, layer, head), expected)
    undone = given | {"dense_attention_every_n_layers": None}
    assert "# All layers" in spec_of(undone, "config.json")


# ---- what is refused -------------------------------------------------------------------------------

WRONG: list[tuple[object, str]] = [
    ([1], "a configuration is a JSON object"),
    ({}, "no `sparse_attention`, `model_type` or `layer_types`"),
    ({"train_batch_size": 8}, "no sparse attention in this configuration"),
    ({"sparse_attention": []}, "`sparse_attention` must be an object"),
    ({"sparse_attention": {"mode": "fixd"}}, '`mode` must be one of "dense", "fixed"'),
    ({"sparse_attention": {"num_locl_blocks": 2}}, "did you mean `num_local_blocks`"),
    ({"sparse_attention": {"x\n": 2}}, r'unknown key "x\\n" in'),
    ({"sparse_attention": {"num_local_blocks": "4"}}, 'whole number of at least 1, not "4"'),
    ({"sparse_attention": {"block": 0}}, "`block` must be a whole number from 1 to 4096, not 0"),
    ({"sparse_attention": {"num_local_blocks": 3, "num_global_blocks": 2}}, "a multiple of"),
    ({"sparse_attention": {"num_different_global_patterns": 5}}, "can be at most"),
    ({"sparse_attention": {"num_different_global_patterns": 2}}, "needs `different_layout_per_head`"),
    ({"sparse_attention": {"attention": "both"}}, '"unidirectional", "bidirectional", not "both"'),
    ({"attention": "unidirectional", "horizontal_global_attention": True}, "needs `attention`"),
    ({"sparse_attention": {"horizontal_global_attention": 1}}, "must be true or false, not 1"),
    ({"mode": "variable", "local_window_blocks": []}, "must have a number"),
    ({"mode": "variable", "local_window_blocks": [0]}, "a list of whole numbers of at least 1"),
    ({"mode": "variable", "global_block_indices": 3}, "must be a list of whole numbers"),
    ({"mode": "bslongformer", "global_block_end_indices": [1, 2]}, "as many numbers"),
    ({"mode": "bslongformer", "global_block_end_indices": [0]}, "must end after its start"),
    ({"model_type": 3}, "`model_type` must be text"),
    ({"model_type": "llama"}, 'no layer of "llama" has a window or chunks'),
    ({"model_type": "mistral", "sliding_window": None}, "has a window or chunks"),
    ({"model_type": "mistral", "sliding_window": True}, "at least 1, not true"),
    ({"model_type": "mistral", "num_hidden_layers": 0}, "`num_hidden_layers` must be"),
    ({"model_type": "gemma2", "sliding_window": None}, "need `sliding_window`"),
    ({"model_type": "gemma2", "use_bidirectional_attention": True}, "is not known"),
    ({"model_type": "gemma3", "text_config": 1}, "`text_config` must be an object"),
    ({"layer_types": "full"}, "`layer_types` must be a list of words"),
    ({"layer_types": ["sliding_attention"], "num_hidden_layers": 2}, "each of 2 layers, not 1"),
    ({"model_type": "llama4", "no_rope_layers": [1]}, "each of 48 layers, not 1"),
    ({"model_type": "longformer", "attention_window": 5}, "must be even, not 5"),
    ({"model_type": "longformer", "attention_window": [4], "num_hidden_layers": 2}, "each of 2 layers"),
    ({"model_type": "big_bird", "attention_type": "sparse"}, '"block_sparse", "original_full"'),
    ({"model_type": "phi3small", "dense_attention_every_n_layers": 1}, "every layer is dense"),
]  # fmt: skip


@pytest.mark.parametrize(("config", "message"), WRONG, ids=[json.dumps(c)[:60] for c, _ in WRONG])
def test_wrong_configurations(config: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        spec_of(config, "config.json")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


def test_too_many_layers() -> None:
    with pytest.raises(LimitError, match="MAX_LAYERS"):
        spec_of({"model_type": "mistral", "num_hidden_layers": MAX_LAYERS + 1}, "config.json")


def test_free_text_of_a_configuration_stays_in_its_comment() -> None:
    kinds = ["sliding_attention", "x\ny = all"]
    given = {"model_type": "a\nwild = all", "layer_types": kinds, "sliding_window": 2}
    text = spec_of(given, "evil\nname = all.json")
    assert compiler.program(Source("imported.bsl", text)).names == ("sliding",)


# ---- the command -----------------------------------------------------------------------------------

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """run(*arguments, stdin=b""): (status, stdout, stderr) of the program, in a folder with config.json."""
    monkeypatch.chdir(tmp_path)
    Path("config.json").write_text('{"model_type": "gpt_oss"}', encoding="utf-8")

    def run(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["bslang", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        status: object = 0
        try:
            main()
        except SystemExit as stop:
            status = stop.code or 0
        assert isinstance(status, int)
        return status, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    "config",
    [
        *WINDOWED.values(),
        *({"mode": mode} for mode in LAYOUTS),
        {"mode": "fixed", "num_global_blocks": 2, "attention": "unidirectional"},
        {"model_type": "longformer", "attention_window": [4] * 6 + [8] * 6},
        {"model_type": "big_bird"},
        {"model_type": "phi3small"},
    ],
    ids=json.dumps,
)
def test_what_is_written_passes_check_and_fmt(run: Run, config: dict[str, Any]) -> None:
    if "no_rope_layers" in config or "layer_types" in config:
        config = config | {"num_hidden_layers": LAYERS}
    Path("config.json").write_text(json.dumps(config), encoding="utf-8")
    assert run("import", "config.json", "-o", "new/out.bsl") == (0, "new/out.bsl\n", "")
    status, out, err = run("check", "--strict", "new/out.bsl")
    assert (status, err) == (0, "") and "ok" in out
    assert run("fmt", "--check", "new/out.bsl") == (0, "", "")


def test_files_that_exist_are_left_alone(run: Run) -> None:
    out = Path("out.bsl")
    out.write_text("all", encoding="utf-8")
    status, printed, err = run("import", "config.json", "-o", "out.bsl")
    assert (status, printed, err) == (1, "", "error: out.bsl exists; --force replaces it\n")
    assert out.read_text(encoding="utf-8") == "all"
    status, text, _ = run("import", "config.json")
    assert status == 0 and run("import", "config.json", "-o", "out.bsl", "--force")[0] == 0
    assert out.read_text(encoding="utf-8") == text


def test_standard_input(run: Run) -> None:
    status, out, _ = run("import", "-", stdin=b'\xef\xbb\xbf{"mode": "dense"}')
    assert status == 0 and "dense = all" in out


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "this is not JSON: "),
        (b"\xff", "this file is not UTF-8 text (byte 0)"),
        (b"[" * 100_000, "too deep"),
        (b"1" * 10_000, "too long a number"),
        (b'{"mode": 1}', "`mode` must be one of"),
        (None, "this is a folder"),
        ("missing.json", "no such file"),
    ],
)
def test_unreadable_files(run: Run, data: bytes | str | None, message: str) -> None:
    path = data if isinstance(data, str) else "given.json"
    if data is None:
        Path(path).mkdir()
    elif isinstance(data, bytes):
        Path(path).write_bytes(data)
    status, out, err = run("import", path, "-o", "out.bsl")
    assert status == 1 and out == ""
    assert err.startswith(f"error: {path}: ") and message in err and err.count("\n") == 1
    assert not Path("out.bsl").exists()


def test_limits_and_names(run: Run) -> None:
    with Path("large.json").open("wb") as file:
        file.truncate(MAX_CONFIG_BYTES + 1)
    status, _, err = run("import", "large.json")
    assert status == 3 and "MAX_CONFIG_BYTES" in err
    status, _, err = run("import", "config.json", "-o", "out.json")
    assert status == 1 and "these end in .bsl" in err
    Path("dir.bsl").mkdir()
    status, _, err = run("import", "config.json", "-o", "dir.bsl")
    assert status == 1 and "is a folder" in err
    status, _, err = run("import", "config.json", "-o", "config.json/out.bsl")
    assert status == 1 and "cannot write" in err
