"""Traffic: the bytes that ranks move in an exchange, and the memory that it takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bslang.ir.grid import Ints
from bslang.ir.runs import Bools, Runs
from bslang.placement.exchange import Exchange, covered


@dataclass(frozen=True)
class Sizes:
    """What tokens take. dim: numbers of a query and of a key; value_dim: of a value; batch: rows of the
    batch; item: bytes of a number of q, k, v and out; part: of a number of a part that is added to others."""

    dim: int = 128
    value_dim: int = 128
    batch: int = 1
    item: int = 2
    part: int = 4


@dataclass(frozen=True)
class Moved:
    """Bytes to and from other ranks, int64 (ranks,) or of one rank."""

    sent: Ints
    received: Ints

    def __add__(self, other: Moved) -> Moved:
        return Moved(self.sent + other.sent, self.received + other.received)

    def times(self, count: int) -> Moved:
        return Moved(self.sent * count, self.received * count)

    def back(self) -> Moved:
        """The same the other way."""
        return Moved(self.received, self.sent)

    def at(self, rank: int) -> Moved:
        """That of one rank."""
        return Moved(self.sent[rank], self.received[rank])


@dataclass(frozen=True)
class Pass:
    """What a forward or a backward pass moves. fetched: with all others in a gather; spread, shared: as in
    `bslang.placement.exchange`."""

    fetched: Moved
    shared: Moved
    spread: Moved

    @property
    def total(self) -> Moved:
        return self.fetched + self.shared + self.spread

    def at(self, rank: int) -> Pass:
        return Pass(self.fetched.at(rank), self.shared.at(rank), self.spread.at(rank))


def slices(tokens: int, ranks: int) -> Ints:
    """int64 (ranks + 1,): rank r has the slice bounds[r]:bounds[r + 1] of some tokens.

    All slices have ceil(tokens / ranks) tokens, but for those at the end, which are shorter or empty.
    """
    return np.minimum(np.arange(ranks + 1) * -(-tokens // ranks), tokens)


@dataclass(frozen=True)
class Sliced:
    """Tokens of several owners in the order of owners, which are cut into a slice for each rank.

    own: int64 (ranks + 1,), the tokens of rank r are own[r]:own[r + 1]. bounds: as `slices`.

    hand_out: owners send slices (all_to_all_single), slices go to all ranks (all_gather_into_tensor; all
    are padded to the size of the first). collect: every rank sends parts of all tokens, slice by slice
    (all_to_all_single), which are added there in the order of ranks. home: sums go to the owners
    (all_to_all_single). Each is counted in tokens, without what stays on its rank.
    """

    own: Ints
    bounds: Ints

    @classmethod
    def of(cls, counts: Ints) -> Sliced:
        """counts: int64 (ranks,), the tokens of each owner."""
        own = np.append(0, np.cumsum(counts))
        return cls(own, slices(int(own[-1]), counts.size))

    @property
    def home(self) -> Moved:
        stay = np.minimum(self.own[1:], self.bounds[1:]) - np.maximum(
            self.own[:-1], self.bounds[:-1]
        )
        stay = np.maximum(stay, 0)
        return Moved(np.diff(self.bounds) - stay, np.diff(self.own) - stay)

    @property
    def hand_out(self) -> Moved:
        others = (self.bounds.size - 2) * (self.bounds[1] - self.bounds[0])
        passed = np.full(self.bounds.size - 1, others)
        return self.home.back() + Moved(passed, passed)

    @property
    def collect(self) -> Moved:
        size = np.diff(self.bounds)
        return Moved(self.bounds[-1] - size, size * (size.size - 1))


def shared_tokens(exchange: Exchange, batch: int = 1) -> Sliced:
    """The tokens of shared items: as (items, batch, block_k) in row-major order, items as in
    `Exchange.shared`."""
    return Sliced.of(exchange.shared_by_owner * batch * exchange.block_k)


def spread_tokens(exchange: Exchange, batch: int = 1) -> Sliced:
    """The tokens of spread rows: as (spread rows, query heads, batch, block_q) in row-major order, rows as
    in `Exchange.spread`."""
    counts = np.bincount(exchange.row_owner[exchange.spread], minlength=exchange.ranks)
    return Sliced.of(counts * exchange.heads * batch * exchange.block_q)


def traffic(exchange: Exchange, sizes: Sizes, keep: bool = True) -> tuple[Pass, Pass]:
    """What every rank moves in a forward and in a backward pass: arrays of int64 (ranks,).

    A short last block counts whole. keep: whether what the forward pass got of others (fetched and shared
    keys and values, queries of spread rows) is kept; else the backward pass gets it again.

    Forward, bytes of a token: K and V of fetched items, and of shared ones (hand_out): (dim + value_dim) *
    item. Queries of spread rows (hand_out): dim * item. Their results (collect): value_dim * part + 4, the
    log-sum-exp in fp32; merged ones (home): value_dim * item + 4.
    Backward: parts of dK and dV of fetched items, sent back: (dim + value_dim) * part; of shared ones
    (collect) the same; their sums (home): (dim + value_dim) * item. Of spread rows dOut, and in fp32 the
    log-sum-exp and delta (hand_out): value_dim * item + 8; parts of dQ (collect): dim * part; sums (home):
    dim * item.
    Gather: the K and V of every shard go to all other ranks, places left over included (all_gather); parts
    of dK and dV of all shards go home (all_to_all_single) and are added there in the order of ranks.
    """
    both, item, part = sizes.dim + sizes.value_dim, sizes.item, sizes.part
    got = fetched_tokens(exchange).times(sizes.batch)
    shared = shared_tokens(exchange, sizes.batch)
    spread = spread_tokens(exchange, sizes.batch)
    forward = Pass(
        got.times(both * item),
        shared.hand_out.times(both * item),
        spread.hand_out.times(sizes.dim * item)
        + spread.collect.times(sizes.value_dim * part + 4)
        + spread.home.times(sizes.value_dim * item + 4),
    )
    backward = Pass(
        got.back().times(both * part),
        shared.collect.times(both * part) + shared.home.times(both * item),
        spread.hand_out.times(sizes.value_dim * item + 8)
        + spread.collect.times(sizes.dim * part)
        + spread.home.times(sizes.dim * item),
    )
    if not keep:
        again = spread.hand_out.times(sizes.dim * item)
        backward = Pass(
            backward.fetched + forward.fetched,
            backward.shared + forward.shared,
            backward.spread + again,
        )
    return forward, backward


def fetched_tokens(exchange: Exchange) -> Moved:
    """Tokens of fetched items of one row of the batch, of all key heads together."""
    placement = exchange.placement
    if exchange.kind == "gather":
        shard = placement.per * placement.block * exchange.key_heads
        return Moved(*np.full((2, exchange.ranks), (exchange.ranks - 1) * shard))
    found = Moved(*np.zeros((2, exchange.ranks), dtype=np.int64))
    for (_, heads), shared, runs in zip(
        exchange.key_sets, exchange.is_shared, exchange.wants, strict=True
    ):
        columns = counted(runs, shared, exchange.column_owner, exchange.ranks)
        found += columns.times(heads.size * exchange.block_k)
    return found


def counted(runs: Runs, shared: Bools, owner: Ints, ranks: int) -> Moved:
    """Columns that ranks (down) want, without shared ones, by the rank that wants and the one that holds."""
    rank, start, stop = runs.rows()
    before = np.append(0, np.cumsum(shared))
    count = stop - start - (before[stop] - before[start])
    wanted = np.where(shared, 0, covered(start, stop, owner.size))
    sides = (owner, wanted), (rank, count)
    return Moved(*(np.bincount(of, weights=n, minlength=ranks).astype(np.int64) for of, n in sides))


@dataclass(frozen=True)
class Memory:
    """Bytes on every rank, int64 (ranks,).

    shard: q, k, v, out and the log-sum-exp of the rank's tokens. fetched: keys and values of others. spread:
    queries of spread rows, their results on this rank in parts, and the slice that it merges. backward: what
    a backward pass takes beside gradients of the shard: parts of dK and dV of others, and of dQ of spread
    rows.
    """

    shard: Ints
    fetched: Ints
    spread: Ints
    backward: Ints


def memory(exchange: Exchange, sizes: Sizes) -> Memory:
    """What an exchange takes of the memory of every rank."""
    ranks, batch, heads = exchange.ranks, sizes.batch, exchange.heads
    both, item, part = sizes.dim + sizes.value_dim, sizes.item, sizes.part
    tokens = exchange.placement.per * exchange.placement.block * batch
    shard = tokens * (heads * (both * item + 4) + exchange.key_heads * both * item)
    others = fetched_tokens(exchange).received * batch + shared_tokens(exchange, batch).own[-1]
    spread = spread_tokens(exchange, batch)
    rows, slice_ = spread.own[-1], np.diff(spread.bounds)
    result = sizes.value_dim * part + 4
    return Memory(
        np.full(ranks, shard),
        others * both * item,
        rows * (sizes.dim * item + result) + ranks * slice_ * result,
        others * both * part + rows * sizes.dim * part + ranks * slice_ * sizes.dim * part,
    )
