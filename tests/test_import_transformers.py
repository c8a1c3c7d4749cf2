"""`bslang import` of config.json files, against the masks and attention of transformers itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from imported import blocks, resolved, tokens
from transformers import (
    AutoConfig,
    BigBirdConfig,
    GPTNeoConfig,
    LongformerConfig,
    LongT5Config,
    SwinConfig,
    masking_utils,
)
from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention
from transformers.models.gemma3.modeling_gemma3 import _bidirectional_window_overlay
from transformers.models.gpt_neo.modeling_gpt_neo import GPTNeoSelfAttention
from transformers.models.longformer.modeling_longformer import LongformerSelfAttention
from transformers.models.longt5.modeling_longt5 import (
    LongT5LocalAttention,
    _get_local_attention_mask,
)
from transformers.models.swin.modeling_swin import SwinLayer

from bslang import compiler
from bslang.configs import huggingface, spec_of
from bslang.configs.values import ConfigError
from bslang.ir.grid import Grid
from bslang.ir.oracle import dense
from bslang.ir.runs import Bools

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
    alone = "linear_attention" in kinds  # beside layers without keys, which no definition has
    layout, length = resolved(text, "sliding" if alone else model_type), 9000
    q, k = np.array([[length - 2], [length - 1]]), np.arange(length)[None, :]
    both = model_type == "modernbert"
    seen = {
        "full_attention": (k <= q) | both,
        "sliding_attention": abs(q - k) <= window if both else (k <= q) & (q - k < (window or 0)),
        "chunked_attention": (k <= q) & (q // (chunk or 1) == k // (chunk or 1)),
    }
    for layer, kind in enumerate(kinds):
        if kind == "linear_attention":
            continue
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


def test_types_of_layers_that_have_no_keys() -> None:
    kinds = ["linear_attention", "sliding_attention", "full_attention", "sliding_attention"]
    given = {"model_type": "qwen3", "layer_types": kinds, "sliding_window": 3}
    text = spec_of(given, "config.json")
    assert '# Layer 0: type "linear_attention", which has no counterpart here.' in text
    assert "# Layers 1, 3: the 3 latest tokens.\nsliding = last(3t)" in text
    i, j = np.indices((9, 9))
    for layer, window in ((1, 3), (2, 9), (3, 3)):
        found = tokens(text, "qwen3", 9, layer)
        np.testing.assert_array_equal(found, (j <= i) & (i - j < window))
    one = spec_of(given | {"layer_types": kinds[1::2]}, "config.json")
    assert "# All layers: the 3 latest tokens.\nqwen3 = last(3t)" in one
    chosen = spec_of(given | {"layer_types": ["indexed_attention", *kinds[1:]]}, "config.json")
    assert '"indexed_attention", which chooses keys by their content' in chosen


def test_layers_in_no_order_are_told_in_comments_alone() -> None:
    random = np.random.default_rng(0)
    kinds = random.choice(["sliding_attention", "full_attention"], 100).tolist()
    given = {"model_type": "qwen3", "layer_types": kinds, "sliding_window": 3}
    text = spec_of(given, "config.json")
    assert "sliding = last(3t)" in text and "qwen3 =" not in text


def depends(attend: Callable[[torch.Tensor], torch.Tensor], length: int, hidden: int) -> Bools:
    """Which inputs the outputs of an attention depend on: bool (queries, keys), by derivatives.

    Swin's masks are -100, which leaves weights of exp(-100).
    """
    x = torch.randn(1, length, hidden, dtype=torch.float64, requires_grad=True)
    out = attend(x)[0]
    weights = torch.randn(out.shape[1:], dtype=torch.float64)
    rows = [
        torch.autograd.grad((row * weights).sum(), x, retain_graph=True)[0][0].abs().sum(-1) > 1e-30
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
            drawn.add(graph.visited.dense(32).tobytes())
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


@pytest.mark.parametrize("window, size", [(4, 16), (3, 12), (7, 14)])
def test_swin(window: int, size: int) -> None:
    """The pairs of transformers' own layers, plain and shifted, of two stages."""
    torch.manual_seed(0)
    shape = {"window_size": window, "image_size": 2 * size, "patch_size": 2, "depths": [2, 2]}
    config = SwinConfig(
        **shape, embed_dim=4, num_heads=[1, 1], drop_path_rate=0.0, hidden_act="gelu"
    )
    text = spec_of({"model_type": "swin", **shape}, "config.json")
    for stage, side in enumerate((size, size // 2)):
        for layer in range(2):
            shift = 0 if layer % 2 == 0 else window // 2
            block = SwinLayer(config, 4, 0.0, 1, shift_size=shift).double().eval()
            with torch.no_grad():
                for parameter in block.parameters():
                    parameter.normal_()

            def attend(x: torch.Tensor, block: Any = block, side: int = side) -> torch.Tensor:
                out = block(x, (side, side))
                return out[0] if isinstance(out, tuple) else out  # type: ignore[no-any-return]

            expected = depends(attend, side * side, 4)
            found = tokens(text, f"stage_{stage}", side * side, layer)
            np.testing.assert_array_equal(found, expected)


def test_gpt_neo() -> None:
    """The pairs of transformers' own attention of a layer."""
    torch.manual_seed(0)
    shape = {"attention_types": [[["global", "local"], 1], [["local"], 1]], "num_layers": 3}
    config = GPTNeoConfig(
        **shape, window_size=4, hidden_size=8, num_heads=2, max_position_embeddings=32,
        attention_dropout=0.0, resid_dropout=0.0,
    )  # fmt: skip
    given = {"model_type": "gpt_neo", "window_size": 4, **shape}
    text = spec_of(given, "config.json")
    saved = spec_of(given | {"attention_layers": ["global", "local", "local"]}, "config.json")
    assert saved == text
    for layer in range(3):
        attention = (
            GPTNeoSelfAttention(config, config.attention_layers[layer], layer).double().eval()
        )
        expected = depends(lambda x, run=attention: run(x)[0], 20, 8)  # type: ignore[misc]
        np.testing.assert_array_equal(tokens(text, "gpt_neo", 20, layer), expected)


def test_longt5_local() -> None:
    """The pairs of transformers' own local attention, of an encoder."""
    torch.manual_seed(0)
    config = LongT5Config(
        local_radius=3, d_model=8, d_kv=4, num_heads=2, num_layers=2, dropout_rate=0.0
    )
    attention = LongT5LocalAttention(config, has_relative_attention_bias=True).double().eval()
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.normal_()
    ones = torch.ones(1, 19)
    mask = _get_local_attention_mask(ones, 4, ones.device)
    given = {"model_type": "longt5", "local_radius": 3, "num_layers": 2}
    text = spec_of(given, "config.json")
    expected = depends(lambda x: attention(x, mask=mask)[0], 19, 8)
    np.testing.assert_array_equal(tokens(text, "longt5", 19), expected)
    assert "This is the encoder" in text


def test_neighbourhoods_of_nat() -> None:
    """Each query sees the nearest keys, as many at the edges: the rule of NATTEN, pair by pair."""
    text = spec_of({"model_type": "nat", "kernel_size": 3}, "config.json")
    assert "h = 56t, w = 56t" in text
    h, w = 4, 5
    places = [(row, column) for row in range(h) for column in range(w)]

    def near(at: int, other: int, size: int) -> bool:
        return abs(other - min(max(at, 1), size - 2)) <= 1

    expected = [[near(a, c, h) and near(b, d, w) for c, d in places] for a, b in places]
    np.testing.assert_array_equal(tokens(text, "nat", h * w, h=f"{h}t", w=f"{w}t"), expected)
