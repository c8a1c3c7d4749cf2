"""Shared memory: what is written, by whom, who reads it until when; and barriers in it.

An access is right if what its partition has waited for puts everything that it depends on before it.
A missing wait is found so even where chance did no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import triton.language as tl

from pipeline.clocks import Clock, Stamp, join
from pipeline.machine import Machine, Partition, place
from pipeline.values import TORCH, Fault, Value, sizes, value


@dataclass
class Write:
    """What filled a part of shared memory."""

    by: str
    stamp: Stamp
    visible: Stamp | None
    """Since when copies and products see it; what a partition stores, they see after its fence."""
    must_read: bool = False
    read: bool = False


@dataclass
class Read:
    """A read; `stamp` is when it ended, None before it has."""

    by: str
    places: Places
    stamp: Stamp | None = None


@dataclass
class Allocation:
    machine: Machine
    name: str
    data: torch.Tensor
    owners: torch.Tensor
    """The number of the write of each element, -1 where nothing was written."""
    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    barriers: dict[int, Barrier] = field(default_factory=dict)


def allocate(machine: Machine, dtype: tl.dtype, shape: Sequence[int], layout: Any) -> View:
    kind = TORCH[dtype]
    data = torch.empty(tuple(shape), dtype=kind)
    poison(data)
    owners = torch.full((data.numel(),), -1)
    allocation = Allocation(machine, f"the memory of {place()}", data, owners)
    machine.ends.append(lambda: ended(allocation))
    return View(allocation, data, torch.arange(data.numel()).view(data.shape), layout)


def poison(data: torch.Tensor) -> None:
    """What is read where nothing was written, or only a part."""
    data.fill_(torch.nan if data.is_floating_point() else torch.iinfo(data.dtype).min)


def ended(allocation: Allocation) -> None:
    for write in allocation.writes:
        if not write.stamp.before(allocation.machine.main.clock):
            raise Fault(f"{allocation.name}: {write.by} is never waited for")
    for barrier in allocation.barriers.values():
        if barrier.pending != barrier.count or barrier.bytes:
            raise Fault(f"{barrier.name} is left in use: {barrier.state()}")


class Places:
    """The places of a view in its allocation; most are one piece, in which nothing has to be looked up."""

    def __init__(self, places: torch.Tensor) -> None:
        self.tensor = places
        self.first = places.storage_offset()
        reach = zip(places.shape, places.stride(), strict=True)
        self.last = self.first + sum((size - 1) * stride for size, stride in reach)
        self.one = self.last - self.first + 1 == places.numel()

    def meet(self, other: Places) -> bool:
        if self.last < other.first or other.last < self.first:
            return False
        return (self.one and other.one) or bool(torch.isin(self.tensor, other.tensor).any())

    def cover(self, other: Places) -> bool:
        if self.first > other.first or self.last < other.last:
            return False
        return self.one or bool(torch.isin(other.tensor, self.tensor).all())

    def owners(self, owners: torch.Tensor) -> list[int]:
        """The numbers of the writes there."""
        found = owners[self.first : self.last + 1] if self.one else owners[self.tensor]
        least, most = found.min(), found.max()
        return [int(most)] if least == most else found.unique().tolist()

    def own(self, owners: torch.Tensor, number: int) -> None:
        if self.one:
            owners[self.first : self.last + 1] = number
        else:
            owners[self.tensor] = number


class View:
    """A part of an allocation (`shared_memory_descriptor`)."""

    def __init__(
        self, allocation: Allocation, data: torch.Tensor, places: torch.Tensor, layout: Any
    ) -> None:
        self.allocation, self.data, self.places, self.layout = allocation, data, places, layout
        self.machine = allocation.machine

    @property
    def dtype(self) -> tl.dtype:
        return Value(self.data).dtype

    @property
    def shape(self) -> list[int]:
        return list(self.data.shape)

    @property
    def rank(self) -> int:
        return self.data.dim()

    @property
    def numel(self) -> int:
        return self.data.numel()

    @property
    def nbytes_per_cta(self) -> int:
        return self.numel * self.data.element_size()

    def _viewed(self, data: torch.Tensor, places: torch.Tensor) -> View:
        return View(self.allocation, data, places, self.layout)

    def index(self, index: Any) -> View:
        at = int(value(index))
        if not 0 <= at < self.shape[0]:
            raise self.machine.fail(f"buffer {at} of {self.shape[0]}")
        return self._viewed(self.data[at], self.places[at])

    def slice(self, start: Any, length: Any, dim: Any = 0) -> View:
        begin, size = int(value(start)), int(length)
        if not 0 <= begin <= begin + size <= self.shape[dim]:
            raise self.machine.fail(f"rows {begin} to {begin + size} of {self.shape[dim]}")
        return self._viewed(
            self.data.narrow(dim, begin, size), self.places.narrow(dim, begin, size)
        )

    def permute(self, order: Sequence[int]) -> View:
        return self._viewed(self.data.permute(*order), self.places.permute(*order))

    def reshape(self, shape: Sequence[int]) -> View:
        return self._viewed(self.data.view(sizes([shape])), self.places.view(sizes([shape])))

    def load(self, layout: Any = None) -> Value:
        self.machine.step()
        read = self.begin_read(by_threads=True)
        self.end_read(read)
        return Value(self.data.clone())

    def store(self, stored: Any) -> None:
        self.machine.step()
        data = value(stored).data
        if list(data.shape) != self.shape or data.dtype != self.data.dtype:
            raise self.machine.fail(f"{data.dtype} {list(data.shape)} stored in {self.shape}")
        partition = self.machine.current
        write = Write(partition.name, partition.now(), None)
        self.begin_write(write)
        partition.unfenced.append(write)
        self.data.copy_(data)

    # ---- who may -------------------------------------------------------------------------

    def begin_read(self, by_threads: bool) -> Read:
        """A read by the current partition: by its threads, or by products and copies that it begins."""
        machine, allocation = self.machine, self.allocation
        places = Places(self.places)
        for number in places.owners(allocation.owners):
            if number < 0:
                raise machine.fail("shared memory is read that was never written")
            write = allocation.writes[number]
            if not write.stamp.before(machine.current.clock):
                raise machine.fail(f"what {write.by} writes is read without waiting for it")
            fenced = write.visible is not None and write.visible.before(machine.current.clock)
            if not by_threads and not fenced:
                raise machine.fail(f"what {write.by} stored is read before its fence")
            write.read = True
        read = Read(f"{machine.current.name} ({place()})", places)
        allocation.reads.append(read)
        return read

    def end_read(self, read: Read) -> None:
        read.stamp = self.machine.current.now()

    def begin_write(self, write: Write) -> None:
        machine, allocation = self.machine, self.allocation
        clock, places = machine.current.clock, Places(self.places)
        for read in allocation.reads:
            if read.stamp is not None and read.stamp.before(clock):
                continue
            if places.meet(read.places):
                raise machine.fail(f"a buffer is overwritten that {read.by} may still read")
        before = places.owners(allocation.owners)
        for old in [allocation.writes[number] for number in before if number >= 0]:
            if not old.stamp.before(clock):
                raise machine.fail(f"a buffer is overwritten that {old.by} still writes")
            if old.must_read and not old.read:
                raise machine.fail("a buffer is overwritten before it was read")
        places.own(allocation.owners, len(allocation.writes))
        allocation.writes.append(write)
        allocation.reads = [each for each in allocation.reads if not places.cover(each.places)]

    # ---- barriers ------------------------------------------------------------------------

    def barrier(self) -> Barrier:
        if self.numel != 1 or int(self.places) not in self.allocation.barriers:
            raise self.machine.fail("a barrier is used that was not initialised")
        return self.allocation.barriers[int(self.places)]

    def make_barrier(self, count: int, site: Any = None) -> None:
        if self.numel != 1:
            raise self.machine.fail(f"a barrier is made of {self.shape}")
        if int(self.places) in self.allocation.barriers:
            raise self.machine.fail("a barrier is initialised twice")
        name = f"barrier {int(self.places)} of {self.allocation.name}"
        made = Barrier(self.machine, name, count, site)
        self.allocation.barriers[int(self.places)] = made
        self.machine.current.unfenced.append(made)


class Barrier:
    """An mbarrier: a phase ends when all have arrived and all bytes that were announced have come."""

    def __init__(self, machine: Machine, name: str, count: int, site: Any) -> None:
        self.machine, self.name, self.site = machine, name, site
        self.count = self.pending = count
        self.visible: Stamp | None = None
        """Since when copies see that it was initialised."""
        self.bytes = self.phase = 0
        self.clock: Clock = {}
        """What happened before the end of the last phase that has ended."""
        self.gathered: Clock = {}
        self.sites: set[Any] = set()
        self.ended_by: set[Any] = set()

    def state(self) -> str:
        return f"phase {self.phase}, {self.pending} of {self.count} to arrive, {self.bytes} bytes to come"

    def arrive(self, count: int, clock: Clock, site: Any = None) -> None:
        if count > self.pending:
            raise self.machine.fail(f"{count} more arrive at {self.name} than it counts")
        self.pending -= count
        self.sites.add(site)
        join(self.gathered, clock)
        self._end_phase()

    def transfer(self, size: int, clock: Clock) -> None:
        """Bytes have come."""
        self.bytes -= size
        join(self.gathered, clock)
        self._end_phase()

    def _end_phase(self) -> None:
        if self.pending == 0 and self.bytes == 0:
            self.phase += 1
            self.pending = self.count
            join(self.clock, self.gathered)
            self.ended_by, self.sites = self.sites, set()

    def waited(self, partition: Partition) -> set[Any]:
        """A wait of a partition has ended; the sites of the arrivals that ended the phase."""
        join(partition.clock, self.clock)
        return self.ended_by

    def ended(self, parity: int) -> bool:
        """Whether the phase of this parity has ended: that before the one in progress."""
        return self.phase % 2 != parity
