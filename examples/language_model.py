"""A language model on bytes, for one process or for the ranks of a group."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from bslang.nn import Rotary


def from_the_start(x: Tensor, tokens: int) -> Tensor:
    """A sequence (batch, length, dim) as one piece with zeros before it, (batch, 1, tokens + length, dim)."""
    return F.pad(x, (0, 0, tokens, 0))[:, None]


class Block(nn.Module):
    """Attention, a short convolution that brings in the nearest tokens, and an MLP.

    attention: any function of (q, k, v), each (batch, heads, length, head dim). before: what puts the tokens
    before it to each piece of a sequence, called as `from_the_start`.
    """

    def __init__(
        self, attention: Callable[[Tensor, Tensor, Tensor], Tensor], dim: int, heads: int,
        before: Callable[[Tensor, int], Tensor] = from_the_start,
    ) -> None:  # fmt: skip
        super().__init__()
        self.attention, self.heads, self.before, self.rotary = attention, heads, before, Rotary()
        self.norm1, self.norm2 = nn.RMSNorm(dim), nn.RMSNorm(dim)
        self.near = nn.Conv1d(dim, dim, kernel_size=4, groups=dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor, positions: Tensor | None) -> Tensor:
        pieces = self.before(self.norm1(x), 3).flatten(0, 1)
        near = self.near(pieces.transpose(1, 2)).transpose(1, 2).reshape(x.shape)
        heads = self.qkv(near).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = (self.rotary(each, positions=positions) for each in heads[:2])
        x = x + self.proj(self.attention(q, k, heads[2]).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class LanguageModel(nn.Module):
    """Bytes to scores of the next byte, (batch, length, 256)."""

    def __init__(
        self, attention: Callable[[Tensor, Tensor, Tensor], Tensor], *, dim: int, heads: int, layers: int,
        before: Callable[[Tensor, int], Tensor] = from_the_start,
    ) -> None:  # fmt: skip
        super().__init__()
        self.embed = nn.Embedding(256, dim)
        self.layers = nn.ModuleList(Block(attention, dim, heads, before) for _ in range(layers))
        self.norm, self.out = nn.RMSNorm(dim), nn.Linear(dim, 256, bias=False)

    def forward(self, tokens: Tensor, positions: Tensor | None = None) -> Tensor:
        """positions: integers (length,), of tokens that do not follow one another from 0 on."""
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x, positions)
        return self.out(self.norm(x))
