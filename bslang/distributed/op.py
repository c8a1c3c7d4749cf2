"""The torch operators of context parallelism: attention of a shard, forward and backward, each with its fake;
and shards put together.

They take a layout and a sharding by their keys, and a call of the whole sequence as `Call.pack` packs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist

from bslang.call import Call
from bslang.distributed.agree import agree
from bslang.distributed.backward import Given, backward
from bslang.distributed.forward import Rank, forward
from bslang.distributed.plan import RankPlan
from bslang.distributed.sharding import Sharding, found
from bslang.distributed.transport import carry_out
from bslang.placement.traffic import Sizes
from bslang.runtime.op import define, lse_dtype
from bslang.runtime.padding import Rows, padded_queries, without_lost
from bslang.runtime.registry import LAYOUTS
from bslang.sinks import as_keys, gradient


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
        local = call
        if call.padding is not None:
            local = replace(call, padding=its.shard(call.padding, 1, True))
            layout, call = layout._with_padding, call.padding_as_label(its.seq_len)
        parts = torch.float64 if q.dtype == torch.float64 else reduce
        plan = plan_of(its, layout, q, k, v, parts)
        return cls(its, plan, Rank(plan, layout._target(q, v), call, parts), local)


def plan_of(sharding: Sharding, layout: Any, q: Any, k: Any, v: Any, parts: torch.dtype) -> RankPlan:
    """What this rank does of a call."""
    sizes = Sizes(q.shape[3], v.shape[3], 1, q.element_size(), parts.itemsize)
    return sharding.plan(layout, q.shape[1], k.shape[1], sizes, q.device)


def _attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layout: str,
    sharding: str,
    tensors: Sequence[torch.Tensor],
    numbers: Sequence[float],
    about: str,
    reduce: torch.dtype,
    keep: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(out, lse, pool, guests) as `bslang.distributed.forward`; the last two are empty unless `keep`."""
    call = Call.unpack(tensors, numbers, about)
    job = Job.of(q, k, v, layout, sharding, call, reduce)
    group = _group(job.sharding)
    agree(job.sharding, group, q.device, _said(job, q, k, v, layout, numbers, about, reduce, keep))
    with torch.autocast(q.device.type, enabled=False):
        out, lse, *taken = carry_out(forward(job.rank, q, k, v), group)
    pool, guests = taken if keep else (x.new_empty((0,)) for x in taken)
    return out, lse, pool, guests


