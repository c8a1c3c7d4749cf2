"""Set-builders: any predicate over the indices of two blocks, or over two token positions.

What a predicate depends on decides how its blocks are found. One index alone, or the difference of
the two, takes time and memory of the axis; a comparison of two linear forms, those of the rows; any
other predicate is asked for every pair of blocks, in chunks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bslang.budget import MASKS, spend
from bslang.errors import LimitError
from bslang.inputs import KEYS, Label
from bslang.ir.bounds import Interval, bounds
from bslang.ir.compared import compared, sides, within_reach, work
from bslang.ir.expr import Number, Op, Var, over, variables
from bslang.ir.grid import At, Grid
from bslang.ir.pattern import (
    Complement,
    Decided,
    Intersection,
    Lower,
    Pattern,
    Primitive,
    Union,
    Xor,
)
from bslang.ir.ranges import Cells, Known, Ranges
from bslang.ir.runs import Runs
from bslang.ir.signature import Kind, argument
from bslang.ir.text import number_text
from bslang.ir.units import suffixed, written
from bslang.limits import MAX_MASK_WORK, MAX_NUMBER
from bslang.patterns.linear import against_zero, depends_on, half_planes, where_holds
from bslang.patterns.predicates import (
    BLOCKS,
    RANGES,
    TOKENS,
    comparisons,
    labelled,
    ranges_of,
    size,
    split,
)
from bslang.patterns.shapes import bands, indices

_CHUNK = 2**21  # pairs of blocks asked at once
_JOINS = {"&": Intersection, "|": Union, "^": Xor}


@dataclass(frozen=True)
class Builder(Primitive):
    """Pairs for which a predicate holds: of blocks in `{i, j : ...}`, of tokens in `{q, k : ...}`.

    A predicate compares numbers made of the two indices, of `n` and `m` beside blocks or `len_q` and
    `len_k` beside tokens, of `head`, `layer` and parameters, and joins comparisons by `&`, `|`, `^` and `~`.

    Example: `{i, j : j <= i & (i - j) % 3 < 2}`
    """

    name = "{...}"

    condition: Number = argument("what holds for a pair", Kind.NUMBER)
    by_tokens: bool = argument("whether it is asked of tokens", Kind.FLAG)

    @property
    def tokens(self) -> bool:
        return self.by_tokens

    @property
    def pair(self) -> tuple[str, str]:
        return TOKENS if self.by_tokens else BLOCKS

    @property
    def relational(self) -> bool:  # type: ignore[override]  # depends on the predicate
        return any(variables(c).issuperset(self.pair) for c in comparisons(self.condition))

    @property
    def shift_invariant(self) -> bool:  # type: ignore[override]  # depends on the predicate
        # Blocks begin anywhere relative to a pair of tokens, so that blocks' differences vary.
        return self.by_tokens and self._form() == "difference"

    @property
    def wide(self) -> bool:  # type: ignore[override]  # depends on the predicate
        steps: list[Interval] = []
        bounds(self.condition, RANGES, steps)
        return any(max(-low, high) > MAX_NUMBER for low, high in steps)

    def predicate(self, at: At) -> Any:
        side = at.unit(self.by_tokens)
        found = over(self.condition, dict(zip(self.pair, (side.row, side.col), strict=True)))
        if isinstance(found, int):  # of no index: all pairs or none, as arrays and terms say it
            return side.col >= 0 if found else side.col < 0
        return found

    def names(self) -> frozenset[str]:
        return super().names() - {*self.pair}

    def expand(self) -> Pattern:
        condition = self.condition
        if not isinstance(condition, Op) or self._form() is not None:
            return self
        if condition.op == "not":
            return Complement(self._of(condition.args[0]))
        if condition.op in _JOINS:
            parts = map(self._of, condition.args)
            # Nested uses of the operator become one.
            return _JOINS[condition.op].of(
                *(part.expand() if part._is_joined(condition.op) else part for part in parts)
            )
        return self

    def _of(self, condition: Number) -> Builder:
        return Builder(condition, self.by_tokens)

    def _is_joined(self, op: str) -> bool:
        return isinstance(self.condition, Op) and self.condition.op == op

    def _form(self) -> str | None:
        return depends_on(self.condition, self.pair)

    def by_numbers(self, boxes: bool) -> Number | None:
        return self.condition if self.by_tokens else None

    def work(self, grid: Grid) -> int:
        if self.by_pairs():
            return grid.n * grid.m
        linear = all(
            against_zero(part, self.pair) is not None for part in comparisons(self.condition)
        )
        form = self._form()
        if linear or form in ("neither", "row"):
            return 0
        # How many runs there are on a line, or down a row, shows when they are looked for.
        return grid.n * grid.m // 4 if form else self._compared_work(self.condition, grid)

    def _compared_work(self, predicate: Number, grid: Grid) -> int:
        met = sides(predicate, self.pair)
        if met is not None:
            return work(grid, self.by_tokens, self.pair, met)
        joined = within_reach(predicate, self.pair)
        assert isinstance(joined, Op)
        return sum(self._compared_work(part, grid) for part in joined.args)

    def blocks(self, grid: Grid, lower: Lower) -> Decided:
        return self.blocks_within(grid, lower, None)

    def blocks_within(self, grid: Grid, lower: Lower, within: Runs | None) -> Decided:
        form = self._form()
        rows, cols = grid.q.size(self.by_tokens), grid.k.size(self.by_tokens)
        if form == "neither":
            holds = over(self.condition, dict.fromkeys(self.pair, 0))
            held = Runs.domain(grid) if holds else Runs.empty(grid.m)
            return Decided(held, held)
        if form == "row":
            held = self._along(0, rows)
            return indices(grid, self.by_tokens, (held.start, held.stop), None)
        if form == "col":
            held = self._along(0, cols, of_key=True)
            return indices(grid, self.by_tokens, None, (held.start, held.stop), within)
        if form == "difference":
            back = self._along(1 - cols, rows)  # query minus key, counted from its least value
            low, high = 1 - cols + back.start, -cols + back.stop
            return bands(grid, self.by_tokens, -high, -low, within)
        plane = against_zero(self.condition, self.pair)
        if plane is not None:
            return half_planes(grid, self.by_tokens, *plane)
        found = self._compared(self.condition, grid, within)
        return self._asked(grid, within) if found is None else found

    def _compared(self, predicate: Number, grid: Grid, within: Runs | None) -> Decided | None:
        """A comparison of a number of each side, or what is made of such; None where it is not."""
        met = sides(predicate, self.pair)
        if met is not None:
            return compared(grid, self.by_tokens, self.pair, met, within)
        joined = within_reach(predicate, self.pair)
        if joined is predicate:
            return None
        assert isinstance(joined, Op)
        one, two = (self._compared(part, grid, within) for part in joined.args)
        if one is None or two is None:
            return None
        join = _RUNS_OF[joined.op]
        return Decided(join(one.must, two.must), join(one.may, two.may), exact=not self.by_tokens)

    def _along(self, start: int, stop: int, of_key: bool = False) -> Runs:
        """Where the predicate holds while one index runs from start to stop - 1 and the other is 0."""
        names = self.pair[::-1] if of_key else self.pair

        def held(predicate: Number) -> Runs:
            if isinstance(predicate, Op) and predicate.op in _RUNS_OF:
                return _RUNS_OF[predicate.op](*map(held, predicate.args))
            if isinstance(predicate, Op) and predicate.op == "not":
                return whole - held(predicate.args[0])
            bound = where_holds(predicate, names, start, stop)
            if bound is not None:
                return bound
            where = over(predicate, {names[0]: np.arange(start, stop), names[1]: 0})
            marks = np.broadcast_to(np.asarray(where, dtype=bool), (stop - start,))
            return Runs.of_marks(stop - start, marks)

        spend(self.operations() * (stop - start), MASKS)
        whole = Runs(stop - start, np.array([0]), np.array([stop - start]))
        return held(self.condition)

    def operations(self) -> int:
        return 1 + size(self.condition) // 4

    def by_pairs(self) -> bool:
        meant = self.expand()
        if meant is not self:
            return any(part.by_pairs() for part in meant.primitives())
        known = self._form() is not None or against_zero(self.condition, self.pair) is not None
        return not known and not _is_compared(self.condition, self.pair)

    def _asked(self, grid: Grid, within: Runs | None) -> Decided:
        """Ask every pair of blocks, what their tokens let it be where it is asked of tokens."""
        if within is not None:
            return self._asked_in(grid, within)
        n, m, first = grid.n, grid.m, grid.q.first
        if (n - first) * m > MAX_MASK_WORK:
            what = f"`{self}` is evaluated block by block, on {(n - first) * m} blocks"
            raise LimitError("MAX_MASK_WORK", MAX_MASK_WORK, what)
        sure, possible = [Runs.empty(m)], [Runs.empty(m)]
        spend(self.operations() * (n - first) * m, MASKS)
        step = max(1, _CHUNK // m)
        for begin in range(first, n, step):
            marks = np.zeros((2, min(step, n - begin), m), dtype=bool)
            rows = np.arange(begin - first, min(begin + step, n) - first)[:, None]
            marks[..., grid.k.first :] = self._truths(grid, rows, slice(None))
            for found, mark in zip((sure, possible), marks, strict=True):
                found.append(Runs.of_marks(m, mark.ravel(), begin * m))
        must, may = (Runs.union(m, found) for found in (sure, possible))
        return Decided(must, may, exact=not self.by_tokens)

    def _asked_in(self, grid: Grid, within: Runs) -> Decided:
        """Ask the blocks of a set."""
        if within.size > MAX_MASK_WORK:
            what = f"`{self}` is evaluated block by block, on {within.size} blocks that others leave open"
            raise LimitError("MAX_MASK_WORK", MAX_MASK_WORK, what)
        spend(self.operations() * within.size, MASKS)
        cells = within.cells()
        sure, possible = (np.empty(cells.size, dtype=bool) for _ in range(2))
        for begin in range(0, cells.size, _CHUNK):
            part = slice(begin, begin + _CHUNK)
            row, column = cells[part] // grid.m - grid.q.first, cells[part] % grid.m - grid.k.first
            sure[part], possible[part] = self._truths(grid, row, column)
        must, may = (Runs.of_cells(grid.m, cells[marks]) for marks in (sure, possible))
        return Decided(must, may, exact=not self.by_tokens)

    def _truths(self, grid: Grid, rows: Any, columns: Any) -> tuple[Any, Any]:
        """Whether the predicate is surely, and possibly, true in blocks: indices of each side's blocks, as of
        an array of all of them from the first on, that broadcast."""
        if self.by_tokens:
            ends = (
                tuple(side[index] for side in axis.spans())
                for axis, index in ((grid.q, rows), (grid.k, columns))
            )
            return bounds(self.condition, dict(zip(self.pair, ends, strict=True)))
        row = np.arange(grid.q.first, grid.n, dtype=np.int64)[rows]
        column = np.arange(grid.k.first, grid.m, dtype=np.int64)[columns]
        held = over(self.condition, dict(zip(self.pair, (row, column), strict=True)))
        return held, held

    def __str__(self) -> str:
        condition = (
            suffixed(self.condition) if self.by_tokens else written(self.condition, tokens=False)
        )
        return f"{{{', '.join(self.pair)} : {number_text(condition, 0)}}}"


@dataclass(frozen=True)
class Labelled(Primitive):
    """Pairs for which a predicate over positions and labels holds, which are numbers: `time[q]`, `time[k]`,
    and `cut[b]`, a number of the batch row.

    Example: `{q, k : 0 <= time[q] - time[k] & time[q] - time[k] < 30}`
    """

    name = "{...}"

    condition: Number = argument("what holds for a pair", Kind.NUMBER)

    @property
    def tokens(self) -> bool:
        return True

    def blocks(self, grid: Grid, lower: Lower) -> Decided:
        return Decided.unknown(grid)

    def awaited(self) -> tuple[Label | Cells, ...]:
        ordered = not self._equal
        return tuple(Label(*split(name), ordered) for name in sorted(labelled(self.condition)))

    @property
    def _equal(self) -> bool:
        """Whether it is `x[q] == x[k]`, or its opposite: what `same(x)` asks."""
        condition = self.condition
        if not (isinstance(condition, Op) and condition.op in ("==", "!=")):
            return False
        names = [arg.name for arg in condition.args if isinstance(arg, Var)]
        return len(names) == 2 and sorted(names) == [f"{split(names[0])[0]}[{x}]" for x in "kq"]

    @property
    def wide(self) -> bool:  # type: ignore[override]  # depends on the predicate
        steps: list[Interval] = []
        bounds(self.condition, ranges_of(self.condition), steps)
        return any(max(-low, high) > MAX_NUMBER for low, high in steps)

    def predicate(self, at: At) -> Any:
        names = dict(zip(TOKENS, (at.tokens.row, at.tokens.col), strict=True))
        for name in labelled(self.condition):
            label, side = split(name)
            names[name] = at.labels[label][side == KEYS]
        return over(self.condition, names)

    def known(self, ranges: Ranges) -> Known:
        names = {"q": ranges.q, "k": ranges.k}
        for name in labelled(self.condition):
            label, side = split(name)
            names[name] = ranges.labels[label][side == KEYS]
        return ranges.compared(self.condition, names)

    def names(self) -> frozenset[str]:
        return super().names() - {*TOKENS} - labelled(self.condition)

    def expand(self) -> Pattern:
        condition = self.condition
        assert isinstance(condition, Op)
        if condition.op == "!=" and self._equal:
            return Complement(Labelled(Op("==", condition.args)))
        if condition.op == "not":
            return Complement(predicate(condition.args[0]).expand())
        if condition.op in _JOINS:
            return _JOINS[condition.op].of(*(predicate(arg).expand() for arg in condition.args))
        return self

    def operations(self) -> int:
        return 1 + size(self.condition) // 4

    def __str__(self) -> str:
        return f"{{{', '.join(TOKENS)} : {number_text(suffixed(self.condition), 0)}}}"


def predicate(condition: Number) -> Builder | Labelled:
    """The pattern of a predicate over tokens, which the call decides if it reads labels."""
    return Labelled(condition) if labelled(condition) else Builder(condition, True)


_RUNS_OF = {"&": Runs.__and__, "|": Runs.__or__, "^": Runs.__xor__}


def _is_compared(predicate: Number, names: tuple[str, str]) -> bool:
    """Whether a comparison is of a number of each side, or made of such."""
    if sides(predicate, names) is not None:
        return True
    joined = within_reach(predicate, names)
    if joined is predicate or not isinstance(joined, Op):
        return False
    return all(_is_compared(part, names) for part in joined.args)
