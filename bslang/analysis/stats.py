"""What a layout costs at a length, from its block graph alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from bslang.analysis.pairs import count_pairs
from bslang.errors import LimitError
from bslang.graph.blockgraph import BlockGraph
from bslang.ir.grid import Grid, Ints
from bslang.ir.pattern import Pattern, Primitive

ITEM = 2
"""Bytes of a number in bf16 and fp16, in which bytes are counted."""

_NAMED = 3  # rows


@dataclass(frozen=True)
class Spread:
    """Blocks visited by the rows (or seen by the columns) of a layout.

    shortest, longest: the first few rows with the least and the most; with_least, with_most: how many
    rows have so many.
    """

    least: int
    mean: float
    most: int
    empty: int
    shortest: tuple[int, ...]
    with_least: int
    longest: tuple[int, ...]
    with_most: int

    @classmethod
    def of(cls, counts: Ints, first: int = 0) -> Spread:
        """counts: int64, of the rows from the number `first` on."""
        least, most = int(counts.min()), int(counts.max())
        shortest, longest = (np.flatnonzero(counts == bound) + first for bound in (least, most))
        return cls(
            least, int(counts.sum()) / counts.size, most, int((counts == 0).sum()),
            tuple(shortest[:_NAMED].tolist()), shortest.size,
            tuple(longest[:_NAMED].tolist()), longest.size,
        )  # fmt: skip


@dataclass(frozen=True)
class Counts:
    """What is counted of a block graph, from which all figures follow; as in Stats.

    Whole numbers, but for the means of rows and columns.
    """

    full: int
    partial: int
    pairs: int | None
    rows: Spread
    columns: Spread

    @classmethod
    def of(cls, graph: BlockGraph) -> Counts:
        """Count the blocks of a graph, its token pairs, and the blocks of its rows and columns."""
        first = graph.grid.q.first
        full, partial = graph.blocks_by_class
        return cls(
            full=full,
            partial=partial,
            pairs=_pairs(graph),
            rows=Spread.of(graph.blocks_by_row[first:], first),
            columns=Spread.of(graph.transpose().blocks_by_row),
        )

    @property
    def blocks(self) -> int:
        """Blocks that are visited."""
        return self.full + self.partial

    def on(self, grid: Grid) -> Counts:
        """The same with the means of rows and columns on a grid."""
        sides = (("rows", grid.n - grid.q.first), ("columns", grid.m))
        means = {
            name: replace(getattr(self, name), mean=self.blocks / size) for name, size in sides
        }
        return replace(self, **means)


@dataclass(frozen=True)
class Stats:
    """Figures of a layout at a length.

    tokens: (queries, keys); block: sides in tokens; shape: block rows and columns; blocks: visited,
    full and partial ones; density: visited blocks of all; pairs: of tokens, None where the labels of
    a call decide, or only too many token masks; rows, columns: spread of their blocks;
    flops_forward, flops_backward: multiply-adds counted as two, over visited blocks, for one head
    of dimension `dim` (4 and 10 per pair and dimension); baseline: the dense attention that figures are
    compared with, "dense" over all blocks or "causal dense" over those with a key that is not after all
    queries; flops_dense: its forward pass; kv_bytes, score_bytes: keys and values that the rows read, and
    attention scores if they were stored, of that head in numbers of ITEM bytes, by (the layout, the
    baseline); speedup: the baseline's (bytes, FLOPs) as multiples of the layout's, where bytes are those
    of kv_bytes and of queries and outputs; None where no block is visited.
    """

    tokens: tuple[int, int]
    block: tuple[int, int]
    shape: tuple[int, int]
    blocks: int
    full: int
    partial: int
    density: float
    pairs: int | None
    rows: Spread
    columns: Spread
    dim: int
    flops_forward: int
    flops_backward: int
    baseline: str
    flops_dense: int
    kv_bytes: tuple[int, int]
    score_bytes: tuple[int, int]
    speedup: tuple[float, float] | None

    @classmethod
    def of(cls, graph: BlockGraph, dim: int = 64, causal: bool = False) -> Stats:
        """Derive the figures of a graph.

        dim: head dimension that FLOPs are counted for; causal: whether the layout is, so that it is
        compared with causal dense attention.
        """
        return cls.counted(Counts.of(graph), graph.grid, dim, causal)

    @classmethod
    def counted(cls, counts: Counts, grid: Grid, dim: int = 64, causal: bool = False) -> Stats:
        """Derive the figures from what was counted of a graph on a grid; otherwise as `of`."""
        blocks, height = counts.blocks, grid.n - grid.q.first
        side_q, side_k = grid.q.block, grid.k.block
        dense = _causal_blocks(grid) if causal else height * grid.m
        visited, every = blocks * side_q * side_k, dense * side_q * side_k
        read, read_all = (2 * ITEM * dim * pairs // side_q for pairs in (visited, every))
        own = 2 * ITEM * dim * height * side_q
        return cls(
            tokens=(grid.q.stop - grid.q.start, grid.k.stop - grid.k.start),
            block=(grid.q.block, grid.k.block),
            shape=(height, grid.m),
            blocks=blocks,
            full=counts.full,
            partial=counts.partial,
            density=blocks / (height * grid.m),
            pairs=counts.pairs,
            rows=counts.rows,
            columns=counts.columns,
            dim=dim,
            flops_forward=4 * dim * visited,
            flops_backward=10 * dim * visited,
            baseline="causal dense" if causal else "dense",
            flops_dense=4 * dim * every,
            kv_bytes=(read, read_all),
            score_bytes=(ITEM * visited, ITEM * every),
            speedup=((own + read_all) / (own + read), every / visited) if visited else None,
        )

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain values, for JSON."""
        return asdict(self)


def _causal_blocks(grid: Grid) -> int:
    """Blocks of a grid with a key that is not after all queries."""
    last = np.minimum((np.arange(grid.q.first, grid.n) + 1) * grid.q.block, grid.q.stop) - 1
    return int(np.minimum(last // grid.k.block + 1, grid.m).sum())


def _pairs(graph: BlockGraph) -> int | None:
    if any(residual.awaits_call for residual in graph.residuals):
        return None
    try:
        return count_pairs(graph)
    except LimitError:
        return None


def asked_by_pairs(pattern: Pattern, grid: Grid) -> list[Primitive]:
    """The primitives that lowering asks for every pair of blocks, as they have no faster form."""
    primitives = dict.fromkeys(pattern.primitives())
    return [p for p in primitives if p.bind(grid.env()).by_pairs()]
