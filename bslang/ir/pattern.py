"""Patterns: what a spec means, as a tree of primitives and operators.

    Pattern = Primitive
            | Union(parts) | Intersection(parts) | Xor(parts)
            | Difference(left, right) | Complement(part) | Transpose(part)
            | Heads(branches)                                       (ir/heads.py)

A pattern is hashable, has no source positions, and prints itself as canonical bsl text. It is
evaluated in two ways that share nothing but the tree (ir/fold.py): `bslang.ir.oracle` asks each primitive's
`predicate` for every pair; `bslang.graph` asks for its `blocks`, as runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

from bslang.errors import PatternError
from bslang.ir.expr import Number, Symbol, variables
from bslang.ir.grid import At, Grid
from bslang.ir.hooks import Hooks
from bslang.ir.runs import Runs
from bslang.ir.signature import Count, Kind, Range, arguments
from bslang.ir.text import value_text
from bslang.ir.units import OF_THE_LENGTH
from bslang.ir.values import bound, counts, numbers, scalars

Self = TypeVar("Self", bound="Primitive")


class Pattern:
    """A set of (query token, key token) pairs, for any length. Combine with `| & - ^ ~` and `.T`."""

    precedence: ClassVar[int] = 9

    def __or__(self, other: Pattern) -> Pattern:
        return Union.of(self, other)

    def __and__(self, other: Pattern) -> Pattern:
        return Intersection.of(self, other)

    def __xor__(self, other: Pattern) -> Pattern:
        return Xor.of(self, other)

    def __sub__(self, other: Pattern) -> Pattern:
        return Difference.of(self, other)

    def __invert__(self) -> Pattern:
        return Complement(self)

    @property
    def T(self) -> Pattern:
        """The transposed pattern: keys become queries."""
        return Transpose(self)

    def __bool__(self) -> bool:
        raise TypeError("a pattern is a set, not a truth value; combine with | & - ^ and ~")

    @property
    def parts(self) -> tuple[Pattern, ...]:
        """The operands, left to right; none for a primitive."""
        return ()

    def primitives(self) -> Iterator[Primitive]:
        """Every primitive of the tree, left to right, patterns inside arguments included."""
        for part in self.parts:
            yield from part.primitives()

    @property
    def awaits_call(self) -> bool:
        """Whether a part of it depends on what only a call knows: labels, or a selection."""
        return any(primitive.awaited() for primitive in self.primitives())

    def names(self) -> frozenset[str]:
        """What its numbers depend on: `n`, `len_k`, `layer`, and `head` also where `heads` chooses."""
        return frozenset().union(*(part.names() for part in self.parts))

    def at(self, env: Mapping[str, Number]) -> Pattern:
        """The pattern with the names of `env` replaced, and `heads` by its choice where `head` is one.

        Patterns of two heads that are equal afterwards are the same set. Raises PatternError.
        """
        raise NotImplementedError  # abstract: each kind of pattern has its own


@dataclass(frozen=True)
class _Nary(Pattern):
    operands: tuple[Pattern, ...]
    symbol: ClassVar[str]

    @classmethod
    def of(cls, *operands: Pattern) -> Pattern:
        """The operator on all operands; nested uses of it become one."""
        flat: list[Pattern] = []
        for operand in operands:
            flat.extend(operand.parts if isinstance(operand, cls) else (operand,))
        return flat[0] if len(flat) == 1 else cls(tuple(flat))

    @property
    def parts(self) -> tuple[Pattern, ...]:
        return self.operands

    def at(self, env: Mapping[str, Number]) -> Pattern:
        return type(self)(tuple(part.at(env) for part in self.operands))

    def __str__(self) -> str:
        return f" {self.symbol} ".join(_inside(part, self.precedence) for part in self.operands)


class Union(_Nary):
    """Pairs in any of the operands."""

    symbol = "|"
    precedence = 1


class Xor(_Nary):
    """Pairs in an odd number of the operands."""

    symbol = "^"
    precedence = 2


class Intersection(_Nary):
    """Pairs in all of the operands."""

    symbol = "&"
    precedence = 3


@dataclass(frozen=True)
class Difference(Pattern):
    """Pairs of `left` that are not in `right`."""

    left: Pattern
    right: Pattern
    precedence = 4

    @classmethod
    def of(cls, left: Pattern, *right: Pattern) -> Pattern:
        """`left` without all of `right`. p - a - b is p - (a | b): one form, and no deeper."""
        if isinstance(left, Difference):
            right = (left.right, *right)
            left = left.left
        return cls(left, Union.of(*right))

    @property
    def parts(self) -> tuple[Pattern, ...]:
        return (self.left, self.right)

    def at(self, env: Mapping[str, Number]) -> Pattern:
        return Difference(self.left.at(env), self.right.at(env))

    def __str__(self) -> str:
        return f"{_inside(self.left, 4)} - {_inside(self.right, 5)}"


@dataclass(frozen=True)
class Complement(Pattern):
    """Pairs that are not in `part`."""

    part: Pattern
    precedence = 6

    @property
    def parts(self) -> tuple[Pattern, ...]:
        return (self.part,)

    def at(self, env: Mapping[str, Number]) -> Pattern:
        return Complement(self.part.at(env))

    def __str__(self) -> str:
        return f"~{_inside(self.part, 6)}"


@dataclass(frozen=True)
class Transpose(Pattern):
    """Pairs (q, k) where (k, q) is in `part`."""

    part: Pattern
    precedence = 8

    @property
    def parts(self) -> tuple[Pattern, ...]:
        return (self.part,)

    def at(self, env: Mapping[str, Number]) -> Pattern:
        return Transpose(self.part.at(env))

    def __str__(self) -> str:
        return f"{_inside(self.part, 8)}.T"


def _inside(part: Pattern, precedence: int) -> str:
    return str(part) if part.precedence >= precedence else f"({part})"


@dataclass(frozen=True)
class Decided:
    """What a primitive says of blocks: true on `must`, false outside `may`, both in between.

    exact: no block between them is in truth all true or all false.
    """

    must: Runs
    may: Runs
    exact: bool = True

    @classmethod
    def unknown(cls, grid: Grid) -> Decided:
        """Nothing is known of any block, as where a call decides."""
        return cls(Runs.empty(grid.m), Runs.domain(grid), exact=False)


Lower = Callable[[Pattern, Grid], Runs]
"""Given to `Primitive.blocks`: the non-empty blocks of a pattern that is an argument."""

Inside = Callable[[Pattern, Grid], Decided]
"""Given to `Primitive.decided`: what is known of the blocks of a pattern that is an argument."""


class Primitive(Hooks, Pattern, ABC):
    """One primitive of the language: a frozen dataclass whose fields are its arguments.

    Its class docstring is its documentation. It states its set twice, and the two must share no
    code: `predicate`, obvious by reading, and `blocks`, fast. Its flags, and
    hooks that name no other pattern, are in `bslang.ir.hooks`.
    """

    name: ClassVar[str]
    """How it is written in a spec."""

    @abstractmethod
    def predicate(self, at: At) -> Any:
        """Whether each pair belongs: one boolean array, or term, over `at`."""

    @abstractmethod
    def blocks(self, grid: Grid, lower: Lower) -> Decided:
        """The blocks of the grid that belong, as runs. All numbers are bound."""

    def decided(self, grid: Grid, lower: Lower, inside: Inside) -> Decided:
        """What lowering asks: `blocks`, but for a primitive whose argument need not be settled exactly."""
        return self.blocks(grid, lower)

    def blocks_within(self, grid: Grid, lower: Lower, within: Runs | None) -> Decided:
        """As `blocks`, where only the blocks of `within` count: what is said of others may be anything.

        Asked where there is `work`.
        """
        return self.blocks(grid, lower)

    def expand(self) -> Pattern:
        """The pattern that it stands for, where it is short for others; itself otherwise."""
        return self

    def part_of(self, other: Primitive) -> bool:
        """Whether every pair of it is one of `other`, at every length; False where that is not known.

        For what no region shows; regions tell that `last(9t)` is within `causal`.
        """
        return False

    def depends_on_length(self) -> bool:
        """Whether a pair may belong at one length and not at another; True where that is not known."""
        return bool(self.names() & OF_THE_LENGTH)

    @property
    def tokens(self) -> bool:
        """Whether the arguments count tokens; blocks otherwise."""
        return any(count.tokens for count in self.counts())

    def counts(self) -> Iterator[Count]:
        """Every argument that has a unit; `inf` has none."""
        for value in vars(self).values():
            yield from (count for count in counts(value) if not count.infinite)

    def bind(self: Self, env: Mapping[str, Number]) -> Self:
        """The primitive with its numbers evaluated in `env`; PatternError where one has no value."""
        if not any(isinstance(number, Symbol) for number in numbers(vars(self).values())):
            return self
        try:
            made = replace(  # type: ignore[type-var]  # every primitive is a dataclass
                self, **{name: bound(value, env) for name, value in vars(self).items()}
            )
        except (ValueError, ArithmeticError) as error:
            why = "it divides by zero" if isinstance(error, ZeroDivisionError) else error
            raise PatternError(f"`{self}` is undefined here: {why}", subject=self) from None
        try:
            check_bounds(made)
            made.check()
        except PatternError as error:
            error.subject = self
            raise
        return made

    def names(self) -> frozenset[str]:
        own = frozenset().union(*map(variables, numbers(vars(self).values())))
        inner = (value.names() for value in vars(self).values() if isinstance(value, Pattern))
        return own.union(*inner)

    def at(self, env: Mapping[str, Number]) -> Pattern:
        made = self.bind(env)
        inner = {k: v.at(env) for k, v in vars(made).items() if isinstance(v, Pattern)}
        return replace(made, **inner) if inner else made  # type: ignore[type-var]  # a dataclass

    def primitives(self) -> Iterator[Primitive]:
        yield self
        for value in vars(self).values():
            if isinstance(value, Pattern):
                yield from value.primitives()

    def __str__(self) -> str:
        texts: list[str] = []
        for arg in arguments(self):
            value = getattr(self, arg.name)
            if value == arg.default:
                continue
            if arg.kind.variadic:
                texts.extend(value_text(item) for item in value)
            elif arg.kind is Kind.TEXT:
                texts.append(f'"{value}"')
            elif arg.keyword_only:
                texts.append(f"{arg.name}={value_text(value)}")
            else:
                texts.append(value_text(value))
        return f"{self.name}({', '.join(texts)})" if texts else self.name


def check_bounds(primitive: Primitive) -> None:
    """Check every argument against the least value that its declaration accepts (PatternError)."""

    def hold(number: Number, name: str, least: int, field: str) -> None:
        if isinstance(number, int) and number < least:
            raise PatternError(
                f"{name} of `{primitive.name}` is {number}; it must be at least {least}",
                subject=primitive,
                field=field,
            )

    for arg in arguments(primitive):
        value = getattr(primitive, arg.name)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Range):
                hold(item.stride, "the step of a range", 1, arg.name)
        if arg.minimum is not None:
            for number in scalars(value):
                hold(number, f"`{arg.name}`", arg.minimum, arg.name)
