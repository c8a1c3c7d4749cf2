"""Attention of one rank, backward: gradients of what it fetched go back, those of its own come in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch

from bslang.call import Call
from bslang.distributed import pages
from bslang.distributed.forward import Rank, as_guests, fetch, invite, of_pool
from bslang.distributed.transport import Pending, Steps, Trade
from bslang.runtime.plan import DevicePlan
from bslang.runtime.target import SomeGradients

Pair: TypeAlias = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Given:
    """What a backward pass takes: of queries (batch, heads, length, ...), of keys (batch, key heads, length,
    ...), or pages of these. lse: with the sinks."""

    grad_out: torch.Tensor
    grad_lse: torch.Tensor
    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    out: torch.Tensor
    lse: torch.Tensor


def backward(
    rank: Rank, given: Given, pool: torch.Tensor | None, guests: torch.Tensor | None
) -> Steps[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(dq, dk, dv) of a shard. pool, guests: as `forward` gave them; None if they are to be taken again."""
    plan, batch = rank.plan, given.q.shape[0]
    given = _fitting(rank, given)
    q, k, v = given.q, given.k, given.v
    taking = (
        Pending(pool) if pool is not None else (yield from fetch(rank, k, v)),
        Pending(guests) if guests is not None else (yield from invite(rank, q)),
    )
    rows = yield from _invite_gradients(rank, given)
    tables, dims = plan.tables(batch), (k.shape[3], v.shape[3])

    # Gradients of keys that others hold come first, for these to travel while the rest is computed.
    pool = taking[0].wait()
    of_far = _paged(rank, given, of_pool(plan, pool, dims[0]))
    foreign = pool.new_zeros(pool.shape, dtype=rank.parts)
    to_far = rank.paged(tables.q, tables.pool)
    _gradients(rank, plan.far, of_far, to_far, (None, *of_pool(plan, foreign, dims[0])))
    returned = yield from _return(rank, foreign, batch, dims)

    dq = torch.zeros_like(q, memory_format=torch.contiguous_format)
    to_dq = rank.queries(dq), None, None
    of_own, to_own = _paged(rank, given), rank.paged(tables.q, tables.k)
    _gradients(rank, plan.near, of_own, to_own, to_dq)
    _gradients(rank, plan.far, of_far, to_far, to_dq)

    exact = torch.float64 if q.dtype == torch.float64 else torch.float32
    alone = plan.ranks == 1
    dk, dv = (x.new_zeros(x.shape, dtype=x.dtype if alone else exact) for x in (k, v))
    _gradients(rank, plan.own, of_own, to_own, (None, rank.keys(dk), rank.keys(dv)))
    if plan.spread_rows:
        parts = yield from _spread(rank, given, taking[1].wait(), *rows, (dk, dv))
    _add(rank, returned, (dk, dv))
    if plan.part.shared.size:
        yield from _share(rank, foreign, (dk, dv), k.dtype)
    if plan.spread_rows:
        yield from _home(rank, parts, dq)
    return dq, dk.to(k.dtype), dv.to(v.dtype)


def _fitting(rank: Rank, given: Given) -> Given:
    """The same, whose blocks are pages as they lie."""
    plan = rank.plan
    of_queries = {
        name: pages.fitting(getattr(given, name), plan.block_q)
        for name in ("grad_out", "grad_lse", "q", "out", "lse")
    }
    of_keys = {name: pages.fitting(getattr(given, name), plan.block_k) for name in ("k", "v")}
    return Given(**of_queries, **of_keys)


def _paged(rank: Rank, given: Given, keys: Pair | None = None) -> Given:
    """Pages of a shard's queries, and of its keys or of others."""
    k, v = keys or (rank.keys(given.k), rank.keys(given.v))
    q = rank.queries
    return Given(q(given.grad_out), q(given.grad_lse), q(given.q), k, v, q(given.out), q(given.lse))


def _gradients(
    rank: Rank, plan: DevicePlan | None, given: Given, call: Call, into: SomeGradients
) -> None:
    """Have kernels write gradients, by the tables of a plan."""
    if plan is not None:
        g = given
        rank.target.backward(g.grad_out, g.grad_lse, g.q, g.k, g.v, g.out, g.lse, plan, call, into)


# ---- keys ----------------------------------------------------------------------------------------


def _return(
    rank: Rank, foreign: torch.Tensor, batch: int, dims: tuple[int, int]
) -> Steps[Pending | None]:
    """Begin to send the gradients of fetched blocks back. Those of own blocks come, in the order of ranks."""
    plan, dim = rank.plan, sum(dims)
    if plan.gathers:
        shard = (plan.key_heads, batch, plan.length, dim)
        x = foreign.view(plan.ranks, *shard)
        return (yield Trade(x, [1] * plan.ranks, [1] * plan.ranks, torch.empty_like(x)))
    if not plan.fetches:
        return None
    x = foreign[: plan.fetched * batch].view(-1, batch, plan.block_k, dim)
    into = x.new_empty((plan.sent.count, *x.shape[1:]))
    return (yield Trade(x, plan.receive_counts, plan.send_counts, into))


