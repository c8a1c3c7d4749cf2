"""A small transformer over the pairs of a layout."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

import bslang
from bslang.nn import BlockSparseAttention


class Layer(nn.Module):
    """Attention, then an MLP."""

    def __init__(
        self, layout: bslang.Layout, dim: int, heads: int, rotary: float | nn.Module
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attention = BlockSparseAttention(dim, heads, layout, rotary=rotary)
        self.mlp = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim)
        )

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        x = x + self.attention(self.norm(x), **options)
        return x + self.mlp(x)


class Transformer(nn.Module):
    """From `tokens` kinds of tokens to `outputs` scores for each."""

    def __init__(
        self, layout: bslang.Layout, tokens: int, outputs: int, *, dim: int, heads: int, layers: int = 2,
        rotary: float | nn.Module = 10_000.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.embed, self.out = nn.Embedding(tokens, dim), nn.Linear(dim, outputs)
        self.layers = nn.ModuleList(Layer(layout, dim, heads, rotary) for _ in range(layers))

    def forward(self, tokens: Tensor, caches: Any = None, **options: Any) -> Tensor:
        """int64 (batch, length) to (batch, length, outputs).

        caches: a `KVCache` for each layer. options: those of a layout's call.
        """
        x = self.embed(tokens)
        for layer, cache in zip(self.layers, caches or [None] * len(self.layers), strict=True):
            x = layer(x, cache=cache, **options)
        return self.out(x)
