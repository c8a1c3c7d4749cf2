"""What a number counts: tokens, blocks, or neither.

In arguments and in `{i, j : ...}` the suffix `t` says which (`signature.Count`). In `{q, k : ...}` literals
count either, and the names decide: `unit` finds what a number there counts, `Mixed` that it has no one unit.
"""

from __future__ import annotations

from enum import Enum

from bslang.ir.expr import COMPARISONS, Number, Op, Var, variables

LENGTHS = ("len_q", "len_k")
"""Names of the lengths in tokens, of queries and of keys."""

BLOCK_COUNTS = ("n", "m")
"""Names of the numbers of blocks, of queries and of keys."""

OF_THE_LENGTH = frozenset((*BLOCK_COUNTS, *LENGTHS))
"""Names whose numbers depend on the length."""

_SAME = ("+", "-", "min", "max", *COMPARISONS)
"""Operators whose operands are of one unit."""


class Unit(Enum):
    """What a number counts."""

    TOKENS = "tokens"
    BLOCKS = "blocks"


class Mixed(Exception):
    """A sum, minimum or comparison of tokens and blocks."""

    def __init__(self, tokens: Number, blocks: Number) -> None:
        super().__init__("tokens and blocks are mixed")
        self.tokens, self.blocks = tokens, blocks


def unit(number: Number) -> Unit | None:
    """What a number in `{q, k : ...}` counts; None for what is only a number. Raises Mixed.

    Products and quotients convert: `n * 64` is tokens or what else it is meant to be, `q // 64` blocks. Part
    of a number of blocks is one (`n // 2`), and some times a number of tokens is one (`2 * k`).
    """
    if isinstance(number, Var):
        if number.name in ("q", "k", *LENGTHS):
            return Unit.TOKENS
        return Unit.BLOCKS if number.name in BLOCK_COUNTS else None
    if not isinstance(number, Op):
        return None
    units = [unit(arg) for arg in number.args]
    if number.op in _SAME:
        found = next(filter(None, units), None)
        if {*units} >= {*Unit}:
            raise Mixed(*(number.args[units.index(each)] for each in Unit))
        return None if number.op in COMPARISONS else found
    if number.op == "abs":
        return units[0]
    if number.op in ("//", "%"):
        return Unit.BLOCKS if units == [Unit.BLOCKS, None] else None
    return Unit.TOKENS if number.op == "*" and {*units} == {Unit.TOKENS, None} else None


def has_length(number: Number) -> bool:
    """Whether a number names a length in tokens."""
    return not variables(number).isdisjoint(LENGTHS)


def written(number: Number, tokens: bool) -> Number:
    """A number of arguments or of `{i, j : ...}` as it must be written to count tokens, or blocks.

    A literal in tokens becomes a name, `5t`. What is read of the result, the `t` left out, is the number.
    """
    if not has_length(number):
        if not tokens:
            return number
        if isinstance(number, int):
            return Var(f"{number}t") if number > 0 else number and Op("-", (0, Var(f"{-number}t")))
        factor = _factor(number)
        if factor is not None and isinstance(number, Op):
            return Op("*", (number.args[0], Var(f"{factor}t")))
        return Op("*", (number, Var("1t")))
    if isinstance(number, Var):
        return number if tokens else Op("//", (number, Var("1t")))
    assert isinstance(number, Op)
    op, args = number.op, number.args
    if op in ("+", "-", "min", "max", "abs", "%"):
        return Op(op, tuple(written(arg, tokens) for arg in args))
    if op in ("*", "//") and tokens and (op == "*" or has_length(args[0])):
        first = has_length(args[0])
        return Op(op, (written(args[0], first), written(args[1], not first)))
    plain = [arg for arg in args if not has_length(arg)]
    compared = all(isinstance(arg, int) or _factor(arg) is not None for arg in plain)
    inner = op == "//" or (op in COMPARISONS and compared)
    made = Op(op, tuple(written(arg, inner) for arg in args))
    return Op("*", (made, Var("1t"))) if tokens else made


def _factor(number: Number) -> int | None:
    """c of `x * c`, above 0."""
    if isinstance(number, Op) and number.op == "*":
        factor = number.args[1]
        return factor if isinstance(factor, int) and factor > 0 else None
    return None
