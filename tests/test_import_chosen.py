"""Configurations of models that choose keys by content: their layouts, against the masks of the models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

import bslang
from bslang.configs.huggingface import document
from bslang.configs.values import ConfigError, Values

DSA = {"model_type": "deepseek_v32", "num_hidden_layers": 4}
MSA: dict[str, Any] = {
    "model_type": "minimax_m3_vl_text",
    "num_hidden_layers": 3,
    "layer_types": ["full_attention", "minimax_m3_sparse", "minimax_m3_sparse"],
}
MINICPM = {"model_type": "minicpm", "sparse_config": {"topk": 64, "window_size": 2048}}
NSA = {"model_type": "nsa", "block_size": 64, "block_counts": 16, "window_size": 512}
MOBA = {"model_type": "a-b", "moba_chunk_size": 512, "moba_topk": 4}


def spec_of(config: dict[str, Any]) -> str:
    return document(Values(config), "config.json")


@pytest.mark.parametrize(
    ("config", "name", "spec", "call"),
    [
        (
            DSA,
            "deepseek_v32",
            "select(pick, rows=1t, cols=1t) & causal",
            "bslang.select.indexer(q, k, weights, top=2048)",
        ),
        (
            {"model_type": "glm_moe_dsa", "index_topk": 64, "num_hidden_layers": 2},
            "glm_moe_dsa",
            "select(pick, rows=1t, cols=1t) & causal",
            "bslang.select.indexer(q, k, weights, top=64)",
        ),
        (
            MSA,
            "sparse",
            "(select(pick, rows=1t, cols=128t) | last(1)) & causal",
            'bslang.select.indexer(q, k, activation="identity", cols=128, top=16, scope="query", '
            'force="last(1t)")',
        ),
        (
            MSA | {"index_local_blocks": 3, "index_block_size": 64},
            "sparse",
            "(select(pick, rows=1t, cols=64t) | last(3)) & causal",
            'cols=64, top=16, scope="query", force="last(129t)")',
        ),
        (
            {
                "model_type": "minimax_m3_vl_text",
                "num_hidden_layers": 2,
                "sparse_attention_config": {
                    "sparse_attention_freq": [0, 1],
                    "sparse_block_size": 32,
                    "sparse_topk_blocks": 8,
                    "sparse_local_block": 0,
                },
            },
            "sparse",
            "select(pick, rows=1t, cols=32t) & causal",
            'cols=32, top=8, scope="query")',
        ),
        (
            MOBA,
            "a_b",
            "(select(pick, rows=1t, cols=512t) | chunks(512t)) & causal",
            'bslang.select.pooled(q, k, rows=1, cols=512, top=4, force="last(1t)")',
        ),
        (
            NSA,
            "nsa_selected",
            "(select(pick, rows=1t, cols=64t) | chunks(64t)) & causal",
            'bslang.select.compressed(q, k, kernel=64, stride=64, cols=64, top=16, force="last(1t)")',
        ),
        (NSA, "nsa_window", "last(512t)", ""),
        (NSA, "nsa_compressed", "{q, k : k * 64 + 64 <= q + 1}", ""),
        (
            MINICPM,
            "minicpm",
            "(select(pick, rows=1t, cols=64t) | cols(0t:64t) | last(33)) & causal",
            'bslang.select.compressed(q, k, kernel=32, stride=16, cols=64, pool="max", top=96, '
            'force="cols(0:64t) | last(2049t)")',
        ),
        (
            {"model_type": "9-x", "sparse_config": {"init_blocks": 0, "use_nope": True}},
            "infllm2",
            "(select(pick, rows=1t, cols=64t) | last(33)) & causal",
            "`use_nope`",
        ),
    ],
)
def test_models_that_choose_keys_are_layouts_with_a_selection(
    config: dict[str, Any], name: str, spec: str, call: str
) -> None:
    text = spec_of(config)
    assert bslang.compile(text, name, target="torch").spec == spec
    assert call in text.replace("\n# ", " ")
    within = {"model_type": "outer", "text_config": config}
    assert bslang.compile(spec_of(within), name, target="torch").spec == spec


def outputs(layout: bslang.Layout, mask: torch.Tensor, pick: torch.Tensor) -> None:
    """A layout with a selection gives the outputs of dense attention under a mask (batch, heads, queries,
    keys), with two query heads to a key head."""
    batch, heads, length = mask.shape[:3]
    generator = torch.Generator().manual_seed(1)
    q, k, v = (
        torch.randn(batch, count, length, 16, generator=generator)
        for count in (heads, heads // 2, heads // 2)
    )
    expected = scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    assert torch.allclose(layout(q, k, v, select={"pick": pick}), expected, atol=2e-6)


def test_minimax_is_the_mask_of_transformers() -> None:
    """Its indexer's own blocks, and the mask that it makes of them."""
    from transformers.models.minimax_m3_vl.configuration_minimax_m3_vl import (
        MiniMaxM3VLTextConfig,
    )
    from transformers.models.minimax_m3_vl.modeling_minimax_m3_vl import MiniMaxM3VLIndexer

    sizes = {"index_block_size": 8, "index_topk_blocks": 3, "index_local_blocks": 2}
    torch.manual_seed(0)
    config = MiniMaxM3VLTextConfig(
        hidden_size=32, num_attention_heads=4, num_key_value_heads=2, index_n_heads=2,
        index_head_dim=16, **sizes,
    )  # fmt: skip
    indexer, length = MiniMaxM3VLIndexer(config, 0), 45
    position = torch.arange(length)[None].expand(2, -1)
    angle = position[..., None] * torch.rand(16)
    with torch.no_grad():
        pick = indexer(torch.randn(2, length, 32), (angle.cos(), angle.sin()), None, position)
    mask = indexer.build_block_mask(pick, None, length, torch.float32, pick.device, position)
    layout = bslang.compile(spec_of(MSA | sizes), "sparse", target="torch")
    outputs(layout, mask == 0, pick)


