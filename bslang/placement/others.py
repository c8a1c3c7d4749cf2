"""What other ways to share a sequence move: all-gather, ring and Ulysses, beside an exchange.

All are given the same kernels, which visit the blocks of the layout alone, and the best that is known of
them: two chunks a rank, heavy with light, for the first two, and heads for Ulysses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bslang.placement.chunks import Chunks
from bslang.placement.exchange import Exchange
from bslang.placement.model import Machine, Seconds, all_to_all, collective, computing
from bslang.placement.traffic import Sizes


@dataclass(frozen=True)
class Other:
    """A way to share a sequence. received: bytes that a rank gets, (forward, backward); seconds: modelled.

    None where it is not possible.
    """

    name: str
    received: tuple[int, int] | None
    seconds: tuple[Seconds, Seconds] | None


def others(exchange: Exchange, sizes: Sizes, machine: Machine) -> Sequence[Other]:
    """All-gather, ring and Ulysses, on the ranks of an exchange. The kind and the placement do not matter."""
    return (
        _all_gather(exchange, sizes, machine),
        _ring(exchange, sizes, machine),
        _ulysses(exchange, sizes, machine),
    )


def _shard(exchange: Exchange) -> int:
    """Tokens of a key head that a rank holds, of one row of the batch."""
    return exchange.placement.per * exchange.placement.block


def _all_gather(exchange: Exchange, sizes: Sizes, machine: Machine) -> Other:
    """Keys and values of all ranks go to all; parts of their gradients are reduced and scattered. What was
    gathered is kept for the backward pass."""
    ranks = exchange.ranks
    tokens = _shard(exchange) * exchange.key_heads * sizes.batch * (ranks - 1)
    both = sizes.dim + sizes.value_dim
    received = tokens * both * sizes.item, tokens * both * sizes.part
    compute = _zigzag(exchange, sizes, machine)
    return Other(
        "all-gather",
        received,
        (
            Seconds(compute, collective(received[0], ranks, machine)),
            Seconds(compute * machine.backward, collective(received[1], ranks, machine)),
        ),
    )


def _ring(exchange: Exchange, sizes: Sizes, machine: Machine) -> Other:
    """Keys and values go round from rank to rank, in the backward pass with parts of their gradients.
    Transfers hide behind the work as far as that goes: the time is that of the longer of both."""
    ranks, both = exchange.ranks, sizes.dim + sizes.value_dim
    shard = _shard(exchange) * exchange.key_heads * sizes.batch * both
    each = shard * sizes.item, shard * (sizes.item + sizes.part)
    single = ranks <= machine.node
    bandwidth = machine.near if single else machine.far
    start = machine.near_start if single else machine.far_start
    compute = _zigzag(exchange, sizes, machine)
    work = compute, compute * machine.backward
    moved = [(ranks - 1) * (start + size / bandwidth) for size in each]
    seconds = [Seconds(busy, max(all_ - busy, 0.0)) for busy, all_ in zip(work, moved, strict=True)]
    return Other("ring", ((ranks - 1) * each[0], (ranks - 1) * each[1]), (seconds[0], seconds[1]))


def _ulysses(exchange: Exchange, sizes: Sizes, machine: Machine) -> Other:
    """Ranks have heads instead of shards inside of the attention: q, k and v are exchanged, and out; there
    and back in the backward pass. Not for more ranks than query heads; key heads are repeated where ranks
    are more than these."""
    ranks, heads = exchange.ranks, exchange.heads
    if ranks > heads:
        return Other("Ulysses", None, None)
    key_heads = max(exchange.key_heads, ranks)
    of_token = (
        heads * sizes.dim + key_heads * (sizes.dim + sizes.value_dim),
        heads * sizes.value_dim,
    )
    tokens = _shard(exchange) * sizes.batch * sizes.item
    there, back = (tokens * each * (ranks - 1) // ranks for each in of_token)
    most = -(-heads // ranks) / heads
    pairs = int(exchange.work.sum()) * exchange.block_q * exchange.block_k
    compute = computing(pairs, sizes, machine) * most
    move = all_to_all(there, ranks, machine) + all_to_all(back, ranks, machine)
    return Other(
        "Ulysses",
        (there + back, there + back),
        (Seconds(compute, move), Seconds(compute * machine.backward, move)),
    )


def _zigzag(exchange: Exchange, sizes: Sizes, machine: Machine) -> float:
    """Seconds of the rank with most work, forward, with two chunks a rank and all rows where they are."""
    placement, block = exchange.placement, exchange.block_q
    starts = np.arange(0, exchange.row_owner.size, placement.block // block)
    rows = np.add.reduceat(exchange.blocks_by_row, starts)
    count = min(2, placement.per)
    chunks = Chunks.contiguous(placement.blocks, placement.ranks, count)
    work = chunks.work(rows)
    owner = chunks.heaviest_first(work).owner
    most = int(np.bincount(owner, weights=work).max())
    return computing(most * block * exchange.block_k, sizes, machine)
