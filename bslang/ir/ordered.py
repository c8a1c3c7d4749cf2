"""What a spec says of positions, asked of places: a pattern in a file with an order of tokens.

`ordered` puts an `Ordered` around the parts of a pattern that ask for positions. What remains around them,
labels and selections, is of places, as a call gives it. `row_major` is its inverse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np

from bslang.budget import RUNS, spend
from bslang.inputs import Label
from bslang.ir.awaited import inputs
from bslang.ir.compared import compared, sides, within_reach
from bslang.ir.expr import Number, Op, Term, Var, variables
from bslang.ir.fold import Fold, chosen_before
from bslang.ir.grid import At, Axis, Grid, Ints, Side
from bslang.ir.heads import Heads
from bslang.ir.order import Order
from bslang.ir.pattern import (
    Complement,
    Decided,
    Difference,
    Inside,
    Intersection,
    Lower,
    Pattern,
    Primitive,
    Transpose,
    Union,
    Xor,
)
from bslang.ir.predicate import SYMBOLIC, holds
from bslang.ir.ranges import Cells, Ranges
from bslang.ir.runs import Runs
from bslang.ir.signature import Count, Kind, argument

TOKENS = "q", "k"

_CELLS = 2**22  # cells that are counted at once
_CELL = 2  # steps of the budget for each


@dataclass(frozen=True)
class Ordered(Primitive):
    """The pairs of places whose positions are a pair of `part`. It is written as that."""

    name = "order"

    order: Order
    part: Pattern = argument("what belongs, of positions", Kind.PATTERN)

    @property
    def precedence(self) -> int:  # type: ignore[override]  # that of what is written
        return self.part.precedence

    def __str__(self) -> str:
        return str(self.part)

    @property
    def tokens(self) -> bool:
        return True

    @property
    def wide(self) -> bool:  # type: ignore[override]  # depends on the part
        return any(primitive.wide for primitive in self.part.primitives())

    def only_length(self) -> Count | None:
        return Count(self.order.length, tokens=True)

    def depends_on_length(self) -> bool:
        return True

    def fits(self, grid: Grid) -> None:
        self.order.fits(grid.q.stop, grid.k.stop, grid.q.start)

    def operations(self) -> int:
        return 1 + sum(primitive.operations() for primitive in self.part.primitives())

    def bind(self, env: Any) -> Ordered:
        return replace(self, part=self.part.at(env)) if self.part.names() else self

    def awaited(self) -> tuple[Label | Cells, ...]:
        return tuple(each for part in self.part.primitives() for each in part.awaited())

    def known(self, ranges: Ranges) -> tuple[Number, Number]:
        if not isinstance(self.part, Primitive):
            return False, True
        anywhere = (0, self.order.length - 1)  # positions of a block are no range
        return self.part.known(replace(ranges, q=anywhere, k=anywhere))

    def predicate(self, at: At) -> Any:
        """Of places; terms stand for positions, which kernels look up."""
        if not isinstance(at.tokens.row, Term):
            q, k = (self._positions(x) for x in (at.tokens.row, at.tokens.col))
            at = replace(at, tokens=replace(at.tokens, row=q, col=k))
        return holds(self.part, at, SYMBOLIC)

    def _positions(self, places: Ints) -> Ints:
        """The positions of places; of those that fill up the last block, any."""
        found: Ints = self.order.positions[np.minimum(places, self.order.length - 1)]
        return found

    def blocks(self, grid: Grid, lower: Lower) -> Decided:
        raise AssertionError("`decided` is asked instead")

    def decided(self, grid: Grid, lower: Lower, inside: Inside) -> Decided:
        if self.awaits_call:
            return Decided.unknown(grid)
        return _decided(self.part, self.order, grid, inside)


def _decided(part: Pattern, order: Order, grid: Grid, inside: Inside) -> Decided:
    """What is known of the blocks of places of a pattern of positions."""
    boxes = order.boxes(grid.q.block, grid.k.block)
    if (found := _by_numbers(part, boxes, grid, order)) is not None:
        return found
    if isinstance(part, Union | Intersection):
        known = [_by_numbers(each, boxes, grid, order) for each in part.parts]
        rest = [each for each, found in zip(part.parts, known, strict=True) if found is None]
        if len(rest) < len(known):
            known = [_decided(type(part).of(*rest), order, grid, inside), *filter(None, known)]
            return reduce(_either if isinstance(part, Union) else _both, filter(None, known))
    side = order.unit(grid.q.block, grid.k.block)
    axis = Axis(order.length, side, 0, order.length)
    cells = inside(part, replace(grid, q=axis, k=axis))
    return _gathered(cells, order, side, grid)


# ---- numbers of blocks of places ---------------------------------------------------------------


def _by_numbers(part: Pattern, boxes: bool, grid: Grid, order: Order) -> Decided | None:
    """What the numbers of blocks of places say of a pattern; None where not all of it has numbers."""
    places = replace(grid.q, order=order), replace(grid.k, order=order)
    return _Numbers(replace(grid, q=places[0], k=places[1]), boxes)(part)


class _Numbers(Fold["Decided | None"]):
    """The blocks of places by the least and the greatest number of each; None for what has none."""

    def __init__(self, grid: Grid, boxes: bool) -> None:
        self.grid, self.boxes = grid, boxes

    def primitive(self, pattern: Primitive) -> Decided | None:
        meant = pattern.expand()
        if meant is not pattern:
            return self(meant)
        condition = pattern.by_numbers(self.boxes)
        return None if condition is None else self._holds(condition)

    def _holds(self, condition: Number) -> Decided | None:
        """Where a condition on `q` and `k` holds."""
        if (met := sides(condition, TOKENS)) is not None:
            found = compared(self.grid, True, TOKENS, met, None)
            return Decided(found.must, found.may, exact=False)
        condition = within_reach(condition, TOKENS)
        if not isinstance(condition, Op) or condition.op not in ("&", "|", "not"):
            return None
        parts = [self._holds(arg) for arg in condition.args]
        if condition.op == "not":
            return self._not(parts[0])
        return self._all(_both if condition.op == "&" else _either, parts)

    def _all(self, join: Callable[..., Decided], parts: list[Decided | None]) -> Decided | None:
        known = [part for part in parts if part is not None]
        return reduce(join, known) if len(known) == len(parts) else None

    def _not(self, part: Decided | None) -> Decided | None:
        if part is None:
            return None
        domain = Runs.domain(self.grid)
        return Decided(domain - part.may, domain - part.must, exact=False)

    def union(self, pattern: Union) -> Decided | None:
        return self._all(_either, self.parts(pattern))

    def intersection(self, pattern: Intersection) -> Decided | None:
        return self._all(_both, self.parts(pattern))

    def xor(self, pattern: Xor) -> Decided | None:
        return None

    def difference(self, pattern: Difference) -> Decided | None:
        return self._all(_both, [self(pattern.left), self._not(self(pattern.right))])

    def complement(self, pattern: Complement) -> Decided | None:
        return self._not(self(pattern.part))

    def transpose(self, pattern: Transpose) -> Decided | None:
        return None

    heads = chosen_before


def _both(a: Decided, b: Decided) -> Decided:
    return Decided(a.must & b.must, a.may & b.may, exact=False)


def _either(a: Decided, b: Decided) -> Decided:
    return Decided(a.must | b.must, a.may | b.may, exact=False)


# ---- blocks of places --------------------------------------------------------------------------


def _gathered(cells: Decided, order: Order, side: int, grid: Grid) -> Decided:
    """What is known of blocks of places, by what is of cells of `side` x `side` positions."""
    of_places = order.places[::side] // side  # the cell of places that each cell of positions is
    rows, columns = grid.q.block // side, grid.k.block // side
    counts = _Counts(of_places // rows, of_places // columns, grid.n, grid.m)
    may, must = counts.of(cells.may), counts.of(cells.must, full=rows * columns)
    return Decided(must, may, cells.exact)


@dataclass(frozen=True)
class _Counts:
    """How many cells of a set each block has. row, column: int64 (cells,), the block row, and column, of each
    cell of positions; n, m: how many of these there are."""

    row: Ints
    column: Ints
    n: int
    m: int

    def of(self, runs: Runs, full: int = 0) -> Runs:
        """The blocks that have cells of a set; with `full`, those that have no others, of which a whole block
        has so many."""
        row, start, stop = runs.rows()
        block = self.row[row]
        by_block = np.argsort(block, kind="stable")
        block, start, stop = block[by_block], start[by_block], stop[by_block]
        step = max(1, _CELLS // self.row.size)
        ends = np.searchsorted(block, np.arange(0, self.n + step, step))
        of_row, of_column = (
            np.bincount(x, minlength=size)
            for x, size in ((self.row, self.n), (self.column, self.m))
        )
        found = []
        for number, (begin, end) in enumerate(pairwise(ends.tolist())):
            if begin == end:
                continue
            part, first = slice(begin, end), number * step
            size = min(step, self.n - first)
            columns, count = self._counted(block[part] - first, start[part], stop[part], size)
            least = np.ones_like(count)
            if full:
                least = of_row[first : first + size, None] * of_column[columns]
            i, j = np.nonzero(count >= least)
            found.append((first + i) * self.m + columns[j])
        return Runs.of_cells(self.m, np.concatenate(found) if found else np.zeros(0, np.int64))

    def _counted(self, block: Ints, start: Ints, stop: Ints, rows: int) -> tuple[Ints, Ints]:
        """Block columns, and how many cells of runs [start, stop) each has in every of some block rows:
        (columns,) and (rows, columns)."""
        low, width = start.min(), stop.max() - start.min()
        spend(_CELL * int(rows * width), RUNS)
        ends = [
            np.bincount(block * (width + 1) + end - low, minlength=rows * (width + 1))
            for end in (start, stop)
        ]
        change = (ends[0] - ends[1]).astype(np.int32).reshape(rows, width + 1)
        covered = np.cumsum(change[:, :-1], axis=1, dtype=np.int32)
        column = self.column[low : low + width]
        together = np.argsort(column, kind="stable")
        columns, begins = np.unique(column[together], return_index=True)
        return columns, np.add.reduceat(covered[:, together], begins, axis=1)


# ---- patterns with and without an order --------------------------------------------------------


def ordered(pattern: Pattern, order: Order) -> Pattern:
    """A pattern of positions as one of places."""
    return _Ordering(order)(_Expanded()(pattern))


def row_major(pattern: Pattern) -> Pattern:
    """The pattern of positions of which `ordered` made this one."""
    return _RowMajor()(pattern)


def order_of(*patterns: Pattern) -> Order | None:
    """The order of the tokens whose positions some patterns ask for; None where they ask for places."""
    parts = (part for pattern in patterns for part in pattern.primitives())
    return next((part.order for part in parts if isinstance(part, Ordered)), None)


def counts_blocks(primitive: Primitive) -> bool:
    """Whether it counts blocks, or is drawn in blocks, rather than in tokens."""
    if primitive.drawn or primitive.names() & {"n", "m"}:
        return True
    if () in (primitive.region().inside, primitive.region().outside):
        return False  # `all` and `none` count nothing
    meant = primitive.expand()
    if meant is not primitive:
        return any(map(counts_blocks, meant.primitives()))
    names = ("i", "j", "n", "m")
    return not _names(primitive, Side(*(Term(Var(name)) for name in names))).isdisjoint(names)


def _names(primitive: Primitive, blocks: Side | None = None) -> frozenset[str]:
    """What the predicate of a primitive reads, with some names for blocks."""
    at = At.symbolic((1, 1), inputs((1, 1), primitive))
    return variables(holds(primitive, replace(at, blocks=blocks or at.blocks), SYMBOLIC).number)


class _Rebuilt(Fold[Pattern]):
    """A walk that makes a pattern of the same operators."""

    def _nary(self, pattern: Union | Intersection | Xor) -> Pattern:
        return type(pattern).of(*self.parts(pattern))

    union = intersection = xor = _nary

    def difference(self, pattern: Difference) -> Pattern:
        return Difference.of(self(pattern.left), self(pattern.right))

    def complement(self, pattern: Complement) -> Pattern:
        return Complement(self(pattern.part))

    def transpose(self, pattern: Transpose) -> Pattern:
        return Transpose(self(pattern.part))

    def heads(self, pattern: Heads) -> Pattern:
        return Heads(tuple(replace(b, pattern=self(b.pattern)) for b in pattern.branches))


class _RowMajor(_Rebuilt):
    def primitive(self, pattern: Primitive) -> Pattern:
        return pattern.part if isinstance(pattern, Ordered) else pattern


class _Expanded(_Rebuilt):
    """Written out: what awaits a call, so that its parts can be told apart."""

    def primitive(self, pattern: Primitive) -> Pattern:
        meant = pattern.expand() if pattern.awaits_call else pattern
        return pattern if meant is pattern else self(meant)


class _Ordering(_Rebuilt):
    def __init__(self, order: Order) -> None:
        self.order = order

    def __call__(self, pattern: Pattern) -> Pattern:
        return Ordered(self.order, pattern) if _is_fixed(pattern) else super().__call__(pattern)

    def primitive(self, pattern: Primitive) -> Pattern:
        return Ordered(self.order, pattern) if _names(pattern) & {"q", "k"} else pattern

    def _nary(self, pattern: Union | Intersection | Xor) -> Pattern:
        fixed = [part for part in pattern.parts if _is_fixed(part)]
        together = [Ordered(self.order, type(pattern).of(*fixed))] if fixed else []
        parts = [self(part) for part in pattern.parts if not _is_fixed(part)]
        return type(pattern).of(*together, *parts)

    union = intersection = xor = _nary


def _is_fixed(pattern: Pattern) -> bool:
    """Whether a pattern is the same in all calls and for every head's choice of `heads`."""
    return not pattern.awaits_call and not _chooses(pattern)


def _chooses(pattern: Pattern) -> bool:
    return isinstance(pattern, Heads) or any(map(_chooses, pattern.parts))
