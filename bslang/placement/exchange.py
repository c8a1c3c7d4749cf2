"""Exchange: what the ranks of a placement fetch, share and compute of one layout.

An *item* is a block of one key head: its keys and values, of all rows of the batch. Three things move:

fetched items   A rank needs them for the rows that it keeps, and another holds them.
spread rows     Heavy block rows, such as global ones. Every rank computes them over its own keys, and the
                results are merged.
shared items    Needed by more than half of the ranks. All ranks get them.

Everything here follows from the block graphs and the placement, so every rank finds the same alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from bslang.graph.blockgraph import BlockGraph
from bslang.ir.grid import Ints
from bslang.ir.runs import Bools, Runs
from bslang.placement.placement import Placement

SHARED_RANKS = 8
"""The smallest group that has shared items."""


HeadGraph: TypeAlias = "Sequence[int] | npt.NDArray[np.integer[Any]] | None"
"""The graph of each query head; None where all have the only one. As in `bslang.schedule.Schedule`."""


class Items(NamedTuple):
    """Blocks of key heads, by key head and then by block. head, block: int64 (items,)."""

    head: Ints
    block: Ints

    @property
    def size(self) -> int:
        return self.head.size


@dataclass(frozen=True, eq=False)
class Exchange:
    """What moves between the ranks of a placement for one layout, and what each computes.

    graphs: the distinct block graphs of the heads, over the whole sequence (queries and keys alike).
    head_graph: int64 (heads,), the graph of each query head. key_heads: divides the number of query heads.
    kind: "exchange"; or "gather", where every rank gets all items of all others, because an exchange would
        come to as much: then there are no spread rows and no shared items.
    spread: int64 (rows,), block rows of every head that are spread, by owner and then ascending.
    sharing: whether there are shared items; else each rank fetches those that it needs.
    """

    graphs: tuple[BlockGraph, ...]
    head_graph: Ints
    key_heads: int
    placement: Placement
    kind: Literal["exchange", "gather"]
    spread: Ints
    sharing: bool = True

    @classmethod
    def of(
        cls,
        graphs: Sequence[BlockGraph],
        head_graph: HeadGraph,
        heads: int,
        key_heads: int,
        placement: Placement,
    ) -> Exchange:
        """head_graph: as above; None for one graph for all heads.

        Raises ValueError where key_heads does not divide heads, where queries and keys are not the one
        sequence of the placement, or where its block is not a multiple of the graphs' sides.
        """
        if key_heads < 1 or heads % key_heads:
            raise ValueError(f"{heads} query heads cannot share {key_heads} key heads evenly")
        grid = graphs[0].grid
        for axis in (grid.q, grid.k):
            if (axis.length, axis.start, axis.stop) != (placement.length, 0, placement.length):
                raise ValueError(
                    f"queries and keys must be the {placement.length} tokens that are placed; "
                    f"got {axis.stop - axis.start} of {axis.length}"
                )
            if placement.block % axis.block:
                raise ValueError(
                    f"a placement by blocks of {placement.block} tokens does not fit blocks of "
                    f"{axis.block}"
                )
        graph = np.zeros(heads, dtype=np.int64) if head_graph is None else head_graph
        of_head = np.asarray(graph, dtype=np.int64)
        return cls(
            tuple(graphs), of_head, key_heads, placement, "exchange", np.zeros(0, dtype=np.int64)
        )

    # ---- sizes and owners ------------------------------------------------------------------------

    @property
    def heads(self) -> int:
        """Number of query heads."""
        return self.head_graph.size

    @property
    def ranks(self) -> int:
        return self.placement.ranks

    @property
    def block_q(self) -> int:
        return self.graphs[0].grid.q.block

    @property
    def block_k(self) -> int:
        return self.graphs[0].grid.k.block

    @cached_property
    def row_owner(self) -> Ints:
        """int64 (block rows,), the rank of each."""
        return self.placement.owners(self.block_q)

    @cached_property
    def column_owner(self) -> Ints:
        """int64 (block columns,), the rank of each."""
        return self.placement.owners(self.block_k)

    @cached_property
    def is_spread(self) -> Bools:
        """bool (block rows,)."""
        return _marked(self.row_owner.size, self.spread)

    def at_home(self, rows: Ints) -> Runs:
        """The cells of some block rows (int64, ascending) whose columns the rank of the row holds."""
        return alike(rows, self.row_owner[rows], self.column_owner)

    # ---- what is needed --------------------------------------------------------------------------

    @cached_property
    def key_sets(self) -> tuple[tuple[tuple[int, ...], Ints], ...]:
        """The distinct sets of graphs that key heads read, and the key heads of each, ascending."""
        group = self.heads // self.key_heads
        sets: dict[tuple[int, ...], list[int]] = {}
        for head in range(self.key_heads):
            read = self.head_graph[head * group : (head + 1) * group]
            sets.setdefault(tuple(np.unique(read).tolist()), []).append(head)
        return tuple((graphs, np.array(heads)) for graphs, heads in sets.items())

    @cached_property
    def wants(self) -> tuple[Runs, ...]:
        """For each of `key_sets`: the block columns (across) that each rank (down) needs and has not."""
        columns = np.arange(self.column_owner.size)
        own = Runs.of_rows(columns.size, self.column_owner, columns, columns + 1)
        if self.kind == "gather":
            whole = Runs.of_rows(
                columns.size, np.arange(self.ranks), np.array([0]), np.array([columns.size])
            )
            return (whole - own,) * len(self.key_sets)
        needs = [
            Runs.of_rows(
                graph.grid.m, self.row_owner[graph.row[keep]], graph.start[keep], graph.stop[keep]
            )
            for graph in self.graphs
            for keep in (~self.is_spread[graph.row],)
        ]
        return tuple(
            Runs.union(columns.size, (needs[graph] for graph in graphs)) - own
            for graphs, _ in self.key_sets
        )

    @cached_property
    def wanted(self) -> Ints:
        """int64 (key sets, block columns): how many ranks need each."""
        return np.stack([covered(*runs.rows()[1:], self.column_owner.size) for runs in self.wants])

    @cached_property
    def is_shared(self) -> Bools:
        """bool (key sets, block columns): whether more than half of at least SHARED_RANKS ranks need it."""
        if self.kind == "gather" or not self.sharing or self.ranks < SHARED_RANKS:
            return np.zeros((len(self.key_sets), self.column_owner.size), dtype=bool)
        return self.wanted > self.ranks / 2

    @cached_property
    def shared_by_owner(self) -> Ints:
        """int64 (ranks,): how many shared items each rank holds."""
        count = np.zeros(self.ranks, dtype=np.int64)
        for (_, heads), marks in zip(self.key_sets, self.is_shared, strict=True):
            count += heads.size * np.bincount(self.column_owner[marks], minlength=self.ranks)
        return count

    @cached_property
    def shared(self) -> Items:
        """The shared items, by owner; those of an owner by key head and then by block."""
        found = [np.zeros((2, 0), dtype=np.int64)]
        for (_, heads), marks in zip(self.key_sets, self.is_shared, strict=True):
            block = np.flatnonzero(marks)
            found.append(np.stack((np.repeat(heads, block.size), np.tile(block, heads.size))))
        head, block = np.concatenate(found, axis=1)
        order = np.lexsort((block, head, self.column_owner[block]))
        return Items(head[order], block[order])

    def wanted_items(self, cells: Sequence[Runs]) -> tuple[Items, Ints]:
        """Items that are fetched, of some cells of each of `wants`, and the rank that wants each."""
        found = [np.zeros((3, 0), dtype=np.int64)]
        for (_, heads), shared, runs in zip(self.key_sets, self.is_shared, cells, strict=True):
            rank, block = np.divmod(runs.cells(), self.column_owner.size)
            kept = ~shared[block]
            rank, block = rank[kept], block[kept]
            head = np.repeat(heads, block.size)
            found.append(np.stack((np.tile(rank, heads.size), head, np.tile(block, heads.size))))
        rank, head, block = np.concatenate(found, axis=1)
        order = np.lexsort((block, head))
        return Items(head[order], block[order]), rank[order]

    # ---- work ------------------------------------------------------------------------------------

    @cached_property
    def blocks_by_row(self) -> Ints:
        """int64 (block rows,): blocks that each visits, of all query heads together."""
        return sum(
            (each * graph.blocks_by_row for each, graph in self._weighted),
            np.zeros_like(self.row_owner),
        )

    @property
    def row_work(self) -> Ints:
        """The same, where rows are computed by their owner: 0 for spread ones."""
        return np.where(self.is_spread, 0, self.blocks_by_row)

    @cached_property
    def column_work(self) -> Ints:
        """int64 (block columns,): blocks of each column in spread rows, of all query heads together."""
        total = np.zeros_like(self.column_owner)
        for each, graph in self._weighted:
            spread = self.is_spread[graph.row]
            total += each * covered(graph.start[spread], graph.stop[spread], graph.grid.m)
        return total

    @property
    def _weighted(self) -> list[tuple[int, BlockGraph]]:
        """How many query heads each graph has, and the graph."""
        weights = np.bincount(self.head_graph, minlength=len(self.graphs)).tolist()
        return list(zip(weights, self.graphs, strict=True))

    @cached_property
    def work(self) -> Ints:
        """int64 (ranks,): blocks that each rank visits, of all query heads together."""
        sides = (self.row_owner, self.row_work), (self.column_owner, self.column_work)
        found = [np.bincount(owner, weights=work, minlength=self.ranks) for owner, work in sides]
        return (found[0] + found[1]).astype(np.int64)

    @property
    def balance(self) -> float:
        """The work of the most loaded rank, as a multiple of the mean; 1 where there is none."""
        total = int(self.work.sum())
        return int(self.work.max()) * self.ranks / total if total else 1.0


def covered(start: Ints, stop: Ints, size: int) -> Ints:
    """int64 (size,): how many of some intervals [start, stop) hold each number below `size`."""
    change = np.bincount(start, minlength=size + 1) - np.bincount(stop, minlength=size + 1)
    return np.cumsum(change)[:size]


def alike(rows: Ints, of_rows: Ints, of_columns: Ints) -> Runs:
    """The cells of some rows (ascending) whose row and column have the same number. of_rows: those of `rows`;
    of_columns: those of all columns."""
    width = of_columns.size
    start = np.flatnonzero(np.diff(of_columns, prepend=-1))
    stop, number = np.append(start[1:], width), of_columns[start]
    order = np.argsort(number, kind="stable")
    first, last = (np.searchsorted(number[order], of_rows, side) for side in ("left", "right"))
    row = np.repeat(np.arange(rows.size), last - first)
    before = np.cumsum(last - first) - (last - first)
    run = order[np.arange(row.size) + (first - before)[row]]
    return Runs.of_rows(width, rows[row], start[run], stop[run])


def _marked(size: int, numbers: Ints) -> Bools:
    marks = np.zeros(size, dtype=bool)
    marks[numbers] = True
    return marks
