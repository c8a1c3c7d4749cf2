"""The syntax tree: what was written, with its place in the source.

File       = statements
Statement  = Version | BlockSetting | OrderSetting | Import | Definition | Layout | Broken
Expression = Name | Call | Integer | Infinity | Boolean | Text | Prefix | Chain | Transposed | Range
           | Tuple | SetBuilder | Heads
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TypeAlias

from bslang.syntax.diagnostics import Diagnostic
from bslang.syntax.source import Source, Span


@dataclass(frozen=True)
class Node:
    """What every node has."""

    span: Span


@dataclass(frozen=True)
class Name(Node):
    """A name alone: a primitive without arguments, a definition, a parameter, `n` or `m`.

    That of an imported file is written `file.name`, and `text` holds both.
    """

    text: str


@dataclass(frozen=True)
class Label(Node):
    """`time[q]`: a run-time label of the query (`q`), the key (`k`) or the batch row (`b`)."""

    name: str
    side: str


@dataclass(frozen=True)
class Integer(Node):
    """A number; `tokens` where it has the suffix `t`."""

    value: int
    tokens: bool


@dataclass(frozen=True)
class Infinity(Node):
    """`inf`."""


@dataclass(frozen=True)
class Boolean(Node):
    """`true` or `false`."""

    value: bool


@dataclass(frozen=True)
class Text(Node):
    """A text in quotes, without them."""

    value: str


@dataclass(frozen=True)
class Argument(Node):
    """One argument of a call; `name` where it is given by keyword."""

    name: Name | None
    value: Expression


@dataclass(frozen=True)
class Call(Node):
    """`function(arguments)`."""

    function: Name
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class Prefix(Node):
    """`-x` or `~x`."""

    op: str
    operand: Expression


@dataclass(frozen=True)
class Chain(Node):
    """Operands joined by operators of one precedence, taken from the left: `a - b + c`.

    A chain of comparisons, `0 <= a < b`, holds where each of them does.
    """

    operands: tuple[Expression, ...]
    ops: tuple[str, ...]


@dataclass(frozen=True)
class Transposed(Node):
    """`x.T`."""

    operand: Expression


@dataclass(frozen=True)
class Range(Node):
    """`start:stop:step`, in an argument only."""

    start: Expression | None
    stop: Expression | None
    step: Expression | None


@dataclass(frozen=True)
class Tuple(Node):
    """`(a, b)`."""

    items: tuple[Expression, ...]


@dataclass(frozen=True)
class SetBuilder(Node):
    """`{i, j : predicate}` over blocks, or `{q, k : predicate}` over tokens."""

    variables: tuple[Name, Name]
    predicate: Expression


@dataclass(frozen=True)
class Branch(Node):
    """One line of `heads`: an index or a range of heads, and their pattern."""

    heads: Expression
    pattern: Expression


@dataclass(frozen=True)
class Heads(Node):
    """`heads { 0:4 -> p; 4: -> q }`."""

    branches: tuple[Branch, ...]


Expression: TypeAlias = (
    Name
    | Label
    | Integer
    | Infinity
    | Boolean
    | Text
    | Call
    | Prefix
    | Chain
    | Transposed
    | Range
    | Tuple
    | SetBuilder
    | Heads
)


@dataclass(frozen=True)
class Version(Node):
    """`bsl 1`: the version of the language that the file is written in."""

    number: int


@dataclass(frozen=True)
class BlockSetting(Node):
    """`block 64` or `block 128x64`: sides in tokens, query then key."""

    sides: tuple[int, int]


@dataclass(frozen=True)
class OrderSetting(Node):
    """`order tiles(8, 32, 32; 4, 8, 8)` or `order morton(64, 64)`: sides of a grid, and of its tiles."""

    name: Name
    sides: tuple[Integer, ...]
    tile: tuple[Integer, ...]


@dataclass(frozen=True)
class Import(Node):
    """`import "common.bsl"`, or with `as c` under a name of its own."""

    path: Text
    name: Name | None


@dataclass(frozen=True)
class Parameter(Node):
    """A parameter of a definition."""

    name: Name
    default: Expression | None


@dataclass(frozen=True)
class Definition(Node):
    """`name = pattern` or `name(parameters) = pattern`."""

    name: Name
    parameters: tuple[Parameter, ...]
    body: Expression


@dataclass(frozen=True)
class Layout(Node):
    """An expression alone on a line: the layout of the file."""

    body: Expression


@dataclass(frozen=True)
class Broken(Node):
    """A statement with a mistake: no more is known of it than the name that it seems to define."""

    name: str | None


Statement: TypeAlias = Version | BlockSetting | OrderSetting | Import | Definition | Layout | Broken


def nodes(node: Node) -> Iterator[Node]:
    """A node and all that are inside of it, in the order in which they are written."""
    yield node
    for f in fields(node):
        value = getattr(node, f.name)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, Node):
                yield from nodes(part)


@dataclass(frozen=True)
class File:
    """All statements of a source, in order, with what is wrong in those that are broken."""

    source: Source
    statements: tuple[Statement, ...]
    errors: tuple[Diagnostic, ...] = ()
