"""Values of expressions while resolving, and arithmetic on numbers with units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial, reduce
from typing import Any, Final, TypeAlias, TypeVar

from bslang.ir.expr import Number, Op, fold, integer, variables
from bslang.ir.pattern import Pattern
from bslang.ir.signature import Count, Range
from bslang.ir.units import BLOCK_COUNTS, LENGTHS
from bslang.ir.values import counts
from bslang.limits import MAX_NUMBER


class Unknown(Enum):
    """The value of what has no value: a parameter without a default, or a part with an error."""

    UNKNOWN = "unknown"


UNKNOWN: Final = Unknown.UNKNOWN


@dataclass(frozen=True)
class Truth(Count):
    """What a comparison says: a number, 1 or 0, and a truth to `& | ^ ~`."""

    @classmethod
    def of(cls, condition: Number) -> Truth:
        """The value of a truth value of numbers."""
        return cls(integer(condition))

    @property
    def condition(self) -> Number:
        """The truth value that the number is made of."""
        return self.value.args[0] if isinstance(self.value, Op) else bool(self.value)

    @property
    def number(self) -> Count:
        """What it is outside of predicates."""
        return Count(self.value)


Value: TypeAlias = Pattern | Count | bool | Range | str | tuple[int, ...] | Unknown
T = TypeVar("T")

FUNCTIONS = {"min": (2, 8), "max": (2, 8), "abs": (1, 1), "isqrt": (1, 1), "log2": (1, 1)}
"""Functions on numbers: least and greatest number of arguments."""


def with_zeros_in_tokens(values: Sequence[T]) -> list[T]:
    """Arguments, where a plain 0 counts tokens if another number does: 0 blocks and 0 tokens are one place.

    So `cols(0, 4t)`, `cols(0:4t)` and `window(left=512t, right=0)` mean what they seem to.
    """
    if not any(count.tokens for value in values for count in counts(value)):
        return [*values]

    def in_tokens(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(in_tokens, value))
        return Count(0, True) if value == Count(0) else value

    return [in_tokens(value) for value in values]


def kind_of(value: Value) -> str:
    """What a value is, in a message."""
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    if isinstance(value, Truth):
        return "a comparison"
    if isinstance(value, Count):
        return "a number of tokens" if value.tokens else "a number"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, tuple):
        return "several truth values" if isinstance(value[0], bool) else "several numbers"
    return "a range" if isinstance(value, Range) else "a pattern"


class ArithmeticProblem(Exception):
    """An operation on numbers that has no result; the text says why. limit: whether one is passed."""

    code, hint, limit = "E304", "", False


class MixedUnits(ArithmeticProblem):
    """An operation on tokens and blocks."""

    code = "E302"

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class _TooLarge(ArithmeticProblem):
    limit = True

    def __init__(self) -> None:
        super().__init__(f"numbers go up to {MAX_NUMBER} (MAX_NUMBER)")


def arithmetic(op: str, *operands: Count) -> Count:
    """Apply an operator or function to numbers, units included. Raises ArithmeticProblem."""
    _finite(*operands)
    tokens = _unit(op, operands)
    values = [count.value for count in operands]
    if op in ("min", "max"):
        return Count(reduce(partial(folded, op), values), tokens)
    return Count(folded(op, *values), tokens)


def folded(op: str, *values: Number) -> Number:
    """`fold` within MAX_NUMBER. Raises ArithmeticProblem."""
    try:
        return bounded(fold(op, *values))
    except ZeroDivisionError:
        raise ArithmeticProblem("this divides by zero") from None
    except OverflowError:
        raise _TooLarge from None
    except ValueError as error:
        raise ArithmeticProblem(str(error)) from None


def _finite(*operands: Count) -> None:
    if any(count.infinite for count in operands):
        raise ArithmeticProblem(
            "`inf` can only be an argument by itself, not part of an expression"
        )


def bounded(number: Number) -> Number:
    """The number, if it is within MAX_NUMBER. Raises ArithmeticProblem."""
    if isinstance(number, int) and abs(number) > MAX_NUMBER:
        raise _TooLarge
    return number


def _unit(op: str, operands: Sequence[Count]) -> bool:
    """Whether the result counts tokens."""
    tokens = [count.tokens for count in operands]
    if len(tokens) == 1 and op in ("abs", "-"):
        return tokens[0]
    if op in ("isqrt", "log2", "**"):
        if any(tokens):
            raise MixedUnits(f"`{op}` takes plain numbers, not tokens", unit_hint(operands))
        return False
    if op == "*":
        if all(tokens):
            raise ArithmeticProblem("tokens cannot be multiplied by tokens")
        return any(tokens)
    if op in ("//", "%") and tokens[0] and not tokens[1]:
        return True
    _one_unit(operands)
    return any(tokens) and op != "//"


def _one_unit(operands: Sequence[Count]) -> None:
    """Raises MixedUnits for tokens beside what is not; a 0 goes with either."""
    if len({count.tokens for count in operands if count != Count(0)}) > 1:
        message = "this mixes blocks and tokens; give both in one unit"
        raise MixedUnits(message, unit_hint(operands))


def unit_hint(counts: Iterable[Count], otherwise: str = "") -> str:
    """How to write the lengths among numbers of different units; `otherwise` where there are none."""
    names = frozenset().union(*(variables(count.value) for count in counts))
    if names.intersection(LENGTHS):
        return (
            "`len_q` and `len_k` count tokens, as a number with the suffix `t` does; "
            "`len_k // 64t` counts blocks of 64"
        )
    if names.intersection(BLOCK_COUNTS):
        return "`n` and `m` count blocks; the lengths in tokens are `len_q` and `len_k`"
    return otherwise


def comparison(op: str, left: Count, right: Count) -> Truth:
    """Compare two numbers of one unit. Raises ArithmeticProblem."""
    _finite(left, right)
    _one_unit((left, right))
    return Truth.of(fold(op, left.value, right.value))


def truth(op: str, *operands: Truth | bool) -> Truth:
    """Join truths by `&`, `|`, `^`, or deny one by `not`."""
    values = [t.condition if isinstance(t, Truth) else t for t in operands]
    return Truth.of(fold(op, *values) if op == "not" else reduce(partial(fold, op), values))
