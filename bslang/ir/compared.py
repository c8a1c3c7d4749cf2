"""Comparisons of a number of the query with a number of the key: `q // 7 % 13 == k * k % 13`, `f(q) <= g(k)`.

The pairs of a block are every query of a row with every key of a column, so that the least and the greatest
number of each row and each column are all that a comparison needs. Rows with equal bounds are one. What they
compare with is found by sorting bounds, so that no pair of blocks is asked: costs are those of the result,
a run at a time or, for `==`, a block at a time for each different row, whichever is less.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from bslang.ir.expr import COMPARISONS, Number, Op, fold, over, variables
from bslang.ir.grid import Axis, Grid, Ints
from bslang.ir.pattern import Decided
from bslang.ir.runs import Bools, Runs, bounded, ranges

_BATCH = 2**22  # positions whose numbers are held at once
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


@dataclass(frozen=True)
class Sides:
    """The comparison `query op key` of two numbers, each of one side alone."""

    op: str
    query: Number
    key: Number


def sides(predicate: Number, names: tuple[str, str]) -> Sides | None:
    """A comparison as one of a number of the query with one of the key; None where it is no such one.

    names: of the query and the key.
    """
    if not isinstance(predicate, Op) or predicate.op not in COMPARISONS:
        return None
    left, right = predicate.args
    for a, b, op in ((left, right, predicate.op), (right, left, _MIRRORED[predicate.op])):
        if names[1] not in variables(a) and names[0] not in variables(b):
            return Sides(op, a, b)
    apart = _apart(Op("-", predicate.args), names)
    return apart and Sides(predicate.op, apart[0], fold("-", 0, apart[1]))


def _apart(number: Number, names: tuple[str, str]) -> tuple[Number, Number] | None:
    """A number as a sum of one of the query and one of the key."""
    used = variables(number)
    if names[1] not in used:
        return number, 0
    if names[0] not in used:
        return 0, number
    if not isinstance(number, Op) or number.op not in ("+", "-", "*"):
        return None
    left, right = (_apart(arg, names) for arg in number.args)
    if left is None or right is None:
        return None
    if number.op != "*":
        return fold(number.op, left[0], right[0]), fold(number.op, left[1], right[1])
    for factor, other in ((number.args[0], right), (number.args[1], left)):
        if isinstance(factor, int):
            return fold("*", factor, other[0]), fold("*", factor, other[1])
    return None


def within_reach(predicate: Number, names: tuple[str, str]) -> Number:
    """A comparison of `abs`, `min` or `max` of both sides as comparisons joined by `&` and `|`."""
    if not isinstance(predicate, Op) or predicate.op not in ("<", "<=", ">", ">="):
        return predicate
    (left, right), op = predicate.args, predicate.op
    if not _of_both(left, names):
        left, right, op = right, left, _MIRRORED[op]
    if not (_of_both(left, names) and isinstance(left, Op) and left.op in ("abs", "min", "max")):
        return predicate
    parts = left.args if left.op != "abs" else (left.args[0], fold("-", 0, left.args[0]))
    every = (left.op == "min") == (op in (">", ">="))
    return Op("&" if every else "|", tuple(Op(op, (part, right)) for part in parts))


def _of_both(number: Number, names: tuple[str, str]) -> bool:
    return variables(number).issuperset(names)


# ---- numbers of blocks ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Bounds:
    """The least and the greatest number of each block of an axis, from its first on."""

    low: Ints
    high: Ints

    @classmethod
    def of(cls, number: Number, name: str, axis: Axis, tokens: bool) -> Bounds:
        """The bounds of a number of one index, which has a name."""
        if not tokens:
            value = _values(number, name, np.arange(axis.first, axis.blocks, dtype=np.int64))
            return cls(value, value)
        lows, highs = [], []
        step = max(1, _BATCH // axis.block)
        for block in range(axis.first, axis.blocks, step):
            start = max(block * axis.block, axis.start)
            stop = min((block + step) * axis.block, axis.stop)
            index = np.arange(start, stop, dtype=np.int64)
            value = _values(
                number, name, index if axis.order is None else axis.order.positions[index]
            )
            edges = np.arange(block, -(-stop // axis.block)) * axis.block - start
            edges = np.maximum(edges, 0)
            lows.append(np.minimum.reduceat(value, edges))
            highs.append(np.maximum.reduceat(value, edges))
        return cls(np.concatenate(lows), np.concatenate(highs))

    def __neg__(self) -> Bounds:
        return Bounds(-self.high, -self.low)

    def __sub__(self, number: int) -> Bounds:
        return Bounds(self.low - number, self.high - number)


def _values(number: Number, name: str, index: Ints) -> Ints:
    value = over(number, {name: index})
    return np.broadcast_to(np.asarray(value, dtype=np.int64), index.shape)


@lru_cache(maxsize=32)
def _bounds(number: Number, name: str, axis: Axis, tokens: bool) -> Bounds:
    """As `Bounds.of`; what is to be lowered is measured first."""
    return Bounds.of(number, name, axis, tokens)


# ---- blocks --------------------------------------------------------------------------------------


def compared(
    grid: Grid, tokens: bool, names: tuple[str, str], met: Sides, within: Runs | None
) -> Decided:
    """The blocks where a number of the query compares with one of the key.

    within: the blocks that count; all by default.
    """
    q = _bounds(met.query, names[0], grid.q, tokens)
    k = _bounds(met.key, names[1], grid.k, tokens)
    if met.op in ("==", "!="):
        found = _equal(grid, q, k, within)
        if met.op == "!=":
            domain = Runs.domain(grid)
            found = Decided(domain - found.may, domain - found.must)
        return Decided(found.must, found.may, exact=not tokens)
    if met.op in (">", ">="):
        q, k = -q, -k
    if met.op in ("<", ">"):
        k = k - 1
    # Exactly, since every query of a block meets every key of it.
    may, must = _Level.of(q.low, k.high), _Level.of(q.high, k.low)
    if within is not None and within.size <= may.size + must.size:
        row, column = _blocks(grid, within)
        return _marked(within, q.high[row] <= k.low[column], q.low[row] <= k.high[column])
    return Decided(must.runs(grid), may.runs(grid))


def work(grid: Grid, tokens: bool, names: tuple[str, str], met: Sides) -> int:
    """How many runs `compared` goes through, if all blocks count."""
    q = _bounds(met.query, names[0], grid.q, tokens)
    k = _bounds(met.key, names[1], grid.k, tokens)
    least, most = _Level.of(q.low, k.high), _Level.of(-q.high, -k.low)
    return least.size + most.size


def _equal(grid: Grid, q: Bounds, k: Bounds, within: Runs | None) -> Decided:
    """The blocks where q == k: surely where both are one number, possibly where their bounds overlap."""
    levels = [
        (_Level.of(q.high, k.low), _Level.of(-q.low, -k.high)),
        (_Level.of(q.low, k.high), _Level.of(-q.high, -k.low)),
    ]
    join = _Join.of(q, k)
    least = min(sum(level.size for both in levels for level in both), join.size)
    if within is None or within.size > least:
        if join.size > least:
            must, may = (one.runs(grid) & two.runs(grid) for one, two in levels)
            return Decided(must, may)
        found = join.runs()
        if within is None or within.size > sum(kinds.size for kinds in found):
            must, may = (kinds.runs(grid) for kinds in found)
            return Decided(must, may)
    row, column = _blocks(grid, within)
    low, high = np.maximum(q.low[row], k.low[column]), np.minimum(q.high[row], k.high[column])
    one = (q.low[row] == q.high[row]) & (k.low[column] == k.high[column])
    return _marked(within, one & (low <= high), low <= high)


def _blocks(grid: Grid, within: Runs) -> tuple[Ints, Ints]:
    """Row and column of each block of a set, counted from the first of each axis."""
    cells = within.cells()
    return cells // grid.m - grid.q.first, cells % grid.m - grid.k.first


def _marked(within: Runs, *marks: Bools) -> Decided:
    """The blocks of a set that are surely, and possibly, true: bool (blocks,) each."""
    cells = within.cells()
    must, may = (Runs.of_cells(within.width, cells[mark]) for mark in marks)
    return Decided(must, may)


@dataclass(frozen=True)
class _Kinds:
    """Runs of columns, counted from the first of the axis, for each kind of block rows.

    kind: int (rows,), that of each; columns: a set of cells with a row for each kind.
    """

    kind: Ints
    columns: Runs

    @cached_property
    def _rows(self) -> tuple[Ints, Ints, Ints, Ints]:
        kind, start, stop = self.columns.rows()
        first = np.searchsorted(kind, self.kind)
        return start, stop, first, np.searchsorted(kind, self.kind, "right") - first

    @property
    def size(self) -> int:
        """Number of runs of all rows."""
        return int(self._rows[3].sum())

    def runs(self, grid: Grid) -> Runs:
        """The blocks of all rows."""
        start, stop, first, count = self._rows
        bounded(self.size)
        row, run = np.repeat(np.arange(grid.q.first, grid.n), count), ranges(first, count)
        return Runs.of_rows(grid.m, row, start[run] + grid.k.first, stop[run] + grid.k.first)


@dataclass(frozen=True)
class _Level:
    """The blocks whose row has a number of at most that of the column.

    A run begins at a column that reaches the row's number where the one before does not.

    kind: int (rows,), the place of each row among the `numbers`, which ascend; begins, ends: places
    [first, last) of the rows that have a run which begins at a column, or ends after it.
    """

    kind: Ints
    numbers: int
    begins: tuple[Ints, Ints]
    ends: tuple[Ints, Ints]

    @classmethod
    def of(cls, rows: Ints, columns: Ints) -> _Level:
        numbers, kind = np.unique(rows, return_inverse=True)
        reached = np.searchsorted(numbers, columns, "right")  # the rows before this place
        before, after = np.append(0, reached[:-1]), np.append(reached[1:], 0)
        return cls(kind, numbers.size, (before, reached), (after, reached))

    @property
    def size(self) -> int:
        """Number of runs of all rows."""
        rows = np.append(0, np.cumsum(np.bincount(self.kind, minlength=self.numbers)))
        first, last = self.begins
        return int(np.maximum(rows[last] - rows[first], 0).sum())

    def runs(self, grid: Grid) -> Runs:
        bounded(self.size)
        width = self.begins[0].size + 1
        start, stop = (_spread(*places, width) for places in (self.begins, self.ends))
        return _Kinds(self.kind, Runs(width, start, stop + 1)).runs(grid)


@dataclass(frozen=True)
class _Join:
    """The blocks where the bounds of the row and of the column overlap.

    kind: int (rows,), that of each among the different bounds of `rows`. by_low: the columns by their
    least number; columns: places [first, last) among them of those that begin within the bounds of a kind;
    kinds: numbers [first, last) of those that begin within the bounds of a column, and not with it.
    """

    kind: Ints
    one: Bools
    one_column: Bools
    by_low: Ints
    columns: tuple[Ints, Ints]
    kinds: tuple[Ints, Ints]

    @classmethod
    def of(cls, q: Bounds, k: Bounds) -> _Join:
        order = np.lexsort((q.high, q.low))
        low, high = q.low[order], q.high[order]
        new = np.append(True, (low[1:] != low[:-1]) | (high[1:] != high[:-1]))
        kind = np.empty_like(order)
        kind[order] = np.cumsum(new) - 1
        low, high = low[new], high[new]
        by_low = np.argsort(k.low, kind="stable")
        begin = k.low[by_low]
        columns = np.searchsorted(begin, low), np.searchsorted(begin, high, "right")
        kinds = np.searchsorted(low, k.low, "right"), np.searchsorted(low, k.high, "right")
        return cls(kind, low == high, k.low == k.high, by_low, columns, kinds)

    @property
    def size(self) -> int:
        """Number of blocks, of one row of each kind."""
        return sum(int((last - first).sum()) for first, last in (self.columns, self.kinds))

    def runs(self) -> tuple[_Kinds, _Kinds]:
        """The blocks where both are one number, and all."""
        bounded(self.size)
        width = self.by_low.size
        kind, column = np.divmod(_spread(*self.columns, width, across=True), width)
        by_kind = kind * width + self.by_low[column]
        cells = np.sort(np.concatenate((by_kind, _spread(*self.kinds, width))))
        one = self.one[cells // width] & self.one_column[cells % width]
        return tuple(  # type: ignore[return-value]  # two in, two out
            _Kinds(self.kind, Runs.of_cells(width, some)) for some in (cells[one], cells)
        )


def _spread(first: Ints, last: Ints, width: int, across: bool = False) -> Ints:
    """The cells row * width + column of the places [first, last) that each column has of the rows, in order;
    across: that each row has of the columns."""
    count = np.maximum(last - first, 0)
    line, place = np.repeat(np.arange(count.size), count), ranges(first, count)
    return line * width + place if across else np.sort(place * width + line)
