"""Numbers inside set-builders: powers as products, and in `{q, k : ...}` what a number counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce

from bslang.ir.expr import Number, Op, Symbol, Var, evaluate, variables
from bslang.ir.signature import Count
from bslang.ir.text import number_text
from bslang.ir.units import BLOCK_COUNTS, LENGTHS, Mixed, Unit, beside_tokens, combined, unit
from bslang.resolve.values import MixedUnits, Truth, arithmetic, comparison, folded

_SMALLEST = 8
"""What a number of blocks is multiplied with to be tokens, at least: the side of a small block."""


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


@dataclass(frozen=True)
class Measured(Count):
    """A number in `{q, k : ...}`, with what it counts."""

    unit: Unit | None = None

    @classmethod
    def of(cls, count: Count) -> Measured:
        """A number from outside of the predicate, or one of its names."""
        return cls(count.value, unit=Unit.TOKENS if count.tokens else unit(count.value))


def measured(op: str, *operands: Count) -> Measured:
    """Apply an operator or function to numbers of a predicate over tokens. Raises ArithmeticProblem."""
    value = arithmetic(op, *(Count(each.value) for each in operands)).value
    same = op == "**" and operands[1].value == 1  # `n ** 1` counts what `n` does
    return Measured(value, unit=_unit("abs" if same else op, operands))


def compared(op: str, left: Count, right: Count) -> Truth:
    """Compare two numbers of a predicate over tokens. Raises ArithmeticProblem."""
    _unit(op, (left, right))
    return comparison(op, Count(left.value), Count(right.value))


def _unit(op: str, operands: Sequence[Count]) -> Unit | None:
    """What the result counts. Raises MixedUnits."""
    try:
        return combined(op, [getattr(each, "unit", None) for each in operands])
    except Mixed as mixed:
        tokens, blocks = (multiplied(operands[i].value) for i in (mixed.tokens, mixed.blocks))
        raise _mixed(tokens, blocks) from None


def _mixed(tokens: Number, blocks: Number) -> MixedUnits:
    names = variables(tokens)
    length = "len_q" if names & {"q", "len_q"} and not names & {"k", "len_k"} else "len_k"
    of_tokens = f"{tokens}t" if isinstance(tokens, int) else number_text(tokens, 0)
    message = f"`{of_tokens}` counts tokens, and `{number_text(blocks, 0)}` blocks"
    if _factor(blocks) >= _SMALLEST:
        instead = beside_tokens(blocks)
        said = "tokens per block have the suffix `t`"
    else:
        instead = evaluate(blocks, dict.fromkeys(BLOCK_COUNTS, Var(length)))
        said = f"`{' and `'.join(f'{name}`' for name in LENGTHS)} are the lengths in tokens"
    return MixedUnits(message, f"{said}: write `{number_text(instead, 0)}`")


def _factor(number: Number) -> int:
    """The largest number that is multiplied with another; 0 for none."""
    if not isinstance(number, Op):
        return 0
    own = [abs(arg) for arg in number.args if isinstance(arg, int)] if number.op == "*" else []
    return max(0, *own, *map(_factor, number.args))
