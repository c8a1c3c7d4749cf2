"""Numbers inside set-builders: powers as products, and whether a comparison is of one unit."""

from __future__ import annotations

from functools import partial, reduce

from bslang.ir.expr import Number, Op, Symbol, Var, evaluate, variables
from bslang.ir.text import number_text
from bslang.ir.units import BLOCK_COUNTS, LENGTHS, Mixed, unit
from bslang.resolve.values import MixedUnits, folded


def multiplied(number: Number) -> Number:
    """The number with powers of a constant exponent as products: masks multiply, and have no powers.

    What is known then (`j ** 0` is 1) is folded. Raises ArithmeticProblem.
    """
    if not isinstance(number, Op):
        return number
    args = tuple(map(multiplied, number.args))
    if number.op == "**" and isinstance(args[0], Symbol) and isinstance(args[1], int):
        if args[1] < 0:
            return Op("**", args)  # which `bounds` refuses
        # Of more factors than 63 one of more than 1 passes 64 bits, and the sign of -1 is that of 63 or 64.
        factors = min(args[1], 64 - args[1] % 2)
        one: Number = 1
        return reduce(partial(folded, "*"), [args[0]] * factors, one)
    return folded(number.op, *args)


def of_one_unit(comparison: Number) -> None:
    """Refuse a comparison in `{q, k : ...}` of tokens with blocks (MixedUnits); powers are products."""
    try:
        unit(comparison)
    except Mixed as mixed:
        tokens, blocks = number_text(mixed.tokens, 0), number_text(mixed.blocks, 0)
        names = variables(mixed.tokens)
        length = "len_q" if names & {"q", "len_q"} and not names & {"k", "len_k"} else "len_k"
        instead = evaluate(mixed.blocks, dict.fromkeys(BLOCK_COUNTS, Var(length)))
        raise MixedUnits(
            f"`{tokens}` counts tokens, and `{blocks}` blocks",
            f"`{' and `'.join(f'{name}`' for name in LENGTHS)} are the lengths in tokens: "
            f"write `{number_text(instead, 0)}`",
        ) from None
