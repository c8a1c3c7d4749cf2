"""What runs beside the threads of a partition: copies by descriptors, and products of warpgroups."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from types import SimpleNamespace
from typing import Any, NoReturn

import torch

from pipeline.machine import Copy, Machine, place
from pipeline.shared import View, Write, poison
from pipeline.values import BINARY, COMPARED, TRITON, Memory, Value, value


class Descriptor:
    """A tensor in global memory that is read and written in boxes; beyond its ends are zeros."""

    def __init__(
        self,
        memory: Memory,
        offset: int,
        shape: Sequence[Any],
        strides: Sequence[Any],
        block: Sequence[int],
        layout: Any,
    ) -> None:
        self.memory, self.offset, self.layout = memory, offset, layout
        self.shape = [int(value(size)) for size in shape]
        self.strides = [int(value(stride)) for stride in strides]
        self.block_shape = [int(size) for size in block]
        self.dtype = TRITON[memory.flat.dtype]
        items = list(accumulate(self.block_shape, lambda a, b: a * b))[-1]
        self.nbytes_per_cta = items * memory.flat.element_size()
        self.block_type = SimpleNamespace(
            nbytes=self.nbytes_per_cta, shape=self.block_shape, element_ty=self.dtype
        )

    def box(self, first: Sequence[Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Where the elements of a box are, and which of them the tensor has."""
        at, inside = torch.tensor(self.offset), torch.tensor(True)
        for begin, size, length, stride in zip(
            first, self.block_shape, self.shape, self.strides, strict=True
        ):
            index = int(value(begin)) + torch.arange(size)
            at = at[..., None] + index * stride
            inside = inside[..., None] & (index >= 0) & (index < length)
        return at, inside

    def read(self, first: Sequence[Any]) -> torch.Tensor:
        begin = [int(value(x)) for x in first]
        if all(
            0 <= at <= length - size
            for at, size, length in zip(begin, self.block_shape, self.shape, strict=True)
        ):
            offset = sum(at * stride for at, stride in zip(begin, self.strides, strict=True))
            return self.memory.flat.as_strided(self.block_shape, self.strides, self.offset + offset)
        at, inside = self.box(first)
        return self.memory.flat[at.where(inside, 0)].where(inside, 0)


def load(
    machine: Machine, of: Descriptor, first: Sequence[Any], barrier: View, result: View
) -> None:
    """Begin a copy to shared memory, which signals the barrier at its end."""
    if result.shape != of.block_shape or result.dtype != of.dtype:
        raise machine.fail(f"a box of {of.block_shape} is copied to {result.shape}")
    signalled, fetched = barrier.barrier(), of.read(first)
    if signalled.visible is None or not signalled.visible.before(machine.current.clock):
        raise machine.fail(f"a copy signals {signalled.name}, which was made without a fence")

    def finish(copy: Copy) -> None:
        result.data.copy_(fetched)
        signalled.transfer(of.nbytes_per_cta, copy.clock)

    copy = machine.copy(finish)
    write = Write(f"the copy of {place()}", copy.now(), copy.now(), must_read=True)
    result.begin_write(write)
    poison(result.data)


class Store:
    """A copy from shared memory, which has read it when it is waited for; `add` adds to what is there."""

    def __init__(
        self, machine: Machine, of: Descriptor, first: Sequence[Any], source: View, add: bool
    ) -> None:
        if source.shape != of.block_shape or source.dtype != of.dtype:
            raise machine.fail(f"{source.shape} is copied to a box of {of.block_shape}")
        self.machine, self.of, self.source, self.add = machine, of, source, add
        self.first = [int(value(begin)) for begin in first]
        self.read = source.begin_read(by_threads=False)
        if not machine.late:
            self.write()
        machine.current.stores.append(self)

    def write(self) -> None:
        at, inside = self.of.box(self.first)
        flat, data = self.of.memory.flat, self.source.data[inside]
        if self.add:
            flat[at[inside]] += data
        else:
            self.of.memory.written(at[inside], self.machine.writer())
            flat[at[inside]] = data

    def retire(self) -> None:
        if self.machine.late:
            self.write()
        self.source.end_read(self.read)


class Product:
    """A product in flight, from which no value comes but by its wait."""

    def __init__(self, machine: Machine, a: Any, b: View, acc: Any, use_acc: bool) -> None:
        self.machine, self.a, self.b = machine, a, b
        self.acc = acc if use_acc else None
        self.at, self.shape, self.dtype = place(), acc.shape, acc.dtype
        self.retired = False
        rows, inner = a.shape
        if b.shape[0] != inner or acc.shape != [rows, b.shape[1]] or a.dtype != b.dtype:
            raise machine.fail(f"{a.shape} times {b.shape} into {acc.shape}")
        if rows % 64 or machine.current.warps % 4:
            raise machine.fail(f"{rows} rows for {machine.current.warps} warps")
        self.reads = [(x, x.begin_read(by_threads=False)) for x in (a, b) if isinstance(x, View)]  # type: list[tuple[View, Read]]
        self._computed: torch.Tensor | None = None
        if not machine.late:
            self.result()
        machine.current.products.append(self)

    def result(self) -> torch.Tensor:
        if self._computed is None:
            self._computed = operand(self.a.data) @ operand(self.b.data)
            if self.acc is not None:
                before = self.acc
                self._computed += before.result() if isinstance(before, Product) else before.data
        return self._computed

    def retire(self) -> None:
        self.result()
        self.retired = True
        for view, read in self.reads:
            view.end_read(read)

    def refuse(self, *_: Any) -> NoReturn:
        raise self.machine.fail(f"the product of {self.at} is used before its wait")

    def __getattr__(self, name: str) -> NoReturn:
        self.refuse()


for _name in [*BINARY, *(f"r{name}" for name in BINARY), *COMPARED, "getitem", "neg", "bool"]:
    setattr(Product, f"__{_name}__", Product.refuse)


def operand(data: torch.Tensor) -> torch.Tensor:
    """What the matrix units take of an operand: of fp32, the 10 bits of a fraction that tf32 has."""
    if data.dtype == torch.float32:
        return (data.contiguous().view(torch.int32) & ~0x1FFF).view(torch.float32)
    return data.float()


def wait_for(machine: Machine, outstanding: int, deps: Sequence[Any]) -> Any:
    """Retire all products but the last ones; what is not retired, stays a product."""
    flying = machine.current.products
    while len(flying) > outstanding:
        flying.pop(0).retire()
    values = tuple(
        Value(each.result()) if isinstance(each, Product) and each.retired else each
        for each in deps
    )
    return values[0] if len(values) == 1 else values


def stores_wait(machine: Machine, outstanding: int) -> None:
    flying = machine.current.stores
    while len(flying) > outstanding:
        flying.pop(0).retire()


def left_flying(machine: Machine) -> None:
    """Nothing is in flight at the end."""
    for partition in machine.partitions:
        for each in partition.products:
            raise machine.fail(f"the product of {each.at} is never waited for")
        if partition.stores:
            raise machine.fail(f"a copy to global memory of {partition.name} is never waited for")
