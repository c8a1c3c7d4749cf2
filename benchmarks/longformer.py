"""Hugging Face's Longformer attention (`transformers`), and its layout: a window and global tokens."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.peers import Attend, NotRun, Peer, afford
from benchmarks.workloads import Pattern, Workload

WINDOW = 512
"""Tokens, half of them to each side beside the query's own: `attention_window` of the published models."""


def pattern(window: int = WINDOW, first: int = 0) -> Pattern:
    """The layout of an `attention_window`. first: so many first tokens are global, such as the one of
    classification."""
    side = window // 2
    name, spec = "Longformer of Hugging Face", f"window(left={side}t, right={side}t)"
    if not first:
        return Pattern(name, spec, lambda q, k: (q - k).abs() <= side)
    return Pattern(
        f"{name}, {first} global token{'s' * (first > 1)}",
        f"{spec} | rows(0:{first}t) | cols(0:{first}t)",
        lambda q, k: ((q - k).abs() <= side) | (q < first) | (k < first),
    )


def attention_of(window: int, first: int, dim: int, heads: int) -> Attend:
    """The module's attention without its projections: q, k and v stand where it would project.

    They are copied into its own order (length, batch, heads x dim), as projections would write them; global
    tokens have projections of their own in the module, and the same q, k and v here.
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
            asked = given[:, :, :first] if name == "query" else given
            module._modules[f"{name}_global"] = _Instead(asked)
        attends_to_all = torch.arange(length)[None] < first
        (out,) = module(
            q.new_empty(1, length, heads * dim),
            attention_mask=10_000.0 * attends_to_all,
            is_index_masked=torch.zeros(1, length, dtype=torch.bool),
            is_index_global_attn=attends_to_all,
            is_global_attn=first > 0,
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
        # One copy, even of what lies in this order: the module scales queries in place.
        moved = self.given[0].permute(2, 0, 1, 3)
        return moved.clone(memory_format=torch.contiguous_format).view(hidden.shape)


GLOBAL = (0, 1)
"""How many global tokens it is measured with."""


def peer(window: int = WINDOW) -> Peer:
    """The module with an `attention_window`; it takes `pattern(window, first)` for each of GLOBAL only."""
    layouts = {pattern(window, first).spec: first for first in GLOBAL}

    def build(workload: Workload, phase: str) -> Attend:
        if workload.pattern.spec not in layouts:
            raise NotRun("has a layout of its own")
        # Scores and weights of the window's tokens, and chunks twice as wide with their padding.
        afford(4.0 * workload.heads * workload.length * 8 * window)
        first = layouts[workload.pattern.spec]
        return attention_of(window, first, workload.dim, workload.heads)

    return Peer("Hugging Face Longformer", build)


HUGGING_FACE = peer()
