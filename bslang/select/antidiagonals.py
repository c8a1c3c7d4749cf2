"""Sums of scores along antidiagonals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bslang.select import checks
from bslang.select.cells import cut, split
from bslang.select.choice import Choice, Rule, lists_of, softmax
from bslang.select.operator import rule
from bslang.select.pooling import factor, products

if TYPE_CHECKING:
    from typing import Literal

    from typing_extensions import Unpack


@rule
def antidiagonal(
    q: torch.Tensor,
    k: torch.Tensor,
    *,
    stride: int = 8,
    rows: int = 128,
    cols: int = 128,
    scale: float | None = None,
    scope: Literal["query", "key", "all"] = "query",
    **choice: Unpack[Choice],
) -> torch.Tensor:
    """Cells by the sums of scores along the antidiagonals of their tiles.

    XAttention (arXiv 2503.16428, section 2.1, as its code with norm=1): in each tile of stride x stride
    tokens the scores on the antidiagonal are added and divided by the stride, which takes a product of
    vectors of stride * dim. A softmax over the tiles of a row of tiles makes weights of them, and the weight
    of a cell is the sum of those in it. Published with mass=0.9 and force="cols(0) | last(1)": the first
    block and the diagonal. A tile on the diagonal counts whole, as published; a tile that has some of its
    tokens only counts these.

    q: (batch, heads, len_q, dim). k: (batch or 1, key heads, len_k, dim). stride: divides rows and cols.
    scale: 1/sqrt(dim) for None. The cells with causal=True are those up to the query's; within has no part
    in the softmax. scope, choice, the result and the errors are those of `pooled`.
    Memory: q and k in fp32, padded to whole cells, and some 60 bytes for each of up to 2**22 scores of tiles
    at a time, of which there are len_q * len_k / stride**2 for each head.
    """
    checks.pair(q, k)
    chosen = Rule.of((q.shape[2], k.shape[2], rows, cols), **choice)
    checks.positive("stride", stride)
    for name, size in (("rows", rows), ("cols", cols)):
        if size % stride:
            raise ValueError(f"stride must divide {name}, {size}; it is {stride}")
    cells = chosen.cells
    batch, heads, key_heads = q.shape[0], q.shape[1], k.shape[1]
    lists = lists_of(scope, heads, key_heads)
    down, across = rows // stride, cols // stride
    by = factor(scale, q) / stride
    of_q = cut(q, cells.before, stride, cells.count * down, 0.0).flip(3).flatten(3) * by
    of_k = cut(k, 0, stride, cells.columns * across, 0.0).flatten(3).transpose(2, 3)
    tile_k = torch.arange(cells.columns * across, dtype=torch.int64, device=q.device)
    present = tile_k * stride < cells.len_k

    def score(first: int, count: int) -> torch.Tensor:
        sums = products(of_q[:, :, first * down : (first + count) * down], of_k)
        tile_q = torch.arange(
            first * down, (first + count) * down, dtype=torch.int64, device=q.device
        )
        begin = tile_q * stride - cells.before  # of the queries given
        real = (begin + stride > 0) & (begin < cells.len_q)
        counts = present
        if chosen.causal:
            counts = counts & (tile_k <= (tile_q + cells.first * down)[:, None])
        weights = softmax(sums.masked_fill(~counts, -torch.inf)) * real[:, None]
        by_cell = split(weights, 3, cells.columns, across).sum(4)
        return split(by_cell, 2, count, down).sum(3)

    width = 2 * down * across * cells.columns
    return chosen.choose(score, q, (batch, heads, lists), width, logits=False)
