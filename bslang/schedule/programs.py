"""Programs: which block row, and which part of it, each program of a GPU kernel handles.

A GPU gives the next program to whichever of its processors is free first. Where the heaviest
programs come first, light ones fill what is left at the end, and all processors finish together
(R. L. Graham, "Bounds on multiprocessing timing anomalies", 1969). But a row of BigBird's global
blocks is more than a processor's share of all the work, wherever it comes. So a row much heavier
than the mean is split into parts of equal work, and a second kernel merges their results.

Nothing here knows the device, so results do not depend on it either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bslang.graph.blockgraph import BlockGraph
from bslang.ir.grid import Ints

Ints32 = npt.NDArray[np.int32]
Pieces = tuple[Ints, Ints, Ints, Ints]
"""Runs of blocks: the row, start, stop and class of each."""

SHARES = 192
"""A part is at most one of so many equal shares of all the work; GPUs have some 100 to 150 processors."""

LIGHT, HEAVY = 2, 5
"""But a part may always have LIGHT times the mean row, and at most HEAVY times.

No row of causal attention has more than twice the mean: their order is enough. Parts of many
times the mean come close to a processor's share, small ones are many to merge: `make bench-balance`.
"""

FEW = 4
"""Rows of a call that decodes: alone they would keep few processors busy, so that all are split."""

SHORTEST = 1024
"""And it may always have so many tokens of the other axis: a part must be started, and merged."""


@dataclass(frozen=True, eq=False)
class Programs:
    """The programs of a kernel for one head, in the order in which they are launched.

    program: int32 (programs, 4): block row, first and last (exclusive) block of the other axis, slot.
        Heaviest first, by the work of all heads together; equal ones by row and first block. Together
        the programs of a row cover it. The slot is the place of a part's result in the work space of a
        head, -1 where the row has one program.
    merges: int32 (split rows, 3): block row, first and last (exclusive) slot. The parts of a row have
        adjacent slots, in the order of their blocks.
    """

    program: Ints32
    merges: Ints32

    @property
    def slots(self) -> int:
        """Number of partial results of a head."""
        return int(self.merges[-1, 2]) if self.merges.size else 0

    def lay_out(self, graphs: Sequence[Pieces], classes: int, width: int) -> tuple[Ints32, Ints32]:
        """The runs of each program: `pointer` and `runs` as in `bslang.schedule.schedule.Table`.

        graphs: the runs of each graph, all in rows that have programs; width: blocks of a row.
        """
        row, first, last, _ = self.program.T.astype(np.int64)
        along = np.argsort(row * width + first)  # as programs lie on the line of all cells
        begin = (row * width + first)[along]
        lists, starts, stops = [], [], []
        for number, (of, start, stop, kind) in enumerate(graphs):
            met = np.searchsorted(begin, of * width + start, side="right") - 1
            past = np.searchsorted(begin, of * width + stop, side="left")
            run, part = each(past - met)
            program = along[met[run] + part]
            lists.append((number * row.size + program) * classes + kind[run])
            starts.append(np.maximum(start[run], first[program]))
            stops.append(np.minimum(stop[run], last[program]))
        place, start, stop = (np.concatenate(parts) for parts in (lists, starts, stops))
        order = np.lexsort((start, place))
        pointer = np.searchsorted(place[order], np.arange(len(graphs) * row.size * classes + 1))
        return _int32(pointer), _int32(np.stack((start[order], stop[order]), axis=1))


def programs(
    graphs: Sequence[BlockGraph],
    weights: Ints,
    *,
    split: bool = True,
    most: int | None = None,
    in_order: bool = False,
    alone: bool = False,
    rows: Ints | None = None,
    whole: Sequence[BlockGraph] | None = None,
) -> Programs:
    """The programs that handle the block rows of graphs, or of transposed ones the block columns.

    graphs: of the heads, on grids that differ in the head alone; a program is the same part of the
    same row in all of them. weights: int (graphs,), how many heads have each.
    split: False for one program a row. most: blocks of a part, on average over the heads; by default
    what the constants above say. in_order: in the order of blocks, not the heaviest first. alone: whether
    a call has a few of these rows, as in decoding: no part has more than one of the heaviest row then.
    rows: the block rows that have programs, ascending; None for all. whole: what `graphs` are cut from,
    whose work the constants count, so that a row is split in the same way wherever it is computed.
    """
    down, across = graphs[0].grid.q, graphs[0].grid.k
    width, heads = across.blocks, int(weights.sum())
    every = down.blocks - down.first
    start = (np.arange(down.first, down.blocks) if rows is None else rows) * width
    work = _Work.of(graphs, weights, width)
    if split:
        if most is None:
            total = work.total if whole is None else _total(whole, weights)
            if alone:
                total, every = work.heaviest(start, width), 1
            limit = _limit(total, every, heads * -(-SHORTEST // across.block))
        else:
            limit = most * heads
        # Heads with other sets can have two cuts in one column, with nothing between them.
        start = np.unique(np.concatenate((start, work.cuts(start, width, max(limit, 1)))))
    row = start // width
    stop = np.minimum(np.append(start[1:], down.blocks * width), (row + 1) * width)
    count = np.bincount(row, minlength=down.blocks)
    several = count[row] > 1
    slot = np.where(several, np.cumsum(several) - 1, -1)
    program = np.stack((row, start - row * width, stop - row * width, slot), axis=1)
    order = np.arange(start.size)
    if not in_order:
        order = np.argsort(work.before(start) - work.before(stop), kind="stable")
    split_rows = np.flatnonzero(count > 1)
    end = np.cumsum(count[split_rows])
    merges = np.stack((split_rows, end - count[split_rows], end), axis=1)
    return Programs(_int32(program[order]), _int32(merges))


def _limit(total: int, rows: int, least: int) -> int:
    """The most work of a part."""
    light, heavy = (times * total // max(rows, 1) for times in (LIGHT, HEAVY))
    if rows <= FEW:
        return max(total // SHARES, least)
    return max(min(max(total // SHARES, light), heavy), least)


def _total(graphs: Sequence[BlockGraph], weights: Ints) -> int:
    """The work of graphs, as `_Work.total`."""
    blocks = [int((graph.stop - graph.start).sum()) for graph in graphs]
    return int(np.dot(blocks, weights))


@dataclass(frozen=True, eq=False)
class _Work:
    """The work of all heads, in blocks, along the line of cells row * width + column.

    cell: int64 (edges,), where runs begin and end, ascending from 0. heads: int64 (edges,), how many
    visit each cell from an edge to the next. sum: int64 (edges,), the work before each edge.
    """

    cell: Ints
    heads: Ints
    sum: Ints

    @classmethod
    def of(cls, graphs: Sequence[BlockGraph], weights: Ints, width: int) -> _Work:
        cells, changes = [np.zeros(1, dtype=np.int64)], [np.zeros(1, dtype=np.int64)]
        for graph, weight in zip(graphs, weights, strict=True):
            for side, change in ((graph.start, weight), (graph.stop, -weight)):
                cells.append(graph.row * width + side)
                changes.append(np.full(side.size, change))
        cell, change = np.concatenate(cells), np.concatenate(changes)
        order = np.argsort(cell, kind="stable")
        cell, heads = cell[order], np.cumsum(change[order])
        return cls(cell, heads, np.append(0, np.cumsum(heads[:-1] * np.diff(cell))))

    @property
    def total(self) -> int:
        return int(self.sum[-1])

    def before(self, cell: Ints) -> Ints:
        """The work before each of some cells."""
        edge = np.searchsorted(self.cell, cell, side="right") - 1
        return self.sum[edge] + self.heads[edge] * (cell - self.cell[edge])

    def heaviest(self, starts: Ints, width: int) -> int:
        """The most work of the rows that begin at `starts`."""
        return int((self.before(starts + width) - self.before(starts)).max(initial=0))

    def cuts(self, starts: Ints, width: int, limit: int) -> Ints:
        """Cells that cut the rows which begin at `starts` into parts of equal work, at most `limit` each.

        A cut is at the start of the block in which a part's share ends, so that parts of a row differ
        by less than a block of each head.
        """
        low = self.before(starts)
        work = self.before(starts + width) - low
        parts = -(-work // limit)
        row, number = each(np.maximum(parts - 1, 0))
        reached = low[row] + work[row] * (number + 1) // parts[row]
        edge = np.searchsorted(self.sum, reached, side="right") - 1
        return self.cell[edge] + (reached - self.sum[edge]) // self.heads[edge]


def each(counts: Ints) -> tuple[Ints, Ints]:
    """The index of each of `counts[i]` things, i, and its number among them: 0 to counts[i] - 1."""
    index = np.repeat(np.arange(counts.size), counts)
    return index, np.arange(index.size) - (np.cumsum(counts) - counts)[index]


def _int32(array: Ints) -> Ints32:
    return np.ascontiguousarray(array, dtype=np.int32)
