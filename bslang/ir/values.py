"""The numbers inside the arguments of primitives: in counts, ranges, and several of these."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bslang.ir.expr import Number, Symbol, evaluate
from bslang.ir.signature import Count, Range
from bslang.limits import MAX_NUMBER


def scalars(value: Any) -> Iterator[Number]:
    """The numbers of an argument, one for each of several; a range has none."""
    if isinstance(value, tuple):
        for item in value:
            yield from scalars(item)
    elif isinstance(value, Count):
        yield value.value
    elif isinstance(value, (int, Symbol)):
        yield value


def counts(value: Any) -> Iterator[Count]:
    """What has a unit in an argument."""
    if isinstance(value, Count):
        yield value
    elif isinstance(value, Range):
        yield from value.given
    elif isinstance(value, tuple):
        for item in value:
            yield from counts(item)


def numbers(arguments: Iterable[Any]) -> Iterator[Number]:
    """Every number of some arguments, those of ranges included."""
    for value in arguments:
        yield from scalars(value)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Range):
                yield from (part.value for part in item.given)


def bound(value: Any, env: Mapping[str, Number]) -> Any:
    """An argument with its numbers evaluated in `env`. Raises ValueError, ArithmeticError."""
    if isinstance(value, Symbol):
        number = evaluate(value, env)
        if isinstance(number, int) and abs(number) > MAX_NUMBER:
            raise OverflowError(f"{number} is too large; numbers go up to {MAX_NUMBER}")
        return number
    if isinstance(value, Count):
        return Count(bound(value.value, env), value.tokens)
    if isinstance(value, Range):
        return Range(*(bound(part, env) for part in (value.start, value.stop, value.step)))
    if isinstance(value, tuple):
        return tuple(bound(item, env) for item in value)
    return value
