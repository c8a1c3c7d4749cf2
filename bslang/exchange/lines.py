"""The keys that each query sees, or the queries that see each key, as intervals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bslang.errors import LimitError
from bslang.exchange.tiles import kinds
from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.ir.grid import At, Ints
from bslang.ir.predicate import holds
from bslang.limits import MAX_RUNS

_PAIRS = 2**22  # evaluated at once, in whole blocks


class Lines(NamedTuple):
    """Intervals of lines, int64 (intervals,), sorted by line and start; those of a line do not touch.

    line: the query that sees keys start .. stop - 1. Queries count from the first of the call.
    """

    line: Ints
    start: Ints
    stop: Ints


def rows_of(graph: BlockGraph) -> Lines:
    """The keys that each query of a graph's call sees.

    Full runs give an interval for each of their queries; of blocks that a mask decides, every pair is
    evaluated. Raises LimitError for more than MAX_RUNS intervals.
    """
    parts = [_full(graph), *_masked(graph)]
    line, start, stop = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((start, line))
    line, start, stop = line[order], start[order], stop[order]
    first = np.ones(line.size, dtype=bool)
    first[1:] = (line[1:] != line[:-1]) | (start[1:] != stop[:-1])
    begin = first.nonzero()[0]
    end = np.append(begin[1:], line.size) - 1
    return Lines(line[begin], start[begin], stop[end[: begin.size]])


def columns_of(graph: BlockGraph) -> Lines:
    """The queries that see each key of a graph's call, as `rows_of`."""
    return rows_of(graph.transpose())


def _full(graph: BlockGraph) -> tuple[Ints, Ints, Ints]:
    """The intervals of full runs."""
    q, k = graph.grid.q, graph.grid.k
    keep = graph.kind == FULL
    row = graph.row[keep]
    first = np.maximum(row * q.block, q.start)
    size = np.minimum((row + 1) * q.block, q.stop) - first
    place = np.arange(int(size.sum())) - np.repeat(np.cumsum(size) - size, size)
    start = np.maximum(graph.start[keep] * k.block, k.start) - k.start
    stop = np.minimum(graph.stop[keep] * k.block, k.stop) - k.start
    return np.repeat(first - q.start, size) + place, np.repeat(start, size), np.repeat(stop, size)


def _masked(graph: BlockGraph) -> list[tuple[Ints, Ints, Ints]]:
    """The intervals within blocks that masks decide."""
    q, k = graph.grid.q, graph.grid.k
    table = kinds(graph)
    parts: list[tuple[Ints, Ints, Ints]] = []
    found, step = 0, max(1, _PAIRS // (q.block * k.block))
    for number, residual in enumerate(graph.residuals):
        row, column = (table == number).nonzero()
        for begin in range(0, row.size, step):
            at_q = row[begin : begin + step, None, None] * q.block + np.arange(q.block)[:, None]
            at_k = column[begin : begin + step, None, None] * k.block + np.arange(k.block)
            inside = (at_q >= q.start) & (at_q < q.stop) & (at_k >= k.start) & (at_k < k.stop)
            # Positions that are none are asked as their neighbours, and left out.
            positions = At.positions(
                graph.grid,
                at_q.clip(q.start, q.stop - 1),
                at_k.clip(k.start, k.stop - 1),
                labels={},
            )
            mask = holds(residual, positions, graph.grid.env()) & inside
            edges = np.diff(mask.astype(np.int8), prepend=0, append=0, axis=-1)
            block, line, start = (edges == 1).nonzero()
            stop = (edges == -1).nonzero()[2]
            place, offset = row[begin + block] * q.block + line, column[begin + block] * k.block
            parts.append((place - q.start, offset + start - k.start, offset + stop - k.start))
            found += place.size
            if found > MAX_RUNS:
                raise LimitError("MAX_RUNS", MAX_RUNS, "the intervals of tokens")
    return parts
