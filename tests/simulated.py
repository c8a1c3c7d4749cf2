"""Ranks of context parallelism in one process: what they ask for is carried out among their tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch

from bslang.distributed.transport import Pending, Publish, Request, Steps, Trade

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
