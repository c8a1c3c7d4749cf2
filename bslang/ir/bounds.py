"""Bounds of numbers and predicates: the least and greatest value, from those of their names.

Interval arithmetic, on integers or on arrays of them. It never leaves a value out, and where an
operand occurs once it adds none. A truth value is bounded by 0 and 1: (1, 1) is surely true.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from bslang.ir.expr import OPERATORS, Number, Op, Var, logarithm, root

Interval: TypeAlias = tuple[Any, Any]
"""(least, greatest), both included: integers, or arrays of one shape."""

LARGEST = 2**62
"""Numbers beyond it may overflow 64 bits in a step that follows."""


def bounds(
    number: Number, names: Mapping[str, Interval], steps: list[Interval] | None = None
) -> Interval:
    """The bounds of a number whose names have the given bounds; those of each step go to `steps`.

    Raises ValueError or ArithmeticError where, within them, the number may have no value (a division
    by zero) or, for integers, pass 64 bits.
    """
    if isinstance(number, Var):
        return names[number.name]
    if not isinstance(number, Op):
        return number, number  # an integer or a truth value
    args = [bounds(arg, names, steps) for arg in number.args]
    low, high = _RULES[number.op](*args)
    if isinstance(low, int) and max(abs(low), abs(high)) > LARGEST:
        raise OverflowError("this can overflow 64 bits")
    if steps is not None:
        steps.append((low, high))
    return low, high


def _least(*values: Any) -> Any:
    return min(values) if all(isinstance(v, int) for v in values) else _reduced(np.minimum, values)


def _most(*values: Any) -> Any:
    return max(values) if all(isinstance(v, int) for v in values) else _reduced(np.maximum, values)


def _reduced(extremum: Callable[[Any, Any], Any], values: tuple[Any, ...]) -> Any:
    result = values[0]
    for value in values[1:]:
        result = extremum(result, value)
    return result


def _where(test: Any, yes: Any, no: Any) -> Any:
    return (yes if test else no) if isinstance(test, bool | int) else np.where(test, yes, no)


def _corners(op: str) -> Callable[[Interval, Interval], Interval]:
    apply = OPERATORS[op]

    def rule(a: Interval, b: Interval) -> Interval:
        values = [apply(x, y) for x in a for y in b]
        return _least(*values), _most(*values)

    return rule


def _quotient(a: Interval, b: Interval) -> Interval:
    _positive(b)
    return _corners("//")(a, b)


def _remainder(a: Interval, b: Interval) -> Interval:
    _positive(b)
    # Below a divisor that is fixed, a numerator that stays in one period keeps its order.
    fixed = _both(b[0] == b[1], a[0] // b[0] == a[1] // b[1])
    return _where(fixed, a[0] % b[0], 0), _where(fixed, a[1] % b[1], b[1] - 1)


def _positive(b: Interval) -> None:
    if np.any(np.asarray(b[0] <= 0) & np.asarray(b[1] >= 0)):
        raise ZeroDivisionError("this can divide by zero")
    if np.any(np.asarray(b[0] < 0)):
        raise ValueError("a divisor in a predicate must be above 0")


def _both(*tests: Any) -> Any:
    result = tests[0]
    for test in tests[1:]:
        result = result & test
    return result


def _power(a: Interval, b: Interval) -> Interval:
    if not isinstance(b[0], int) or b[0] != b[1]:
        raise ValueError("an exponent in a predicate must be a number that the spec gives")
    exponent = b[0]
    if exponent < 0:
        raise ValueError("a negative exponent does not give an integer")
    if exponent > 62:
        raise OverflowError("this can overflow 64 bits")
    values = [a[0] ** exponent, a[1] ** exponent]
    if exponent % 2 == 0:
        values.append(_where(_both(a[0] <= 0, a[1] >= 0), 0, values[0]))
    return _least(*values), _most(*values)


def _absolute(a: Interval) -> Interval:
    inside = _both(a[0] <= 0, a[1] >= 0)
    ends = abs(a[0]), abs(a[1])
    return _where(inside, 0, _least(*ends)), _most(*ends)


def _monotone(op: str, least: int) -> Callable[[Interval], Interval]:
    def rule(a: Interval) -> Interval:
        if np.any(np.asarray(a[0]) < least):
            raise ValueError(f"`{op}` needs a number of at least {least}, and this can be less")
        array = root if op == "isqrt" else logarithm
        each = OPERATORS[op] if isinstance(a[0], int) else array
        return each(a[0]), each(a[1])

    return rule


def _truth(sure: Any, possible: Any) -> Interval:
    return sure * 1, possible * 1


_RULES: Mapping[str, Callable[..., Interval]] = {
    "+": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "-": lambda a, b: (a[0] - b[1], a[1] - b[0]),
    "*": _corners("*"),
    "//": _quotient,
    "%": _remainder,
    "**": _power,
    "min": lambda a, b: (_least(a[0], b[0]), _least(a[1], b[1])),
    "max": lambda a, b: (_most(a[0], b[0]), _most(a[1], b[1])),
    "abs": _absolute,
    "isqrt": _monotone("isqrt", 0),
    "log2": _monotone("log2", 1),
    "<": lambda a, b: _truth(a[1] < b[0], a[0] < b[1]),
    "<=": lambda a, b: _truth(a[1] <= b[0], a[0] <= b[1]),
    ">": lambda a, b: _truth(a[0] > b[1], a[1] > b[0]),
    ">=": lambda a, b: _truth(a[0] >= b[1], a[1] >= b[0]),
    "==": lambda a, b: _truth(
        _both(a[0] == a[1], b[0] == b[1], a[0] == b[0]), _both(a[0] <= b[1], b[0] <= a[1])
    ),
    "!=": lambda a, b: _truth(
        _where(_both(a[0] <= b[1], b[0] <= a[1]), 0, 1) == 1,
        _where(_both(a[0] == a[1], b[0] == b[1], a[0] == b[0]), 0, 1) == 1,
    ),
    "&": lambda a, b: (a[0] & b[0], a[1] & b[1]),
    "|": lambda a, b: (a[0] | b[0], a[1] | b[1]),
    "^": lambda a, b: (
        (a[0] & (1 - b[1])) | (b[0] & (1 - a[1])),
        (a[1] | b[1]) & (1 - (a[0] & b[0])),
    ),
    "not": lambda a: (1 - a[1], 1 - a[0]),
    "int": lambda a: a,  # bounds of truth values are numbers already
}
