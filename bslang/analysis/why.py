"""Why a pair belongs to a layout, or does not: which of its terms bring it in or take it away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

import numpy as np

from bslang.analysis.pairs import Pair, sees
from bslang.graph.lower import lower
from bslang.ir.fold import Fold
from bslang.ir.grid import At, Grid
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


class Effect(Enum):
    """What a term does to a pair."""

    HAS = "has it"
    TAKES = "removes it"
    LACKS = "lacks it"
    CALL = "depends on the call"


@dataclass(frozen=True)
class Reason:
    """A term of a layout, and what it does to the pair."""

    term: Pattern
    effect: Effect


@dataclass(frozen=True)
class Verdict:
    """Whether a query sees a key, None where the call decides, and why."""

    sees: bool | None
    reasons: tuple[Reason, ...]


def why(pattern: Pattern, grid: Grid, query: int, key: int) -> Verdict:
    """Whether a query position sees a key position, and the terms that make it so.

    Costs no more than the drawn parts take to lower. Raises as `lower`.
    """
    asked = _Asked({}, grid, (query, key))
    reasons = dict.fromkeys(_Reasons(asked, positive=True)(pattern))
    return Verdict(asked(pattern), tuple(reasons))


_Known: TypeAlias = dict[tuple[Pattern, Grid, Pair], "bool | None"]


class _Asked(Fold["bool | None"]):
    """Whether the pair belongs to a part; None where the call decides. Each part is asked once."""

    def __init__(self, known: _Known, grid: Grid, pair: Pair) -> None:
        self.known, self.grid, self.pair = known, grid, pair

    def __call__(self, pattern: Pattern) -> bool | None:
        key = (pattern, self.grid, self.pair)
        if key not in self.known:
            self.known[key] = super().__call__(pattern)
        return self.known[key]

    def transposed(self) -> _Asked:
        """The question for the pair mirrored."""
        return _Asked(self.known, self.grid.transposed(), self.pair[::-1])

    def primitive(self, pattern: Primitive) -> bool | None:
        meant = pattern.expand()
        return self(meant) if meant is not pattern else _holds(pattern, self.grid, self.pair)

    def union(self, pattern: Union) -> bool | None:
        return _any(self.parts(pattern))

    def intersection(self, pattern: Intersection) -> bool | None:
        return _all(self.parts(pattern))

    def xor(self, pattern: Xor) -> bool | None:
        parts = self.parts(pattern)
        return None if None in parts else sum(map(bool, parts)) % 2 == 1

    def difference(self, pattern: Difference) -> bool | None:
        return _all([self(pattern.left), _not(self(pattern.right))])

    def complement(self, pattern: Complement) -> bool | None:
        return _not(self(pattern.part))

    def transpose(self, pattern: Transpose) -> bool | None:
        return self.transposed()(pattern.part)

    def heads(self, pattern: Heads) -> bool | None:
        return self(pattern.choose(self.grid.head))


class _Reasons(Fold[Iterator[Reason]]):
    """Why the pair belongs to a part, or does not; positive: whether that brings it in."""

    def __init__(self, asked: _Asked, *, positive: bool) -> None:
        self.has, self.positive = asked, positive

    def primitive(self, pattern: Primitive) -> Iterator[Reason]:
        has = self.has(pattern)
        yield self._whole(pattern)
        if has is False and (meant := pattern.expand()) is not pattern:
            # `random` has not drawn the block, or could not: then `within` lacks the pair.
            for part in self._like(meant, False):
                yield from () if _drawn(part) else self(part)

    def union(self, pattern: Union) -> Iterator[Reason]:
        has = self.has(pattern)
        for part in list(self._like(pattern, *([True] if has else [True, None]))) or pattern.parts:
            yield from self(part)

    def xor(self, pattern: Xor) -> Iterator[Reason]:
        has = self.has(pattern)
        for part in list(self._like(pattern, *([True] if has else [True, None]))) or pattern.parts:
            yield from self(part)
        # An even number of the operands have it.
        if has is False and list(self._like(pattern, True)):
            yield Reason(pattern, Effect.TAKES)

    def intersection(self, pattern: Intersection) -> Iterator[Reason]:
        has = self.has(pattern)
        among = list(self._like(pattern, *([True] if has is False else [True, None])))
        for part in among or self._like(pattern, False):
            yield from self(part)
        for part in self._like(pattern, False) if among else ():
            # What is made of parts says itself which of them does not let the pair through.
            yield from self(part) if part.parts else [Reason(part, Effect.TAKES)]

    def difference(self, pattern: Difference) -> Iterator[Reason]:
        yield from self(pattern.left)
        if self.has(pattern.left) is not False and self.has(pattern) is not True:
            yield from self._opposite(pattern.right)

    def complement(self, pattern: Complement) -> Iterator[Reason]:
        if self.has(pattern) is True:
            yield self._whole(pattern)
        else:
            yield from self._opposite(pattern.part)

    def transpose(self, pattern: Transpose) -> Iterator[Reason]:
        yield from _Reasons(self.has.transposed(), positive=self.positive)(pattern.part)

    def heads(self, pattern: Heads) -> Iterator[Reason]:
        yield from self(pattern.choose(self.has.grid.head))

    def _whole(self, pattern: Pattern) -> Reason:
        """What a term does to the pair by itself."""
        has = self.has(pattern)
        if has is None:
            return Reason(pattern, Effect.CALL)
        if not has:
            return Reason(pattern, Effect.LACKS)
        return Reason(pattern, Effect.HAS if self.positive else Effect.TAKES)

    def _opposite(self, part: Pattern) -> Iterator[Reason]:
        return _Reasons(self.has, positive=not self.positive)(part)

    def _like(self, pattern: Pattern, *wanted: bool | None) -> Iterator[Pattern]:
        return (part for part in pattern.parts if self.has(part) in wanted)


def _holds(primitive: Primitive, grid: Grid, pair: Pair) -> bool | None:
    if primitive.awaits_call:
        return None
    if primitive.drawn:
        return sees(lower(primitive, grid), *pair)
    bound = primitive.bind(grid.env())
    bound.fits(grid)
    query, key = (np.array([position]) for position in pair)
    return bool(np.all(bound.predicate(At.positions(grid, query, key))))


def _drawn(pattern: Pattern) -> bool:
    return isinstance(pattern, Primitive) and pattern.drawn


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value


def _all(values: list[bool | None]) -> bool | None:
    return _not(_any([_not(value) for value in values]))


def _any(values: list[bool | None]) -> bool | None:
    return True if True in values else None if None in values else False
