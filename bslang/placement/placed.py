"""The placement of a sequence for a model: candidates, and the one of least modelled time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bslang.graph.blockgraph import BlockGraph
from bslang.ir.grid import Ints
from bslang.ir.runs import Runs
from bslang.placement.chunks import Chunks
from bslang.placement.exchange import Exchange, HeadGraph
from bslang.placement.model import H100, Machine, computing, moving
from bslang.placement.placement import Placement, common_block
from bslang.placement.planned import planned, settled
from bslang.placement.swaps import MOST_CHUNKS, refined, ties
from bslang.placement.traffic import Sizes

CHUNKS = (1, 2, 4, 8, 16)
"""Chunks of a rank, in the candidates."""

BALANCED = 1.05
"""A placement balances if no rank has more work than so many times the mean."""


@dataclass(frozen=True, eq=False)
class Demand:
    """What some layers of a model ask of a placement: a layout with its heads.

    graphs, head_graph, heads, key_heads: as in `Exchange.of`. layers: how many layers have it.
    """

    graphs: tuple[BlockGraph, ...]
    head_graph: HeadGraph
    heads: int
    key_heads: int
    layers: int = 1

    def exchange(self, placement: Placement, sizes: Sizes | None = None) -> Exchange:
        """What moves on a placement, as `planned`."""
        return planned(self.graphs, self.head_graph, self.heads, self.key_heads, placement, sizes)


def placed(
    demands: Sequence[Demand],
    ranks: int,
    sizes: Sizes | None = None,
    machine: Machine = H100,
    quick: bool = False,
) -> Placement:
    """One placement for all layers of a model.

    Candidates are contiguous shards, 2, 4, 8 and 16 chunks a rank, heaviest first, and what swapping their
    chunks makes of these; quick: with fewer swaps, in the time that a batch has. Taken is the one with the
    least modelled time of all layers, forward and backward, of those that balance, or of all if none does.
    Where times are about equal the one that moves least is, and where that is about equal the one with the
    fewest chunks.

    Every rank that passes the same gets the same. Raises ValueError as `Placement.contiguous` and
    `Exchange.of`.
    """
    sizes = sizes or Sizes()
    grid = demands[0].graphs[0].grid
    sides = [(graph.grid.q.block, graph.grid.k.block) for each in demands for graph in each.graphs]
    start = Placement.contiguous(grid.q.length, common_block(*sides), ranks)
    asked = [Asked(each.exchange(start, sizes), each.layers) for each in demands]
    if ranks == 1:
        return start
    choice = _Choice(asked, start, sizes, machine)
    found: list[tuple[_Cost, Placement]] = []
    idle = 0
    for group in choice.candidates(_SWEEPS[quick]):
        before = choice.least(found)
        for chunks in group:
            placement = chunks.placement(ranks, start.block, start.length)
            found.append((choice.cost(placement), placement))
        idle = idle + 1 if choice.least(found) > before * _WORTH else 0
        if idle == 2:
            break
    balanced = [each for each in found if each[0].balance <= BALANCED] or found
    least = min(cost.seconds for cost, _ in balanced)
    fast = [each for each in balanced if each[0].seconds <= least * _SAME_TIME]
    moved = min(cost.moved for cost, _ in fast)
    return next(placement for cost, placement in fast if cost.moved <= moved * _SAME_BYTES)


@dataclass(frozen=True)
class _Cost:
    """balance: as `Exchange.balance`. seconds: modelled, of all layers, forward and backward. moved: bytes,
    as `planned` compares them, of all layers."""

    balance: float
    seconds: float
    moved: int


_SWEEPS = (24, 6)  # over the pairs of chunks that may be exchanged; quick
_SAME_TIME, _SAME_BYTES = 1.04, 1.05  # what are called equal: the model is no better
_WORTH = 0.99  # of the least time so far: where two numbers of chunks come to more, that is all


@dataclass(frozen=True, eq=False)
class Asked:
    """An exchange on contiguous shards, of a layout of some layers: which rows are spread follows from it."""

    exchange: Exchange
    layers: int

    @cached_property
    def block_work(self) -> Ints:
        """int64 (blocks of the placement,): pairs of tokens of all query heads and layers."""
        exchange = self.exchange
        block, pairs = exchange.placement.block, exchange.block_q * exchange.block_k
        sides = (exchange.row_work, exchange.block_q), (exchange.column_work, exchange.block_k)
        total = [np.add.reduceat(work, np.arange(0, work.size, block // s)) for work, s in sides]
        return (total[0] + total[1]) * pairs * self.layers

    def joined(self, chunks: Chunks) -> Exchange:
        """The same on fewer rows: those of a chunk that are kept are one, with the columns of all of them.

        Ranks that hold whole chunks fetch the same.
        """
        exchange, parts = self.exchange, self.exchange.placement.block // self.exchange.block_q
        block = np.arange(exchange.row_owner.size) // parts
        chunk = np.searchsorted(chunks.start, block, side="right") - 1
        kept = np.flatnonzero(~exchange.is_spread)
        first = np.full(chunks.count, -1)
        first[chunk[kept][::-1]] = kept[::-1]
        of_row = np.where(exchange.is_spread, np.arange(chunk.size), first[chunk])
        graphs = tuple(_joined(each, of_row) for each in exchange.graphs)
        return replace(exchange, graphs=graphs, kind="exchange", sharing=True)


def _joined(graph: BlockGraph, of_row: Ints) -> BlockGraph:
    """The graph whose row of_row[i] has the columns of row i, all full."""
    runs = Runs.of_rows(graph.grid.m, of_row[graph.row], graph.start, graph.stop)
    return BlockGraph.of_classes(graph.grid, runs, (), {})


class _Choice:
    """Candidates, and what each costs."""

    def __init__(
        self, asked: Sequence[Asked], start: Placement, sizes: Sizes, machine: Machine
    ) -> None:
        self.start, self.sizes, self.machine = start, sizes, machine
        self.counts = [count for count in CHUNKS if count <= start.per]
        finest = Chunks.contiguous(start.blocks, start.ranks, self.counts[-1])
        self.work = sum((each.block_work for each in asked), np.zeros(start.blocks, np.int64))
        self.joined = [(each.layers, each.joined(finest), each) for each in asked]

    def candidates(self, sweeps: int) -> Iterator[list[Chunks]]:
        """Chunks on ranks, those of one number of chunks together, fewest first."""
        for count in self.counts:
            chunks = Chunks.contiguous(self.start.blocks, self.start.ranks, count)
            if count == 1:
                yield [chunks]
                continue
            work = chunks.work(self.work)
            balanced = chunks.heaviest_first(work)
            group = [balanced]
            loads = np.bincount(balanced.owner, weights=work)
            if chunks.count <= MOST_CHUNKS and loads.max() <= BALANCED * loads.mean():
                group.append(self._swapped(balanced, work, sweeps))
            yield group

    def _swapped(self, chunks: Chunks, work: Ints, sweeps: int) -> Chunks:
        ranks, node = self.start.ranks, self.machine.node
        most = BALANCED * float(work.sum()) / ranks
        tied = self._tied(chunks)
        owner = refined(tied, work, chunks.size, chunks.owner, ranks, node, most, sweeps)
        return replace(chunks, owner=owner)

    def _tied(self, chunks: Chunks) -> np.ndarray:
        """Bytes that chunks want of one another, as `ties`, in all layers."""
        total = np.zeros((chunks.count, chunks.count))
        alone = Chunks(chunks.size, chunks.start, np.arange(chunks.count))
        for layers, joined, _ in self.joined:
            placement = alone.placement(chunks.count, self.start.block, self.start.length)
            exchange = replace(joined, placement=placement)
            start = np.minimum(
                chunks.start * (self.start.block // exchange.block_k), exchange.column_owner.size
            )
            for (_, heads), shared, runs in zip(
                exchange.key_sets, exchange.is_shared, exchange.wants, strict=True
            ):
                columns = np.flatnonzero(shared)
                rank = np.repeat(np.arange(chunks.count), columns.size)
                column = np.tile(columns, chunks.count)
                kept = runs - Runs.of_rows(runs.width, rank, column, column + 1)
                total += layers * heads.size * exchange.block_k * ties(kept, start)
        return total

    def cost(self, placement: Placement) -> _Cost:
        work, seconds, moved = self._loads(self.work, placement), 0.0, 0
        for layers, joined, asked in self.joined:
            exchange, most = settled(replace(joined, placement=placement), self.sizes)
            moved += layers * most
            most = int(self._loads(asked.block_work, placement).max())
            seconds += layers * sum(moving(exchange, self.sizes, self.machine))
            seconds += self._computing(most)
        return _Cost(float(work.max() / max(work.mean(), 1)), seconds, moved)

    def least(self, found: Sequence[tuple[_Cost, Placement]]) -> float:
        """The least time of those that balance."""
        return min((c.seconds for c, _ in found if c.balance <= BALANCED), default=float("inf"))

    def _computing(self, pairs: int) -> float:
        """Seconds of both passes."""
        return computing(pairs, self.sizes, self.machine) * (1 + self.machine.backward)

    @staticmethod
    def _loads(work: Ints, placement: Placement) -> np.ndarray:
        return np.bincount(placement.owner, weights=work, minlength=placement.ranks)
