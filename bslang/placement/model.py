"""A model of time: how long a pass takes on machines that are described by a few numbers.

Alpha-beta: a transfer takes the time to start it, and its bytes by the bandwidth. Nothing overlaps here, so
that a plan is never better than it looks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bslang.placement.exchange import Exchange, alike
from bslang.placement.traffic import Moved, Pass, Sizes, counted, fetched_tokens, traffic


@dataclass(frozen=True)
class Machine:
    """Nodes of GPUs; adjacent ranks share a node. Figures are what is reached, for one GPU.

    node: GPUs of a node. near, far: bytes/s to GPUs of its node, and of others, in one direction. near_start,
    far_start: seconds to start a transfer among the GPUs of one node, and of several. peer: seconds more for
    each rank that a rank sends to. flops: a second, of the kernels. backward: FLOPs of the backward pass, as
    a multiple of the forward pass.
    """

    node: int = 8
    near: float = 340e9
    far: float = 42e9
    near_start: float = 12e-6
    far_start: float = 30e-6
    peer: float = 0.4e-6
    flops: float = 330e12
    backward: float = 2.5


H100 = Machine()
"""H100 with NVLink inside a node of 8, and 400 Gb/s for each GPU between nodes."""


@dataclass(frozen=True)
class Seconds:
    """compute: of the rank with most work. move: of the slowest rank, for each transfer."""

    compute: float
    move: float

    @property
    def total(self) -> float:
        return self.compute + self.move


def times(exchange: Exchange, sizes: Sizes, machine: Machine) -> tuple[Seconds, Seconds]:
    """Of a forward and of a backward pass of an exchange."""
    pairs = int(exchange.work.max()) * exchange.block_q * exchange.block_k
    compute = computing(pairs, sizes, machine)
    forward, backward = moving(exchange, sizes, machine)
    return Seconds(compute, forward), Seconds(compute * machine.backward, backward)


def computing(pairs: int, sizes: Sizes, machine: Machine) -> float:
    """Seconds of a forward pass over so many pairs of tokens, of all query heads together."""
    return pairs * sizes.batch * 2 * (sizes.dim + sizes.value_dim) / machine.flops


def moving(exchange: Exchange, sizes: Sizes, machine: Machine) -> tuple[float, float]:
    """Seconds that a forward and a backward pass move data."""
    forward, backward = traffic(exchange, sizes)
    ranks = exchange.ranks
    if exchange.kind == "gather":
        most = [int(each.fetched.received.max()) for each in (forward, backward)]
        return collective(most[0], ranks, machine), all_to_all(most[1], ranks, machine)
    near, far, peers = _by_distance(exchange, machine)
    both = (sizes.dim + sizes.value_dim) * sizes.batch
    out, back = (
        _fetching(near.times(size), far.times(size), peers, ranks, machine)
        + _sliced(each, ranks, machine)
        for each, size in ((forward, both * sizes.item), (backward, both * sizes.part))
    )
    return out, back


def collective(received: int, ranks: int, machine: Machine) -> float:
    """Seconds of an all-gather or a reduce-scatter in which every rank gets or sends so many bytes.

    What others have enters a node once, by all of its links together.
    """
    if not received:
        return 0.0
    start = machine.near_start if ranks <= machine.node else machine.far_start
    outside = received * max(ranks - machine.node, 0) / (ranks - 1) / machine.node
    return start * float(np.log2(ranks)) + max(received / machine.near, outside / machine.far)


def all_to_all(received: int, ranks: int, machine: Machine) -> float:
    """Seconds of an all-to-all in which every rank gets so many bytes, from all others alike."""
    if not received:
        return 0.0
    start = machine.near_start if ranks <= machine.node else machine.far_start
    outside = received * max(ranks - machine.node, 0) / (ranks - 1)
    return (
        start
        + machine.peer * (ranks - 1)
        + max((received - outside) / machine.near, outside / machine.far)
    )


def _sliced(each: Pass, ranks: int, machine: Machine) -> float:
    """Of shared items and spread rows: two transfers and four."""
    steps = 2 * bool(each.shared.received.any()) + 4 * bool(each.spread.received.any())
    moved = each.shared + each.spread
    start = machine.near_start if ranks <= machine.node else machine.far_start
    bandwidth = machine.near if ranks <= machine.node else machine.far
    return steps * start + int(max(moved.sent.max(), moved.received.max())) / bandwidth


def _fetching(near: Moved, far: Moved, peers: int, ranks: int, machine: Machine) -> float:
    if not peers:
        return 0.0
    start = machine.near_start if ranks <= machine.node else machine.far_start
    inside = np.maximum(near.sent, near.received) / machine.near
    outside = np.maximum(far.sent, far.received) / machine.far
    return start + machine.peer * peers + float(np.maximum(inside, outside).max())


def _by_distance(exchange: Exchange, machine: Machine) -> tuple[Moved, Moved, int]:
    """Tokens of fetched items from and to ranks of the same node, and of others; and from how many ranks one
    fetches some, at most: rather too many."""
    owner, ranks = exchange.column_owner, exchange.ranks
    rank = np.arange(ranks)
    inside = alike(rank, rank // machine.node, owner // machine.node)
    run = np.cumsum(np.diff(owner, prepend=-1) != 0)  # of columns that one rank holds
    near, peers = Moved(np.zeros(ranks, np.int64), np.zeros(ranks, np.int64)), np.zeros(ranks)
    for (_, heads), shared, runs in zip(
        exchange.key_sets, exchange.is_shared, exchange.wants, strict=True
    ):
        tokens = heads.size * exchange.block_k
        near += counted(runs & inside, shared, owner, ranks).times(tokens)
        to, start, stop = runs.rows()
        peers += np.bincount(to, weights=run[stop - 1] - run[start] + 1, minlength=ranks)
    every = fetched_tokens(exchange)
    far = Moved(every.sent - near.sent, every.received - near.received)
    return near, far, int(min(peers.max(), ranks - 1)) if every.received.any() else 0
