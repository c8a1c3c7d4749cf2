"""The tiles of a call, of any size: which hold a pair, which are full, and the pairs of the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from bslang import compiler
from bslang.exchange.tiles import EMPTY, belongs, kinds
from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.ir.grid import Ints
from bslang.ir.runs import Bools
from bslang.resolve.program import Resolved

_PAIRS = 2**22  # evaluated at once, in whole tiles


@dataclass(frozen=True, eq=False)
class Tiling:
    """A graph's call in tiles, counted from its first query and its first key; the last ones may be short.

    sides: of a tile (query, key), in tokens; any, whatever the blocks of the layout are.
    table: the graph's `kinds`. visited: bool (tile rows, tile columns), the tiles that hold a pair; full: of
    the same shape, those all of whose pairs belong, short tiles among them. Both are exact: of blocks that
    only a mask decides, every pair is evaluated.
    """

    graph: BlockGraph
    sides: tuple[int, int]
    table: npt.NDArray[np.int8]
    visited: Bools
    full: Bools

    @classmethod
    def of(cls, graph: BlockGraph, sides: tuple[int, int]) -> Tiling:
        """Cut a graph's call into tiles."""
        grid, table = graph.grid, kinds(graph)
        spans = []
        for axis, side in zip((grid.q, grid.k), sides, strict=True):
            first = np.arange(axis.start, axis.stop, side)
            last = np.minimum(first + side, axis.stop) - 1
            spans.append((first // axis.block, last // axis.block + 1))
        (top, bottom), (left, right) = spans
        found = _within(table == FULL, top, bottom, left, right)
        full = found == np.outer(bottom - top, right - left)
        visited = _within(table != EMPTY, top, bottom, left, right) > 0
        made = cls(graph, sides, table, visited, full)
        for row, column, pairs in made.masked(visited & ~full):
            visited[row, column] = pairs.any(axis=(1, 2))
            full[row, column] = pairs.sum(axis=(1, 2)) == made._sizes(row, column)
        return made

    def masked(self, marks: Bools) -> Iterator[tuple[Ints, Ints, Bools]]:
        """The pairs of marked tiles, in parts: rows and columns of tiles, and which pairs of each belong,
        bool (tiles, rows of a tile, columns of a tile); the padding of a short tile is False."""
        row, column = marks.nonzero()
        step = max(1, _PAIRS // (self.sides[0] * self.sides[1]))
        for begin in range(0, row.size, step):
            part = row[begin : begin + step], column[begin : begin + step]
            q, k, inside = self.positions(*part)
            yield *part, belongs(self.graph, self.table, q, k) & inside

    def positions(self, row: Ints, column: Ints) -> tuple[Ints, Ints, Bools]:
        """The positions of the queries (tiles, rows, 1) and keys (tiles, 1, columns) of tiles, and which
        pairs are no padding of a short tile; padding has the last position."""
        grid, (rows, columns) = self.graph.grid, self.sides
        q = grid.q.start + row[:, None, None] * rows + np.arange(rows)[:, None]
        k = column[:, None, None] * columns + np.arange(columns)
        inside = (q < grid.q.stop) & (k < grid.k.stop)
        return np.minimum(q, grid.q.stop - 1), np.minimum(k, grid.k.stop - 1), inside

    def _sizes(self, row: Ints, column: Ints) -> Ints:
        """The pairs of tiles."""
        grid, (rows, columns) = self.graph.grid, self.sides
        high = np.minimum(rows, grid.q.stop - grid.q.start - row * rows)
        return high * np.minimum(columns, grid.k.stop - column * columns)


def _within(marks: Bools, top: Ints, bottom: Ints, left: Ints, right: Ints) -> Ints:
    """How many marks lie in each rectangle [top, bottom) x [left, right)."""
    total = np.zeros((marks.shape[0] + 1, marks.shape[1] + 1), dtype=np.int64)
    total[1:, 1:] = marks.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    rows = total[bottom] - total[top]
    found: Ints = rows[:, right] - rows[:, left]
    return found


def graphs_of(
    resolved: Resolved, len_q: int, len_k: int, align: str, heads: int | None, layer: int
) -> tuple[Sequence[BlockGraph], list[int]]:
    """The distinct graphs of a call's heads, and the graph of each head: [0] where all heads are alike.

    Raises ValueError if heads differ and their number is not given.
    """
    if "head" in resolved.pattern.names() and heads is None:
        raise ValueError("the heads of this layout differ: pass the number of heads, `heads=`")
    schedule = compiler.tables(resolved, len_q, len_k, align, range(heads or 1), layer)
    graphs: Sequence[BlockGraph] = schedule.graphs
    if schedule.head_graph is None or len(graphs) == 1:
        return graphs, [0]
    order: list[int] = schedule.head_graph.tolist()
    return graphs, order


Lists = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]
"""How many columns each row has, and which."""


def block_lists(marks: Sequence[Bools], order: Sequence[int], width: int) -> Lists:
    """The marked columns of each row, int32 arrays: how many (1, heads, rows), and which, ascending, then
    zeros (1, heads, rows, width)."""
    counts, indices = [], []
    for mark in marks:
        row, column = mark.nonzero()
        count = mark.sum(axis=1)
        listed = np.zeros((mark.shape[0], width), dtype=np.int32)
        listed[row, np.arange(row.size) - np.repeat(np.cumsum(count) - count, count)] = column
        counts.append(count.astype(np.int32))
        indices.append(listed)
    return (
        np.stack([counts[graph] for graph in order])[None],
        np.stack([indices[graph] for graph in order])[None],
    )


def on_device(lists: Lists, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Lists as tensors."""
    count, index = lists
    return torch.from_numpy(count).to(device), torch.from_numpy(index).to(device)
