"""The modules that kernels import, on a simulated machine: `triton`, `tl`, `gluon`, `gl` and Hopper's."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import torch
import triton.experimental.gluon.language as real_gl
import triton.language as real_tl

from pipeline import beside
from pipeline.machine import Machine
from pipeline.mistakes import Watched
from pipeline.shared import View, allocate
from pipeline.values import TORCH, Pointer, Value, common, divide, sizes, value


class constexpr:
    """A constant is its value."""

    def __new__(cls, x: Any) -> Any:
        return x


def jit(function: Callable[..., Any] | None = None, **_: Any) -> Any:
    return function if function is not None else jit


class Names:
    """A module with our functions; types and layouts are Triton's own."""

    def __init__(self, real: Any, **own: Any) -> None:
        self.__dict__.update(own)
        self._real = real

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name, None)
        if isinstance(found, real_tl.dtype) or (isinstance(found, type) and "Layout" in name):
            return found
        raise AttributeError(f"the simulator has no {name}")


def counted(*bounds: Any, **_: Any) -> Iterator[Value]:
    """A loop's numbers, which are the kernel's own."""
    for number in builtins.range(*(int(value(bound)) for bound in bounds)):
        yield value(number)


def elementwise(of: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Any], Value]:
    return lambda x: Value(of(value(x).data))


