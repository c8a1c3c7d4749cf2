"""Sets of blocks as runs, and the algebra on them.

The cells of a matrix with `width` columns are laid on one line, row after row: cell (i, j) is the
number i * width + j. A set of cells is then a sorted list of disjoint intervals of integers, and
union, difference and the others cost O(runs log runs) whatever the matrix holds: each run of one set
is looked up in the other. A full matrix is a single run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bslang.budget import RUNS, spend
from bslang.errors import LimitError
from bslang.ir.grid import Grid, Ints
from bslang.limits import MAX_RUNS

Bools = npt.NDArray[np.bool_]
_EMPTY: Ints = np.zeros(0, dtype=np.int64)
_EACH = 4000  # steps of the budget for an operation on few runs
_FROM, _TO = (np.array([end], dtype=np.int64) for end in (-(2**62), 2**62))  # beyond every cell


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
        spend(_EACH + 2 * marks.size, RUNS)
        edge = np.flatnonzero(np.diff(marks, prepend=False, append=False)).astype(np.int64) + first
        return cls(width, edge[0::2], edge[1::2])

    @classmethod
    def of_cells(cls, width: int, cells: Ints) -> Runs:
        """Cells in ascending order, each once."""
        spend(_EACH + 8 * cells.size, RUNS)
        edge = np.flatnonzero(np.diff(cells) != 1)
        if not cells.size:
            return cls.empty(width)
        first, last = np.append(0, edge + 1), np.append(edge, cells.size - 1)
        return cls(width, cells[first], cells[last] + 1)

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
        row, start, stop = map(np.ravel, np.broadcast_arrays(row, start, stop))
        keep = start < stop
        if keep.size > MAX_RUNS:
            raise LimitError("MAX_RUNS", MAX_RUNS, f"{keep.size} runs of blocks")
        spend(_EACH + 12 * keep.size, RUNS)
        if not keep.all():
            row, start, stop = row[keep], start[keep], stop[keep]
        base = row * width
        return cls._normal(width, base + start, base + stop)

    @classmethod
    def _normal(cls, width: int, start: Ints, stop: Ints) -> Runs:
        if start.size == 0:
            return cls.empty(width)
        spend(_EACH + 8 * start.size, RUNS)
        if np.all(start[1:] > stop[:-1]):  # as they should be
            return cls(width, start.astype(np.int64, copy=False), stop.astype(np.int64, copy=False))
        if np.any(start[1:] < start[:-1]):
            order = np.argsort(start, kind="stable")
            start, stop = start[order], stop[order]
        reach = np.maximum.accumulate(stop)
        first = np.concatenate(([True], start[1:] > reach[:-1]))
        last = np.concatenate((first[1:], [True]))
        return cls(width, start[first].astype(np.int64), reach[last].astype(np.int64))

    @classmethod
    def union(cls, width: int, sets: Iterable[Runs]) -> Runs:
        """The cells of any of some sets, merged at once."""
        some = [runs for runs in sets if runs]
        if len(some) < 2:
            return some[0] if some else cls.empty(width)
        starts, stops = [runs.start for runs in some], [runs.stop for runs in some]
        return cls._normal(width, np.concatenate(starts), np.concatenate(stops))

    def _cut(self, first: Ints, start: Ints, stop: Ints) -> Runs:
        """Each run cut to those of some intervals that it meets: from the index `first` of each on.

        The intervals [start, stop) are sorted and have gaps between them.
        """
        count = np.searchsorted(start, self.stop, "left") - first
        total = int(count.sum())
        if total > MAX_RUNS:
            raise LimitError("MAX_RUNS", MAX_RUNS, f"{total} runs of blocks")
        spend(_EACH + 8 * (start.size + count.size + total), RUNS)
        if total == count.size and (count == 1).all():
            begin, end = np.maximum(self.start, start[first]), np.minimum(self.stop, stop[first])
            return Runs(self.width, begin, end)
        met = ranges(first, count)
        begin, end = start[met], stop[met]
        # Of the intervals that a run meets, only the first begins before it, and only the last ends after it.
        some = count > 0
        last = np.cumsum(count)[some] - 1
        first = last - count[some] + 1
        begin[first] = np.maximum(begin[first], self.start[some])
        end[last] = np.minimum(end[last], self.stop[some])
        return Runs(self.width, begin, end)

    def _within_one_run_of(self, other: Runs) -> bool:
        """Whether one run of another set holds all of this one, as that of a whole matrix does."""
        run = np.searchsorted(other.start, self.start[0], "right") - 1
        return bool(run >= 0 and self.stop[-1] <= other.stop[run])

    def __or__(self, other: Runs) -> Runs:
        return Runs.union(self.width, (self, other))

    def __and__(self, other: Runs) -> Runs:
        if not self or not other:
            return Runs.empty(self.width)
        if other is self:
            return self
        few, many = sorted((self, other), key=lambda runs: runs.start.size)
        if many._within_one_run_of(few):
            return many
        return few._cut(np.searchsorted(many.stop, few.start, "right"), many.start, many.stop)

    def __sub__(self, other: Runs) -> Runs:
        if not self or not other:
            return self
        if other is self:
            return Runs.empty(self.width)
        # What the gaps of the other set hold: before its first run, between two, after its last.
        start = np.concatenate((_FROM, other.stop))
        stop = np.concatenate((other.start, _TO))
        return self._cut(np.searchsorted(other.start, self.start, "right"), start, stop)

    def __xor__(self, other: Runs) -> Runs:
        return (self - other) | (other - self)

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
        first = self.start // self.width
        base = first * self.width
        start, stop = self.start - base, self.stop - base
        if (stop <= self.width).all():
            return first, start, stop
        count = (self.stop - 1) // self.width - first + 1
        if int(count.sum()) > MAX_RUNS:
            raise LimitError("MAX_RUNS", MAX_RUNS, f"{int(count.sum())} runs of blocks")
        spend(_EACH + 16 * int(count.sum()), RUNS)
        run = np.repeat(np.arange(count.size), count)
        row = ranges(first, count)
        base = row * self.width
        start = np.maximum(self.start[run] - base, 0)
        return row, start, np.minimum(self.stop[run] - base, self.width)

    def cells(self) -> Ints:
        """Every cell, in order. Costs O(cells): for sets known to be thin."""
        count = self.stop - self.start
        if int(count.sum()) > MAX_RUNS:
            raise LimitError("MAX_RUNS", MAX_RUNS, f"{int(count.sum())} blocks one by one")
        spend(_EACH + 8 * int(count.sum()), RUNS)
        return ranges(self.start, count)

    def transpose(self, height: int) -> Runs:
        """The mirrored set, of a matrix with `height` rows.

        A vertical run begins at a cell with nothing above it and ends at one with nothing below,
        so the cells of two thin sets, sorted by column, are the ends of the answer's runs. Each row brings
        an ascending piece, and a stable sort merges these.
        """
        top = (self - self._shifted(self.width)).cells()
        bottom = (self - self._shifted(-self.width)).cells()
        row, column = top // self.width, top % self.width
        start = np.sort(column * height + row, kind="stable")
        row, column = bottom // self.width, bottom % self.width
        stop = np.sort(column * height + row, kind="stable") + 1
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


def ranges(first: Ints, count: Ints) -> Ints:
    """The integers from `first` on, `count` of them, of each of some ranges, one after another."""
    numbers: Ints = np.repeat(first - (np.cumsum(count) - count), count)
    numbers += np.arange(numbers.size)
    return numbers


def bounded(runs: int) -> None:
    """Refuse more runs than lowering may hold or the budget pays, before they are made (LimitError)."""
    if runs > MAX_RUNS:
        raise LimitError("MAX_RUNS", MAX_RUNS, f"{runs} runs of blocks")
    spend(16 * runs, RUNS)
