"""Strips: block columns that follow from the block row alone, so that no table need list them.

A window, a chunk, the causal triangle or a global column gives every block row r one run of columns
whose ends are simple functions of r. A kernel computes such a run. Strips are found on the graphs of
a few lengths and taken on trust nowhere: `Rules` hold them against the graph of each length that is
scheduled. Rows that do not follow the rule, and what strips do not cover, stay in the tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.ir.grid import Axis, Ints
from bslang.ir.runs import Bools, Runs

MOST = 6
"""Strips of one class; what has more is better listed."""

LARGEST_CHUNK = 64
"""Rows of the largest chunk that is looked for."""

MOST_ROWS = 0.8
"""Share of the rows that follow a strip, at least."""


@dataclass(frozen=True)
class Edge:
    """An end of a strip, in block columns: row // every * by + offset, or with `end` counted from the
    end of the axis (then every is 1 and by 0)."""

    offset: int
    by: int = 0
    every: int = 1
    end: bool = False

    def at(self, row: Any, columns: int) -> Any:
        """Its column in each block row of a layout with so many block columns."""
        return (columns if self.end else row // self.every * self.by) + self.offset

    def text(self, row: str, columns: str) -> str:
        """Its column as Python, in names of the row and of the number of columns."""
        base = columns if self.end else row
        if not self.end and self.by == 0:
            return str(self.offset)
        if self.every > 1:
            base = f"{base} // {self.every}"
        if not self.end and self.by > 1:
            base = f"{base} * {self.by}"
        if self.offset == 0:
            return base
        return f"{base} {'+' if self.offset > 0 else '-'} {abs(self.offset)}"

    @classmethod
    def read(cls, text: str) -> Edge:
        """The edge with this text, whatever its names. Raises ValueError for what is none."""
        found = re.fullmatch(_EDGE, text, re.ASCII)
        if found is None:
            raise ValueError(f"not an end of a strip: {text!r}")
        name, every, by, sign, offset, number = found.groups()
        if number is not None:
            return cls(int(number))
        shift = int(f"{sign}{offset}") if sign else 0
        if name in ("rows", "columns"):
            return cls(shift, end=True)
        return cls(shift, int(by or 1), int(every or 1))


_EDGE = r"(rows?|columns?)(?: // (\d+))?(?: \* (\d+))?(?: ([+-]) (\d+))?|(-?\d+)"


@dataclass(frozen=True)
class Strip:
    """Columns [start, stop) of every block row, of one kind: FULL, or a residual's number."""

    kind: int
    start: Edge
    stop: Edge


def intervals(
    strips: Iterable[Strip], row: Ints, first: Ints, last: Ints, columns: int
) -> list[tuple[Ints, Ints]]:
    """What each strip of a kind covers in each row: columns [start, stop) within [first, last).

    A strip begins where those before it end, at the earliest. Kernels compute the same.
    """
    found, reached = [], first
    for strip in strips:
        start = np.maximum(strip.start.at(row, columns), reached)
        reached = np.maximum(np.minimum(strip.stop.at(row, columns), last), start)
        found.append((start, reached))
    return found


