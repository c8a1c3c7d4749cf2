"""Composition: `p @ q`, the blocks that reach others through one in between, and `p ** k`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bslang.budget import HOPS, spend
from bslang.errors import LimitError, PatternError
from bslang.ir.expr import Number
from bslang.ir.grid import At, Grid, Ints
from bslang.ir.pattern import Decided, Lower, Pattern, Primitive
from bslang.ir.runs import Runs, ranges
from bslang.ir.signature import Kind, argument
from bslang.ir.text import number_text
from bslang.limits import MAX_RUNS

_DIRECT = 2**22  # runs that are gathered block by block before rows are joined in advance


@dataclass(frozen=True)
class _Composed(Primitive):
    """What compositions share: they are of blocks, and settled by blocks whatever their parts are."""

    drawn = True
    relational = True

    def check(self) -> None:
        for primitive in self.primitives():
            if primitive.awaited():
                raise PatternError(
                    f"`{self.name}` composes blocks when a spec is compiled, and `{primitive}` is known at "
                    "the call only",
                    hint="compose what is fixed, and join this by `|` or `&`",
                    subject=self,
                )
            if primitive.tokens:
                raise PatternError(
                    f"`{self.name}` composes patterns of blocks, and `{primitive}` counts tokens",
                    hint="count in blocks: the lower triangle of blocks is `last(inf)`",
                    subject=self,
                )

    def fits(self, grid: Grid) -> None:
        queries, keys = grid.q.length, grid.k.length
        if queries != keys:  # even where they have as many blocks
            raise PatternError(
                f"`{self.name}` continues from a block column as a block row, so queries and keys must be "
                f"one sequence, and these are two: {queries} queries and {keys} keys",
                hint='leave out align="start"',
                subject=self,
            )


@dataclass(frozen=True)
class Composition(_Composed):
    """Block i reaches block j through one in between: i sees it in `left`, and it sees j in `right`.

    Source: the second hop of a sparse layout, as in Exphormer (Shirzad 2023, 3.2).

    Example: `window(3) @ strided(4)`
    """

    name = "@"
    precedence = 5

    left: Pattern = argument("the first hop", Kind.PATTERN)
    right: Pattern = argument("the second hop", Kind.PATTERN)

    def predicate(self, at: At) -> Any:
        hops = at.candidates(self.left, True).astype(np.int64)
        reached = hops @ at.candidates(self.right, True).astype(np.int64) > 0
        return reached[at.blocks.row, at.blocks.col]

    def blocks(self, grid: Grid, lower: Lower) -> Decided:
        square = grid.square()
        reached = compose(lower(self.left, grid.whole()), lower(self.right, square))
        return _within(reached, grid)

    def __str__(self) -> str:
        return f"{_operand(self.left, 5)} @ {_operand(self.right, 6)}"


@dataclass(frozen=True)
class Power(_Composed):
    """The composition of `k` times the same pattern: what is reached in `k` hops.

    Example: `diagonals(1) ** 3`
    """

    name = "**"
    precedence = 7

    part: Pattern = argument("one hop", Kind.PATTERN)
    k: Number = argument("how many", Kind.NUMBER, minimum=1)

    def predicate(self, at: At) -> Any:
        assert isinstance(self.k, int)
        hop = at.candidates(self.part, True).astype(np.int64)
        reached = hop
        for _ in range(self.k - 1):
            reached = np.minimum(reached @ hop, 1)
        return (reached > 0)[at.blocks.row, at.blocks.col]

    def blocks(self, grid: Grid, lower: Lower) -> Decided:
        assert isinstance(self.k, int)
        hop = lower(self.part, grid.square())
        reached = hop
        for bit in bin(self.k)[3:]:  # from the second bit of k on, the highest first
            twice = compose(reached, reached)
            further = compose(twice, hop) if bit == "1" else twice
            if further == twice == reached == compose(reached, hop):
                break  # more hops reach nothing new, however many there are
            reached = further
        return _within(reached, grid)

    def __str__(self) -> str:
        return f"{_operand(self.part, 8)} ** {number_text(self.k, 7)}"


def _operand(part: Pattern, precedence: int) -> str:
    return str(part) if part.precedence >= precedence else f"({part})"


def _within(blocks: Runs, grid: Grid) -> Decided:
    blocks = blocks & Runs.domain(grid)
    return Decided(blocks, blocks)


def compose(left: Runs, right: Runs) -> Runs:
    """The product of two square boolean matrices.

    Row i of it is the union of the rows of `right` at the columns of row i of `left`. Where these
    are few they are gathered one by one. Otherwise rows r .. r + 2^s - 1 of `right` are joined for
    every r, and a run of columns takes the two such unions that cover it.
    """
    width = left.width
    if not left or not right:
        return Runs.empty(width)
    row, start, stop = left.rows()
    length = stop - start
    runs_before = _runs_before(right)
    if int((runs_before[stop] - runs_before[start]).sum()) <= _DIRECT:
        column = np.repeat(start - (np.cumsum(length) - length), length) + np.arange(length.sum())
        return _gathered(width, right, np.repeat(row, length), column)
    reached = Runs.empty(width)
    size = 1
    while True:
        here = (length >= size) & (length < 2 * size)
        if here.any():
            rows, first, last = row[here], start[here], stop[here] - size
            both = np.concatenate((rows, rows)), np.concatenate((first, last))
            reached = reached | _gathered(width, right, *both)
        if 2 * size > int(length.max()):
            return reached
        right = right | _moved_up(right, size)
        size *= 2


def _runs_before(runs: Runs) -> Ints:
    """For each row, the number of runs in the rows before it; one more for the end."""
    row, _, _ = runs.rows()
    return np.searchsorted(row, np.arange(runs.width + 1))


def _gathered(width: int, source: Runs, row: Ints, at: Ints) -> Runs:
    """The union, in each `row`, of the rows `at` of a matrix."""
    before = _runs_before(source)
    _, start, stop = source.rows()
    count = before[at + 1] - before[at]
    total = int(count.sum())
    if total > MAX_RUNS:
        raise LimitError("MAX_RUNS", MAX_RUNS, f"{total} runs of blocks")
    spend(32 * total, HOPS)
    run = ranges(before[at], count)
    return Runs.of_rows(width, np.repeat(row, count), start[run], stop[run])


def _moved_up(runs: Runs, rows: int) -> Runs:
    """The matrix without its first rows, at the place of these."""
    cells = rows * runs.width
    stop = runs.stop - cells
    keep = stop > 0
    return Runs(runs.width, np.maximum(runs.start[keep] - cells, 0), stop[keep])
