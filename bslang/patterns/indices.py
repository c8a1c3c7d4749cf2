"""Whole rows and columns: `rows`, `cols`, `global`, and summary columns with `every`."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bslang.errors import PatternError
from bslang.ir.expr import Number, Term, fold, joined, maximum
from bslang.ir.grid import At, Axis, Grid, Ints
from bslang.ir.pattern import Decided, Lower, Primitive
from bslang.ir.region import INDICES, Interval, Region
from bslang.ir.runs import Runs
from bslang.ir.signature import Count, Kind, Range, argument
from bslang.patterns.shapes import indices


@dataclass(frozen=True)
class _Indexed(Primitive):
    indices: tuple[Count | Range, ...] = argument(
        "indices, negative from the end, or ranges", Kind.INDICES
    )

    by_row: ClassVar[bool] = False
    by_col: ClassVar[bool] = False

    def predicate(self, at: At) -> Any:
        side = at.unit(self.tokens)
        sides = []
        if self.by_row:
            sides.append((side.row, side.rows))
        if self.by_col:
            sides.append((side.col, side.cols))
        among = [_is(index, item, size) for index, size in sides for item in self.indices]
        return joined(operator.or_, among)

    def work(self, grid: Grid) -> int:
        spread = any(isinstance(item, Range) and item.stride != 1 for item in self.indices)
        return grid.n * (grid.m if spread else len(self.indices)) if self.by_col else 0

    def operations(self) -> int:
        return 2 + len(self.indices) // 30  # indices are looked up for each side, not for each pair

    def blocks(self, grid: Grid, lower: Lower) -> Decided:
        return self.blocks_within(grid, lower, None)

    def blocks_within(self, grid: Grid, lower: Lower, within: Runs | None) -> Decided:
        rows = self._intervals(grid.q) if self.by_row else None
        cols = self._intervals(grid.k) if self.by_col else None
        return indices(grid, self.tokens, rows, cols, within)

    def _intervals(self, axis: Axis) -> tuple[Ints, Ints]:
        """The indices of the axis; those past its length follow ranges that have no end."""
        length = axis.length if self.tokens else axis.blocks
        size = axis.size(self.tokens)
        starts, stops = [], []
        for item in self.indices:
            if isinstance(item, Count):
                index = _plain(item)
                start = index if index >= 0 else length + index
                stop, stride = start + 1, 1
            else:
                start = 0 if item.start is None else _plain(item.start)
                stop = size if item.stop is None else _plain(item.stop)
                start = max(start if start >= 0 else length + start, 0)
                stop = min(stop if stop >= 0 else max(length + stop, 0), size)
                stride = item.stride  # type: ignore[assignment]  # bound
            if stride == 1:
                starts.append(np.array([start], dtype=np.int64))
                stops.append(np.array([stop], dtype=np.int64))
            else:
                each = np.arange(start, stop, stride, dtype=np.int64)
                starts.append(each)
                stops.append(each + 1)
        return np.concatenate(starts), np.concatenate(stops)

    def region(self) -> Region:
        spans = [_span(item) for item in self.indices]
        dense = [span for span, item in zip(spans, self.indices, strict=True) if _is_dense(item)]
        rows, cols = (Region.along(axis, dense, spans) for axis in ("query", "key"))
        if not self.by_col:
            return rows
        if not self.by_row:
            return cols
        # A block all of whose pairs belong has all of its rows among the indices, or all of its columns.
        both = (row & col for row in rows.outside for col in cols.outside)
        return Region(rows.inside + cols.inside, tuple(slab for slab in both if slab))

    def depends_on_length(self) -> bool:
        ends = (end for item in self.indices for end in _ends(item))
        from_end = any(not isinstance(end, int) or end < 0 for end in ends)
        return from_end or super().depends_on_length()

    def fits(self, grid: Grid) -> None:
        axes = [(grid.q, "row")] * self.by_row + [(grid.k, "column")] * self.by_col
        for axis, noun in axes:
            length = axis.length if self.tokens else axis.blocks
            unit = "tokens" if self.tokens else "blocks"
            for item in self.indices:
                if isinstance(item, Count) and not -length <= _plain(item) < length:
                    raise PatternError(
                        f"{noun} {_plain(item)} of `{self}` is out of range for {length} {unit}",
                        hint="use a longer sequence, a smaller index, or a range, which is cut short",
                        subject=self,
                    )


def _ends(item: Count | Range) -> Iterator[Number]:
    """The numbers that may count from the end."""
    for end in (item,) if isinstance(item, Count) else (item.start, item.stop):
        if end is not None:
            yield end.value


def _span(item: Count | Range) -> Interval:
    """Bounds of the indices of an item, from the start; all of them where they count from the end."""
    if any(not isinstance(end, int) or end < 0 for end in _ends(item)):
        return INDICES
    if isinstance(item, Count):
        return _plain(item), _plain(item)
    start = 0 if item.start is None else _plain(item.start)
    return start, INDICES[1] if item.stop is None else _plain(item.stop) - 1


def _is_dense(item: Count | Range) -> bool:
    """Whether an item is every index of its span, at any length."""
    known = all(isinstance(end, int) and end >= 0 for end in _ends(item))
    return known and (isinstance(item, Count) or item.stride == 1)


def _plain(count: Count) -> int:
    assert isinstance(count.value, int)
    return count.value


def _is(index: Any, item: Count | Range, size: Any) -> Any:
    if isinstance(item, Count):
        return index == _from_start(item.value, size)
    start = 0 if item.start is None else maximum(_from_start(item.start.value, size), 0)
    inside = (index - start) % item.stride == 0
    if item.start is not None or item.stride != 1:
        inside = inside & (index >= start)
    if item.stop is not None:
        inside = inside & (index < _from_start(item.stop.value, size))
    return inside


def _from_start(index: Number, size: Any) -> Any:
    """The index counted from 0, where a negative one counts from the end."""
    if isinstance(index, int):
        return index if index >= 0 else size + index
    return Term(index) + size * Term(fold("<", index, 0))


@dataclass(frozen=True)
class Rows(_Indexed):
    """Queries at the given indices see every key.

    Example: `rows(-4:)`
    """

    name = "rows"
    by_row = True


@dataclass(frozen=True)
class Cols(_Indexed):
    """Every query sees the keys at the given indices.

    Source: `cols(0)` is the attention sink of StreamingLLM (Xiao 2023, 3.2).

    Example: `cols(0, 5)`
    """

    name = "cols"
    by_col = True


@dataclass(frozen=True)
class Global(_Indexed):
    """Queries at the given indices see every key, and every query sees the keys there.

    Source: Longformer (Beltagy 2020, 3.1), BigBird (Zaheer 2020, 2).

    Example: `global(0, -1)`
    """

    name = "global"
    by_row = True
    by_col = True


@dataclass(frozen=True)
class Every(Primitive):
    """Every query sees the keys whose index is `offset` modulo `s`: summary columns.

    Source: the fixed heads of the Sparse Transformer (Child 2019, 4.3).

    Example: `every(4, offset=3)`
    """

    name = "every"

    s: Count = argument("spacing", minimum=1)
    offset: Count | None = argument("index modulo s", default=None)

    def _offset(self) -> Number:
        return 0 if self.offset is None else self.offset.value

    def predicate(self, at: At) -> Any:
        side = at.unit(self.tokens)
        return side.col % self.s.value == self._offset() % self.s.value

    def work(self, grid: Grid) -> int:
        assert isinstance(self.s.value, int)
        return grid.n * grid.k.size(self.tokens) // self.s.value

    def blocks(self, grid: Grid, lower: Lower) -> Decided:
        return self.blocks_within(grid, lower, None)

    def blocks_within(self, grid: Grid, lower: Lower, within: Runs | None) -> Decided:
        s, offset = self.s.value, self._offset()
        assert isinstance(s, int) and isinstance(offset, int)
        each = np.arange(offset % s, grid.k.size(self.tokens), s, dtype=np.int64)
        return indices(grid, self.tokens, None, (each, each + 1), within)
