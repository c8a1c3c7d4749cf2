"""Integer and boolean expressions: numbers in a pattern, and predicates over tokens.

    Number = int | Symbol
    Symbol = Var(name) | Op(op, args)

A number in a spec may depend on what is known only when the layout is lowered
(`n`, `m`). Arithmetic on `Number` folds constants at once, so that a symbol is left
only where one is needed. A comparison is a truth value; where a number is needed, `integer`
makes it 1 or 0, and `fold` alone calls it, for the operands of arithmetic. `Term` wraps a
number in the operators of an array, comparisons included; a predicate written for arrays then also
yields its own source expression.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from bslang.limits import MAX_NUMBER


class Symbol:
    """A number that is known when the layout is lowered. Compared by structure."""

    def __add__(self, other: Number) -> Number:
        return fold("+", self, other)

    def __radd__(self, other: Number) -> Number:
        return fold("+", other, self)

    def __sub__(self, other: Number) -> Number:
        return fold("-", self, other)

    def __rsub__(self, other: Number) -> Number:
        return fold("-", other, self)

    def __mul__(self, other: Number) -> Number:
        return fold("*", self, other)

    def __rmul__(self, other: Number) -> Number:
        return fold("*", other, self)

    def __floordiv__(self, other: Number) -> Number:
        return fold("//", self, other)

    def __rfloordiv__(self, other: Number) -> Number:
        return fold("//", other, self)

    def __mod__(self, other: Number) -> Number:
        return fold("%", self, other)

    def __rmod__(self, other: Number) -> Number:
        return fold("%", other, self)

    def __neg__(self) -> Number:
        return fold("-", 0, self)


@dataclass(frozen=True)
class Var(Symbol):
    """A name that is bound when the layout is lowered."""

    name: str


@dataclass(frozen=True)
class Op(Symbol):
    """An operator or function of `OPERATORS` applied to its arguments."""

    op: str
    args: tuple[Number, ...]

    @cached_property
    def names(self) -> frozenset[str]:
        """The names that it depends on."""
        return frozenset().union(*map(variables, self.args))


Number: TypeAlias = int | Symbol


def _power(base: int, exponent: int) -> int:
    if exponent < 0:
        raise ValueError("a negative exponent does not give an integer")
    if abs(base) > 1 and exponent * math.log2(abs(base)) > 64:
        raise OverflowError(f"numbers go up to {MAX_NUMBER} (MAX_NUMBER)")
    return int(base**exponent)


def _log2(x: int) -> int:
    if x < 1:
        raise ValueError(f"log2 of {x}; it needs a number above 0")
    return x.bit_length() - 1


def _isqrt(x: int) -> int:
    if x < 0:
        raise ValueError(f"isqrt of {x}; it needs a number of at least 0")
    return math.isqrt(x)


OPERATORS: Mapping[str, Callable[..., int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "**": _power,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "&": lambda a, b: a & b,
    "|": lambda a, b: a | b,
    "^": lambda a, b: a ^ b,
    "not": lambda a: not a,
    "int": int,
    "min": min,
    "max": max,
    "abs": abs,
    "isqrt": _isqrt,
    "log2": _log2,
    "gcd": math.gcd,
    "inverse": lambda a, ring: pow(a, -1, ring),
    "rank": lambda x, *edges: sum(edge <= x for edge in edges),
}
"""What each operator means on integers; `//` and `%` round toward minus infinity.

