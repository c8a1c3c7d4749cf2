"""What a call knows of a block: ranges of its positions and labels, and whether its cells are selected.

A residual that awaits the call is asked again there, block by block: `settled` says by which comparisons of
these ranges no pair of a block belongs, or every pair does. Generated code computes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, TypeAlias

from bslang.inputs import Inputs, Selection
from bslang.ir.expr import COMPARISONS, Number, Op, Var, fold, variables
from bslang.ir.signature import Count

if TYPE_CHECKING:
    pass

Range: TypeAlias = tuple[Number, Number]
"""The least and the greatest value of something in a block."""

Known: TypeAlias = tuple[Number, Number]
"""Truth values: whether surely every pair of a block belongs, and whether any may."""


@dataclass(frozen=True)
class Cells:
    """Cells that a call lists under a name: runs of rows by runs of columns of its reader."""

    name: str
    rows: Count
    cols: Count

    def selection(self, sides: tuple[int, int], turned: bool) -> Selection:
        """The same in tokens, for blocks with these sides (query, key), or read with both exchanged."""
        of_rows, of_cols = sides[::-1] if turned else sides
        return Selection(
            self.name, _tokens(self.rows, of_rows), _tokens(self.cols, of_cols), turned
        )


def _tokens(count: Count, side: int) -> int:
    """A number of tokens, or of blocks with a side, which the spec alone gives."""
    assert isinstance(count.value, int)
    return count.value * (1 if count.tokens else side)


NONE, SOME, ALL = range(3)
"""The states of a block by a selection: how many of its pairs lie in cells that are listed."""


@dataclass(frozen=True)
class Ranges:
    """The names of what is known of one block. q, k: of positions; labels: of each side's, by name; inputs:
    those of the layout; block: its sides (query, key); turned: whether queries and keys are exchanged."""

    q: Range
    k: Range
    labels: Mapping[str, tuple[Range, Range]]
    inputs: Inputs
    block: tuple[int, int]
    turned: bool = False

    @classmethod
    def of(cls, inputs: Inputs, block: tuple[int, int]) -> Ranges:
        """Of a block of the layout: `q_first`, `q_last`, `q_least0`, `q_most0` and so on for keys; label and
        selection i by their number among the inputs."""
        labels: dict[str, tuple[Range, Range]] = {}
        for i, label in enumerate(inputs.labels):
            of_q, of_k = ((Var(f"{x}_least{i}"), Var(f"{x}_most{i}")) for x in "qk")
            labels[label.name] = (of_q, of_q if label.sides == "b" else of_k)
        q, k = ((Var(f"{x}_first"), Var(f"{x}_last")) for x in "qk")
        return cls(q, k, labels, inputs, block)

    def transposed(self) -> Ranges:
        labels = {name: (of_k, of_q) for name, (of_q, of_k) in self.labels.items()}
        return replace(self, q=self.k, k=self.q, labels=labels, turned=not self.turned)

    def state(self, cells: Cells) -> Number:
        """The state of a block by the selection of some cells."""
        return Var(f"state{self.inputs.selections.index(cells.selection(self.block, self.turned))}")

    def compared(self, condition: Number, names: Mapping[str, Range]) -> Known:
        """What is known of a comparison of numbers; of arithmetic whose range no rule here finds, nothing.
        names: of what the condition reads."""
        if not (isinstance(condition, Op) and condition.op in COMPARISONS):
            return False, True
        left, right = (_range(number, names) for number in condition.args)
        if left is None or right is None:
            return False, True
        return _COMPARED[condition.op](*left, *right)


def _compare(op: str, a: Number, b: Number) -> Number:
    return fold(op, a, b)


def _equal(a: Number, b: Number, c: Number, d: Number) -> Known:
    one = both(_compare("==", a, d), _compare("==", b, c))
    return one, both(_compare("<=", a, d), _compare("<=", c, b))


def _unequal(a: Number, b: Number, c: Number, d: Number) -> Known:
    surely, maybe = _equal(a, b, c, d)
    return negated(maybe), negated(surely)


_COMPARED = {
    "<": lambda a, b, c, d: (_compare("<", b, c), _compare("<", a, d)),
    "<=": lambda a, b, c, d: (_compare("<=", b, c), _compare("<=", a, d)),
    ">": lambda a, b, c, d: (_compare(">", a, d), _compare(">", b, c)),
    ">=": lambda a, b, c, d: (_compare(">=", a, d), _compare(">=", b, c)),
    "==": _equal,
    "!=": _unequal,
}
"""Of a number in [a, b] and one in [c, d]."""


def _range(number: Number, names: Mapping[str, Range]) -> Range | None:
    """The range of a number; None where it is not a sum, a multiple, a minimum or a maximum of others."""
    if variables(number).isdisjoint(names):
        return number, number
    if isinstance(number, Var):
        return names[number.name]
    assert isinstance(number, Op)
    args = [_range(arg, names) for arg in number.args]
    if any(arg is None for arg in args):
        return None
    (a, b), *others = (arg for arg in args if arg is not None)
    (c, d) = others[0] if others else (a, b)
    if number.op in ("+", "min", "max"):
        return fold(number.op, a, c), fold(number.op, b, d)
    if number.op == "-":
        return fold("-", a, d), fold("-", b, c)
    if number.op in ("*", "//"):
        factor = number.args[1]
        if number.op == "*" and isinstance(number.args[0], int):
            factor, a, b = number.args[0], c, d
        if isinstance(factor, int) and factor > 0:
            return fold(number.op, a, factor), fold(number.op, b, factor)
        if isinstance(factor, int) and number.op == "*":
            return fold("*", b, factor), fold("*", a, factor)
    return None


# ---- truth values of three states ----------------------------------------------------------------


def both(a: Number, b: Number) -> Number:
    """a & b, each once."""
    return a if a == b and isinstance(a, bool) == isinstance(b, bool) else fold("&", a, b)


def either(a: Number, b: Number) -> Number:
    """a | b, each once."""
    return a if a == b and isinstance(a, bool) == isinstance(b, bool) else fold("|", a, b)


_OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}


def negated(a: Number) -> Number:
    """Not a, as comparisons of the opposite sense."""
    if isinstance(a, bool):
        return not a
    if isinstance(a, Op) and a.op in _OPPOSITE:
        return Op(_OPPOSITE[a.op], a.args)
    if isinstance(a, Op) and a.op in ("&", "|"):
        join = either if a.op == "&" else both
        return reduce(join, map(negated, a.args))
    return fold("not", a)


def all_of(parts: list[Known]) -> Known:
    """What is known of an intersection."""
    return reduce(lambda a, b: (both(a[0], b[0]), both(a[1], b[1])), parts)


def any_of(parts: list[Known]) -> Known:
    """What is known of a union."""
    return reduce(lambda a, b: (either(a[0], b[0]), either(a[1], b[1])), parts)


def none_of(part: Known) -> Known:
    """What is known of a complement."""
    return negated(part[1]), negated(part[0])
