"""Block graphs as matrices: what is asked of each block, and which pairs of tokens belong.

Other libraries count the tiles of a call from its first query, and block rows are counted from position 0.
Where there are fewer queries than keys, a tile may hold queries of two block rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.ir.grid import At, Ints
from bslang.ir.oracle import Labels, Selections, expanded
from bslang.ir.predicate import holds
from bslang.ir.runs import Bools

EMPTY = -2
"""The kind of a block that is in no run, beside those of `BlockGraph`."""

_ROWS = 2**22  # pairs asked at once, in whole rows


def kinds(graph: BlockGraph) -> npt.NDArray[np.int8]:
    """The kind of every block, int8 (n, m): EMPTY, FULL or the index of a residual."""
    table = np.full((graph.grid.n, graph.grid.m), EMPTY, dtype=np.int8)
    length = graph.stop - graph.start
    place = np.arange(int(length.sum())) - np.repeat(np.cumsum(length) - length, length)
    rows, columns = np.repeat(graph.row, length), np.repeat(graph.start, length) + place
    table[rows, columns] = np.repeat(graph.kind, length)
    return table


@dataclass(frozen=True, eq=False)
class Tiles:
    """The tiles of a call: queries from the first on, and keys, cut into blocks.

    visited: bool (tile rows, m), the tiles that may hold a pair; full: the same shape, those of visited
    all of whose pairs belong, and that are no short ones at the ends.
    """

    visited: Bools
    full: Bools

    @classmethod
    def of(cls, graph: BlockGraph) -> Tiles:
        """The tiles of a graph's call."""
        grid, table = graph.grid, kinds(graph)
        first = np.arange(grid.q.start, grid.q.stop, grid.q.block)
        last = np.minimum(first + grid.q.block, grid.q.stop) - 1
        upper, lower = table[first // grid.q.block], table[last // grid.q.block]
        full = (upper == FULL) & (lower == FULL)
        full[last - first + 1 < grid.q.block] = False
        if grid.k.stop % grid.k.block:
            full[:, -1] = False
        return cls((upper != EMPTY) | (lower != EMPTY), full)


def belongs(
    graph: BlockGraph,
    table: npt.NDArray[np.int8],
    q: Ints,
    k: Ints,
    labels: Labels | None = None,
    selections: Selections | None = None,
) -> Bools:
    """Whether pairs of positions that are there belong; table: the graph's `kinds`.

    q, k: int64, positions that broadcast against each other. labels, selections: what the call gives.
    """
    grid = graph.grid
    kind = table[q // grid.q.block, k // grid.k.block]
    pairs = {
        name: (of_q[q - grid.q.start], of_k[k]) for name, (of_q, of_k) in (labels or {}).items()
    }
    at = At.positions(grid, q, k, labels=pairs, cells=expanded(grid, selections or {}))
    mask: Bools = kind == FULL
    for number in np.unique(kind[kind >= 0]).tolist():
        mask |= (kind == number) & holds(graph.residuals[number], at, grid.env())
    return mask


def tokens(
    graph: BlockGraph, labels: Labels | None = None, selections: Selections | None = None
) -> Bools:
    """The mask of a call, bool (len_q, len_k). labels, selections: what it gives."""
    grid, table = graph.grid, kinds(graph)
    q, k = np.arange(grid.q.start, grid.q.stop), np.arange(grid.k.stop)[None, :]
    step = max(1, _ROWS // k.size)
    parts = [
        belongs(graph, table, q[begin : begin + step, None], k, labels, selections)
        for begin in range(0, q.size, step)
    ]
    return np.concatenate([np.zeros((0, k.size), dtype=bool), *parts])
