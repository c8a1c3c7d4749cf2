"""Ranks of context parallelism in one process: what they ask for is carried out among their tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeVar

import numpy as np
import torch

import bslang
from bslang.call import Call
from bslang.distributed import Sharding
from bslang.distributed.backward import Given
from bslang.distributed.job import Job
from bslang.distributed.transport import Pending, Publish, Request, Steps, Trade
from bslang.placement.exchange import Exchange
from bslang.placement.placement import Placement
from bslang.placement.traffic import Sizes

T = TypeVar("T")


class Later(Pending):
    """A tensor that is NaN until it is waited for."""

    def __init__(self, into: torch.Tensor, there: torch.Tensor) -> None:
        super().__init__(into)
        self.there = there.clone()
        into.fill_(torch.nan)

    def wait(self) -> torch.Tensor:
        self.into.copy_(self.there.view(self.into.shape))
        return self.into


def among(requests: Sequence[Request]) -> list[Later]:
    """What each rank gets."""
    first = requests[0]
    assert all(type(request) is type(first) for request in requests), "ranks ask for other things"
    for request in requests:
        assert request.x.is_contiguous() and request.into.is_contiguous()
    if isinstance(first, Publish):
        whole = torch.cat([request.x for request in requests])
        return [Later(request.into, whole) for request in requests]
    trades = [request for request in requests if isinstance(request, Trade)]
    parts = [trade.x.split(list(trade.send)) for trade in trades]
    found = []
    for rank, trade in enumerate(trades):
        assert [each[rank].shape[0] for each in parts] == list(trade.receive)
        assert trade.into.shape[0] == sum(trade.receive)
        there = torch.cat([each[rank] for each in parts])
        assert there.shape[1:] == trade.into.shape[1:] and there.dtype == trade.into.dtype
        found.append(Later(trade.into, there))
    return found


def together(steps: Sequence[Steps[T]], sent: list[int] | None = None) -> list[T]:
    """The results of all ranks; sent: the bytes that each sends are added there."""
    answers: Sequence[Any] = [None] * len(steps)
    while True:
        requests, results = [], []
        for each, answer in zip(steps, answers, strict=True):
            try:
                requests.append(each.send(answer))
            except StopIteration as stop:
                results.append(stop.value)
        if results:
            assert not requests, "some ranks have finished, and others ask for more"
            return results
        for rank, request in enumerate(requests):
            if sent is not None:
                sent[rank] += request.sent(rank)
        answers = among(requests)


# ---- a call ------------------------------------------------------------------------------------------


class Placed(Sharding):
    """A rank of a placement whose exchange a test chooses."""

    chosen: Callable[[Exchange], Exchange] | None = None

    def _exchange(self, layout: Any, heads: int, *given: Any) -> Exchange:
        exchange = super()._exchange(layout, heads, *given)
        return exchange if self.chosen is None else self.chosen(exchange)


@dataclass(frozen=True)
class World:
    """Simulated ranks that hold a sequence. kind: of the exchange; spread: block rows; None for what
    `planned` chooses. labels: of the batch that the sharding is for."""

    placement: Placement
    kind: Literal["exchange", "gather"] | None = None
    spread: tuple[int, ...] = ()
    labels: Any = None

    @cached_property
    def shardings(self) -> list[Placed]:
        ranks = range(self.placement.ranks)
        made = [Placed(self.placement, rank, "", self.labels) for rank in ranks]
        if self.kind is not None:
            for each in made:
                object.__setattr__(each, "chosen", self._exchange)
        return made

    def _exchange(self, plain: Exchange) -> Exchange:
        assert self.kind is not None
        rows = np.array([] if self.kind == "gather" else self.spread, dtype=np.int64)
        rows = rows[np.argsort(plain.row_owner[rows], kind="stable")]
        return replace(plain, kind=self.kind, spread=rows)

    def shards(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [each.shard(x, 2) for each in self.shardings]

    def whole(self, shards: Sequence[torch.Tensor], empty: float = 0) -> torch.Tensor:
        """(batch, heads, length, ...); places without a token are empty."""
        for each, x in zip(self.shardings, shards, strict=True):
            assert (x[:, :, ~each.valid] == empty).all()
        joined = torch.cat([x.transpose(0, 2) for x in shards])
        return self.shardings[0].in_order(joined).transpose(0, 2)

    def attended(
        self,
        layout: bslang.Layout,
        given: Sequence[torch.Tensor],
        *,
        keep: bool = True,
        reduce: torch.dtype = torch.float32,
        **options: Any,
    ) -> World.Attended:
        """What `one` gives, and what moved. given: q, k, v and the gradients of out and lse."""
        q, k, v, grad_out, grad_lse = (self.shards(x) for x in given)
        call = call_of(layout, given, options)
        jobs = [
            Job.of(q[0], k[0], v[0], layout._key, each.key, call, reduce) for each in self.shardings
        ]
        sent = [[0] * len(jobs) for _ in range(2)]
        tensors = list(zip(jobs, q, k, v, strict=True))
        found = together([job.forward(*shards) for job, *shards in tensors], sent[0])
        steps = []
        for rank, (job, *shards) in enumerate(tensors):
            out, lse, *taken = found[rank]
            of = Given(grad_out[rank], grad_lse[rank], *shards, out, lse)
            steps.append(job.backward(of, *(taken if keep else (None, None))))
        grads = together(steps, sent[1])
        parts = zip(*([*one[:2], *two] for one, two in zip(found, grads, strict=True)), strict=True)
        nothing = (0, -torch.inf, 0, 0, 0)
        results = [self.whole(*each) for each in zip(parts, nothing, strict=True)]
        return World.Attended(results, jobs, sent)

    @dataclass(frozen=True)
    class Attended:
        """results: out, lse, dq, dk, dv; sent: the bytes of each rank, forward and backward."""

        results: list[torch.Tensor]
        jobs: list[Job]
        sent: list[list[int]]

        @property
        def exchange(self) -> Exchange:
            return self.jobs[0].plan.exchange

        def kept(self) -> torch.Tensor:
            """bool (length,): queries that one rank computes with all their keys."""
            exchange = self.exchange
            row = torch.arange(exchange.placement.length) // exchange.block_q
            return torch.from_numpy(~exchange.is_spread)[row]

        def bytes_are_planned(self, q: torch.Tensor, v: torch.Tensor, keep: bool) -> None:
            sizes = Sizes(
                q.shape[3],
                v.shape[3],
                q.shape[0],
                q.element_size(),
                self.jobs[0].rank.parts.itemsize,
            )
            for rank, job in enumerate(self.jobs):
                passes = job.plan.part.traffic(sizes, keep)
                assert [int(each.total.sent) for each in passes] == [s[rank] for s in self.sent]


def call_of(layout: bslang.Layout, given: Sequence[torch.Tensor], options: Any) -> Call:
    return Call.of(given[0], given[1], layout.inputs, **options)


def one(layout: bslang.Layout, given: Sequence[torch.Tensor], **options: Any) -> list[torch.Tensor]:
    """out, lse, dq, dk, dv of one process."""
    leaves = [x.detach().clone().requires_grad_() for x in given[:3]]
    out, lse = layout(*leaves, return_lse=True, **options)
    torch.autograd.backward((out, lse), given[3:])
    return [out.detach(), lse.detach(), *(leaf.grad for leaf in leaves)]  # type: ignore[list-item]


def tensors(
    length: int,
    heads: tuple[int, int] = (4, 2),
    dims: tuple[int, int] = (8, 8),
    batch: int = 1,
    dtype: torch.dtype = torch.float64,
) -> list[torch.Tensor]:
    """q, k, v and the gradients of out and lse."""
    random = torch.Generator().manual_seed(length)
    shapes = [(heads[0], dims[0]), (heads[1], dims[0]), (heads[1], dims[1]), (heads[0], dims[1])]
    made = [torch.randn(batch, h, length, d, generator=random).to(dtype) for h, d in shapes]
    of_lse = torch.float64 if dtype == torch.float64 else torch.float32
    return [*made, torch.randn(batch, heads[0], length, generator=random).to(of_lse)]
