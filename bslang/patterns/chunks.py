"""Chunks: blocks in groups that see themselves, and groups before or after them."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from bslang.errors import PatternError
from bslang.ir.expr import Number, joined, maximum, minimum, rank
from bslang.ir.grid import At, Grid, Ints
from bslang.ir.pattern import Decided, Lower, Primitive
from bslang.ir.region import Region
from bslang.ir.signature import INFINITE, Count, Kind, argument
from bslang.limits import MAX_NESTING, MAX_NUMBER
from bslang.patterns.shapes import interval

TABLE = 8
"""With more widths, masks look the number of a chunk up in a table of where each begins."""


@dataclass(frozen=True)
class Chunks(Primitive):
    """Keys whose chunk lies between the query's chunk - `back` and + `ahead`.

    Several widths are taken in order from the start, and the last one repeats.

    Sources: Llama 4's chunked attention; DeepSpeed's VariableSparsityConfig for several widths.

    Example: `chunks(4)`
    """

    name = "chunks"
    relational = True

    widths: tuple[Count, ...] = argument("widths of the chunks, in order", Kind.COUNTS, minimum=1)
    back: Number = argument(
        "chunks seen before the query's own", Kind.NUMBER, default=0, minimum=0,
        keyword_only=True, infinite=True,
    )  # fmt: skip
    ahead: Number = argument(
        "chunks seen after it", Kind.NUMBER, default=0, minimum=0, keyword_only=True, infinite=True
    )

    def check(self) -> None:
        unknown = sum(not isinstance(width.value, int) for width in self.widths)
        if unknown > MAX_NESTING:  # where each chunk begins is a sum of all before it
            raise PatternError(
                f"{unknown} widths depend on the length, and {MAX_NESTING} may (MAX_NESTING)",
                subject=self,
                field="widths",
            )

    def operations(self) -> int:
        return 3 + len(self.widths) // 30  # widths are looked up for each side, not for each pair

    def predicate(self, at: At) -> Any:
        side = at.unit(self.tokens)
        apart = self._chunk(side.col) - self._chunk(side.row)
        # `inf` is no number for 32-bit masks: an end without one is not asked for.
        near = apart == apart
        if self.back != INFINITE:
            near = near & (apart >= 0 - self.back)
        if self.ahead != INFINITE:
            near = near & (apart <= self.ahead)
        return near

    def _chunk(self, index: Any) -> Any:
        """Number of the chunk that holds an index."""
        *widths, last = [width.value for width in self.widths]
        known = [width for width in widths if isinstance(width, int)]
        if len(known) == len(widths) > TABLE:
            begins = list(accumulate(known))
            # No position lies beyond MAX_NUMBER, which 32 bits hold.
            before = rank(index, [begin for begin in begins if begin <= MAX_NUMBER])
            return before + maximum(index - min(begins[-1], MAX_NUMBER), 0) // last
        begin: Number = 0
        steps = []
        for width in self.widths[:-1]:
            begin = begin + width.value
            # 1 from `begin` on, without leaving integers for truth values
            steps.append(minimum(maximum(index - begin + 1, 0), 1))
        return joined(operator.add, [*steps, maximum(index - begin, 0) // self.widths[-1].value])

    def blocks(self, grid: Grid, lower: Lower) -> Decided:
        size = max(grid.q.size(self.tokens), grid.k.size(self.tokens))
        widths = np.array([width.value for width in self.widths], dtype=np.int64)
        more = -(-max(size - int(widths.sum()), 0) // int(widths[-1]))
        edges = np.concatenate(([0], np.cumsum(np.append(widths, np.full(more, widths[-1])))))
        back, ahead = (min(int(x), edges.size) for x in (self.back, self.ahead))  # type: ignore[arg-type]  # bound

        def chunk(index: Ints) -> Ints:
            return np.searchsorted(edges, index, "right") - 1

        def low(row: Ints) -> Ints:
            first: Ints = edges[np.maximum(chunk(row) - back, 0)]
            return first

        def high(row: Ints) -> Ints:
            last: Ints = edges[np.minimum(chunk(row) + ahead, edges.size - 2) + 1] - 1
            return last

        return interval(grid, self.tokens, low, high)

    def region(self) -> Region:
        widths = [width.value for width in self.widths]

        def reach(chunks: Number) -> tuple[int, int]:
            """How far indices can lie apart that surely, and that possibly, are so many chunks apart."""
            if chunks == INFINITE:
                return INFINITE, INFINITE
            known = [width for width in widths if isinstance(width, int)]
            if not isinstance(chunks, int) or len(known) < len(widths):
                return 0, INFINITE
            return 0, (chunks + 1) * max(known) - 1

        (sure_back, back), (sure_ahead, ahead) = reach(self.back), reach(self.ahead)
        return Region.along("offset", [(-sure_ahead, sure_back)], [(-ahead, back)])

    def part_of(self, other: Primitive) -> bool:
        """Chunks are within wider ones that begin where some of them do."""
        if not isinstance(other, Chunks) or self.tokens != other.tokens:
            return False
        sides = ((self.back, other.back), (self.ahead, other.ahead))
        if self.widths == other.widths:
            return all(a == b or _at_most(a, b) for a, b in sides)
        (width, *more), (wider, *others) = (
            [width.value for width in chunks.widths] for chunks in (self, other)
        )
        known = isinstance(width, int) and isinstance(wider, int) and not more and not others
        return known and wider % width == 0 and all(a == 0 for a, _ in sides)


def _at_most(a: Number, b: Number) -> bool:
    return isinstance(a, int) and isinstance(b, int) and a <= b