def joined(of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Callable[..., Value]:
    return lambda x, y, **_: Value(of(*common(x, y)))


def where(condition: Any, x: Any, y: Any) -> Any:
    chosen = value(condition).data.bool()
    if isinstance(x, Pointer):
        assert x.memory is y.memory, "pointers to two tensors are selected from"
        return Pointer(x.memory, torch.where(chosen, x.at, y.at))
    return Value(torch.where(chosen, *common(x, y)))


def largest(x: Value, axis: int | None = None, **_: Any) -> Value:
    return Value(x.data.amax(() if axis is None else axis))


def least(x: Value, axis: int | None = None, **_: Any) -> Value:
    return Value(x.data.amin(() if axis is None else axis))


def total(x: Value, axis: int | None = None, **_: Any) -> Value:
    data = x.data.int() if x.data.dtype == torch.bool else x.data
    return Value(data.sum(() if axis is None else axis, dtype=data.dtype))


def load(pointer: Pointer, mask: Any = None, other: Any = None, **_: Any) -> Value:
    at, used = pointer.active(mask)
    found = pointer.memory.flat[torch.where(used, at, 0)]
    instead = torch.tensor(0) if other is None else value(other).data
    return Value(torch.where(used, found, instead.to(found.dtype)))


def cast(x: Any, dtype: Any, bitcast: bool = False) -> Value:
    return value(x).to(dtype, bitcast)


def full(shape: Sequence[int], x: Any, dtype: Any, layout: Any = None) -> Value:
    return Value(value(x).data.to(TORCH[dtype]).expand(*sizes([shape])).clone())


def arange(start: int, end: int, layout: Any = None) -> Value:
    return Value(torch.arange(start, end, dtype=torch.int32))


def dot(a: Value, b: Value, acc: Any = None, **_: Any) -> Value:
    data = beside.operand(a.data) @ beside.operand(b.data)
    return Value(data if acc is None else data + acc.data)


def identity(x: Any, *_: Any, **__: Any) -> Any:
    return x


def nothing(*_: Any, **__: Any) -> None:
    pass


def checked(condition: Any, message: str = "") -> None:
    assert value(condition).data.all(), message


def clamp(x: Any, low: Any, high: Any) -> Value:
    return Value(torch.minimum(torch.maximum(value(x).data, value(low).data), value(high).data))


ARITHMETIC: dict[str, Any] = {
    "abs": elementwise(torch.abs),
    "arange": arange,
    "assume": nothing,
    "broadcast_to": lambda x, *shape: Value(x.data.expand(*sizes(shape))),
    "cast": cast,
    "cdiv": lambda x, y: Value(divide(*common(x + y - 1, y))),
    "ceil": elementwise(torch.ceil),
    "clamp": clamp,
    "constexpr": constexpr,
    "convert_layout": identity,
    "device_assert": checked,
    "dot": dot,
    "exp": elementwise(torch.exp),
    "exp2": elementwise(torch.exp2),
    "expand_dims": lambda x, axis: Value(x.data.unsqueeze(axis)),
    "fdiv": joined(torch.div),
    "floor": elementwise(torch.floor),
    "fma": lambda x, y, z: x * y + z,
    "full": full,
    "load": load,
    "log": elementwise(torch.log),
    "log2": elementwise(torch.log2),
    "max": largest,
    "max_constancy": identity,
    "max_contiguous": identity,
    "maximum": joined(torch.maximum),
    "min": least,
    "minimum": joined(torch.minimum),
    "multiple_of": identity,
    "permute": lambda x, *order: Value(x.data.permute(*sizes(order))),
    "range": counted,
    "reshape": lambda x, *shape: Value(x.data.reshape(sizes(shape))),
    "rsqrt": elementwise(torch.rsqrt),
    "set_auto_layout": identity,
    "sqrt": elementwise(torch.sqrt),
    "static_assert": checked,
    "static_range": builtins.range,
    "sum": total,
    "to_tensor": value,
    "trans": lambda x, *order: Value(x.data.permute(*(sizes(order) if order else (1, 0)))),
    "where": where,
    "zeros": lambda shape, dtype, layout=None: full(shape, 0, dtype),
    "zeros_like": lambda x: Value(torch.zeros_like(x.data)),
}
"""What needs no machine."""


class Language:
    """The modules of kernels, and the machine that runs the program at hand."""

    machine: Machine
    grid: tuple[int, ...]
    program: tuple[int, ...]

    def __init__(self) -> None:
        self.watched = Watched()
        tl = Names(real_tl, **ARITHMETIC, **self._programs())
        gl = Names(real_gl, **ARITHMETIC, **self._programs())
        gl.__dict__.update(
            allocate_shared_memory=self._allocate,
            barrier=nothing,
            num_warps=lambda: self.machine.current.warps,
            warp_specialize=self._specialize,
        )
        hopper = self._hopper()
        gl.nvidia = SimpleNamespace(hopper=hopper)
        gluon = SimpleNamespace(jit=jit, language=gl, constexpr_function=identity)
        triton = SimpleNamespace(
            jit=jit,
            cdiv=lambda x, y: -(-x // y),
            constexpr_function=identity,
            language=tl,
            experimental=SimpleNamespace(gluon=gluon),
        )
        self.modules: dict[str, Any] = {
            "triton": triton,
            "triton.language": tl,
            "triton.experimental": triton.experimental,
            "triton.experimental.gluon": gluon,
            "triton.experimental.gluon.language": gl,
            "triton.experimental.gluon.language.nvidia": gl.nvidia,
            "triton.experimental.gluon.language.nvidia.hopper": hopper,
            "triton.experimental.gluon.language.nvidia.hopper.tma": hopper.tma,
            "triton.experimental.gluon.language.nvidia.hopper.mbarrier": hopper.mbarrier,
        }

    def _programs(self) -> dict[str, Any]:
        def store(pointer: Pointer, stored: Any, mask: Any = None, **_: Any) -> None:
            at, used = pointer.active(mask)
            flat = pointer.memory.flat
            data, used = value(stored).data.to(flat.dtype).expand(at.shape), used.expand(at.shape)
            pointer.memory.written(at[used], self.machine.writer())
            flat[at[used]] = data[used]

        def atomic_add(pointer: Pointer, added: Any, mask: Any = None, **_: Any) -> None:
            at, used = pointer.active(mask)
            flat = pointer.memory.flat
            data = value(added).data.to(flat.dtype).expand(at.shape)
            flat.index_put_((at[used],), data[used], accumulate=True)

        return {
            "atomic_add": atomic_add,
            "num_programs": lambda axis: value(self.grid[axis]),
            "program_id": lambda axis: value(self.program[axis]),
            "store": store,
        }

    def _allocate(self, dtype: Any, shape: Sequence[int], layout: Any, stored: Any = None) -> View:
        view = allocate(self.machine, dtype, shape, layout)
        if stored is not None:
            view.store(stored)
        return view

    def _specialize(
        self, works: Sequence[Any], warps: Sequence[int], registers: Sequence[int] | None = None
    ) -> Any:
        machine, made = self.machine, []
        for i, (function, given) in enumerate(works):
            if i and any(isinstance(x, Value) and x.shape for x in given):
                raise machine.fail(f"{function.__name__} is given a tile of another partition")
            count = warps[i - 1] if i else machine.main.warps
            own = machine.partition(f"{function.__name__} {i}", count)
            made.append((own, lambda function=function, given=given: function(*given)))
        return machine.specialize(made)

    def _hopper(self) -> Any:
        def fence_async_shared(cluster: bool = False) -> None:
            partition = self.machine.current
            for write in partition.unfenced:
                write.visible = partition.now()
            partition.unfenced.clear()

        def warpgroup_mma(
            a: Any,
            b: View,
            acc: Any,
            *,
            use_acc: Any = True,
            precision: Any = None,
            max_num_imprecise_acc: Any = None,
            is_async: bool = False,
        ) -> Any:
            self.machine.step()
            product = beside.Product(self.machine, a, b, acc, bool(use_acc))
            return product if is_async else beside.wait_for(self.machine, 0, [product])

        def warpgroup_mma_wait(num_outstanding: int = 0, deps: Sequence[Any] = ()) -> Any:
            self.machine.step()
            return beside.wait_for(self.machine, num_outstanding, deps)

        def passed(num_outstanding: int = 0, deps: Sequence[Any] = ()) -> Any:
            return deps[0] if len(deps) == 1 else tuple(deps)

        return SimpleNamespace(
            fence_async_shared=self.watched(fence_async_shared),
            mbarrier=self._mbarrier(),
            tma=self._tma(),
            warpgroup_mma=warpgroup_mma,
            warpgroup_mma_init=identity,
            warpgroup_mma_wait=self.watched(warpgroup_mma_wait, left_out=passed),
        )

    def _mbarrier(self) -> Any:
        def init(barrier: View, count: int) -> None:
            barrier.make_barrier(count, self.watched.current)

        def expect(barrier: View, bytes_per_cta: int, pred: Any = True) -> None:
            self.machine.step()
            if value(pred):
                barrier.barrier().bytes += bytes_per_cta
                barrier.barrier().arrive(1, self.machine.current.publish())

        def arrive(barrier: View, *, count: int = 1, pred: Any = True) -> None:
            at = self.watched.current
            self.machine.step()
            if value(pred):
                barrier.barrier().arrive(count, self.machine.current.publish(), at)

        def wait(barrier: View, phase: Any, pred: Any = True, deps: Any = ()) -> None:
            at = self.watched.current
            if value(pred):
                made, parity = barrier.barrier(), int(value(phase))
                if parity not in (0, 1):
                    raise self.machine.fail(f"a phase has parity 0 or 1, not {parity}")
                self.machine.wait(
                    lambda: made.ended(parity),
                    lambda: f"parity {parity} of {made.name}, {made.state()}",
                )
                if made.phase:
                    self.watched.needed |= {at, made.site, *made.waited(self.machine.current)}

        return SimpleNamespace(
            MBarrierLayout=real_gl.nvidia.hopper.mbarrier.MBarrierLayout,
            arrive=self.watched(arrive),
            expect=self.watched(expect),
            init=self.watched(init),
            invalidate=nothing,
            wait=self.watched(wait),
        )

    def _tma(self) -> Any:
        def async_load(
            descriptor: Any, coord: Any, barrier: View, result: View, pred: Any = True, **_: Any
        ) -> None:
            self.machine.step()
            if value(pred):
                beside.load(self.machine, descriptor, coord, barrier, result)

        def async_store(descriptor: Any, coord: Any, source: View, **_: Any) -> None:
            self.machine.step()
            beside.Store(self.machine, descriptor, coord, source, add=False)

        def async_atomic_add(descriptor: Any, coord: Any, source: View, **_: Any) -> None:
            self.machine.step()
            beside.Store(self.machine, descriptor, coord, source, add=True)

        def store_wait(pendings: int, read_only: bool = True) -> None:
            self.machine.step()
            beside.stores_wait(self.machine, pendings)

        def make_tensor_descriptor(
            base: Pointer, shape: Any, strides: Any, block_shape: Any, layout: Any, **_: Any
        ) -> Any:
            first = int(base.at)
            return beside.Descriptor(base.memory, first, shape, strides, block_shape, layout)

        return SimpleNamespace(
            async_atomic_add=self.watched(async_atomic_add),
            async_load=self.watched(async_load),
            async_store=self.watched(async_store),
            make_tensor_descriptor=make_tensor_descriptor,
            store_wait=self.watched(store_wait),
        )