def _attention_fake(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layout: str,
    sharding: str,
    tensors: Sequence[torch.Tensor],
    numbers: Sequence[float],
    about: str,
    reduce: torch.dtype,
    keep: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    out = q.new_empty((*q.shape[:3], v.shape[3]))
    lse = q.new_empty(q.shape[:3], dtype=lse_dtype(q.dtype))
    if not keep:
        return out, lse, q.new_empty((0,)), q.new_empty((0,))
    parts = torch.float64 if q.dtype == torch.float64 else reduce
    plan = plan_of(found(sharding), LAYOUTS.find(layout), q, k, v, parts)
    dim, batch = q.shape[3], q.shape[0]
    pool = (plan.pool_pages(batch)[2], plan.block_k, dim + v.shape[3])
    return out, lse, q.new_empty(pool), q.new_empty((plan.guest_tokens(batch), dim))


def _attention_backward(
    grad_out: torch.Tensor,
    grad_lse: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    pool: torch.Tensor,
    guests: torch.Tensor,
    layout: str,
    sharding: str,
    tensors: Sequence[torch.Tensor],
    numbers: Sequence[float],
    about: str,
    reduce: torch.dtype,
    keep: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(dq, dk, dv) of a shard."""
    call = Call.unpack(tensors, numbers, about)
    job = Job.of(q, k, v, layout, sharding, call, reduce)
    if call.sinks is not None:
        lse, grad_lse = as_keys(lse, grad_lse, call.sinks)
    of, lost = without_lost(Rows(grad_out, grad_lse, q, out, lse), job.local)
    given = Given(of.grad_out, of.grad_lse, of.q, k, v, of.out, of.lse)
    taken = (pool, guests) if keep else (None, None)
    with torch.autocast(q.device.type, enabled=False):
        steps = backward(job.rank, given, *taken)
        dq, dk, dv = carry_out(steps, _group(job.sharding))
    return dq if lost is None else dq.masked_fill(lost[..., None], torch.nan), dk, dv


def _attention_backward_fake(
    grad_out: torch.Tensor,
    grad_lse: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    pool: torch.Tensor,
    guests: torch.Tensor,
    layout: str,
    sharding: str,
    tensors: Sequence[torch.Tensor],
    numbers: Sequence[float],
    about: str,
    reduce: torch.dtype,
    keep: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    dq, dk, dv = (x.new_empty(x.shape) for x in (q, k, v))
    return dq, dk, dv


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    q, k, v, layout, sharding, tensors, *rest = inputs
    ctx.packed, ctx.rest = (layout, sharding), rest
    # The user may drop them before the backward pass.
    ctx.alive = LAYOUTS.find(layout), found(sharding)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(q, k, v, *output, *tensors)


def _backward(ctx: Any, grad_out: Any, grad_lse: Any, *_: Any) -> tuple[Any, ...]:
    q, k, v, out, lse, pool, guests, *tensors = ctx.saved_tensors
    grad_out = torch.zeros_like(out) if grad_out is None else grad_out
    grad_lse = torch.zeros_like(lse) if grad_lse is None else grad_lse
    numbers, about, reduce, keep = ctx.rest
    given = (grad_out, grad_lse, q, k, v, out, lse, pool, guests)
    grads = attention_backward(*given, *ctx.packed, tensors, numbers, about, reduce, keep)
    call = Call.unpack(tensors, numbers, about)
    of_tensors: list[torch.Tensor | None] = [None] * len(tensors)
    if call.sinks is not None and call.sinks.requires_grad:
        padded = None
        if call.padding is not None:
            padding = ctx.alive[1].shard(call.padding, 1, True)
            padded = padded_queries(replace(call, padding=padding), q.shape[2])
        of_sinks = gradient(grad_out, out, lse, call.sinks, padded)
        of_tensors = [of_sinks if each is call.sinks else None for each in tensors]
    return (*grads, None, None, of_tensors, None, None, None, None)


def _no_second_derivatives(ctx: Any, *grads: torch.Tensor) -> None:
    raise RuntimeError(
        "second derivatives over several processes are not computed: compute them in one process"
    )


def _unshard(x: torch.Tensor, dim: int, sharding: str) -> torch.Tensor:
    """The tensor of the whole sequence, of this rank's shard of it along a dimension."""
    its = found(sharding)
    mine = x.movedim(dim, 0).contiguous()
    shards = mine.new_empty((its.ranks * its.local_len, *mine.shape[1:]))
    dist.all_gather_into_tensor(shards, mine, group=_group(its))
    return its.in_order(shards).movedim(0, dim).contiguous()


def _unshard_fake(x: torch.Tensor, dim: int, sharding: str) -> torch.Tensor:
    return x.new_empty((*x.shape[:dim], found(sharding).seq_len, *x.shape[dim + 1 :]))


def _unshard_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    _, ctx.dim, key = inputs
    ctx.sharding = found(key)


def _unshard_backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    return ctx.sharding.shard(grad, ctx.dim), None, None


def _group(sharding: Sharding) -> dist.ProcessGroup:
    group: dist.ProcessGroup = dist.distributed_c10d._resolve_process_group(sharding.group)  # type: ignore[arg-type]
    return group


attention = define("context_attention", _attention, _attention_fake)
"""(out, lse, pool, guests) of a shard; it has gradients."""

attention_backward = define(
    "context_attention_backward", _attention_backward, _attention_backward_fake
)
"""(dq, dk, dv) of a shard."""

unshard = define("unshard", _unshard, _unshard_fake)
"""The whole of a shard; it has gradients."""

_register = torch.library.register_autograd
_register("bslang::context_attention", _backward, setup_context=_setup_context)
_register("bslang::context_attention_backward", _no_second_derivatives)
_register("bslang::unshard", _unshard_backward, setup_context=_unshard_context)
