"""How a primitive declares its arguments: as dataclass fields with what a user needs to know.

The resolver checks calls against these, the canonical text is printed from them, and the
documentation reads them; a primitive says each thing once.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from enum import Enum
from functools import cache
from typing import Any

from bslang.ir.expr import Number

INFINITE = 2**40
"""What `inf` stands for: beyond every position, and safe to add to one in 64 bits."""


class Kind(Enum):
    """What an argument accepts; the value is how a message names it."""

    COUNT = "a number of blocks, or of tokens with the suffix t"
    NUMBER = "a number"
    FLAG = "true or false"
    INDICES = "indices or ranges"
    COUNTS = "numbers of blocks, or of tokens with the suffix t"
    PATTERN = "a pattern"
    NAME = "a name"
    TEXT = "a text in quotes"
    NUMBERS = "a number, or one for each side as in `(1, inf)`"
    FLAGS = "true or false, or one for each side as in `(true, false)`"

    @property
    def variadic(self) -> bool:
        return self in (Kind.INDICES, Kind.COUNTS)


@dataclass(frozen=True)
class Count:
    """A number with its unit: blocks, or tokens where it was written with the suffix `t`."""

    value: Number
    tokens: bool = False

    @property
    def infinite(self) -> bool:
        return isinstance(self.value, int) and self.value >= INFINITE


@dataclass(frozen=True)
class Range:
    """`start:stop:step` as in Python; what is left out is None."""

    start: Count | None
    stop: Count | None
    step: Count | None = None

    @property
    def stride(self) -> Number:
        """The step, 1 where it is left out."""
        return 1 if self.step is None else self.step.value

    @property
    def given(self) -> tuple[Count, ...]:
        """What is written of it."""
        return tuple(part for part in (self.start, self.stop, self.step) if part is not None)


@dataclass(frozen=True)
class Argument:
    """One argument of a primitive, as its signature shows it."""

    name: str
    kind: Kind
    help: str
    required: bool
    default: Any
    minimum: int | None
    keyword_only: bool
    infinite: bool
    seed: bool
    own_unit: bool


def argument(
    help: str,
    kind: Kind = Kind.COUNT,
    *,
    default: Any = MISSING,
    minimum: int | None = None,
    keyword_only: bool = False,
    infinite: bool = False,
    seed: bool = False,
    own_unit: bool = False,
) -> Any:
    """Declare a field of a primitive as an argument.

    minimum: least value accepted (of each, for several); infinite: whether `inf` is accepted; seed:
    whether the number starts a draw, so that it is neither a place nor a width; own_unit: whether it may
    count tokens where others count blocks.
    """
    metadata = {
        "help": help,
        "kind": kind,
        "minimum": minimum,
        "keyword_only": keyword_only,
        "infinite": infinite,
        "seed": seed,
        "own_unit": own_unit,
    }
    return field(default=default, metadata=metadata)


def arguments(primitive: Any) -> tuple[Argument, ...]:
    """The signature of a primitive (class or instance), in order."""
    return _arguments(primitive if isinstance(primitive, type) else type(primitive))


@cache
def _arguments(cls: Any) -> tuple[Argument, ...]:
    return tuple(
        Argument(f.name, required=f.default is MISSING, default=f.default, **f.metadata)
        for f in fields(cls)
        if f.metadata
    )