def whole(across: Axis) -> tuple[int, int]:
    """The blocks of an axis that are there with all of their positions: [first, last)."""
    return -(-across.start // across.block), across.stop // across.block


@dataclass(frozen=True)
class Rules:
    """What a kernel computes of the rows (or columns) that it holds, so that its tables lack it.

    strips: by kind and then from left to right; listed: whether the full blocks that no strip covers
    stand in the tables one by one.
    """

    strips: tuple[Strip, ...] = ()
    listed: bool = False

    def lines(self, row: str, column: str) -> list[str]:
        """What `read` reads: a formula for each strip, as in "full: row - 6 <= column < row".

        row, column: names of the block that a program holds and of those that it visits.
        """
        found = [
            f"{'full' if strip.kind == FULL else f'mask {strip.kind}'}: "
            f"{strip.start.text(row, f'{column}s')} <= {column} < {strip.stop.text(row, f'{column}s')}"
            for strip in self.strips
        ]
        return [*found, _LISTED] if self.listed else found

    @classmethod
    def read(cls, lines: Iterable[str]) -> Rules:
        """The rules that a generated module states. Raises ValueError for what it cannot read."""
        strips, listed = [], False
        for line in lines:
            if line == _LISTED:
                listed = True
                continue
            found = re.fullmatch(r"(full|mask \d+): (.*) <= (?:row|column) < (.*)", line, re.ASCII)
            if found is None:
                raise ValueError(f"not a strip: {line!r}")
            kind = FULL if found[1] == "full" else int(found[1].removeprefix("mask "))
            strips.append(Strip(kind, Edge.read(found[2]), Edge.read(found[3])))
        return cls(tuple(strips), listed)

    @property
    def from_end(self) -> bool:
        """Whether a strip is counted from the last block."""
        return any(edge.end for strip in self.strips for edge in (strip.start, strip.stop))

    def listing(self) -> Rules:
        """The same without strips: tables list all blocks."""
        return replace(self, strips=())

    def kept(self, graph: BlockGraph) -> Bools:
        """bool (block rows,): the rows of a graph that hold all that the strips say of them."""
        kept = np.ones(graph.grid.n, dtype=bool)
        for kind in dict.fromkeys(strip.kind for strip in self.strips):
            held = graph.of_kind(kind)
            for part in self._covered(graph, kind, kept):
                row, _, _ = (part - held).rows()
                kept[row] = False
        return kept

    def left(self, graph: BlockGraph, kept: Bools) -> list[tuple[int, Runs]]:
        """The blocks that strips do not cover in the rows that are kept, and all of other rows, by kind."""
        found = []
        for kind in range(FULL, len(graph.residuals)):
            runs = graph.of_kind(kind)
            for part in self._covered(graph, kind, kept):
                runs = runs - part
            found.append((kind, runs))
        return found

    def _covered(self, graph: BlockGraph, kind: int, rows: Bools) -> list[Runs]:
        grid = graph.grid
        low, high = whole(grid.k) if kind == FULL else (grid.k.first, grid.m)
        row = np.flatnonzero(rows)
        row = row[row >= grid.q.first]
        first, last = np.full_like(row, low), np.full_like(row, max(low, high))
        strips = [strip for strip in self.strips if strip.kind == kind]
        parts = intervals(strips, row, first, last, grid.m)
        return [Runs.of_rows(grid.m, row, start, stop) for start, stop in parts]


_LISTED = "full: others one by one"
"""The line that says `listed`."""


def find(graphs: Sequence[BlockGraph], kinds: Iterable[int]) -> tuple[Strip, ...]:
    """The strips of a layout, by kind and then from left to right, that most rows of some graphs hold.

    graphs: of whole blocks, the longest first.
    """

    def hold(strips: Sequence[Strip]) -> bool:
        rules = Rules(tuple(strips))
        return all(
            rules.kept(graph).mean() > MOST_ROWS and all(_is_there(s, graph) for s in strips)
            for graph in graphs
        )

    found: list[Strip] = []
    for kind in kinds:
        candidates = _candidates(graphs[0], kind)
        if len(candidates) > MOST:  # all but what is near is spread far and wide: better listed
            candidates = [strip for strip in candidates if _near(strip, graphs[0])]
        candidates.sort(key=lambda strip: -_width(strip, graphs[0]))
        chosen: list[Strip] = []
        for strip in candidates[:MOST]:
            more = sorted((*chosen, strip), key=lambda strip: middle(strip, graphs[0])[0])
            if hold(more):
                chosen = more
        found += chosen
    return tuple(found) if hold(found) else ()


def middle(strip: Strip, graph: BlockGraph) -> tuple[int, int]:
    """The columns [start, stop) that a strip gives the row in the middle, be they there or not."""
    row, columns = graph.grid.n // 2, graph.grid.m
    return int(strip.start.at(row, columns)), int(strip.stop.at(row, columns))


def _width(strip: Strip, graph: BlockGraph) -> int:
    start, stop = middle(strip, graph)
    return stop - start


def _is_there(strip: Strip, graph: BlockGraph) -> bool:
    """Whether a strip covers a block of the row in the middle: one that never does holds everywhere."""
    start, stop = middle(strip, graph)
    return max(start, 0) < min(stop, graph.grid.m)


def _near(strip: Strip, graph: BlockGraph) -> bool:
    """Whether a strip holds the diagonal, and more."""
    start, stop = middle(strip, graph)
    here = graph.grid.n // 2 * graph.grid.m // graph.grid.n
    return start <= here <= stop and stop - start > 1


def _candidates(graph: BlockGraph, kind: int) -> list[Strip]:
    """Runs that every row in the middle has, at the same columns or at the same distance from itself."""
    rows = np.arange(graph.grid.n // 3, 2 * graph.grid.n // 3)  # far from what happens at the ends
    marks = graph.of_kind(kind).dense(graph.grid.n)[rows]
    columns = graph.grid.m
    q, k = graph.grid.q.block, graph.grid.k.block
    diagonals = []
    if q % k == 0 or k % q == 0:
        by, every = max(1, q // k), max(1, k // q)
        base = rows // every * by
        left, right = int(base[0]), columns - int(base[-1])
        shifted = marks[np.arange(rows.size)[:, None], base[:, None] + np.arange(-left, right)]
        diagonals = [
            Strip(kind, Edge(start - left, by, every), Edge(stop - left, by, every))
            for start, stop in _runs(np.all(shifted, axis=0))
        ]
    wide = [strip for seed in diagonals for strip in _widened(seed, marks, rows, columns)]
    kept = [
        Strip(kind, _column(start, columns), _column(stop, columns))
        for start, stop in _runs(np.all(marks, axis=0))
        if (stop - start) * 8 < columns  # else the part of a triangle that all rows share
    ]
    return list(dict.fromkeys((*wide, *kept)))


def _widened(seed: Strip, marks: Bools, rows: Ints, columns: int) -> list[Strip]:
    """The runs in which a diagonal lies, if they have simple ends; itself where that is all."""
    lines = np.arange(rows.size)
    at = seed.start.at(rows, columns)
    # The nearest column on either side that does not belong, or the end of the axis.
    gaps = np.pad(~marks, ((0, 0), (1, 1)), constant_values=True)
    number = np.arange(columns + 2)
    before = np.maximum.accumulate(np.where(gaps, number, -1), axis=1)[lines, at + 1]
    after = np.minimum.accumulate(np.where(gaps, number, columns + 2)[:, ::-1], axis=1)[:, ::-1]
    start = _edge(before, rows, columns, seed)
    stop = _edge(after[lines, at + 1] - 1, rows, columns, seed)
    if start is not None and stop is not None:
        return [Strip(seed.kind, start, stop)]
    return [seed] if _inside(seed, rows, columns) else []


def _inside(seed: Strip, rows: Ints, columns: int) -> bool:
    """Whether a diagonal ends before the axis does: one that is cut there is something wider."""
    return bool(
        seed.start.at(rows, columns).min() > 0 and seed.stop.at(rows, columns).max() < columns
    )


def _edge(ends: Ints, rows: Ints, columns: int, seed: Strip) -> Edge | None:
    """The form that gives these ends in these rows: a column, a distance from the diagonal, a chunk's end."""
    if (ends == ends[0]).all():
        return _column(int(ends[0]), columns)
    chunks = ((every, every) for every in range(2, LARGEST_CHUNK + 1))
    for by, every in ((seed.start.by, seed.start.every), *chunks):
        rest = ends - rows // every * by
        if (rest == rest[0]).all():
            return Edge(int(rest[0]), by, every)
    return None


def _column(column: int, columns: int) -> Edge:
    """A column that all rows share, counted from the nearer end."""
    return Edge(column - columns, end=True) if 2 * column > columns else Edge(column)


def _runs(marks: Any) -> list[tuple[int, int]]:
    """The runs [start, stop) of marks, bool (columns,)."""
    edge = np.flatnonzero(np.diff(marks, prepend=False, append=False))
    return [(int(a), int(b)) for a, b in zip(edge[0::2], edge[1::2], strict=True)]
