"""Random programs, drawn as text: one strategy that every property test shares.

Programs are small and shrink to small ones: fewer operators, `all` for a primitive, the least numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from bslang import compiler
from bslang.errors import BslangError
from bslang.ir.grid import Grid
from bslang.ir.oracle import dense
from bslang.ir.runs import Bools
from bslang.resolve.program import Resolved
from bslang.syntax.source import Source

GRID = 24
"""Tokens on the grids that are drawn: `cases` draws sequences of this length where it matters."""


class _Writer:
    """Draws the text of one primitive. Numbers in tokens are larger, to span some blocks."""

    def __init__(self, draw: st.DrawFn, tokens: bool) -> None:
        self.draw, self.unit = draw, "t" if tokens else ""

    def pick(self, *choices: str) -> str:
        return self.draw(st.sampled_from(choices))

    def count(self, least: int, most: int) -> str:
        most = most * 7 if self.unit else most
        return f"{self.draw(st.integers(least, most))}{self.unit}"

    def odd(self) -> str:
        return f"{2 * self.draw(st.integers(0, 15 if self.unit else 3)) + 1}{self.unit}"

    def several(self, item: Callable[[], str]) -> str:
        return ", ".join(item() for _ in range(self.draw(st.integers(1, 3))))

    def index(self) -> str:
        # Ranges are cut to the length; single indices must exist, so only the ends are drawn.
        if self.draw(st.booleans()):
            return self.pick(f"0{self.unit}", f"-1{self.unit}")
        start, stop = (self.pick("", self.count(0, 6), f"-{self.count(1, 3)}") for _ in range(2))
        return f"{start}:{stop}{self.pick('', f':{self.count(1, 2)}')}"

    def offset(self) -> str:
        start, stop = (self.pick(self.count(0, 6), f"-{self.count(1, 6)}") for _ in range(2))
        return self.pick(start, f"{start}:{stop}", f"{start}:{stop}:{self.count(1, 3)}")

    def window(self) -> str:
        step = self.pick("", f", step={self.count(1, 2)}")
        if self.draw(st.booleans()):
            return f"window({self.odd()}{step}{self.pick('', ', wrap=true', ', clamp=true')})"
        if self.draw(st.booleans()):
            return f"window({self.count(1, 5)}{step}, clamp=true)"
        left, right = (self.pick(self.count(0, 4), "inf") for _ in range(2))
        return f"window(left={left}, right={right}{step}{self.pick('', ', wrap=true')})"

    def relational(self) -> str:
        """A primitive that compares rows with columns; in blocks these must be square."""
        forms = ["window", "window", "last", "diagonals", "chunks", "strided", "segments", "grid"]
        form = self.pick(*forms, *([] if self.unit else ["logsparse", "butterfly"]))
        if form == "window":
            return self.window()
        if form == "last":
            return f"last({self.pick(self.count(1, 5), 'inf')})"
        if form == "diagonals":
            return f"diagonals({self.several(self.offset)})"
        if form == "chunks":
            sides = self.pick("", ", back=1", ", ahead=2", ", back=1, ahead=1", ", back=inf")
            return f"chunks({self.several(lambda: self.count(1, 4))}{sides})"
        if form == "segments":
            offset = self.pick("", ", offset=1", ", offset=head // 2")
            return f"segments({self.count(1, 5)}, rate={self.pick('1', '2', '3')}{offset})"
        if form == "grid":
            return self.grid()
        if form == "logsparse":
            return self.pick("logsparse", "logsparse(3)")
        if form == "butterfly":
            return self.pick("butterfly", f"butterfly({self.count(0, 3)})")
        return f"strided({self.count(1, 5)}{self.pick('', f', offset={self.count(0, 4)}')})"

    def grid(self) -> str:
        """A grid; one in tokens fits a sequence of GRID, one in blocks any number of them, or an even one."""
        sizes = (
            self.pick("24t", "4t, 6t", "3t, 8t", "2t, 3t, 4t", "4t, 1t, 6t")
            if self.unit
            else self.pick("n", "1, n", "2, n // 2", "n // 2, 2", "n // 2, 1, 2")
        )
        one = self.pick("0", "1", "2", "inf")
        several = ", ".join(self.pick("0", "1", "inf") for _ in sizes.split(","))
        radius = f"({several})" if "," in sizes and self.draw(st.booleans()) else one
        return f"grid({sizes}, radius={radius}{self.pick('', ', clamp=true')})"

    def indexed(self) -> str:
        form = self.pick("rows", "cols", "global", "every")
        if form == "every":
            return f"every({self.count(1, 5)}{self.pick('', f', offset={self.count(0, 4)}')})"
        return f"{form}({self.several(self.index)})"


@st.composite
def _primitives(draw: st.DrawFn, square: bool) -> str:
    form = draw(st.sampled_from(["constant", "indexed", "relational", "relational"]))
    if form == "constant":
        return draw(st.sampled_from(["all", "causal", "none", "causal"]))
    writer = _Writer(draw, tokens=draw(st.booleans()) or (form == "relational" and not square))
    return writer.relational() if form == "relational" else writer.indexed()


@st.composite
def programs(draw: st.DrawFn, square: bool = True, terms: int = 5) -> str:
    """Expressions of up to `terms` primitives; square: whether blocks have equal sides."""
    if terms > 1 and draw(st.booleans()):
        left = draw(st.integers(1, terms - 1))
        sides = [draw(programs(square, size)) for size in (left, terms - left)]
        return f"({sides[0]} {draw(st.sampled_from('|&-^'))} {sides[1]})"
    form = draw(st.sampled_from(["plain", "plain", "plain", "~", ".T", "random"]))
    inner = draw(programs(square, terms - 1) if terms > 1 else _primitives(square))
    if form == "random":
        within = draw(st.sampled_from(["", f", within={inner}"]))
        return f"random({draw(st.integers(0, 5))}, seed={draw(st.integers(0, 9))}{within})"
    return {"plain": inner, "~": f"~{inner}", ".T": f"{inner}.T"}[form]


@dataclass(frozen=True)
class Case:
    """A program on a grid."""

    spec: str
    block: tuple[int, int]
    len_q: int
    len_k: int
    align: str

    @property
    def resolved(self) -> Resolved:
        return compiler.resolve(Source("<case>", self.spec), block=self.block)

    @property
    def grid(self) -> Grid:
        return Grid.of(self.len_q, self.len_k, self.block, self.align)

    def mask(self) -> Bools:
        """The truth of head 0, bool (len_q, len_k), from the dense oracle."""
        return dense(self.resolved.pattern, self.grid)

    def masks(self, heads: int) -> Bools:
        """The truth of each head, bool (1, heads, len_q, len_k)."""
        grids = (replace(self.grid, head=head) for head in range(heads))
        return np.stack([dense(self.resolved.pattern, grid) for grid in grids])[None]

    def has_meaning(self) -> bool:
        """Whether the program means something on the grid: an index may lie outside of it."""
        try:
            compiler.lower(self.resolved, self.len_q, self.len_k, self.align)
        except BslangError:
            return False
        return True


@st.composite
def cases(
    draw: st.DrawFn,
    blocks: tuple[tuple[int, int], ...] = ((4, 4), (8, 8), (5, 3), (1, 1), (2, 7)),
    longest: int = 40,
    terms: int = 5,
) -> Case:
    """Programs on grids of all kinds: ragged lengths, rectangular blocks, few queries, cross-attention."""
    block = draw(st.sampled_from(blocks))
    spec = draw(programs(square=block[0] == block[1], terms=terms))
    lengths = [st.integers(longest // 4, longest), st.integers(1, longest)]
    len_k = draw(st.integers(GRID - 1, GRID) if "grid(" in spec else st.one_of(lengths))
    align = draw(st.sampled_from(["end", "start"]))
    len_q = draw(st.one_of(st.just(len_k), st.integers(1, len_k if align == "end" else longest)))
    return Case(spec, block, len_q, len_k, align)
