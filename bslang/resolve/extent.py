"""How large a value is once it is written out, every use of a shared part counted.

Values share parts (`a = b ^ b.T`), so that a short spec can mean a huge expression. What is measured
here bounds the text of a pattern and every walk over it.
"""

from __future__ import annotations

from dataclasses import dataclass

from bslang.ir.expr import Op, Var
from bslang.ir.pattern import Pattern, Primitive
from bslang.ir.signature import Count, Range
from bslang.ir.units import LENGTHS
from bslang.limits import MAX_NESTING

_LOWERINGS = 4
"""How often, at most, lowering asks for a pattern that is an argument: `within` of `random`."""


@dataclass(frozen=True)
class Extent:
    """terms: primitives, operators and numbers; depth: of the syntax tree of the text.

    lengths: whether it names a length in tokens, so that the text converts units (`units.written`).
    """

    terms: int
    depth: int
    lengths: bool = False


class Extents:
    """Measures values; what is built of measured parts costs the number of its parts."""

    def __init__(self) -> None:
        self._known: dict[
            int, tuple[object, Extent]
        ] = {}  # holds the values, so that ids stay theirs

    def of(self, value: object, level: int = 0) -> Extent:
        """The extent of a pattern, number, count or range; no deeper than shows that it is too deep."""
        if id(value) in self._known:
            return self._known[id(value)][1]
        inside = _inside(value)
        if not inside or level > MAX_NESTING:
            lengths = isinstance(value, Var) and value.name in LENGTHS
            return Extent(1, 2, lengths)  # a negative number is written as a prefix and a number
        parts = [self.of(part, level + 1) for part in inside]
        lengths = any(part.lengths for part in parts)
        deeper = 2 if lengths and isinstance(value, Op) else 1
        terms, depth = 1 + sum(p.terms for p in parts), deeper + max(p.depth for p in parts)
        extent = Extent(terms, depth, lengths)
        self._known[id(value)] = (value, extent)
        return extent


def _inside(value: object) -> list[object]:
    if isinstance(value, Op):  # a comparison that is a number is written as the comparison
        return _inside(value.args[0]) if value.op == "int" else list(value.args)
    if isinstance(value, Count):
        return _inside(value.value) and [value.value]
    if isinstance(value, Range):
        return list(value.given)
    if isinstance(value, Primitive):
        found: list[object] = []
        for item in vars(value).values():
            times = _LOWERINGS if isinstance(item, Pattern) else 1
            found.extend(item if isinstance(item, tuple) else (item,) * times)
        return [item for item in found if item is not None]
    return list(value.parts) if isinstance(value, Pattern) else []
