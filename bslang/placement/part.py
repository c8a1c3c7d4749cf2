"""Part: what one rank does of an exchange."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.ir.grid import Ints
from bslang.ir.runs import Runs
from bslang.placement.exchange import Exchange, Items
from bslang.placement.traffic import Pass, Sizes, Sliced, shared_tokens, spread_tokens, traffic

Phase = Literal["near", "far", "spread", "all"]


@dataclass(frozen=True, eq=False)
class Part:
    """What one rank of a placement computes, sends and receives.

    Block rows and columns are those of the whole sequence, as in the graphs. Every list that two ranks
    use comes in one order on both: items by key head and then by block.

    exchange: that of all ranks. rank: this one.
    """

    exchange: Exchange
    rank: int

    @cached_property
    def rows(self) -> Ints:
        """int64, the block rows that this rank holds, ascending."""
        return np.flatnonzero(self.exchange.row_owner == self.rank)

    @cached_property
    def columns(self) -> Ints:
        """int64, the block columns that this rank holds, ascending."""
        return np.flatnonzero(self.exchange.column_owner == self.rank)

    @property
    def near(self) -> Ints:
        """int64, the rows that this rank holds and computes alone: in every head they need no columns but
        its own. Rows without keys are among them. Ascending."""
        return self._kept[0]

    @property
    def far(self) -> Ints:
        """int64, the other rows that this rank holds and computes: in some head they need a column of another
        rank. Ascending. `near`, `far` and the rank's own spread rows are disjoint, and together `rows`."""
        return self._kept[1]

    @property
    def spread(self) -> Ints:
        """int64, the block rows that all ranks compute, each over its own columns; the same on every rank, by
        owner and then ascending."""
        return self.exchange.spread

    @cached_property
    def receive(self) -> tuple[Items, ...]:
        """(ranks,): the items that this rank fetches from each; none from itself. In a gather, all that each
        holds. Those of rank s here are `send[rank]` on s, in the same order."""
        exchange, width = self.exchange, self.exchange.column_owner.size
        row = Runs.of_rows(width, np.array([self.rank]), np.array([0]), np.array([width]))
        items, _ = exchange.wanted_items([runs & row for runs in exchange.wants])
        return self._by_rank(items, exchange.column_owner[items.block])

    @cached_property
    def send(self) -> tuple[Items, ...]:
        """(ranks,): the items of this rank that each other fetches."""
        exchange, width = self.exchange, self.exchange.column_owner.size
        rank = np.arange(exchange.ranks)
        column = Runs.of_cells(width, self.columns)
        row = np.repeat(rank, column.start.size)
        own = Runs.of_rows(
            width, row, np.tile(column.start, rank.size), np.tile(column.stop, rank.size)
        )
        return self._by_rank(*exchange.wanted_items([runs & own for runs in exchange.wants]))

    @property
    def shared(self) -> Items:
        """The items that all ranks get, the same on every rank: by owner, those of an owner by key head and
        then by block."""
        return self.exchange.shared

    def shared_tokens(self, batch: int = 1) -> Sliced:
        """How the tokens of shared items are cut into slices: `bslang.placement.traffic.shared_tokens`."""
        return shared_tokens(self.exchange, batch)

    def spread_tokens(self, batch: int = 1) -> Sliced:
        """How the tokens of spread rows are cut into slices: `bslang.placement.traffic.spread_tokens`."""
        return spread_tokens(self.exchange, batch)

    def graphs(self, phase: Phase) -> tuple[BlockGraph, ...]:
        """The graphs of the exchange, cut down to the cells of a phase on this rank; same grid, residuals and
        order, so `head_graph` holds for them.

        "near", "far": the rows of these, with all their cells. "spread": spread rows over the columns that
        this rank holds. "all": the three together, for the backward pass: dK and dV of a column from it are
        this rank's part. Over all ranks "all" has each cell of the graphs once.
        """
        cells = Runs.union(
            self._width,
            [self._cells(each) for each in ("near", "far", "spread") if phase in (each, "all")],
        )
        return tuple(cut(graph, cells) for graph in self.exchange.graphs)

    def traffic(self, sizes: Sizes, keep: bool = True) -> tuple[Pass, Pass]:
        """What this rank moves forward and backward, in bytes: `bslang.placement.traffic.traffic`."""
        forward, backward = traffic(self.exchange, sizes, keep)
        return forward.at(self.rank), backward.at(self.rank)

    @property
    def _width(self) -> int:
        return self.exchange.column_owner.size

    @cached_property
    def _kept(self) -> tuple[Ints, Ints]:
        kept = self.rows[~self.exchange.is_spread[self.rows]]
        own = self.exchange.at_home(kept)
        whole = self._whole(kept)
        foreign = [(graph.visited & whole) - own for graph in self.exchange.graphs]
        far = np.unique(np.concatenate([runs.rows()[0] for runs in foreign]))
        return np.setdiff1d(kept, far, assume_unique=True), far

    def _cells(self, phase: Phase) -> Runs:
        if phase == "spread":
            return self._over_own_columns(np.sort(self.spread))
        return self._whole(self.near if phase == "near" else self.far)

    def _whole(self, rows: Ints) -> Runs:
        return Runs.of_rows(self._width, rows, np.array([0]), np.array([self._width]))

    def _over_own_columns(self, rows: Ints) -> Runs:
        column = Runs.of_cells(self._width, self.columns)
        row = np.repeat(rows, column.start.size)
        return Runs.of_rows(
            self._width, row, np.tile(column.start, rows.size), np.tile(column.stop, rows.size)
        )

    def _by_rank(self, items: Items, rank: Ints) -> tuple[Items, ...]:
        """Items apart by rank, in their order."""
        order = np.argsort(rank, kind="stable")
        edge = np.searchsorted(rank[order], np.arange(1, self.exchange.ranks))
        head, block = (np.split(array[order], edge) for array in items)
        return tuple(map(Items, head, block))


def cut(graph: BlockGraph, cells: Runs) -> BlockGraph:
    """A graph with those of its blocks alone that lie in some cells."""
    partial = {
        residual: graph.of_kind(kind) & cells for kind, residual in enumerate(graph.residuals)
    }
    return BlockGraph.of_classes(graph.grid, graph.of_kind(FULL) & cells, graph.residuals, partial)
