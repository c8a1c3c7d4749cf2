"""What a layout costs at a length, from its block graph alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from bslang.errors import LimitError
from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.graph.pairs import count_pairs
from bslang.ir.grid import Grid, Ints
from bslang.ir.mask import labels
from bslang.ir.pattern import Pattern, Primitive


@dataclass(frozen=True)
class Spread:
    """Blocks visited by the rows (or seen by the columns) of a layout."""

    least: int
    mean: float
    most: int
    empty: int

    @classmethod
    def of(cls, counts: Ints) -> Spread:
        return cls(
            int(counts.min()), float(counts.mean()), int(counts.max()), int((counts == 0).sum())
        )


@dataclass(frozen=True)
class Stats:
    """Figures of a layout at a length.

    tokens: (queries, keys); block: sides in tokens; shape: block rows and columns; blocks: visited,
    full and partial ones; density: visited blocks of all; pairs: of tokens, None where the labels of
    a call decide, or only too many token masks; rows, columns: spread of their blocks;
    flops_forward, flops_backward: multiply-adds counted as two, over visited blocks, for one head
    of dimension `dim` (4 and 10 a pair and dimension).
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

    @classmethod
    def of(cls, graph: BlockGraph, dim: int = 64) -> Stats:
        """Derive the figures of a graph; dim: head dimension that FLOPs are counted for."""
        grid = graph.grid
        first = grid.q.first
        by_row = graph.blocks_by_row[first:]
        by_column = graph.transpose().blocks_by_row
        size = graph.stop - graph.start
        full, blocks = int(size[graph.kind == FULL].sum()), int(size.sum())
        visited = blocks * grid.q.block * grid.k.block
        return cls(
            tokens=(grid.q.stop - grid.q.start, grid.k.stop - grid.k.start),
            block=(grid.q.block, grid.k.block),
            shape=(grid.n - first, grid.m),
            blocks=blocks,
            full=full,
            partial=blocks - full,
            density=blocks / (by_row.size * grid.m),
            pairs=_pairs(graph),
            rows=Spread.of(by_row),
            columns=Spread.of(by_column),
            dim=dim,
            flops_forward=4 * dim * visited,
            flops_backward=10 * dim * visited,
        )

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain values, for JSON."""
        return asdict(self)


def _pairs(graph: BlockGraph) -> int | None:
    if labels(*graph.residuals):
        return None
    try:
        return count_pairs(graph)
    except LimitError:
        return None


def asked_by_pairs(pattern: Pattern, grid: Grid) -> list[Primitive]:
    """The primitives that lowering asks for every pair of blocks, as they have no faster form."""
    primitives = dict.fromkeys(pattern.primitives())
    return [p for p in primitives if p.bind(grid.env()).by_pairs()]
