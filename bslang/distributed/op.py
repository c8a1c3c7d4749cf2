"""The torch operators of context parallelism: attention of a shard, forward and backward, with fakes.

They take a layout and a sharding by their keys, and a call of the whole sequence as `Call.pack` packs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from bslang.call import Call
from bslang.distributed.agree import agree, statement
from bslang.distributed.backward import Given
from bslang.distributed.job import Job, of_shard, parts_dtype, plan_of
from bslang.distributed.sharding import found
from bslang.distributed.transport import carry_out, resolved
from bslang.runtime.op import define, lse_dtype, refuse_vmap
from bslang.runtime.padding import padded_queries
from bslang.runtime.registry import LAYOUTS
from bslang.sinks import gradient


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
    keep: bool | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(out, lse, pool, guests) as `bslang.distributed.forward`; the last two empty unless they are kept."""
    call = Call.unpack(tensors, numbers, about)
    job = Job.of(q, k, v, layout, sharding, call, reduce)
    group = resolved(job.sharding.group)
    text = _statement(job, q, k, v, layout, numbers, about, keep)
    agree(job.sharding._agreed, text, group, q.device)
    if q.shape[0] == 0:  # no sequence
        return _attention_fake(q, k, v, layout, sharding, tensors, numbers, about, reduce, keep)
    with torch.autocast(q.device.type, enabled=False):
        out, lse, *taken = carry_out(job.forward(q, k, v), group)
    pool, guests = taken if job.keeps(keep) else (x.new_empty((0,)) for x in taken)
    return out, lse, pool, guests


def _statement(
    job: Job,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layout: str,
    numbers: Sequence[float],
    about: str,
    keep: bool | None,
) -> str:
    """What all ranks must have in common for this call."""
    return statement(
        {
            "the layout": layout,
            "the target": job.rank.target.name,
            "the length": job.sharding.seq_len,
            "the placement": job.sharding.digest,
            "batch, query heads and key heads": (q.shape[0], q.shape[1], k.shape[1]),
            "the head dimensions": (q.shape[3], v.shape[3]),
            "the dtype": q.dtype,
            "reduce_dtype": job.rank.parts,
            "keep": keep,
            "the options": f"{about}, {list(numbers)}",
            "the exchange": job.plan.moved,
        }
    )


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
    keep: bool | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    out = q.new_empty((*q.shape[:3], v.shape[3]))
    lse = q.new_empty(q.shape[:3], dtype=lse_dtype(q.dtype))
    # A plan of the device `meta`: none of its tensors has data, and no other call may find them.
    plan = plan_of(found(sharding), LAYOUTS.find(layout), q, k, v, parts_dtype(q, reduce))
    if not (plan.keeps if keep is None else keep):
        return out, lse, q.new_empty((0,)), q.new_empty((0,))
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
    keep: bool | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(dq, dk, dv) of a shard."""
    job = Job.of(q, k, v, layout, sharding, Call.unpack(tensors, numbers, about), reduce)
    if q.shape[0] == 0:
        return torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    taken = (pool, guests) if job.keeps(keep) else (None, None)
    with torch.autocast(q.device.type, enabled=False):
        steps = job.backward(Given(grad_out, grad_lse, q, k, v, out, lse), *taken)
        return carry_out(steps, resolved(job.sharding.group))


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
    keep: bool | None,
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
        padded = padded_queries(of_shard(call, ctx.alive[1]), q.shape[2])
        of_sinks = gradient(grad_out, out, lse, call.sinks, padded)
        of_tensors = [of_sinks if each is call.sinks else None for each in tensors]
    return (*grads, None, None, of_tensors, None, None, None, None)


def _no_second_derivatives(ctx: Any, *grads: torch.Tensor) -> None:
    raise RuntimeError(
        "second derivatives over several processes are not computed: compute them in one process"
    )


attention = define("context_attention", _attention, _attention_fake)
"""(out, lse, pool, guests) of a shard; it has gradients."""

attention_backward = define(
    "context_attention_backward", _attention_backward, _attention_backward_fake
)
"""(dq, dk, dv) of a shard."""


for _name in ("context_attention", "context_attention_backward"):
    refuse_vmap(_name, "a sequence on several ranks")

_register = torch.library.register_autograd
_register("bslang::context_attention", _backward, setup_context=_setup_context)
_register("bslang::context_attention_backward", _no_second_derivatives)
