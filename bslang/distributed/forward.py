"""Attention of one rank, forward: what it fetches, computes for others, and computes of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from bslang.call import Call
from bslang.distributed import pages
from bslang.distributed.plan import RankPlan, Tables
from bslang.distributed.transport import Pending, Publish, Several, Steps, Trade
from bslang.runtime.plan import DevicePlan
from bslang.runtime.target import Outputs, Target
from bslang.sinks import kept


@dataclass(frozen=True, eq=False)
class Rank:
    """A call on one rank. parts: the dtype in which parts that are added travel."""

    plan: RankPlan
    target: Target
    call: Call
    parts: torch.dtype

    def paged(self, q_pages: torch.Tensor, k_pages: torch.Tensor) -> Call:
        """The call of tensors with pages."""
        return replace(self.call, q_pages=q_pages, k_pages=k_pages)

    def queries(self, x: torch.Tensor) -> torch.Tensor:
        """A shard of queries as pages."""
        return pages.as_pages(x, self.plan.block_q)

    def keys(self, x: torch.Tensor) -> torch.Tensor:
        """A shard of keys as pages."""
        return pages.as_pages(x, self.plan.block_k)


def forward(
    rank: Rank, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
) -> Steps[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(out, lse, pool, guests) of a shard: out (batch, heads, length, value dim), lse (batch, heads, length),
    and the keys and queries of others that it took (`fetch`, `invite`).

    q, k, v: shards (batch, heads or key heads, length, dim or value dim).
    """
    plan, batch = rank.plan, q.shape[0]
    lse_of = torch.float64 if q.dtype == torch.float64 else torch.float32
    q, k, v = (
        pages.fitting(x, block)
        for x, block in ((q, plan.block_q), (k, plan.block_k), (v, plan.block_k))
    )
    out = q.new_zeros((*q.shape[:3], v.shape[3]))
    lse = q.new_full(q.shape[:3], -torch.inf, dtype=lse_of)
    into = rank.queries(out), rank.queries(lse)
    tables = plan.tables(batch)
    fetched = yield from fetch(rank, k, v)
    guests = yield from invite(rank, q)
    of_own = rank.paged(tables.q, tables.k)
    _attend(rank, plan.near, rank.queries(q), rank.keys(k), rank.keys(v), of_own, into)
    if plan.spread_rows:
        parts = yield from _spread(rank, guests.wait(), k, v, lse_of, tables)
    pool = fetched.wait()
    keys, values = of_pool(plan, pool, k.shape[3])
    _attend(rank, plan.far, rank.queries(q), keys, values, rank.paged(tables.q, tables.pool), into)
    if plan.spread_rows:
        yield from _home(rank, parts, out, lse)
    return out, lse, pool, guests.into


def _attend(
    rank: Rank,
    plan: DevicePlan | None,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    call: Call,
    into: Outputs,
) -> None:
    if plan is not None:
        rank.target.forward(q, k, v, plan, call, into)


# ---- keys of others ------------------------------------------------------------------------------


def fetch(rank: Rank, k: torch.Tensor, v: torch.Tensor) -> Steps[Pending]:
    """Begin to fill the pool of keys and values, (pages, block_k, dim + value dim)."""
    plan, batch = rank.plan, k.shape[0]
    block, dim = plan.block_k, k.shape[3] + v.shape[3]
    shared, own, count = plan.pool_pages(batch)
    pool = k.new_empty((count, block, dim))
    if plan.gathers:
        shard = torch.cat((k, v), 3).transpose(0, 1).contiguous()
        pending = yield Publish(shard, pool.view(-1, *shard.shape[1:]))
        return Several(pool, parts=[pending])
    waits = []
    if plan.fetches:
        x = k.new_empty((plan.sent.count, batch, block, dim))
        pages.items_of((k, v), plan.sent.head, plan.sent.place, block, x)
        items = pool[:shared].view(-1, batch, block, dim)
        waits.append((yield Trade(x, plan.send_counts, plan.receive_counts, items)))
    if plan.part.shared.size:
        slices = plan.shared_tokens(batch)
        x = k.new_empty((plan.shared.count, batch, block, dim))
        pages.items_of((k, v), plan.shared.head, plan.shared.place, block, x)
        room = pool[shared:].view(-1, dim)[: slices.room]
        waits.append((yield from slices.hand_out(x.view(-1, dim), room)))
    mine = pool[own : own + plan.needed.count * batch].view(-1, batch, block, dim)
    pages.items_of((k, v), plan.needed.head, plan.needed.place, block, mine)
    return Several(pool, parts=waits)