Four are written in no spec. `rank` counts the numbers after the first that are at most the first; they are
known and ascend. `int` makes a truth value 1 or 0: `integer` puts it where one is a number.
`gcd` and `inverse` (modulo a number that shares no divisor) are only asked of numbers that do not
differ from pair to pair.
"""


COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
"""Those of the operators that give a truth value of numbers."""

TRUTHS = (*COMPARISONS, "&", "|", "^", "not")
"""Those that give a truth value."""


_JOINS = ("&", "|", "^", "not")
"""Those that take truth values; all others take numbers."""


def integer(number: Number) -> Number:
    """The number itself, or 1 or 0 for a truth value."""
    if isinstance(number, bool):
        return int(number)
    truth = isinstance(number, Op) and number.op in TRUTHS
    return Op("int", (number,)) if truth else number


def fold(op: str, *args: Number) -> Number:
    """Apply an operator, at once where every argument is known.

    The result is in normal form if the arguments are: folding it again, from its leaves, changes
    nothing. Canonical text relies on that. Raises ArithmeticError or ValueError where the operator has
    no value.
    """
    if op not in _JOINS:
        args = tuple(map(integer, args))
    if op == "int":
        return args[0]
    if all(isinstance(arg, int) for arg in args):
        return OPERATORS[op](*args)
    if op in ("//", "%") and args[1] == 0:
        raise ZeroDivisionError("division by zero")
    if (op in ("+", "-", "|", "^") and args[1] == 0) or (op in ("*", "//") and args[1] == 1):
        return args[0]
    if (op in ("+", "|", "^") and args[0] == 0) or (op == "*" and args[0] == 1):
        return args[1]
    if op == "%" and args[1] == 1:
        return 0
    if op in ("&", "|", "^"):
        # A truth value that is known settles these, or leaves the other side (False | x went above).
        for known, other in (args, args[::-1]):
            if op != "^" and known is (op == "|"):
                return known
            if known is True:
                return other if op == "&" else fold("not", other)
    return Op(op, args)


def evaluate(number: Number, env: Mapping[str, Number]) -> Number:
    """The number with each variable replaced by what `env` gives it: an int if all of those are.

    A variable that `env` lacks stays. Raises as `fold`.
    """
    if isinstance(number, Var):
        return env.get(number.name, number)
    if isinstance(number, Op):
        return fold(number.op, *(evaluate(arg, env) for arg in number.args))
    return number


def variables(number: Number) -> frozenset[str]:
    """The names that a number depends on."""
    if isinstance(number, Var):
        return frozenset((number.name,))
    if isinstance(number, Op):
        return number.names
    return frozenset()


class Term:
    """A number or truth value under construction, with the operators of a NumPy array."""

    __slots__ = ("number",)
    __hash__ = None  # type: ignore[assignment]  # like an array, == builds a term

    def __init__(self, number: Number) -> None:
        self.number = number

    def _make(self, op: str, *args: Any) -> Term:
        return Term(fold(op, *(arg.number if isinstance(arg, Term) else arg for arg in args)))

    def __add__(self, other: Any) -> Term:
        return self._make("+", self, other)

    def __radd__(self, other: Any) -> Term:
        return self._make("+", other, self)

    def __sub__(self, other: Any) -> Term:
        return self._make("-", self, other)

    def __rsub__(self, other: Any) -> Term:
        return self._make("-", other, self)

    def __mul__(self, other: Any) -> Term:
        return self._make("*", self, other)

    def __rmul__(self, other: Any) -> Term:
        return self._make("*", other, self)

    def __floordiv__(self, other: Any) -> Term:
        return self._make("//", self, other)

    def __mod__(self, other: Any) -> Term:
        return self._make("%", self, other)

    def __rfloordiv__(self, other: Any) -> Term:
        return self._make("//", other, self)

    def __rmod__(self, other: Any) -> Term:
        return self._make("%", other, self)

    def __neg__(self) -> Term:
        return self._make("-", 0, self)

    def __abs__(self) -> Term:
        return self._make("abs", self)

    def __lt__(self, other: Any) -> Term:
        return self._make("<", self, other)

    def __le__(self, other: Any) -> Term:
        return self._make("<=", self, other)

    def __gt__(self, other: Any) -> Term:
        return self._make(">", self, other)

    def __ge__(self, other: Any) -> Term:
        return self._make(">=", self, other)

    def __eq__(self, other: Any) -> Term:  # type: ignore[override]  # see __hash__
        return self._make("==", self, other)

    def __ne__(self, other: Any) -> Term:  # type: ignore[override]  # see __hash__
        return self._make("!=", self, other)

    def __and__(self, other: Any) -> Term:
        return self._make("&", self, other)

    def __rand__(self, other: Any) -> Term:
        return self._make("&", other, self)

    def __or__(self, other: Any) -> Term:
        return self._make("|", self, other)

    def __ror__(self, other: Any) -> Term:
        return self._make("|", other, self)

    def __xor__(self, other: Any) -> Term:
        return self._make("^", self, other)

    def __invert__(self) -> Term:
        return self._make("not", self)

    def __bool__(self) -> bool:
        raise TypeError("a predicate has no truth value here; combine with &, | and ~")


def joined(join: Callable[[Any, Any], Any], parts: Iterable[Any]) -> Any:
    """Terms (or arrays) joined by an associative operator in the shallowest tree: code nests no deeper."""
    row = list(parts)
    while len(row) > 1:
        pairs = [join(a, b) for a, b in zip(row[0::2], row[1::2], strict=False)]
        row = pairs + row[2 * len(pairs) :]
    return row[0]


def minimum(a: Any, b: Any) -> Any:
    """The smaller of two terms, arrays or numbers, element by element."""
    return _binary("min", np.minimum, a, b)


def maximum(a: Any, b: Any) -> Any:
    """The larger of two terms, arrays or numbers, element by element."""
    return _binary("max", np.maximum, a, b)


def gcd(a: Any, b: Any) -> Any:
    """The greatest common divisor of two numbers, or of terms."""
    return _binary("gcd", OPERATORS["gcd"], a, b)


def inverse(a: Any, ring: Any) -> Any:
    """The number that `a` times is 1, modulo `ring`. Of numbers, or of terms."""
    return _binary("inverse", OPERATORS["inverse"], a, ring)


def rank(x: Any, edges: Sequence[int]) -> Any:
    """How many of some numbers, which ascend, are at most x: a term, an array or a number."""
    if isinstance(x, Term):
        return Term(fold("rank", x.number, *edges))
    return np.searchsorted(np.array(edges, dtype=np.int64), x, "right")


def _binary(op: str, plain: Callable[..., Any], a: Any, b: Any) -> Any:
    if isinstance(a, (Term, Symbol)) or isinstance(b, (Term, Symbol)):
        return Term(fold(op, *(x.number if isinstance(x, Term) else x for x in (a, b))))
    return plain(a, b)


def over(number: Number, names: Mapping[str, Any]) -> Any:
    """A number or predicate on arrays (or terms) that stand for its names; other names stay symbols.

    The operators are those of `OPERATORS`, element by element.
    """
    if isinstance(number, Var):
        return names[number.name] if number.name in names else Term(number)
    if not isinstance(number, Op):
        return number
    args = [over(arg, names) for arg in number.args]
    if not any(isinstance(arg, (np.ndarray, np.generic, Term)) for arg in args):
        return fold(number.op, *args)
    if number.op in ("min", "max"):
        return minimum(*args) if number.op == "min" else maximum(*args)
    if number.op == "not":
        return ~args[0]
    if number.op == "int":
        (arg,) = args
        return Term(integer(arg.number)) if isinstance(arg, Term) else arg.astype(np.int64)
    if number.op in ("isqrt", "log2"):
        (arg,) = args
        if isinstance(arg, Term):
            return Term(fold(number.op, arg.number))
        return root(arg) if number.op == "isqrt" else logarithm(arg)
    return OPERATORS[number.op](*args)


def root(x: Any) -> Any:
    """`isqrt` of an array of numbers that are at least 0."""
    found = np.floor(np.sqrt(x)).astype(np.int64)
    found = found - (found * found > x)  # a float cannot tell neighbours among large squares
    return found + ((found + 1) * (found + 1) <= x)


def logarithm(x: Any) -> Any:
    """`log2`, rounded down, of an array of numbers that are at least 1."""
    found = np.frexp(np.asarray(x, dtype=np.float64))[1].astype(np.int64) - 1
    return found - (
        np.left_shift(1, found) > x
    )  # as a float, x may have been rounded up to a power