def test_deepseek_is_the_mask_of_transformers() -> None:
    from transformers.models.deepseek_v32.configuration_deepseek_v32 import DeepseekV32Config
    from transformers.models.deepseek_v32.modeling_deepseek_v32 import DeepseekV32Indexer

    torch.manual_seed(0)
    config = DeepseekV32Config(
        hidden_size=32, q_lora_rank=16, index_n_heads=2, index_head_dim=16, qk_rope_head_dim=8,
        index_topk=7,
    )  # fmt: skip
    indexer, length = DeepseekV32Indexer(config, 0), 45
    causal = torch.ones(length, length, dtype=torch.bool).tril().expand(2, -1, -1)
    position = torch.arange(length)[None].expand(2, -1)
    angle = position[..., None] * torch.rand(8)
    hidden, residual = torch.randn(2, length, 32), torch.randn(2, length, 16)
    pick = indexer(hidden, residual, (angle.cos(), angle.sin()), causal, position)
    seen = torch.zeros(2, length, length, dtype=torch.bool).scatter(-1, pick.long(), True) & causal
    layout = bslang.compile(spec_of(DSA), "deepseek_v32", target="torch")
    outputs(layout, seen[:, None].expand(-1, 4, -1, -1), pick[:, None])


def test_the_rule_in_the_spec_gives_its_forced_blocks() -> None:
    """What the comment of a spec says to call keeps the fixed part of the layout within its budget."""
    torch.manual_seed(0)
    q, k = torch.randn(1, 4, 300, 16), torch.randn(1, 2, 300, 16)
    sparse = {"block_size": 16, "window_size": 32, "topk": 2, "kernel_size": 8, "kernel_stride": 4}
    text = spec_of({"model_type": "minicpm", "sparse_config": sparse})
    written = text.replace("\n# ", " ").partition('{"pick": ')[2].partition("}")[0]
    pick = eval(written, {"bslang": bslang, "q": q, "k": k})
    assert pick.shape == (1, 2, 300, 4)
    for row in (100, 299):
        own = row // 16
        assert {0, own, own - 1, own - 2} == set(pick[0, 0, row].tolist())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (DSA | {"index_topk": 0}, "`index_topk` must be a whole number of at least 1"),
        (DSA | {"layer_types": ["x"] * 4}, 'layers of type "x"'),
        (DSA | {"layer_types": "x"}, "`layer_types` must be a list of words"),
        (DSA | {"layer_types": ["full_attention"]}, "a word for each of 4 layers, not 1"),
        (MSA | {"layer_types": ["full_attention"] * 3}, "no sparse attention.*every layer is full"),
        ({"model_type": "minimax_m3_vl_text"}, "no sparse attention.*every layer is full"),
        ({"model_type": "x", "sparse_config": 3}, "`sparse_config` must be an object"),
        ({"model_type": "x", "sparse_config": {"topk": "many"}}, "`topk` must be a whole number"),
        ({"model_type": "x", "moba_topk": -1}, "`moba_topk` must be a whole number"),
    ],
)
def test_invalid_configurations(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        spec_of(config)
