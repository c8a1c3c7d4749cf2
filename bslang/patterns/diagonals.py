"""Diagonals: `diagonals` by offset, `strided` at a spacing."""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bslang.errors import PatternError
from bslang.ir.expr import Number, joined
from bslang.ir.grid import At, Grid
from bslang.ir.pattern import Decided, Lower, Primitive
from bslang.ir.region import OFFSETS, Interval, Region
from bslang.ir.runs import Runs
from bslang.ir.signature import Count, Kind, Range, argument
from bslang.patterns.shapes import bands


@dataclass(frozen=True)
class Diagonals(Primitive):
    """Query minus key is one of the offsets; a range `a:b:s` gives several.

    Source: the slashes of MInference's vertical-slash pattern (Jiang 2024, 3.2).

    Example: `diagonals(0, 1, 5:8)`
    """

    name = "diagonals"
    relational = True
    shift_invariant = True

    offsets: tuple[Count | Range, ...] = argument("offsets, query minus key", Kind.INDICES)

    def check(self) -> None:
        for item in self.offsets:
            if isinstance(item, Range) and item.start is None and item.stride != 1:
                raise PatternError(
                    "a range of diagonals with a step needs a start",
                    hint="write where it begins, as in `diagonals(0::2)`",
                    subject=self,
                )

    def predicate(self, at: At) -> Any:
        side = at.unit(self.tokens)
        offset = side.row - side.col
        return joined(operator.or_, (_meets(offset, item) for item in self.offsets))

    def work(self, grid: Grid) -> int:
        many = any(isinstance(item, Range) and item.stride != 1 for item in self.offsets)
        return grid.n * (grid.m if many else len(self.offsets))

    def blocks(self, grid: Grid, lower: Lower) -> Decided:
        return self.blocks_within(grid, lower, None)

    def blocks_within(self, grid: Grid, lower: Lower, within: Runs | None) -> Decided:
        lowest, highest = 1 - grid.k.size(self.tokens), grid.q.size(self.tokens) - 1
        low, high = [], []
        for item in self.offsets:
            start, stop, step = _ends(item)
            assert isinstance(step, int)
            first = lowest if start is None else start
            if first < lowest:
                first += -(-(lowest - first) // step) * step
            last = highest if stop is None else min(highest, stop - 1)
            if step == 1 and first <= last:
                low.append(np.array([-last], dtype=np.int64))
                high.append(np.array([-first], dtype=np.int64))
            elif first <= last:
                offset = np.arange(first, last + 1, step, dtype=np.int64)
                low.append(-offset)
                high.append(-offset)
        if not low:
            return Decided(Runs.empty(grid.m), Runs.empty(grid.m))
        return bands(grid, self.tokens, np.concatenate(low), np.concatenate(high), within)

    def region(self) -> Region:
        spans = [_span(item) for item in self.offsets]
        dense = [span for span, item in zip(spans, self.offsets, strict=True) if _is_dense(item)]
        # A short block can lie between two diagonals.
        exact = len(spans) == 1 and dense == spans
        return replace(Region.along("offset", dense, spans), exact=exact)


def _meets(offset: Any, item: Count | Range) -> Any:
    if isinstance(item, Count):
        return offset == item.value
    meets = (offset - (0 if item.start is None else item.start.value)) % item.stride == 0
    if item.start is not None:
        meets = meets & (offset >= item.start.value)
    if item.stop is not None:
        meets = meets & (offset < item.stop.value)
    return meets


def _span(item: Count | Range) -> Interval:
    """Bounds of the offsets of an item."""
    if isinstance(item, Count):
        return (item.value, item.value) if isinstance(item.value, int) else OFFSETS
    start, stop = (None if end is None else end.value for end in (item.start, item.stop))
    return (
        start if isinstance(start, int) else OFFSETS[0],
        stop - 1 if isinstance(stop, int) else OFFSETS[1],
    )


def _is_dense(item: Count | Range) -> bool:
    """Whether an item is every offset of its span."""
    numbers = [item] if isinstance(item, Count) else item.given
    return all(isinstance(n.value, int) for n in numbers) and (
        isinstance(item, Count) or item.stride == 1
    )


def _ends(item: Count | Range) -> tuple[int | None, int | None, Number]:
    def end(count: Count | None) -> int | None:
        if count is None:
            return None
        assert isinstance(count.value, int)
        return count.value

    if isinstance(item, Count):
        offset = end(item)
        assert offset is not None
        return offset, offset + 1, 1
    return end(item.start), end(item.stop), item.stride


@dataclass(frozen=True)
class Strided(Primitive):
    """Keys whose distance from the query is `offset` modulo `s`.

    Source: the strided heads of the Sparse Transformer (Child 2019, 4.3).

    Example: `strided(4)`
    """

    name = "strided"
    relational = True
    shift_invariant = True

    s: Count = argument("spacing", minimum=1)
    offset: Count | None = argument("distance modulo s", default=None)

    def _offset(self) -> Number:
        return 0 if self.offset is None else self.offset.value

    def predicate(self, at: At) -> Any:
        side = at.unit(self.tokens)
        return (side.row - side.col - self._offset() % self.s.value) % self.s.value == 0

    def part_of(self, other: Primitive) -> bool:
        """Diagonals at a spacing are among those at a divisor of it, if some are."""
        if not isinstance(other, Strided) or self.tokens != other.tokens:
            return False
        numbers = (self.s.value, other.s.value, self._offset(), other._offset())
        if not all(isinstance(number, int) for number in numbers):
            return False
        s, divisor, offset, its = numbers
        return s % divisor == 0 and (offset - its) % divisor == 0

    def work(self, grid: Grid) -> int:
        return 0 if self._is_dense(grid) else grid.n * grid.k.size(self.tokens) // self._spacing()

    def _spacing(self) -> int:
        assert isinstance(self.s.value, int)
        return self.s.value

    def _is_dense(self, grid: Grid) -> bool:
        """Whether every whole block meets a diagonal; which short ones do not, masks settle."""
        return self.tokens and 1 < self._spacing() < grid.q.block + grid.k.block

    def blocks(self, grid: Grid, lower: Lower) -> Decided:
        return self.blocks_within(grid, lower, None)

    def blocks_within(self, grid: Grid, lower: Lower, within: Runs | None) -> Decided:
        s, offset = self._spacing(), self._offset()
        assert isinstance(offset, int)
        if self._is_dense(grid):
            return Decided(Runs.empty(grid.m), Runs.domain(grid), exact=False)
        rows, cols = grid.q.size(self.tokens), grid.k.size(self.tokens)
        if s == 1:
            low, high = np.array([-rows]), np.array([cols])
        else:
            low = high = np.arange((rows - offset) % s - rows, cols, s, dtype=np.int64)
        return bands(grid, self.tokens, low, high, within)
