"""The masks of a layout: the residuals that lowering can leave at any length, each as short as can be.

1. A residual is possible if some block can leave it. Folding the operators follows, with each residual,
   the places (`bslang.graph.place`) of the states that lead to it, and drops it where these have no block
   in common.
2. A residual is a function of its primitives' truth values, and not every row of its truth table occurs:
   where `causal` is undecided, a pair is in `last(500t)` if and only if it is in `causal`.
3. Residuals that agree in all rows that occur are one mask. The shortest is kept, and of several as short
   the one that stands for the most residuals. One that is false in all rows needs no mask.

So `last(500t) & causal` has one mask, `last(500t)`. Bounds are only ever too wide: at worst a mask is kept
that no length needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from functools import lru_cache, reduce

from bslang.errors import LimitError
from bslang.graph.place import FALSE, TRUE, UNDECIDED, Place, Sides, part_of, places, region
from bslang.graph.residual import (
    Join,
    Leaf,
    Residual,
    fold_complement,
    fold_difference,
    fold_intersection,
    fold_transpose,
    fold_union,
    fold_xor,
    leaves,
    mirrored,
    replaced,
)
from bslang.ir.fold import Fold, chosen_before
from bslang.ir.heads import Heads
from bslang.ir.pattern import (
    Complement,
    Difference,
    Intersection,
    Pattern,
    Primitive,
    Transpose,
    Union,
    Xor,
)
from bslang.limits import MAX_RESIDUALS

Outcomes = Mapping[Residual, Set[Place]]
"""What can be left of a block, and where."""

ANYWHERE = frozenset([Place()])

_FOLLOWED = (
    24  # primitives whose states are followed; with more, all are taken to be possible together
)
_PLACES = 1024  # pairs of places that are compared at once, and rows of a table that are followed
_LEAVES = 8  # primitives in a truth table
_FORMS = 64  # ways to write a residual


@lru_cache(maxsize=256)
def residuals(pattern: Pattern, sides: Sides) -> tuple[Pattern, ...]:
    """Every mask of a pattern with blocks of these sides, at any length, in a fixed order.

    Raises LimitError where drawn parts and token parts are mixed in too many ways.
    """
    found = {left for left in shortest(pattern, sides).values() if isinstance(left, Pattern)}
    return tuple(sorted(found, key=str))


def shortest(pattern: Pattern, sides: Sides) -> Mapping[Pattern, Residual]:
    """What folding the operators can leave of a block, and the mask that each is kept as.

    Raises as `residuals`.
    """
    found = _possible(pattern, sides, is_sharp(pattern, sides))
    if found is None:
        raise LimitError("MAX_RESIDUALS", MAX_RESIDUALS, f"the distinct token masks of `{pattern}`")
    return found


def is_sharp(pattern: Pattern, sides: Sides) -> bool:
    """Whether each way to decide the primitives gets a mask of its own.

    Where these are too many, only drawn primitives are decided in a partial block, and the mask
    asks all the rest of the pattern.
    """
    return _possible(pattern, sides, True) is not None


class _TooMany(Exception):
    pass


@lru_cache(maxsize=512)
def _possible(pattern: Pattern, sides: Sides, sharp: bool) -> Mapping[Pattern, Residual] | None:
    follow = sharp and sum(1 for _ in pattern.primitives()) <= _FOLLOWED
    try:
        outcomes = _Outcomes(sides, sharp, follow)(pattern)
    except _TooMany:
        return None
    kept = _kept(outcomes, sides)
    return kept if len(set(kept.values())) <= MAX_RESIDUALS else None


class _Outcomes(Fold[Outcomes]):
    """What each part of a pattern can come to on a block, at any length, and where.

    sharp: as `is_sharp`; follow: whether places are looked at, or everything is taken to be possible.
    """

    def __init__(self, sides: Sides, sharp: bool, follow: bool) -> None:
        self.sides, self.sharp, self.follow = sides, sharp, follow

    def primitive(self, pattern: Primitive) -> Outcomes:
        meant = pattern.expand()
        if meant is not pattern:
            return self(meant)
        if pattern.awaits_call or (not self.sharp and not pattern.drawn):
            states: dict[int, Residual] = {UNDECIDED: pattern}
        else:
            states = {TRUE: True, FALSE: False}
            states |= {UNDECIDED: pattern} if pattern.tokens else {}
        if not self.follow:
            return dict.fromkeys(states.values(), ANYWHERE)
        where = ((left, places(pattern, state, self.sides)) for state, left in states.items())
        return _joined((left, set(found)) for left, found in where)

    def union(self, pattern: Union) -> Outcomes:
        return self._each(fold_union, pattern)

    def intersection(self, pattern: Intersection) -> Outcomes:
        return self._each(fold_intersection, pattern)

    def xor(self, pattern: Xor) -> Outcomes:
        return self._each(fold_xor, pattern)

    def difference(self, pattern: Difference) -> Outcomes:
        return self._each(fold_difference, pattern)

    def complement(self, pattern: Complement) -> Outcomes:
        return {fold_complement(left): where for left, where in self(pattern.part).items()}

    def transpose(self, pattern: Transpose) -> Outcomes:
        across = _Outcomes((self.sides[1], self.sides[0]), self.sharp, self.follow)
        return {
            fold_transpose(left): {place.transposed() for place in where}
            for left, where in across(pattern.part).items()
        }

    def heads(self, pattern: Heads) -> Outcomes:
        return _joined(outcome for part in self.parts(pattern) for outcome in part.items())

    def _each(self, join: Join, pattern: Pattern) -> Outcomes:
        parts = self.parts(pattern)
        if join is not fold_xor and not self.follow and all(len(part) == 1 for part in parts):
            return {join(*(left for part in parts for left in part)): ANYWHERE}
        return reduce(lambda a, b: _combined(a, b, join, self.sides), parts)


def _combined(left: Outcomes, right: Outcomes, join: Join, sides: Sides) -> Outcomes:
    compared = sum(map(len, left.values())) * sum(map(len, right.values()))
    if compared > _PLACES:
        left, right = dict.fromkeys(left, ANYWHERE), dict.fromkeys(right, ANYWHERE)

    def met(one: Set[Place], other: Set[Place]) -> Set[Place]:
        both = (a.meet(b, sides) for a in one for b in other)
        return {place for place in both if place is not None}

    found = _joined(
        (join(a, b), met(one, other)) for a, one in left.items() for b, other in right.items()
    )
    if len(found) > 2 * MAX_RESIDUALS:
        raise _TooMany
    return found


def _joined(outcomes: Iterable[tuple[Residual, Set[Place]]]) -> Outcomes:
    found: dict[Residual, set[Place]] = {}
    for left, where in outcomes:
        if where:
            found.setdefault(left, set()).update(where)
    return found


def _kept(found: Outcomes, sides: Sides) -> Mapping[Pattern, Residual]:
    """The mask that each residual is kept as: itself, where they have too many primitives for a table."""
    where = {left: found[left] for left in sorted(found, key=str) if isinstance(left, Pattern)}
    among = list(dict.fromkeys(leaf for left in where for leaf in leaves(left)))
    if len(among) > _LEAVES:
        return {left: left for left in where}
    return _Tables(where, among, sides).kept()


class _Tables:
    """The truth tables of residuals, over the primitives of all of them.

    A table is an integer with a bit for each row; row r gives leaf i the truth value of bit i of r.
    """

    def __init__(
        self, where: Mapping[Pattern, Set[Place]], leaves: list[Leaf], sides: Sides
    ) -> None:
        self.where, self.leaves = where, leaves
        rows = 1 << len(leaves)
        self.every = (1 << rows) - 1
        self.columns = {
            leaf: sum(1 << row for row in range(rows) if row >> i & 1)
            for i, leaf in enumerate(self.leaves)
        }
        self.regions = [region(leaf, sides) for leaf in self.leaves]

    def kept(self) -> dict[Pattern, Residual]:
        """The mask of each residual: of those equal to it and shortest, one that stands for many."""
        kept: dict[Pattern, Residual] = {}
        among = {left: self._rows(where) for left, where in self.where.items()}
        forms: dict[Pattern, None] = {}
        for left, rows in among.items():
            truth = self._truth(left) & rows
            if truth in (0, rows):
                kept[left] = truth != 0
            else:
                forms.update(dict.fromkeys(self._forms(left, rows)))
        ordered = sorted(forms, key=lambda form: (_size(form), str(form)))
        equal = {
            left: [form for form in ordered if self._equal(form, left, rows)]
            for left, rows in among.items()
            if left not in kept
        }
        choice = {
            left: [form for form in found if _size(form) == _size(found[0])]
            for left, found in equal.items()
        }
        while choice:
            best = max(ordered, key=lambda form: sum(form in some for some in choice.values()))
            for left in [left for left, some in choice.items() if best in some]:
                kept[left] = best
                del choice[left]
        return kept

    def _rows(self, where: Set[Place]) -> int:
        """The rows that can occur on some blocks."""
        rows = 0
        for place in where:
            states = dict(place.states)
            partial = {(0, place.slab)}
            for i, (leaf, found) in enumerate(zip(self.leaves, self.regions, strict=True)):
                values = [(1 << i, found.inside)] * (states.get(leaf) != FALSE)
                values += [(0, found.outside)] * (states.get(leaf) != TRUE)
                partial = {
                    (row | bit, both)
                    for row, slab in partial
                    for bit, slabs in values
                    for other in slabs
                    if (both := slab & other) is not None
                }
                if len(partial) > _PLACES:
                    return self.every
            for row, _ in partial:
                rows |= 1 << row
        for a in self.leaves:
            for b in self.leaves:
                if a != b and part_of(a, b):
                    rows &= ~(self.columns[a] & ~self.columns[b])
        return rows

    def _forms(self, residual: Pattern, rows: int) -> Iterable[Pattern]:
        """Ways to write a residual with fewer primitives, itself among them."""
        forms = {residual: None}
        waiting = [residual]
        while waiting and len(forms) < _FORMS:
            form = waiting.pop()
            for leaf in leaves(form):
                for value in (True, False):
                    shorter = _fixed(form, leaf, value)
                    if (
                        isinstance(shorter, Pattern)
                        and shorter not in forms
                        and self._equal(shorter, residual, rows)
                    ):
                        forms[shorter] = None
                        waiting.append(shorter)
        return forms

    def _equal(self, a: Pattern, b: Pattern, rows: int) -> bool:
        return not (self._truth(a) ^ self._truth(b)) & rows

    def _truth(self, residual: Pattern) -> int:
        return _Truth(self.columns, self.every)(residual)


class _Truth(Fold[int]):
    """The truth table of a residual, from the columns of its leaves."""

    def __init__(self, columns: Mapping[Leaf, int], every: int) -> None:
        self.columns, self.every = columns, every

    def primitive(self, pattern: Primitive) -> int:
        return self.columns[pattern]

    def union(self, pattern: Union) -> int:
        return reduce(int.__or__, self.parts(pattern))

    def intersection(self, pattern: Intersection) -> int:
        return reduce(int.__and__, self.parts(pattern))

    def xor(self, pattern: Xor) -> int:
        return reduce(int.__xor__, self.parts(pattern))

    def difference(self, pattern: Difference) -> int:
        return self(pattern.left) & ~self(pattern.right)

    def complement(self, pattern: Complement) -> int:
        return self.every ^ self(pattern.part)

    def transpose(self, pattern: Transpose) -> int:
        mirror = {mirrored(leaf): column for leaf, column in self.columns.items()}
        return _Truth(mirror, self.every)(pattern.part)

    heads = chosen_before


def _fixed(residual: Pattern, leaf: Leaf, value: bool) -> Residual:
    return replaced(residual, lambda other: value if other == leaf else other)


def _size(residual: Pattern) -> int:
    """Primitives and operators of a residual."""
    return 1 + sum(map(_size, residual.parts))
