"""Models of transformers with small random configurations, and what they give under an attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transformers

import bslang
from bslang import compiler
from bslang.ir import oracle

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
GROUPED = SIZES | {"num_key_value_heads": 2, "head_dim": 8}
GEMMA = GROUPED | {"query_pre_attn_scalar": 5, "sliding_window": 64}
DECODERS: dict[str, dict[str, Any]] = {
    "Llama": GROUPED,
    "Qwen2": GROUPED,
    "Qwen3": GROUPED,
    "Mistral": GROUPED | {"sliding_window": None},
    "Gemma2": GEMMA | {"attn_logit_softcapping": 2.0},
    "Gemma3Text": GEMMA,
    "DeepseekV3": SIZES
    | {
        "first_k_dense_replace": 2,
        # values are narrower than keys
        "num_key_value_heads": 4,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 16,
        "v_head_dim": 16,
    },
    "GptOss": GROUPED | {"num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 64},
}
ENCODERS: dict[str, dict[str, Any]] = {
    "Bert": SIZES,
    "Roberta": SIZES | {"max_position_embeddings": 70},
    "ModernBert": SIZES | {"local_attention": 128, "cls_token_id": 1, "sep_token_id": 2},
}
SPARSE = "(last(5t) | cols(0:2t)) & causal"
LENGTH = 40
RIGHT = (torch.arange(LENGTH) < torch.tensor([[LENGTH], [27]])).long()
LEFT = RIGHT.flip(1)
GREEDY = {"max_new_tokens": 6, "do_sample": False}


def configured(name: str, **changed: Any) -> Any:
    sizes = (DECODERS | ENCODERS)[name]
    return getattr(transformers, f"{name}Config")(**sizes | changed)


def model(name: str = "Llama", **changed: Any) -> Any:
    """A model with random weights, larger than they begin, so that attention is far from uniform."""
    auto = transformers.AutoModelForCausalLM if name in DECODERS else transformers.AutoModel
    torch.manual_seed(0)
    made = auto.from_config(configured(name, **changed)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
        for name, parameter in made.named_parameters():
            if name.endswith(".sinks"):
                parameter.normal_()
    return made


def tokens(batch: int = 2, length: int = LENGTH) -> torch.Tensor:
    return torch.randint(3, 64, (batch, length), generator=torch.Generator().manual_seed(1))


def results(made: Any, attention: str, **call: Any) -> tuple[torch.Tensor, ...]:
    """What a model gives for some tokens, at those that are no padding; and the gradients of its embedding
    and of its sinks."""
    made.set_attn_implementation(attention)
    made.zero_grad()
    call = {"input_ids": tokens()} | call
    out = made(**call)[0]
    mask = call.get("attention_mask")
    if isinstance(mask, torch.Tensor) and mask.dim() == 2:
        out = out[mask.bool()]
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(2))
    (out * weights).sum().backward()
    sinks = [p.grad.clone() for name, p in made.named_parameters() if name.endswith(".sinks")]
    return out.detach(), made.get_input_embeddings().weight.grad.clone(), *sinks


def agree(found: Sequence[torch.Tensor], truth: Sequence[torch.Tensor]) -> None:
    for mine, other in zip(found, truth, strict=True):
        size = float(other.detach().abs().max())
        assert size > 0
        torch.testing.assert_close(mine, other, rtol=0, atol=2e-5 * size)


def pairs(spec: str, length: int = LENGTH) -> torch.Tensor:
    """The layout as eager attention takes a mask: fp32 (2, 1, length, length), added to scores."""
    resolved = bslang.compile(spec, block=8)._resolved
    mask = torch.from_numpy(oracle.dense(resolved.pattern, compiler.grid(resolved, length, length)))
    assert mask.any(-1).all(), "a query without keys has output 0 here, and a mean in transformers"
    added = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    return added.expand(2, 1, length, length)
