"""A grid of blocks cut into the cells of a picture, and what of a layout falls into each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.ir.grid import Grid, Ints
from bslang.ir.runs import Runs


@dataclass(frozen=True)
class Cells:
    """At most so many cells as fit, of `per_row` x `per_column` blocks each, the last ones fewer.

    shape: block rows (from that of the first query on) and block columns that are cut; first: the
    first of these rows.
    """

    shape: tuple[int, int]
    first: int
    per_row: int
    per_column: int

    @classmethod
    def of(cls, grid: Grid, height: int, width: int) -> Cells:
        """The cells of a picture of at most `height` x `width` of them; both are at least 1."""
        rows, columns = grid.n - grid.q.first, grid.m
        return cls((rows, columns), grid.q.first, -(-rows // height), -(-columns // width))

    @property
    def down(self) -> int:
        """Rows of cells."""
        return -(-self.shape[0] // self.per_row)

    @property
    def across(self) -> int:
        """Columns of cells."""
        return -(-self.shape[1] // self.per_column)

    @property
    def area(self) -> Ints:
        """int64 (down, across): blocks of each cell."""
        sides = zip(self.shape, (self.per_row, self.per_column), strict=True)
        rows, columns = (np.minimum(np.arange(0, size, per) + per, size) for size, per in sides)
        return np.diff(rows, prepend=0)[:, None] * np.diff(columns, prepend=0)

    @property
    def many(self) -> bool:
        """Whether cells stand for several blocks each."""
        return self.per_row * self.per_column > 1

    @property
    def scale(self) -> str:
        """How many blocks stand behind each cell, in words."""
        most = max(self.per_row, self.per_column)
        return "each cell a block" if most == 1 else f"each cell up to {most} x {most} blocks"

    def count(self, row: Ints, start: Ints, stop: Ints) -> Ints:
        """int64 (down, across): how many blocks of disjoint runs [start, stop) of rows lie in each cell.

        Costs O(runs + cells): a run adds what it has of its first and of its last cell, and whole cells
        in between by where these begin and end.
        """
        per, line = self.per_column, self.across + 1
        base = (row - self.first) // self.per_row * line
        head, tail = start // per, (stop - 1) // per
        inner = head < tail
        size = self.down * line

        def total(place: Ints, blocks: Ints) -> Ints:
            # Counts of blocks are exact in float64, as sums below 2^53.
            return np.bincount(place, blocks, size).astype(np.int64)

        at_head = total(base + head, np.minimum(stop, (head + 1) * per) - start)
        at_tail = total((base + tail)[inner], (stop - tail * per)[inner])
        edge = np.ones(int(inner.sum()), dtype=np.int64)
        opened = total((base + head + 1)[inner], edge) - total((base + tail)[inner], edge)
        whole = np.cumsum(opened.reshape(self.down, line), axis=1) * per
        counts: Ints = (at_head + at_tail).reshape(self.down, line) + whole
        return counts[:, :-1]

    def count_runs(self, runs: Runs) -> Ints:
        """`count` of a set of blocks."""
        return self.count(*runs.rows())

    def count_kind(self, graph: BlockGraph, full: bool) -> Ints:
        """`count` of the full blocks of a graph, or of the partial ones."""
        keep = (graph.kind == FULL) == full
        return self.count(graph.row[keep], graph.start[keep], graph.stop[keep])


def coverage(graph: BlockGraph, height: int, width: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """How much of each cell of a picture the visited blocks fill, 0 to 1; partial blocks count half."""
    cells = Cells.of(graph.grid, height, width)
    full, partial = (cells.count_kind(graph, kind) for kind in (True, False))
    shares: np.ndarray[Any, np.dtype[np.float64]] = (full + partial / 2) / cells.area
    return shares
