"""Sets of blocks as runs, and the algebra on them.

The cells of a matrix with `width` columns are laid on one line, row after row: cell (i, j) is the
number i * width + j. A set of cells is then a sorted list of disjoint intervals of integers, and
union, difference and the others are one-dimensional sweeps that cost O(runs log runs) whatever
the matrix holds. A full matrix is a single run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bslang.errors import LimitError
from bslang.ir.grid import Grid, Ints
from bslang.limits import MAX_RUNS

Bools = npt.NDArray[np.bool_]
_EMPTY: Ints = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Runs:
    """A set of cells: intervals [start, stop) of i * width + j, sorted, disjoint, not adjacent."""

    width: int
    start: Ints
    stop: Ints

    @classmethod
    def empty(cls, width: int) -> Runs:
        return cls(width, _EMPTY, _EMPTY)

    @classmethod
    def of_marks(cls, width: int, marks: Bools, first: int = 0) -> Runs:
        """The cells that are marked on a line, which begins at the cell `first`: bool (cells,)."""
        edge = np.flatnonzero(np.diff(marks, prepend=False, append=False)).astype(np.int64) + first
        return cls(width, edge[0::2], edge[1::2])

    @classmethod
    def domain(cls, grid: Grid) -> Runs:
        """Every block that holds a pair of positions that are there."""
        n, m, row, col = grid.n, grid.m, grid.q.first, grid.k.first
        if col == 0:
            return cls._normal(m, np.array([row * m]), np.array([n * m]))
        rows = np.arange(row, n, dtype=np.int64)
        return cls.of_rows(m, rows, np.full_like(rows, col), np.full_like(rows, m))

    @classmethod
    def of_rows(cls, width: int, row: Ints, start: Ints, stop: Ints) -> Runs:
        """The union of the column ranges [start, stop) of each row, in any order; empty ones are dropped."""
        row, start, stop = np.broadcast_arrays(row, start, stop)
        keep = start < stop
        if keep.size > MAX_RUNS:
            raise LimitError("MAX_RUNS", MAX_RUNS, f"{keep.size} runs of blocks")
        base = (row * width)[keep]
        return cls._normal(width, base + start[keep], base + stop[keep])

    @classmethod
    def _normal(cls, width: int, start: Ints, stop: Ints) -> Runs:
        if start.size == 0:
            return cls.empty(width)
        if np.any(start[1:] < start[:-1]):
            order = np.argsort(start, kind="stable")
            start, stop = start[order], stop[order]
        reach = np.maximum.accumulate(stop)
        first = np.concatenate(([True], start[1:] > reach[:-1]))
        last = np.concatenate((first[1:], [True]))
        return cls(width, start[first].astype(np.int64), reach[last].astype(np.int64))

    def _sweep(self, other: Runs, keep: Callable[[Bools, Bools], Bools]) -> Runs:
        edges = np.concatenate((self.start, self.stop, other.start, other.stop))
        if edges.size > 4 * MAX_RUNS:
            raise LimitError("MAX_RUNS", MAX_RUNS, f"{edges.size // 2} runs of blocks")
        # Four sorted lists: merging them is all there is to do. Every edge of a set flips whether the
        # cells from there on are in it; of equal edges, the last one knows both sets.
        order = np.argsort(edges, kind="stable")
        edges, mine = edges[order], order < 2 * self.start.size
        last = np.concatenate((edges[1:] != edges[:-1], [True]))
        in_self, in_other = (np.logical_xor.accumulate(flips)[last] for flips in (mine, ~mine))
        change = np.flatnonzero(np.diff(keep(in_self, in_other), prepend=False))
        edge = edges[last][change]  # starts and stops in turn: nothing is inside after the last
        return Runs(self.width, edge[0::2], edge[1::2])

    def _within_one_run_of(self, other: Runs) -> bool:
        """Whether one run of another set holds all of this one, as that of a whole matrix does."""
        run = np.searchsorted(other.start, self.start[0], "right") - 1
        return bool(run >= 0 and self.stop[-1] <= other.stop[run])

    def __or__(self, other: Runs) -> Runs:
        if not self or not other:
            return self or other
        return Runs._normal(
            self.width,
            np.concatenate((self.start, other.start)),
            np.concatenate((self.stop, other.stop)),
        )

    def __and__(self, other: Runs) -> Runs:
        if not self or not other:
            return Runs.empty(self.width)
        if self._within_one_run_of(other):
            return self
        return self._sweep(other, np.logical_and)

    def __sub__(self, other: Runs) -> Runs:
        if not self or not other:
            return self
        return self._sweep(other, np.greater)

    def __xor__(self, other: Runs) -> Runs:
        if not self or not other:
            return self or other
        return self._sweep(other, np.not_equal)

    def __bool__(self) -> bool:
        return self.start.size > 0

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Runs)
            and self.width == other.width
            and np.array_equal(self.start, other.start)
            and np.array_equal(self.stop, other.stop)
        )

    @property
    def size(self) -> int:
        """Number of cells."""
        return int((self.stop - self.start).sum())

    def rows(self) -> tuple[Ints, Ints, Ints]:
        """(row, first column, column after the last) of each run, cut where a row ends."""
        first, last = self.start // self.width, (self.stop - 1) // self.width
        count = last - first + 1
        if int(count.sum()) > MAX_RUNS:
            raise LimitError("MAX_RUNS", MAX_RUNS, f"{int(count.sum())} runs of blocks")
        run = np.repeat(np.arange(count.size), count)
        row = first[run] + np.arange(run.size) - np.repeat(np.cumsum(count) - count, count)
        base = row * self.width
        start = np.maximum(self.start[run] - base, 0)
        return row, start, np.minimum(self.stop[run] - base, self.width)

    def cells(self) -> Ints:
        """Every cell, in order. Costs O(cells): for sets known to be thin."""
        count = self.stop - self.start
        if int(count.sum()) > MAX_RUNS:
            raise LimitError("MAX_RUNS", MAX_RUNS, f"{int(count.sum())} blocks one by one")
        offset = np.repeat(self.start - (np.cumsum(count) - count), count)
        cells: Ints = offset + np.arange(offset.size)
        return cells

    def transpose(self, height: int) -> Runs:
        """The mirrored set, of a matrix with `height` rows.

        A vertical run begins at a cell with nothing above it and ends at one with nothing below,
        so the cells of two thin sets, sorted by column, are the ends of the answer's runs.
        """
        top = (self - self._shifted(self.width)).cells()
        bottom = (self - self._shifted(-self.width)).cells()
        row, column = top // self.width, top % self.width
        start = np.sort(column * height + row)
        row, column = bottom // self.width, bottom % self.width
        stop = np.sort(column * height + row) + 1
        return Runs._normal(height, start, stop)

    def _shifted(self, cells: int) -> Runs:
        return Runs(self.width, self.start + cells, self.stop + cells)

    def dense(self, height: int) -> Bools:
        """The set as a boolean matrix; for pictures and tests of small ones."""
        marks = np.zeros(height * self.width + 1, dtype=np.int8)
        marks[self.start] += 1
        marks[self.stop] -= 1
        matrix: Bools = (np.cumsum(marks[:-1], dtype=np.int8) > 0).reshape(height, self.width)
        return matrix
