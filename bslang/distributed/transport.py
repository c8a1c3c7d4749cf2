"""What ranks send one another: an algorithm asks for it, and torch.distributed, or a test, carries it out.

An algorithm is a generator: it yields requests, and gets for each a `Pending`, whose `wait` gives the tensor.
It knows of no process group, so that tests run those of many ranks in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")

# torch 2.13 has the first name, and warns of the second.
all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
"""Tensors of one shape, of all ranks, one after another: all_gather(into, x, group=, async_op=)."""


@dataclass(eq=False)
class Pending:
    """A tensor that is on its way. keeps: what is read until then."""

    into: torch.Tensor
    work: dist.Work | None = None
    keeps: torch.Tensor | None = None

    def wait(self) -> torch.Tensor:
        """It, once it is there."""
        if self.work is not None:
            self.work.wait()
        self.work = self.keeps = None
        return self.into


@dataclass(eq=False)
class Several(Pending):
    """A tensor whose parts are on their way."""

    parts: Sequence[Pending] = ()

    def wait(self) -> torch.Tensor:
        """It, once all are there."""
        for part in self.parts:
            part.wait()
        self.parts = ()
        return self.into


@dataclass(frozen=True, eq=False)
class Trade:
    """Some items to each rank, some from each: all_to_all_single.

    x: contiguous (items, ...), those for rank 0, for rank 1, and so on; send: how many for each; receive:
    how many come from each; into: contiguous (items, ...), where these are put, in the order of ranks.
    """

    x: torch.Tensor
    send: Sequence[int]
    receive: Sequence[int]
    into: torch.Tensor

    def start(self, group: dist.ProcessGroup) -> Pending:
        """Begin, over a process group."""
        work = dist.all_to_all_single(
            self.into, self.x, list(self.receive), list(self.send), group=group, async_op=True
        )
        return Pending(self.into, work, self.x)

    def sent(self, rank: int) -> int:
        """Bytes that a rank sends to others."""
        items = sum(self.send) - self.send[rank]
        return items * _bytes(self.x)


@dataclass(frozen=True, eq=False)
class Publish:
    """As many items of each rank to all: all_gather_into_tensor.

    x: contiguous (items, ...), this rank's; into: contiguous (ranks * items, ...), those of all, in order.
    """

    x: torch.Tensor
    into: torch.Tensor

    def start(self, group: dist.ProcessGroup) -> Pending:
        """Begin, over a process group."""
        work = all_gather(self.into, self.x, group=group, async_op=True)
        return Pending(self.into, work, self.x)

    def sent(self, rank: int) -> int:
        """Bytes that a rank sends to others, or passes on."""
        return (self.into.shape[0] - self.x.shape[0]) * _bytes(self.x)


Request: TypeAlias = Trade | Publish
Steps: TypeAlias = Generator[Request, Pending, T]
"""An algorithm of one rank, and what it gives in the end."""

HEARS: list[Callable[[Request], None]] = []
"""Called with each request before it is carried out: tests count bytes."""


def carry_out(steps: Steps[T], group: dist.ProcessGroup) -> T:
    """The result of an algorithm, over a process group."""
    try:
        request = next(steps)
        while True:
            for hear in HEARS:
                hear(request)
            request = steps.send(request.start(group))
    except StopIteration as stop:
        result: T = stop.value
        return result


def resolved(group: str) -> dist.ProcessGroup:
    """The process group of a name. Raises torch's error if there is no such group."""
    found: dist.ProcessGroup = dist.distributed_c10d._resolve_process_group(group)  # type: ignore[arg-type,attr-defined]  # its names are strings
    return found


def _bytes(x: torch.Tensor) -> int:
    """Of one item."""
    size = x.element_size()
    for length in x.shape[1:]:
        size *= length
    return size
