"""What a layout says to those who decode with it: whether a cache serves, and what can leave it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from bslang.analysis.pairs import masks
from bslang.analysis.properties import YES, Answer, is_prefix_stable
from bslang.analysis.worst import most_of_call
from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.graph.settle import positions
from bslang.ir.pattern import Pattern

Blocks = npt.NDArray[np.int64]


def prefix_stable(pattern: Pattern, graphs: Iterable[BlockGraph]) -> Answer:
    """Whether no row depends on the length, in any of some heads' graphs; else the answer of the first."""
    for graph in graphs:
        answer = is_prefix_stable(pattern, graph)
        if not answer.holds:
            return answer
    return YES


def last_rows(graph: BlockGraph) -> Blocks:
    """The last block row that visits each block column, -1 for none."""
    column, _, stop = graph.visited.transpose(graph.grid.n).rows()
    last = np.full(graph.grid.m, -1, dtype=np.int64)
    np.maximum.at(last, column, stop - 1)
    return last


def last_step(graph: BlockGraph) -> int:
    """The last query of a graph from which on each of its blocks is still seen: a call that begins there
    visits no block that has left its cache (`reachable`)."""
    graph = most_of_call(graph)
    side, stop = graph.grid.q.block, graph.grid.q.stop
    ends = np.minimum((graph.row + 1) * side, stop) - 1
    last = int(ends.min(initial=stop - 1))
    of_runs = np.flatnonzero(graph.kind != FULL)
    lengths = (graph.stop - graph.start)[of_runs]
    run = np.repeat(of_runs, lengths)
    within = np.arange(run.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    seen: npt.NDArray[np.bool_] = np.any(
        masks(graph, graph.row[run], graph.start[run] + within), axis=-1
    )
    if not seen.any(axis=-1).all():  # a block that its mask empties
        return graph.grid.q.start
    latest = graph.row[run] * side + side - 1 - seen[:, ::-1].argmax(axis=-1)
    return int(latest.min(initial=last))


def reachable(graph: BlockGraph, last: Blocks, t: int) -> Blocks:
    """int64 (blocks,): the block columns before token t that some query from t on sees, or may see in some
    call; last: of `last_rows`."""
    graph = most_of_call(graph)
    grid = graph.grid
    row, columns = t // grid.q.block, -(-min(t, grid.k.stop) // grid.k.block)
    last = last[:columns]
    seen = last > row
    # Of the blocks that row t // block is the last to visit, some are not seen from query t on.
    j = np.flatnonzero(last == row)
    q, _, in_bounds = positions(row * grid.m + j, grid)
    seen[j] = (masks(graph, np.full_like(j, row), j) & in_bounds & (q >= t)).any(axis=(1, 2))
    return np.flatnonzero(seen)
