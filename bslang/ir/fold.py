"""One fold for every walk over a pattern: a method for each operator, and one for primitives.

A walk is a subclass of `Fold`. It cannot be made while it lacks an operator, and the message names that
operator, so that a new one is forgotten nowhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, NoReturn, TypeVar

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

T = TypeVar("T")

OPERATORS: dict[type[Pattern], str] = {
    Union: "union",
    Intersection: "intersection",
    Xor: "xor",
    Difference: "difference",
    Complement: "complement",
    Transpose: "transpose",
    Heads: "heads",
}
"""Every operator, and the method of `Fold` that takes it. Compositions are primitives (ir/composition.py)."""


class Fold(ABC, Generic[T]):
    """A walk over a pattern: called with one, it calls the method of its operator.

    A method folds the operands itself, or leaves them: `self(part)`, or `self.parts(pattern)` for all.
    """

    def __call__(self, pattern: Pattern) -> T:
        method = "primitive" if isinstance(pattern, Primitive) else OPERATORS.get(type(pattern))
        if method is None:
            raise TypeError(
                f"no fold knows the operator {type(pattern).__name__}: add it to OPERATORS"
            )
        result: T = getattr(self, method)(pattern)
        return result

    def parts(self, pattern: Pattern) -> list[T]:
        """What the operands come to, left to right."""
        return list(map(self, pattern.parts))

    @abstractmethod
    def primitive(self, pattern: Primitive) -> T: ...

    @abstractmethod
    def union(self, pattern: Union) -> T: ...

    @abstractmethod
    def intersection(self, pattern: Intersection) -> T: ...

    @abstractmethod
    def xor(self, pattern: Xor) -> T: ...

    @abstractmethod
    def difference(self, pattern: Difference) -> T: ...

    @abstractmethod
    def complement(self, pattern: Complement) -> T: ...

    @abstractmethod
    def transpose(self, pattern: Transpose) -> T: ...

    @abstractmethod
    def heads(self, pattern: Heads) -> T: ...


def chosen_before(walk: Fold[Any], pattern: Heads) -> NoReturn:
    """The `heads` of a walk over residuals: lowering chose a head, so that none is left."""
    raise AssertionError(f"`{pattern}` in a residual")
