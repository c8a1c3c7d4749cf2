"""What one rank does of a call: tables for its kernels, and indices of what it sends and gets."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from bslang.distributed.slices import Slices
from bslang.ir.grid import Ints
from bslang.ir.runs import Runs
from bslang.placement.exchange import Exchange, Items
from bslang.placement.part import Part
from bslang.placement.traffic import Sizes, traffic
from bslang.runtime.plan import DevicePlan


@dataclass(frozen=True, eq=False)
class Where:
    """Some blocks of single key heads in a shard: int64 (items,) each."""

    head: torch.Tensor
    place: torch.Tensor

    @property
    def count(self) -> int:
        return self.head.shape[0]


@dataclass(frozen=True, eq=False)
class Tables:
    """`Call.q_pages` and `k_pages` for a number of rows of the batch: of the shard; of spread rows that were
    handed out, and of the pool of keys."""

    q: torch.Tensor
    k: torch.Tensor
    guests: torch.Tensor
    pool: torch.Tensor


@dataclass(frozen=True, eq=False)
class RankPlan:
    """The part of a rank in an exchange.

    schedule: the `bslang.schedule.Schedule` of the whole sequence. Rows are near, far or spread as
    `bslang.placement.part.Part` has them. The *pool* holds the keys and values that far rows see, as pages
    (pages, block_k, dim + value dim): first what was fetched, then what is shared, then own blocks, and a
    page of which nothing is used. In a gather it holds all shards.
    """

    part: Part
    schedule: Any
    device: torch.device
    _tables: dict[int, Tables] = field(default_factory=dict)

    @property
    def exchange(self) -> Exchange:
        return self.part.exchange

    @property
    def rank(self) -> int:
        return self.part.rank

    @property
    def ranks(self) -> int:
        return self.exchange.ranks

    @property
    def gathers(self) -> bool:
        return self.exchange.kind == "gather"

    @property
    def heads(self) -> int:
        return self.exchange.heads

    @property
    def key_heads(self) -> int:
        return self.exchange.key_heads

    @property
    def block_q(self) -> int:
        return self.exchange.block_q

    @property
    def block_k(self) -> int:
        return self.exchange.block_k

    @cached_property
    def moved(self) -> str:
        """What the exchange moves, in a line that ranks compare at every call."""
        found = self.exchange
        wanted = sum(runs.size for runs in found.wants)
        return (
            f"{found.kind}, {found.spread.size} spread rows, {found.shared.size} shared items, "
            f"{wanted} wanted columns"
        )

    @property
    def length(self) -> int:
        """Tokens of a shard."""
        placement = self.exchange.placement
        return placement.per * placement.block

    # ---- what kernels compute --------------------------------------------------------------------

    @cached_property
    def near(self) -> DevicePlan | None:
        """Of near rows: out and dQ."""
        rows = self.part.near
        return self._plan(self._whole(rows), rows=rows)

    @cached_property
    def far(self) -> DevicePlan | None:
        """Of far rows: out, dQ, and dK and dV of what others hold; in a gather, of all columns."""
        rows = self.part.far
        width = self.exchange.column_owner.size
        columns = np.arange(width)
        if not self.gathers:
            foreign = [items.block for items in (*self.part.receive, self.part.shared)]
            columns = np.unique(np.concatenate(foreign)).astype(np.int64)
            columns = columns[self.exchange.column_owner[columns] != self.rank]
        return self._plan(self._whole(rows), rows=rows, cols=columns)

    @cached_property
    def own(self) -> DevicePlan | None:
        """Of this rank's columns: dK and dV from the rows that it keeps; in a gather, from near ones."""
        part = self.part
        rows = part.near if self.gathers else np.sort(np.concatenate((part.near, part.far)))
        return self._plan(self._whole(rows), rows=rows[:0], cols=part.columns)

    @cached_property
    def guests(self) -> DevicePlan | None:
        """Of spread rows over this rank's columns: parts of out and dQ, and of dK and dV."""
        rows, columns = np.sort(self.part.spread), Runs.of_cells(self._width, self.part.columns)
        row = np.repeat(rows, columns.start.size)
        spans = (np.tile(x, rows.size) for x in (columns.start, columns.stop))
        cells = Runs.of_rows(self._width, row, *spans)
        return self._plan(cells, rows=rows, cols=self.part.columns)

    def _plan(self, cells: Runs, rows: Ints, cols: Ints | None = None) -> DevicePlan | None:
        if not cells and not rows.size:
            return None
        of_each = [cells] * len(self.schedule.graphs)
        return DevicePlan.of(self.schedule.cut(of_each, rows=rows, cols=cols), self.device)

    def _whole(self, rows: Ints) -> Runs:
        return Runs.of_rows(self._width, rows, np.zeros_like(rows), np.full_like(rows, self._width))

    @property
    def _width(self) -> int:
        return self.exchange.column_owner.size

    # ---- what moves ------------------------------------------------------------------------------

    @cached_property
    def fetches(self) -> bool:
        """Whether any rank fetches something."""
        return self.gathers or any(bool(runs) for runs in self.exchange.wants)

    @cached_property
    def sends(self) -> tuple[Where, ...]:
        """The blocks for each rank."""
        return tuple(map(self._where, self.part.send))

    @cached_property
    def sent(self) -> Where:
        """Those for all ranks, in order."""
        head, place = (
            torch.cat([getattr(where, name) for where in self.sends]) for name in ("head", "place")
        )
        return Where(head, place)

    @property
    def send_counts(self) -> list[int]:
        return [items.size for items in self.part.send]

    @property
    def receive_counts(self) -> list[int]:
        return [items.size for items in self.part.receive]

    @cached_property
    def shared(self) -> Where:
        """This rank's shared blocks, in order."""
        return self._where(self._own(self.part.shared))

    @cached_property
    def shared_from(self) -> int:
        """The number of the first of these among all shared ones."""
        owner = self.exchange.column_owner[self.part.shared.block]
        return int(np.searchsorted(owner, self.rank))

    @cached_property
    def needed(self) -> Where:
        """The blocks of this rank that its far rows see, but for shared ones; none in a gather, where the
        pool has all."""
        return self._where(self._needed)

    @property
    def spread_rows(self) -> int:
        """How many rows all ranks compute."""
        return self.part.spread.size

    @cached_property
    def spread(self) -> torch.Tensor:
        """int64 (rows,), the places of this rank's spread rows, in order."""
        rows = self.part.spread
        return self._tensor(self._q_place[rows[self.exchange.row_owner[rows] == self.rank]])

    def shared_tokens(self, batch: int) -> Slices:
        return Slices.of(self.part.shared_tokens(batch), self.rank)

    def spread_tokens(self, batch: int) -> Slices:
        return Slices.of(self.part.spread_tokens(batch), self.rank)

    @cached_property
    def _needed(self) -> Items:
        found = [np.zeros((2, 0), dtype=np.int64)]
        far = np.zeros(self.exchange.row_owner.size, dtype=bool)
        far[self.part.far] = True
        is_shared = self.exchange.is_shared
        for number, (graphs, heads) in enumerate(self.exchange.key_sets):
            seen = np.zeros(self._width, dtype=bool)
            if self.gathers:
                break
            for graph in (self.exchange.graphs[each] for each in graphs):
                keep = far[graph.row]
                runs = Runs.of_rows(
                    self._width, np.zeros_like(graph.row[keep]), graph.start[keep], graph.stop[keep]
                )
                seen[runs.cells()] = True
            block = self.part.columns[(seen & ~is_shared[number])[self.part.columns]]
            found.append(np.stack((np.repeat(heads, block.size), np.tile(block, heads.size))))
        head, block = np.concatenate(found, axis=1)
        return Items(head, block)

    def guest_tokens(self, batch: int) -> int:
        """Room for tokens of spread rows that are handed out."""
        return self.spread_tokens(batch).room if self.spread_rows else 0

    @cached_property
    def keeps(self) -> bool:
        """Whether what is fetched is little beside what a rank has itself, on every rank."""
        sizes = Sizes(1, 1, 1, 1, 1)
        forward, _ = traffic(self.exchange, sizes)
        fetched = forward.fetched.received + forward.shared.received
        return int(fetched.max()) <= 2 * self.key_heads * self.length

    # ---- the pool --------------------------------------------------------------------------------

    @property
    def fetched(self) -> int:
        """Items at the beginning of the pool."""
        return sum(self.receive_counts)

    def pool_pages(self, batch: int) -> tuple[int, int, int]:
        """Where what is shared begins in the pool, where own blocks do, and how many pages it has."""
        if self.gathers:
            whole = self.ranks * self.key_heads * batch * (self.length // self.block_k)
            return whole, whole, whole
        shared = self.fetched * batch
        own = shared
        if self.part.shared.size:
            own += -(-self.shared_tokens(batch).room // self.block_k)
        return shared, own, own + self._needed.size * batch + 1

    def tables(self, batch: int) -> Tables:
        """The pages of a call with so many rows."""
        if batch not in self._tables:
            self._tables[batch] = self._made(batch)
        return self._tables[batch]

    def _made(self, batch: int) -> Tables:
        per_q, per_k = self.length // self.block_q, self.length // self.block_k
        row = np.arange(batch)[:, None, None]
        q, k = (
            np.where(owner == self.rank, place, -1)[None, None]
            for owner, place in (
                (self.exchange.row_owner, self._q_place),
                (self.exchange.column_owner, self._k_place),
            )
        )
        q = np.where(q < 0, -1, q + row * (per_q * self.heads))
        k = np.where(k < 0, -1, k + row * (per_k * self.key_heads))
        guests = np.full((1, 1, self.exchange.row_owner.size), -1)
        guests[..., self.part.spread] = np.arange(self.part.spread.size) * (self.heads * batch)
        guests = np.where(guests < 0, -1, guests + row)
        return Tables(
            *(self._tensor(x.astype(np.int32)) for x in (q, k, guests, self._pool_table(batch)))
        )

    def _pool_table(self, batch: int) -> Ints:
        """int64 (batch, key heads, block columns)."""
        row, per = np.arange(batch)[:, None, None], self.length // self.block_k
        head = np.arange(self.key_heads)[None, :, None]
        if self.gathers:
            shard = self.exchange.column_owner * self.key_heads + head
            return (shard * batch + row) * per + self._k_place
        shared, own, pages = self.pool_pages(batch)
        # A program of a column that only other heads have fetched needs a page all the same.
        table = np.full((batch, self.key_heads, self._width), pages - 1)
        fetched = [np.concatenate(each) for each in zip(*self.part.receive, strict=True)]
        for start, (heads, blocks) in (
            (0, fetched),
            (shared, self.part.shared),
            (own, self._needed),
        ):
            item = start + np.arange(heads.size) * batch
            table[:, heads, blocks] = item + np.arange(batch)[:, None]
        return table

    # ---- numbers of blocks in a shard ------------------------------------------------------------

    @cached_property
    def _q_place(self) -> Ints:
        return self.exchange.placement.pages(self.block_q)

    @cached_property
    def _k_place(self) -> Ints:
        return self.exchange.placement.pages(self.block_k)

    def _own(self, items: Items) -> Items:
        mine = self.exchange.column_owner[items.block] == self.rank
        return Items(items.head[mine], items.block[mine])

    def _where(self, items: Items) -> Where:
        return Where(self._tensor(items.head), self._tensor(self._k_place[items.block]))

    def _tensor(self, x: Any) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(x)).to(self.device)
