"""Residuals: what an operator leaves of a block whose parts are true, false or undecided."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, reduce
from typing import TypeAlias

from bslang.errors import LimitError
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
Fold: TypeAlias = Callable[[Residual, Residual], Residual]


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


FOLDS: dict[type[Pattern], Fold] = {
    Union: fold_union,
    Intersection: fold_intersection,
    Xor: fold_xor,
    Difference: fold_difference,
}


def settled(residual: Pattern, labels: Mapping[str, bool]) -> Residual:
    """What is left of a residual on a block where labels are known to be equal everywhere, or nowhere."""
    if isinstance(residual, Primitive):
        return labels.get(vars(residual)["label"], residual) if residual.labelled else residual
    parts = [settled(part, labels) for part in residual.parts]
    if isinstance(residual, Transpose):
        return fold_transpose(parts[0])
    if isinstance(residual, Complement):
        return fold_complement(parts[0])
    return reduce(FOLDS[type(residual)], parts)


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
    def outcomes(pattern: Pattern) -> set[Residual]:
        if isinstance(pattern, Primitive):
            meant = pattern.expand()
            if meant is not pattern:
                return outcomes(meant)
            if pattern.labelled or (not sharp and not pattern.drawn):
                return {pattern}
            return {True, False, pattern} if pattern.tokens else {True, False}
        if isinstance(pattern, Heads):
            return set().union(*map(outcomes, pattern.parts))
        if isinstance(pattern, Transpose):
            return {fold_transpose(a) for a in outcomes(pattern.part)}
        if isinstance(pattern, Complement):
            return {fold_complement(a) for a in outcomes(pattern.part)}
        fold = FOLDS[type(pattern)]

        def pairs(left: set[Residual], right: set[Residual]) -> set[Residual]:
            combined = {fold(a, b) for a in left for b in right}
            if len(combined) > MAX_RESIDUALS + 2:
                raise _TooMany
            return combined

        return reduce(pairs, map(outcomes, pattern.parts))

    try:
        found = {residual for residual in outcomes(pattern) if isinstance(residual, Pattern)}
    except _TooMany:
        return None
    return found if len(found) <= MAX_RESIDUALS else None
