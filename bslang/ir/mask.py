"""Token masks as code: a residual's predicate over `q` and `k`, printed for each target language.

What a mask needs of the length or the head (`len_k`, `n`, arithmetic on them) is not printed: each such
number becomes a parameter `p0`, `p1`, ... whose value lowering computes, so that one mask serves them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bslang.budget import MASK_CODE, spend
from bslang.inputs import Inputs
from bslang.ir.awaited import known
from bslang.ir.expr import COMPARISONS, TRUTHS, Number, Op, Var, joined, variables
from bslang.ir.grid import At
from bslang.ir.pattern import Pattern
from bslang.ir.predicate import SYMBOLIC, holds
from bslang.ir.ranges import Known, Ranges

_OPERATION = 350  # steps of the budget for an operation that is written


@dataclass(frozen=True)
class Masks:
    """The masks of a layout's residuals and the numbers that they take from the length.

    masks: one boolean expression for each residual, over Var "q", "k", "p0", "p1", ..., the labels
        "q_label0", "k_label0", ... of the query and the key, and "selected0", ...
    known: for each residual what a call's ranges say of a block (`bslang.ir.ranges`).
    parameters: the numbers behind `p0`, `p1`, ..., to be evaluated on a grid's `env`.
    """

    masks: tuple[Number, ...]
    known: tuple[Known, ...]
    parameters: tuple[Number, ...]

    @classmethod
    def of(cls, residuals: tuple[Pattern, ...], block: tuple[int, int], inputs: Inputs) -> Masks:
        """Derive the masks; block: sides of a block (query, key), in tokens; inputs: of the layout."""
        parameters: dict[Number, Var] = {}
        masks, blocks = [], []
        for residual in residuals:
            number = holds(residual, At.symbolic(block, inputs), SYMBOLIC).number
            if isinstance(
                number, int
            ):  # a mask that folded to a constant still has the shape of one
                number = Op(">=" if number else "<", (Var("q"), 0))
            masks.append(_with_parameters(number, parameters, {}))
            both = known(residual, Ranges.of(inputs, block), SYMBOLIC)
            surely, maybe = (_with_parameters(truth, parameters, {}) for truth in both)
            blocks.append((surely, maybe))
        return cls(tuple(masks), tuple(blocks), tuple(parameters))


_OF_TOKENS = ("q_", "k_", "selected", "state")


def token_names(names: frozenset[str]) -> frozenset[str]:
    """Those of a mask's names that differ from token to token, or from block to block; the others are
    parameters."""
    return frozenset(n for n in names if n in ("q", "k") or n.startswith(_OF_TOKENS))


def _names(number: Number, known: dict[int, frozenset[str]]) -> frozenset[str]:
    """`variables`, each part looked at once."""
    if not isinstance(number, Op):
        return variables(number)
    if id(number) not in known:
        parts = (_names(arg, known) for arg in number.args)
        known[id(number)] = frozenset().union(*parts)
    return known[id(number)]


def _with_parameters(
    number: Number, parameters: dict[Number, Var], known: dict[int, frozenset[str]]
) -> Number:
    """The number with a parameter for each part that no token decides. known: `_names` of parts, by id."""
    names = _names(number, known)
    if not names:
        return number
    if not token_names(names):
        name = parameters.setdefault(number, Var(f"p{len(parameters)}"))
        # Parameters are integers: a truth value among them is made one again.
        return Op("!=", (name, 0)) if isinstance(number, Op) and number.op in TRUTHS else name
    if isinstance(number, Op):
        return Op(number.op, tuple(_with_parameters(arg, parameters, known) for arg in number.args))
    return number


# One line an operator; {0} and {1} are its arguments, already in parentheses where they need them.

_PYTHON = {
    "+": "{0} + {1}",
    "-": "{0} - {1}",
    "*": "{0} * {1}",
    "//": "{0} // {1}",
    "%": "{0} % {1}",
    "<": "{0} < {1}",
    "<=": "{0} <= {1}",
    ">": "{0} > {1}",
    ">=": "{0} >= {1}",
    "==": "{0} == {1}",
    "!=": "{0} != {1}",
    "&": "{0} & {1}",
    "|": "{0} | {1}",
    "^": "{0} ^ {1}",
    "not": "~{0}",
}
TORCH: Mapping[str, str] = _PYTHON | {
    "abs": "abs({0})",
    "min": "minimum({0}, {1})",
    "max": "maximum({0}, {1})",
    "isqrt": "isqrt({0})",
    "log2": "log2({0})",
    "int": "({0}).long()",
    "rank": "rank({0}, [{1}])",
}
"""torch tensors; the functions are those of bslang.runtime.torch.masks, which take numbers too."""

TRITON: Mapping[str, str] = _PYTHON | {
    "abs": "tl.abs({0})",
    "min": "tl.minimum({0}, {1})",
    "max": "tl.maximum({0}, {1})",
    "isqrt": "isqrt({0})",
    "log2": "log2({0})",
    "int": "({0}).to(q.dtype)",
    "floor //": "floor_div({0}, {1})",
    "floor %": "floor_mod({0}, {1})",
}
"""Triton; division truncates there, so a numerator that may be negative goes through a helper."""

CPP: Mapping[str, str] = _PYTHON | {
    "//": "{0} / {1}",
    "&": "{0} && {1}",
    "|": "{0} || {1}",
    "^": "{0} != {1}",
    "not": "!{0}",
    "abs": "std::abs({0})",
    "min": "std::min<position>({0}, {1})",
    "max": "std::max<position>({0}, {1})",
    "isqrt": "isqrt({0})",
    "log2": "log2_floor({0})",
    "int": "position({0})",
    "floor //": "floor_div({0}, {1})",
    "floor %": "floor_mod({0}, {1})",
}
"""C++ on the type `position`; division truncates there too."""


def code(number: Number, language: Mapping[str, str]) -> str:
    """A mask (or number) as one expression of a language, in the fewest parentheses that are plain."""
    if isinstance(number, Var):
        return number.name
    if not isinstance(number, Op):
        return str(number)
    spend(_OPERATION, MASK_CODE)
    form = language[number.op]
    floor = language.get(f"floor {number.op}")
    if floor is not None and not _nonnegative(number.args[0]):
        form = floor
    if number.op == "rank":  # of known numbers
        return form.format(code(number.args[0], language), ", ".join(map(str, number.args[1:])))
    args = [code(arg, language) for arg in number.args]
    if not form.endswith(")"):  # an operator, not a call: what stands inside may need parentheses
        for place, arg in enumerate(number.args):
            if isinstance(arg, Op) and not language[arg.op].endswith(")"):
                inner, outer = _BINDING.get(arg.op, 0), _BINDING.get(number.op, 9)
                if inner < outer or (inner == outer and place > 0):
                    args[place] = f"({args[place]})"
            elif args[place].startswith("-") and number.op in ("+", "-", "*", "//", "%"):
                args[place] = f"({args[place]})"
    return form.format(*args)


def replaced(number: Number, by: Callable[[Op], Number]) -> Number:
    """A number with each `rank` in it, of which none is in another, replaced."""
    if not isinstance(number, Op):
        return number
    if number.op == "rank":
        return by(number)
    return Op(number.op, tuple(replaced(arg, by) for arg in number.args))


def counted(number: Number) -> Number:
    """A number with each `rank` in it as a sum of comparisons, for languages that have no tables."""

    def summed(ranked: Op) -> Number:
        x, *edges = ranked.args
        terms = [Op("int", (Op(">=", (x, edge)),)) for edge in edges]
        total: Number = joined(lambda a, b: Op("+", (a, b)), terms)
        return total

    return replaced(number, summed)


def stepped(
    number: Number, language: Mapping[str, str], room: int
) -> tuple[list[tuple[str, str]], str]:
    """An expression in steps of at most `room` characters: names with their values, and the result."""
    steps: list[tuple[str, str]] = []
    terms: dict[int, int] = {}

    def least(number: Number) -> int:
        """A number of characters that the code surely has: one for each operand. Parts are looked at once."""
        if not isinstance(number, Op):
            return 1
        if id(number) not in terms:
            terms[id(number)] = sum(map(least, number.args))
        return terms[id(number)]

    def fits(number: Number) -> bool:
        return least(number) <= room and len(code(number, language)) <= room

    def shortened(number: Number) -> Number:
        if not isinstance(number, Op) or fits(number):
            return number
        if number.op == "rank":  # its table stays one, however long
            return Op(number.op, (shortened(number.args[0]), *number.args[1:]))
        args = [shortened(arg) for arg in number.args]
        while len(code(Op(number.op, tuple(args)), language)) > room:
            longest = max(range(len(args)), key=lambda index: len(code(args[index], language)))
            name = f"t{len(steps)}"
            steps.append((name, code(args[longest], language)))
            args[longest] = Var(name)
        return Op(number.op, tuple(args))

    short = shortened(number)
    return steps, code(short, language)


_BINDING = {"*": 4, "//": 4, "%": 4, "+": 3, "-": 3} | dict.fromkeys(COMPARISONS, 2)
"""How tightly operators bind, alike in every language here; `& | ^ ~` put their operands in parentheses."""


def _nonnegative(number: Number) -> bool:
    """Whether a number is surely at least 0, positions and block indices being so."""
    if isinstance(number, Var):
        return number.name in ("q", "k")
    if isinstance(number, int):
        return number >= 0
    assert isinstance(number, Op)
    if number.op == "%":
        return isinstance(number.args[1], int) and number.args[1] > 0
    if number.op in ("isqrt", "log2", "int", "rank"):
        return True
    if number.op == "max":
        return any(map(_nonnegative, number.args))
    return number.op in ("+", "*", "//", "min", "abs") and all(map(_nonnegative, number.args))
