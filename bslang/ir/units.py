"""What a number counts: tokens, blocks, or neither.

In arguments and in `{i, j : ...}` the suffix `t` says which (`signature.Count`). In `{q, k : ...}` a plain
number goes with either: `combined` says what results count, `suffixed` where the `t` must be written.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from itertools import product

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
    """What a number counts; None stands for a plain number, such as `3` or `head`."""

    TOKENS = "tokens"
    BLOCKS = "blocks"
    OTHER = "either"  # `q // 64`, `n * n`: which of both cannot be told


class Mixed(Exception):
    """A sum, minimum or comparison of tokens and blocks; places: of the first operand of each."""

    def __init__(self, tokens: int, blocks: int) -> None:
        super().__init__("tokens and blocks are mixed")
        self.tokens, self.blocks = tokens, blocks


def combined(op: str, units: Sequence[Unit | None]) -> Unit | None:
    """The unit of a result in `{q, k : ...}`. Raises Mixed.

    Plain numbers go with either unit; multiples and parts of a number of blocks are blocks, as
    `3 * n // 4`. Blocks times tokens are tokens: `n * 64t`.
    """
    known = {*units} - {None}
    if op in _SAME:
        if known >= {Unit.TOKENS, Unit.BLOCKS}:
            raise Mixed(units.index(Unit.TOKENS), units.index(Unit.BLOCKS))
        if op in COMPARISONS:
            return None
        return next((u for u in (Unit.TOKENS, Unit.BLOCKS, Unit.OTHER) if u in known), None)
    if not known or op in ("&", "|", "^", "not", "int"):
        return None
    if op == "*" and (None in units or known == {Unit.TOKENS, Unit.BLOCKS}):
        return Unit.TOKENS if Unit.TOKENS in known else known.pop()
    part = op in ("//", "%") and units[0] is Unit.BLOCKS and units[1] is not Unit.BLOCKS
    return units[0] if part or op == "abs" else Unit.OTHER


def unit(number: Number) -> Unit | None:
    """What a number counts whose literals are plain."""
    if isinstance(number, Var):
        if number.name in ("q", "k", *LENGTHS):
            return Unit.TOKENS
        return Unit.BLOCKS if number.name in BLOCK_COUNTS else None
    if not isinstance(number, Op):
        return None
    try:
        return combined(number.op, [unit(arg) for arg in number.args])
    except Mixed:
        return Unit.OTHER


def suffixed(condition: Number) -> Number:
    """A predicate of `{q, k : ...}` as it must be written to be of one unit: with as few suffixes as will do.

    A literal in tokens becomes a name, `5t`. What is read of the result, the `t` left out, is the predicate.
    """
    if variables(condition).isdisjoint(BLOCK_COUNTS):
        return condition
    return _ways(condition)[None][1]


def beside_tokens(number: Number) -> Number:
    """A number as it must be written to go with tokens: `n * 64t` for `n * 64`."""
    found = _ways(number)
    return min((found[u] for u in found if u is not Unit.BLOCKS), key=lambda way: way[0])[1]


def _ways(number: Number) -> dict[Unit | None, tuple[int, Number]]:
    """How a number can be written to have each unit that it can have, with how many suffixes."""
    found: dict[Unit | None, tuple[int, Number]] = {}
    if isinstance(number, Op):
        for args in product(*(_ways(arg).items() for arg in number.args)):
            try:
                counted = combined(number.op, [each for each, _ in args])
            except Mixed:
                continue
            cost = sum(suffixes for _, (suffixes, _) in args)
            if counted not in found or cost < found[counted][0]:
                found[counted] = cost, Op(number.op, tuple(way for _, (_, way) in args))
    else:
        found[unit(number)] = 0, number
        if isinstance(number, int) and not isinstance(number, bool) and number != 0:
            found[Unit.TOKENS] = 1, _in_tokens(number)
    if Unit.BLOCKS in found:
        cost, way = found[Unit.BLOCKS]
        around = cost + 3, Op("*", (way, Var("1t")))  # which reads worse than some suffixes
        found[Unit.TOKENS] = min(found.get(Unit.TOKENS, around), around, key=lambda way: way[0])
    return found


def _in_tokens(literal: int) -> Number:
    name = Var(f"{abs(literal)}t")
    return name if literal > 0 else Op("-", (0, name))


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
            return _in_tokens(number) if number else 0
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