def of_pool(plan: RankPlan, pool: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The keys and the values of a pool, as pages that are the same for all heads."""
    k, v = pool[..., :dim], pool[..., dim:]
    return pages.of_all_heads(k, plan.key_heads), pages.of_all_heads(v, plan.key_heads)


# ---- spread rows ---------------------------------------------------------------------------------


def invite(rank: Rank, *shards: torch.Tensor) -> Steps[Pending]:
    """Begin to hand out spread rows of shards (batch, heads, length, dim), side by side: tokens of all ranks
    (tokens, sum of dims), of (rows, heads, batch, block_q) in row-major order."""
    plan = rank.plan
    dim = sum(x.shape[3] for x in shards)
    if not plan.spread_rows:
        return Pending(shards[0].new_empty((0, dim)))
    slices = plan.spread_tokens(shards[0].shape[0])
    own = [pages.tokens_of(x, plan.spread, plan.block_q) for x in shards]
    room = own[0].new_empty((slices.room, dim))
    return (yield from slices.hand_out(torch.cat(own, 1), room))


def as_guests(plan: RankPlan, tokens: torch.Tensor, batch: int) -> torch.Tensor:
    """Spread rows as pages (pages, heads, block_q, ...); tokens: (tokens, ...)."""
    count = plan.spread_rows * plan.heads * batch * plan.block_q
    return pages.tokens_as_pages(tokens[:count], plan.heads, batch, plan.block_q)


def _spread(
    rank: Rank,
    guests: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    lse_of: torch.dtype,
    tables: Tables,
) -> Steps[tuple[Pending, Pending]]:
    """Compute spread rows over own keys, and begin to collect the parts of this rank's slice."""
    plan, batch = rank.plan, k.shape[0]
    slices = plan.spread_tokens(batch)
    count = sum(slices.sizes)
    out = guests.new_zeros((count, v.shape[3]), dtype=rank.parts)
    lse = guests.new_full((count,), -torch.inf, dtype=lse_of)
    into = as_guests(plan, out, batch), as_guests(plan, lse, batch)
    call = replace(rank.paged(tables.guests, tables.k), sinks=None)
    queries = as_guests(plan, guests, batch)
    _attend(rank, plan.guests, queries, rank.keys(k), rank.keys(v), call, into)
    of_out = yield from slices.collect(out)
    of_lse = yield from slices.collect(lse)
    return of_out, of_lse


def _home(
    rank: Rank, parts: tuple[Pending, Pending], out: torch.Tensor, lse: torch.Tensor
) -> Steps[None]:
    """Merge the parts of this rank's slice, and write what becomes of its own spread rows."""
    plan = rank.plan
    slices = plan.spread_tokens(out.shape[0])
    of_out, of_lse = (slices.by_rank(each.wait()) for each in parts)
    whole, its = pages.merged(of_out, of_lse)
    if rank.call.sinks is not None:
        first = sum(slices.sizes[: plan.rank])
        token = torch.arange(first, first + its.shape[0], device=its.device, dtype=torch.int64)
        head = token // (out.shape[0] * plan.block_q) % plan.heads
        whole = whole * kept(its[:, None], rank.call.sinks[head])
    rows = yield from slices.home(whole.to(out.dtype))
    of_rows = yield from slices.home(its)
    pages.put_tokens(out, plan.spread, plan.block_q, rows.wait())
    pages.put_tokens(lse, plan.spread, plan.block_q, of_rows.wait())
