"""Residuals: what an operator leaves of a block whose parts are true, false or undecided."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, reduce
from typing import TypeAlias

from bslang.errors import LimitError
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

Residual: TypeAlias = Pattern | bool
Join: TypeAlias = Callable[[Residual, Residual], Residual]


def fold_union(a: Residual, b: Residual) -> Residual:
    if a is True or b is True:
        return True
    if a is False or a == b:
        return b
    return a if b is False else Union.of(a, b)


def fold_intersection(a: Residual, b: Residual) -> Residual:
    if a is False or b is False:
        return False
    if a is True or a == b:
        return b
    return a if b is True else Intersection.of(a, b)


def fold_xor(a: Residual, b: Residual) -> Residual:
    if a == b:
        return False
    if isinstance(a, bool):
        return fold_complement(b) if a else b
    if isinstance(b, bool):
        return fold_complement(a) if b else a
    return Xor.of(a, b)


def fold_difference(a: Residual, b: Residual) -> Residual:
    if a is False or b is True or a == b:
        return False
    if b is False:
        return a
    if a is True:
        return fold_complement(b)
    assert isinstance(a, Pattern) and isinstance(b, Pattern)
    return Difference.of(a, b)


def fold_complement(a: Residual) -> Residual:
    if isinstance(a, bool):
        return not a
    return a.part if isinstance(a, Complement) else Complement(a)


def fold_transpose(a: Residual) -> Residual:
    if isinstance(a, bool):
        return a
    return a.part if isinstance(a, Transpose) else Transpose(a)


def settled(residual: Pattern, labels: Mapping[str, bool]) -> Residual:
    """What is left of a residual on a block where labels are known to be equal everywhere, or nowhere."""
    return _Settled(labels)(residual)


class _Settled(Fold[Residual]):
    def __init__(self, labels: Mapping[str, bool]) -> None:
        self.labels = labels

    def primitive(self, pattern: Primitive) -> Residual:
        label = pattern.compared_label()
        return pattern if label is None else self.labels.get(label, pattern)

    def union(self, pattern: Union) -> Residual:
        return reduce(fold_union, self.parts(pattern))

    def intersection(self, pattern: Intersection) -> Residual:
        return reduce(fold_intersection, self.parts(pattern))

    def xor(self, pattern: Xor) -> Residual:
        return reduce(fold_xor, self.parts(pattern))

    def difference(self, pattern: Difference) -> Residual:
        return fold_difference(self(pattern.left), self(pattern.right))

    def complement(self, pattern: Complement) -> Residual:
        return fold_complement(self(pattern.part))

    def transpose(self, pattern: Transpose) -> Residual:
        return fold_transpose(self(pattern.part))

    heads = chosen_before


@lru_cache(maxsize=256)
def residuals(pattern: Pattern) -> tuple[Pattern, ...]:
    """Every residual that lowering a pattern can leave, at any length, in a fixed order.

    Raises LimitError where drawn parts and token parts are mixed in too many ways.
    """
    found = _possible(pattern, sharp=is_sharp(pattern))
    if found is None:
        raise LimitError("MAX_RESIDUALS", MAX_RESIDUALS, f"the distinct token masks of `{pattern}`")
    return tuple(sorted(found, key=str))


@lru_cache(maxsize=256)
def is_sharp(pattern: Pattern) -> bool:
    """Whether each way to decide the primitives gets a mask of its own.

    Where these are too many, only drawn primitives are decided in a partial block, and the mask
    asks all the rest of the pattern.
    """
    return _possible(pattern, sharp=True) is not None


class _TooMany(Exception):
    pass


def _possible(pattern: Pattern, sharp: bool) -> set[Pattern] | None:
    try:
        outcomes = _Outcomes(sharp)(pattern)
    except _TooMany:
        return None
    found = {residual for residual in outcomes if isinstance(residual, Pattern)}
    return found if len(found) <= MAX_RESIDUALS else None


class _Outcomes(Fold[set[Residual]]):
    """What each part of a pattern can come to on a block, at any length."""

    def __init__(self, sharp: bool) -> None:
        self.sharp = sharp

    def primitive(self, pattern: Primitive) -> set[Residual]:
        meant = pattern.expand()
        if meant is not pattern:
            return self(meant)
        if pattern.labelled or (not self.sharp and not pattern.drawn):
            return {pattern}
        return {True, False, pattern} if pattern.tokens else {True, False}

    def union(self, pattern: Union) -> set[Residual]:
        return self._each(fold_union, pattern)

    def intersection(self, pattern: Intersection) -> set[Residual]:
        return self._each(fold_intersection, pattern)

    def xor(self, pattern: Xor) -> set[Residual]:
        return self._each(fold_xor, pattern)

    def difference(self, pattern: Difference) -> set[Residual]:
        return self._each(fold_difference, pattern)

    def complement(self, pattern: Complement) -> set[Residual]:
        return set(map(fold_complement, self(pattern.part)))

    def transpose(self, pattern: Transpose) -> set[Residual]:
        return set(map(fold_transpose, self(pattern.part)))

    def heads(self, pattern: Heads) -> set[Residual]:
        return set().union(*self.parts(pattern))

    def _each(self, join: Join, pattern: Pattern) -> set[Residual]:
        def pairs(left: set[Residual], right: set[Residual]) -> set[Residual]:
            combined = {join(a, b) for a in left for b in right}
            if len(combined) > MAX_RESIDUALS + 2:
                raise _TooMany
            return combined

        return reduce(pairs, self.parts(pattern))
