"""Hugging Face's Longformer attention (`transformers`), and its layout: a window of tokens to both sides."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.peers import Attend, NotRun, Peer, afford
from benchmarks.workloads import Pattern, Workload

WINDOW = 512
"""Tokens, half of them to each side beside the query's own: `attention_window` of the published models."""


def pattern(window: int = WINDOW) -> Pattern:
    """The layout of an `attention_window`, without global tokens."""
    side = window // 2
    return Pattern(
        "Longformer of Hugging Face",
        f"window(left={side}t, right={side}t)",
        lambda q, k: (q - k).abs() <= side,
    )


def attention_of(window: int, dim: int, heads: int) -> Attend:
    """The module's attention without its projections: q, k and v stand where it would project.

    They are copied into its own order (length, batch, heads x dim), as projections would write them.
    Raises NotRun where transformers is not installed.
    """
    try:
        from transformers import LongformerConfig
        from transformers.models.longformer.modeling_longformer import LongformerSelfAttention
    except ImportError:
        raise NotRun("the package transformers is not installed (pip install '.[bench]')") from None
    config = LongformerConfig(
        hidden_size=heads * dim,
        num_attention_heads=heads,
        num_hidden_layers=1,
        attention_window=[window],
        attention_probs_dropout_prob=0.0,
    )
    made: Any = LongformerSelfAttention
    module = made(config, layer_id=0)

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        length = q.shape[2]
        for name, given in (("query", q), ("key", k), ("value", v)):
            module._modules[name] = _Instead(given)
        nothing = torch.zeros(1, length)
        (out,) = module(
            q.new_empty(1, length, heads * dim),
            attention_mask=nothing,
            is_index_masked=nothing.bool(),
            is_global_attn=False,
        )
        attended: torch.Tensor = out.view(1, length, heads, dim).transpose(1, 2)
        return attended

    return attend


class _Instead(torch.nn.Module):
    """A projection whose result is given: (1, heads, length, dim), as (length, 1, heads x dim)."""

    def __init__(self, given: torch.Tensor) -> None:
        super().__init__()
        self.given = [given]  # a list, so that it is no parameter of the module

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        # A new tensor each time: the module scales queries in place.
        return self.given[0].permute(2, 0, 1, 3).reshape(hidden.shape).clone()


def peer(window: int = WINDOW) -> Peer:
    """The module with an `attention_window`; it takes `pattern(window)` only."""

    def build(workload: Workload, phase: str) -> Attend:
        if workload.pattern.spec != pattern(window).spec:
            raise NotRun("has a layout of its own")
        # Scores and weights of the window's tokens, and chunks twice as wide with their padding.
        afford(4.0 * workload.heads * workload.length * 8 * window)
        return attention_of(window, workload.dim, workload.heads)

    return Peer("Hugging Face Longformer", build)


HUGGING_FACE = peer()