def _add(rank: Rank, returned: Pending | None, to: Pair) -> None:
    """Add what came back to the gradients of keys and of values, rank by rank."""
    if returned is None:
        return
    plan, parts = rank.plan, returned.wait()
    dims = [x.shape[3] for x in to]
    if plan.gathers:
        for part in parts:
            for x, its in zip(to, part.transpose(0, 1).split_with_sizes(dims, -1), strict=True):
                x += its
        return
    for where, part in zip(plan.sends, parts.split_with_sizes(plan.send_counts), strict=True):
        for x, its in zip(to, part.split_with_sizes(dims, -1), strict=True):
            pages.add_items(x, where.head, where.place, plan.block_k, its)


def _share(rank: Rank, foreign: torch.Tensor, to: Pair, dtype: torch.dtype) -> Steps[None]:
    """Sum the gradients of shared blocks, of which each rank has a part; dtype: of the sums."""
    plan, batch, dims = rank.plan, to[0].shape[0], [x.shape[3] for x in to]
    slices, block = plan.shared_tokens(batch), plan.block_k
    start = plan.pool_pages(batch)[0]
    count = plan.part.shared.size
    parts = foreign[start : start + count * batch].view(count, batch, block, sum(dims))
    mine = parts[plan.shared_from : plan.shared_from + plan.shared.count]
    pages.items_of(to, plan.shared.head, plan.shared.place, block, mine)
    collected = yield from slices.collect(parts.view(-1, sum(dims)))
    total = pages.added(slices.by_rank(collected.wait()), to[0].dtype).to(dtype)
    home = yield from slices.home(total)
    items = home.wait().view(-1, batch, block, sum(dims))
    for x, its in zip(to, items.split_with_sizes(dims, -1), strict=True):
        pages.put_items(x, plan.shared.head, plan.shared.place, block, its)


# ---- spread rows ---------------------------------------------------------------------------------


def _invite_gradients(rank: Rank, given: Given) -> Steps[tuple[Pending, Pending]]:
    """Begin to hand out of spread rows the gradients of their results, and beside their log-sum-exps those
    of outputs of 0 that amount to the same: the gradient less the sum of out times its gradient."""
    exact = given.lse.dtype
    delta = (given.out.to(exact) * given.grad_out.to(exact)).sum(-1)
    two = torch.stack((given.lse, given.grad_lse - delta), -1)
    of_out = yield from invite(rank, given.grad_out)
    return of_out, (yield from invite(rank, two))


def _spread(
    rank: Rank, given: Given, guests: torch.Tensor, of_out: Pending, two: Pending, to: Pair
) -> Steps[Pending]:
    """Gradients of spread rows over own keys: added to those of the keys; and begin to collect the parts of
    dQ of this rank's slice."""
    plan, batch = rank.plan, given.q.shape[0]
    slices = plan.spread_tokens(batch)
    lse, grad_lse = (as_guests(plan, x, batch) for x in two.wait().T.contiguous())
    grad_out = as_guests(plan, of_out.wait(), batch)
    out = grad_out.new_zeros(grad_out.shape[3]).expand(grad_out.shape)
    keys = rank.keys(given.k), rank.keys(given.v)
    rows = Given(grad_out, grad_lse, as_guests(plan, guests, batch), *keys, out, lse)
    dq = guests.new_zeros((sum(slices.sizes), guests.shape[1]), dtype=rank.parts)
    dk, dv = (torch.zeros_like(x) for x in to)
    into = as_guests(plan, dq, batch), rank.keys(dk), rank.keys(dv)
    tables = plan.tables(batch)
    _gradients(rank, plan.guests, rows, rank.paged(tables.guests, tables.k), into)
    for x, its in zip(to, (dk, dv), strict=True):
        x += its
    return (yield from slices.collect(dq))


def _home(rank: Rank, parts: Pending, dq: torch.Tensor) -> Steps[None]:
    """Add the parts of dQ of this rank's slice, and write the sums of its own spread rows."""
    plan = rank.plan
    slices = plan.spread_tokens(dq.shape[0])
    exact = torch.float64 if dq.dtype == torch.float64 else torch.float32
    total = pages.added(slices.by_rank(parts.wait()), exact)
    home = yield from slices.home(total.to(dq.dtype))
    pages.put_tokens(dq, plan.spread, plan.block_q, home.wait())
