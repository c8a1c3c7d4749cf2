"""The tokens before those of a shard, for what a model does along the sequence beside attention.

A convolution or a shift looks a few tokens back, which the rank before may hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bslang.distributed.transport import Trade, resolved
from bslang.ir.grid import Ints
from bslang.placement.placement import Placement
from bslang.runtime.op import define


@dataclass(frozen=True, eq=False)
class Behind:
    """Which ends of blocks a rank trades, so that it has the one before each of its own.

    sends: int64 (items,), places of its blocks whose ends others need, those for rank 0, for rank 1, and so
    on. send, receive: how many for each rank, and from each. found: int64 (per,), where the end before each
    place is among: none (0), those of its own places, those received.
    """

    sends: Ints
    send: tuple[int, ...]
    receive: tuple[int, ...]
    found: Ints

    @classmethod
    def of(cls, placement: Placement, rank: int) -> Behind:
        """Of a rank. Every end is for one block: that after it."""
        owner, place, ranks = placement.owner, placement.place, placement.ranks
        before, after = owner[:-1], owner[1:]
        sent = np.flatnonzero((before == rank) & (after != rank))
        sent = sent[np.argsort(after[sent], kind="stable")]
        got = np.flatnonzero((after == rank) & (before != rank))
        got = got[np.argsort(before[got], kind="stable")]
        own = np.flatnonzero((before == rank) & (after == rank))
        found = np.zeros(placement.per, dtype=np.int64)
        found[place[own + 1]] = 1 + place[own]
        found[place[got + 1]] = 1 + placement.per + np.arange(got.size)
        send, receive = (
            tuple(np.bincount(of, minlength=ranks).tolist()) for of in (after[sent], before[got])
        )
        return cls(place[sent], send, receive, found)


def with_before(
    x: torch.Tensor, dim: int, tokens: int, block: int, behind: Behind, group: str
) -> torch.Tensor:
    """As `bslang.distributed.Sharding.with_before`."""
    blocks = x.movedim(dim, 0).unflatten(0, (-1, block))  # type: ignore[no-untyped-call]  # torch's
    ends = blocks[:, block - tokens :]
    sends, found = (torch.from_numpy(each).to(x.device) for each in (behind.sends, behind.found))
    received = trade(ends.index_select(0, sends), behind.send, behind.receive, group)
    none = ends.new_zeros((1, *ends.shape[1:]))
    before = torch.cat((none, ends, received)).index_select(0, found)
    made: torch.Tensor = torch.cat((before, blocks), dim=1).movedim((0, 1), (dim, dim + 1))
    return made


def _trade(
    x: torch.Tensor, send: Sequence[int], receive: Sequence[int], group: str
) -> torch.Tensor:
    """Items to each rank, and from each: (sum of receive, ...), of x (sum of send, ...)."""
    into = x.new_empty((sum(receive), *x.shape[1:]))
    return Trade(x.contiguous(), send, receive, into).start(resolved(group)).wait()


def _fake(x: torch.Tensor, send: Sequence[int], receive: Sequence[int], group: str) -> torch.Tensor:
    return x.new_empty((sum(receive), *x.shape[1:]))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    _, ctx.send, ctx.receive, ctx.group = inputs


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    return trade(grad, ctx.receive, ctx.send, ctx.group), None, None, None


trade = define("trade_items", _trade, _fake)
"""What other ranks send, of what this one does; its gradients go back the same way."""

torch.library.register_autograd("bslang::trade_items", _backward, setup_context=_setup_context)
