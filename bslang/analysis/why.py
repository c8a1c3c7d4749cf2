"""Why a pair belongs to a layout, or does not: which of its terms bring it in or take it away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np

from bslang.analysis.pairs import Pair, sees
from bslang.graph.lower import lower
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
    TAKES = "takes it away"
    LACKS = "lacks it"
    LABELS = "depends on the labels"


@dataclass(frozen=True)
class Reason:
    """A term of a layout, and what it does to the pair."""

    term: Pattern
    effect: Effect


@dataclass(frozen=True)
class Verdict:
    """Whether a query sees a key, None where labels decide, and why."""

    sees: bool | None
    reasons: tuple[Reason, ...]


def why(pattern: Pattern, grid: Grid, query: int, key: int) -> Verdict:
    """Whether a query position sees a key position, and the terms that make it so.

    Costs no more than the drawn parts take to lower. Raises as `lower`.
    """
    asking = _Asking()
    here = (grid, (query, key))
    reasons = dict.fromkeys(asking.reasons(pattern, *here, positive=True))
    return Verdict(asking.has(pattern, *here), tuple(reasons))


class _Asking:
    """Asks the parts of a pattern for one pair; what is lowered for it is lowered once."""

    def __init__(self) -> None:
        self._known: dict[tuple[Pattern, Grid, Pair], bool | None] = {}

    def has(self, pattern: Pattern, grid: Grid, pair: Pair) -> bool | None:
        """Whether the pair belongs; None where labels decide."""
        key = (pattern, grid, pair)
        if key not in self._known:
            self._known[key] = self._find(pattern, grid, pair)
        return self._known[key]

    def _find(self, pattern: Pattern, grid: Grid, pair: Pair) -> bool | None:
        if isinstance(pattern, Primitive):
            meant = pattern.expand()
            return (
                self.has(meant, grid, pair) if meant is not pattern else _holds(pattern, grid, pair)
            )
        if isinstance(pattern, Heads):
            return self.has(pattern.choose(grid.head), grid, pair)
        if isinstance(pattern, Transpose):
            return self.has(pattern.part, grid.transposed(), pair[::-1])
        parts = [self.has(part, grid, pair) for part in pattern.parts]
        if isinstance(pattern, Complement):
            return _not(parts[0])
        if isinstance(pattern, Union):
            return _any(parts)
        if isinstance(pattern, Xor):
            return None if None in parts else sum(map(bool, parts)) % 2 == 1
        if isinstance(pattern, Difference):
            parts[1] = _not(parts[1])
        return _not(_any([_not(part) for part in parts]))

    def reasons(
        self, pattern: Pattern, grid: Grid, pair: Pair, *, positive: bool
    ) -> Iterator[Reason]:
        """Why the pair belongs to a part, or does not; positive: whether that brings it in."""
        has = self.has(pattern, grid, pair)

        def of(part: Pattern, *, positive: bool = positive) -> Iterator[Reason]:
            return self.reasons(part, grid, pair, positive=positive)

        def like(*wanted: bool | None) -> Iterator[Pattern]:
            return (part for part in pattern.parts if self.has(part, grid, pair) in wanted)

        if isinstance(pattern, Heads):
            yield from of(pattern.choose(grid.head))
        elif isinstance(pattern, Transpose):
            mirrored = grid.transposed(), pair[::-1]
            yield from self.reasons(pattern.part, *mirrored, positive=positive)
        elif isinstance(pattern, Complement) and has is not True:
            yield from of(pattern.part, positive=not positive)
        elif isinstance(pattern, Difference):
            yield from of(pattern.left)
            if self.has(pattern.left, grid, pair) is not False and has is not True:
                yield from of(pattern.right, positive=not positive)
        elif isinstance(pattern, Intersection):
            among = list(like(True, None)) if has is not False else list(like(True))
            for part in among or like(False):
                yield from of(part)
            for part in like(False) if among else ():
                # What is made of parts says itself which of them does not let the pair through.
                yield from of(part) if part.parts else [Reason(part, Effect.TAKES)]
        elif isinstance(pattern, (Union, Xor)):
            for part in list(like(True) if has else like(True, None)) or pattern.parts:
                yield from of(part)
            # An even number of the operands have it.
            if isinstance(pattern, Xor) and has is False and list(like(True)):
                yield Reason(pattern, Effect.TAKES)
        elif has is None:
            yield Reason(pattern, Effect.LABELS)
        elif has:
            yield Reason(pattern, Effect.HAS if positive else Effect.TAKES)
        else:
            yield Reason(pattern, Effect.LACKS)
            if isinstance(pattern, Primitive) and (meant := pattern.expand()) is not pattern:
                # `random` has not drawn the block, or could not: then `within` lacks the pair.
                within = (part for part in meant.parts if self.has(part, grid, pair) is False)
                yield from (r for part in within for r in of(part) if not _drawn(part))


def _holds(primitive: Primitive, grid: Grid, pair: Pair) -> bool | None:
    if primitive.labelled:
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


def _any(values: list[bool | None]) -> bool | None:
    return True if True in values else None if None in values else False
