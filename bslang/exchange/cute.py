"""A mask as the source of a function of CuTe, the Python dialect in which FlashAttention 4 is written.

Only operators are written that FlashAttention's own masks use: sums, products, comparisons, `&` and `|`, and
`//` and `%` of numbers that are not negative. Numbers are int32.
"""

from __future__ import annotations

from collections.abc import Mapping

from bslang.errors import PatternError
from bslang.ir.bounds import Interval, bounds
from bslang.ir.expr import COMPARISONS, Number, Op, Symbol, Var
from bslang.ir.mask import TORCH, code
from bslang.limits import MAX_NUMBER

THROUGH_FLEX = (
    "FlexAttention writes the function itself: pass it the mask of `to_flex` and "
    'kernel_options={"BACKEND": "FLASH"}'
)
"""What to do where the function cannot be written here."""

_MAX_CASES = 64
"""Cases that minima, maxima and absolute values may make."""

_OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}

_SOURCE = '''\
import cutlass
import cutlass.cute as cute
from flash_attn.cute import utils


@cute.jit
def mask_mod(batch, head, q_index, k_index, seqlen_info, aux_tensors):
    """Whether a pair of indices belongs to the layout."""
{constants}    q = {q}
    k = k_index
    return {mask}
'''


def source(predicate: Number, start: int, names: Mapping[str, Interval]) -> str:
    """The source of `mask_mod` for a predicate over `q` and `k`, positions.

    start: the position of the first query. names: the bounds of q and k.
    Raises PatternError where the predicate needs another operator.
    """
    constants: dict[int, Var] = {}
    written = _Written(names)
    mask = code(_named(written.truth(predicate, True), constants), TORCH)
    q = "q_index"
    if start:
        q = f"q_index + {constants.setdefault(start, Var(f'c{len(constants)}')).name}"
    lines = "".join(
        f"    {name.name} = utils.scalar_to_ssa({value}, cutlass.Int32)\n"
        for value, name in constants.items()
    )
    return _SOURCE.format(constants=lines, q=q, mask=mask)


def _named(number: Number, constants: dict[int, Var]) -> Number:
    """The number with a name for each constant: CuTe has no operators of a tensor and an integer."""
    if isinstance(number, Op):
        return Op(number.op, tuple(_named(arg, constants) for arg in number.args))
    if isinstance(number, Symbol):
        return number
    # It may be one of NumPy's.
    return constants.setdefault(int(number), Var(f"c{len(constants)}"))


class _Written:
    """Numbers and predicates in the operators that can be written, where the names have the given bounds."""

    def __init__(self, names: Mapping[str, Interval]) -> None:
        self.names = names
        self.cases = 0

    def truth(self, predicate: Number, wanted: bool) -> Number:
        """A predicate, or with wanted False its opposite."""
        if isinstance(predicate, bool):
            return Op(">=" if predicate is wanted else "<", (Var("k"), 0))
        if not isinstance(predicate, Op):
            raise _refused("a number as a truth value")
        op, args = predicate.op, predicate.args
        if op == "not":
            return self.truth(args[0], not wanted)
        if op in ("&", "|"):
            other = {"&": "|", "|": "&"}[op]
            return Op(op if wanted else other, tuple(self.truth(arg, wanted) for arg in args))
        if op == "^":
            left, right = args
            both = Op("&", (self.truth(left, True), self.truth(right, not wanted)))
            return Op("|", (both, Op("&", (self.truth(left, False), self.truth(right, wanted)))))
        if op in COMPARISONS:
            return self._compared(op if wanted else _OPPOSITE[op], args)
        raise _refused(f"`{op}` as a truth value")

    def number(self, number: Number) -> Number:
        """A number whose steps are int32."""
        if not isinstance(number, Op):
            if not isinstance(number, Symbol) and abs(number) > MAX_NUMBER:
                raise _refused("numbers beyond 32 bits")
            return number
        op, args = number.op, number.args
        self._bounds(number)
        if op in ("//", "%"):
            numerator, divisor = args
            least, most = self._bounds(divisor)
            if least != most or least < 1:
                raise _refused("a division by a number that is not known")
            low, _ = self._bounds(numerator)
            steps = max(0, -(low // least))
            if steps:
                # CuTe's `//` may truncate: the numerator moves up by whole divisors, the quotient back.
                numerator = Op("+", (numerator, steps * least))
            self._bounds(numerator)
            made = Op(op, (self.number(numerator), self.number(divisor)))
            return Op("-", (made, steps)) if steps and op == "//" else made
        if op in ("+", "-", "*"):
            return Op(op, tuple(map(self.number, args)))
        raise _refused(f"`{op}`")

    def _compared(self, op: str, args: tuple[Number, ...]) -> Number:
        """A comparison. One of a minimum, maximum or absolute value is two, and another comparison says which
        of them counts, unless bounds do."""
        if args[0] == args[1]:
            return self.truth(op in ("<=", ">=", "=="), True)
        chosen = next((found for arg in args if (found := _choice(arg)) is not None), None)
        if chosen is None:
            return Op(op, tuple(map(self.number, args)))
        left, right = (0, *chosen.args) if chosen.op == "abs" else chosen.args
        if_less, otherwise = {
            "min": (left, right),
            "max": (right, left),
            "abs": (right, Op("-", (0, right))),
        }[chosen.op]

        def of(value: Number) -> Number:
            return self._compared(op, tuple(_replaced(arg, chosen, value) for arg in args))

        low, high = self._bounds(left), self._bounds(right)
        if low[1] <= high[0]:
            return of(if_less)
        if low[0] > high[1]:
            return of(otherwise)
        self.cases += 1
        if self.cases > _MAX_CASES:
            raise _refused(f"more than {_MAX_CASES} cases")
        first = Op("&", (self._compared("<=", (left, right)), of(if_less)))
        return Op("|", (first, Op("&", (self._compared(">", (left, right)), of(otherwise)))))

    def _bounds(self, number: Number) -> Interval:
        try:
            low, high = bounds(number, self.names)
        except (ValueError, ArithmeticError):
            raise _refused("a number that has no bounds") from None
        if max(abs(low), abs(high)) > MAX_NUMBER:
            raise _refused("numbers beyond 32 bits")
        return low, high


def _choice(number: Number) -> Op | None:
    """The first innermost minimum, maximum or absolute value in a number."""
    if not isinstance(number, Op):
        return None
    inner = next((found for arg in number.args if (found := _choice(arg)) is not None), None)
    return inner or (number if number.op in ("min", "max", "abs") else None)


def _replaced(number: Number, old: Op, new: Number) -> Number:
    if number == old:
        return new
    if not isinstance(number, Op):
        return number
    return Op(number.op, tuple(_replaced(arg, old, new) for arg in number.args))


def _refused(what: str) -> PatternError:
    return PatternError(
        f"FlashAttention 4 takes the mask of partial blocks as a function of CuTe, and this one would need "
        f"{what}; {THROUGH_FLEX}"
    )
