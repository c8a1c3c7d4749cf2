"""A call on one rank: its plan, its kernels, and what the call says of the sequence and of the shard."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import torch

from bslang.call import Call
from bslang.distributed.backward import Given, backward
from bslang.distributed.forward import Rank, forward
from bslang.distributed.plan import RankPlan
from bslang.distributed.sharding import Sharding, found
from bslang.distributed.transport import Steps
from bslang.placement.traffic import Sizes
from bslang.runtime.padding import Rows, without_lost
from bslang.runtime.registry import LAYOUTS
from bslang.runtime.runnable import Runnable
from bslang.sinks import as_keys

Taken: TypeAlias = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Job:
    """A call of one rank. call: of the whole sequence; local: the same of this rank's queries."""

    sharding: Sharding
    plan: RankPlan
    rank: Rank
    local: Call

    @classmethod
    def of(
        cls, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, key: str, sharding: str, call: Call,
        reduce: torch.dtype,
    ) -> Job:  # fmt: skip
        """reduce: the dtype in which parts travel; beside fp64 tensors it is fp64."""
        layout, its = LAYOUTS.find(key), found(sharding)
        local, parts = of_shard(call, its), parts_dtype(q, reduce)
        plan = plan_of(its, layout, q, k, v, parts, call.padding is not None)
        if call.padding is not None:
            layout, call = layout._with_padding, call.padding_as_label(its.seq_len)
        return cls(its, plan, Rank(plan, layout._target(q, v), call, parts), local)

    def keeps(self, keep: bool | None) -> bool:
        """Whether what others sent is kept for the backward pass; None: if it is little."""
        return self.plan.keeps if keep is None else keep

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Steps[Taken]:
        """(out, lse, pool, guests) of a shard, as `bslang.distributed.forward` has them."""
        return forward(self.rank, q, k, v)

    def backward(
        self, given: Given, pool: torch.Tensor | None, guests: torch.Tensor | None
    ) -> Steps[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """(dq, dk, dv) of a shard. given: with the log-sum-exp of the keys alone."""
        lse, grad_lse = given.lse, given.grad_lse
        if self.local.sinks is not None:
            lse, grad_lse = as_keys(lse, grad_lse, self.local.sinks)
        of, lost = without_lost(Rows(given.grad_out, grad_lse, given.q, given.out, lse), self.local)
        given = Given(of.grad_out, of.grad_lse, of.q, given.k, given.v, of.out, of.lse)
        dq, dk, dv = yield from backward(self.rank, given, pool, guests)
        return dq if lost is None else dq.masked_fill(lost[..., None], torch.nan), dk, dv


def of_shard(call: Call, sharding: Sharding) -> Call:
    """A call of the whole sequence as one of this rank's queries, as far as `padded_queries` asks."""
    if call.padding is None:
        return call
    return replace(call, padding=sharding.shard(call.padding, 1, True))


def parts_dtype(q: torch.Tensor, reduce: torch.dtype) -> torch.dtype:
    """What parts travel in."""
    return torch.float64 if q.dtype == torch.float64 else reduce


def plan_of(
    sharding: Sharding,
    layout: Runnable,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    parts: torch.dtype,
    padded: bool = False,
) -> RankPlan:
    """What this rank does of a call."""
    sizes = Sizes(q.shape[3], v.shape[3], 1, q.element_size(), parts.itemsize)
    return sharding.plan(layout, q.shape[1], k.shape[1], sizes, q.device, padded)
