"""Residuals: what an operator leaves of a block whose parts are true, false or undecided."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import TypeAlias

from bslang.ir.fold import Fold, chosen_before
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

Residual: TypeAlias = Pattern | bool
Join: TypeAlias = Callable[..., Residual]
"""One of the folds below, of two residuals; those of unions and intersections take any number."""

Leaf: TypeAlias = Primitive | Transpose
"""A primitive, or the transpose of one: what the operators of a residual join."""


def fold_union(*residuals: Residual) -> Residual:
    return _fold(Union, True, residuals)


def fold_intersection(*residuals: Residual) -> Residual:
    return _fold(Intersection, False, residuals)


def _fold(
    join: type[Union | Intersection], settles: bool, residuals: tuple[Residual, ...]
) -> Residual:
    """The operator on residuals, each once. settles: the truth value of one that is that of all."""
    if any(residual is settles for residual in residuals):
        return settles
    parts: dict[Pattern, None] = {}
    for residual in residuals:
        if isinstance(residual, Pattern):
            parts.update(
                dict.fromkeys(residual.parts if isinstance(residual, join) else (residual,))
            )
    return join.of(*parts) if parts else not settles


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


def mirrored(leaf: Leaf) -> Leaf:
    """The transpose of a leaf."""
    found = fold_transpose(leaf)
    assert isinstance(found, Primitive | Transpose)
    return found


def leaves(residual: Pattern) -> tuple[Leaf, ...]:
    """The distinct leaves of a residual, left to right."""
    found: dict[Leaf, None] = {}

    def see(leaf: Leaf) -> Leaf:
        found[leaf] = None
        return leaf

    replaced(residual, see)
    return tuple(found)


def allowed(residual: Pattern) -> Residual:
    """What is left of a residual where what awaits a call holds."""
    return replaced(residual, lambda leaf: True if leaf.awaits_call else leaf)


def needs(residual: Pattern, leaf: Leaf) -> bool:
    """Whether no pair belongs to a residual where a leaf does not hold."""
    return replaced(residual, lambda other: False if other == leaf else other) is False


def replaced(residual: Pattern, value: Callable[[Leaf], Residual]) -> Residual:
    """What is left of a residual where a value is given for each of its leaves."""
    return _Replaced(value)(residual)


class _Replaced(Fold[Residual]):
    def __init__(self, value: Callable[[Leaf], Residual]) -> None:
        self.value = value

    def primitive(self, pattern: Primitive) -> Residual:
        return self.value(pattern)

    def union(self, pattern: Union) -> Residual:
        return fold_union(*self.parts(pattern))

    def intersection(self, pattern: Intersection) -> Residual:
        return fold_intersection(*self.parts(pattern))

    def xor(self, pattern: Xor) -> Residual:
        return reduce(fold_xor, self.parts(pattern))

    def difference(self, pattern: Difference) -> Residual:
        return fold_difference(self(pattern.left), self(pattern.right))

    def complement(self, pattern: Complement) -> Residual:
        return fold_complement(self(pattern.part))

    def transpose(self, pattern: Transpose) -> Residual:
        # What is asked for a leaf of the part is asked for the transpose of the leaf.
        inner = _Replaced(lambda leaf: fold_transpose(self.value(mirrored(leaf))))
        return fold_transpose(inner(pattern.part))

    heads = chosen_before
