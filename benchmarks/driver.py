"""A driver for Triton that launches nothing: kernels are compiled for a device that is not there, from the
arguments of a call, and what a launch was given is written down.

Tensors lie on the CPU, and results are any numbers. `install` changes the process for good: tests have one of
its own for each device (tests/driver.py).
"""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch

from bslang.gpu.aot import gpu
from bslang.gpu.machine.devices import DEVICES
from bslang.gpu.machine.devices import device as device_of


@dataclass(eq=False)
class Launch:
    """What the driver was asked to launch.

    kernel: the name of its function; grid: programs; arguments: by name, tensors as weak references, and
    what a pointer was given as a number as that; pointers: addresses by name; metadata: Triton's, of what
    was compiled; captured: whether the stream pretended to capture.
    """

    kernel: str
    grid: tuple[int, int, int]
    arguments: dict[str, Any]
    pointers: dict[str, int]
    metadata: Any
    captured: bool

    def lost(self, but: Sequence[str] = ()) -> list[str]:
        """The pointers, but for some, whose memory no tensor of this process holds any more: that a replay of
        a captured launch would read, or write, after it was freed."""
        held = [*_storages()]
        return sorted(
            name
            for name, address in self.pointers.items()
            if address and name not in but and not any(_holds(s, address) for s in held)
        )


@dataclass
class Driver:
    """What was installed. launches: in order; loaded: names of kernels; capturing: whether streams pretend to
    capture; current: the number of the current device; recording: whether launches are written down."""

    architecture: str
    launches: list[Launch] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    capturing: bool = False
    current: int = 0
    recording: bool = True

    @contextmanager
    def capture(self) -> Iterator[list[Launch]]:
        """A stream that captures: the launches of the block, as a graph would hold them."""
        first, self.capturing = len(self.launches), True
        graph: list[Launch] = []
        try:
            yield graph
        finally:
            self.capturing = False
            graph += self.launches[first:]


def install(architecture: str = "cuda:90") -> Driver:
    """Have Triton, and the triton target, take the CPU for a device ("cuda:90", "hip:gfx942", ...)."""
    from triton.runtime.driver import driver as active

    about, target, made = DEVICES[architecture], gpu(architecture), Driver(architecture)

    class Launcher:
        """In the place of the C that calls the driver."""

        def __init__(self, source: Any, metadata: Any) -> None:
            self.source, self.metadata = source, metadata

        def __call__(self, *given: Any) -> None:
            x, y, z, _stream, _function, _packed, metadata, enter, leave, *arguments = given
            for hook in (enter, leave):
                if hook is not None:
                    hook(metadata)
            if made.recording:
                made.launches.append(self._launch((x, y, z), arguments))

        def _launch(self, grid: tuple[int, int, int], arguments: Sequence[Any]) -> Launch:
            types, names = self.source.signature, self.source.fn.arg_names
            assert len(arguments) == len(names), "as many as the kernel has, constants included"
            given = dict(zip(names, arguments, strict=True))
            pointers = {}
            for name, value in given.items():
                if str(types[name]).startswith("*"):
                    pointers[name] = value if isinstance(value, int) else value.data_ptr()
            weak = {
                name: weakref.ref(x) if isinstance(x, torch.Tensor) else x
                for name, x in given.items()
            }
            name = self.source.fn.fn.__name__
            return Launch(name, grid, weak, pointers, self.metadata, made.capturing)

    def load(name: str, code: bytes, shared: int, device: int) -> tuple[int, int, int, int, int]:
        made.loaded.append(name)
        return 1, 1, 0, 0, 1024  # module, function, registers, spills, threads of a program

    properties = {
        "max_shared_mem": about.program * 1024,
        "multiprocessor_count": 1,
        "warpSize": about.lanes,
    }
    active.set_active(
        SimpleNamespace(
            utils=SimpleNamespace(
                get_device_properties=lambda device: properties,
                load_binary=load,
                unload_module=lambda module: None,
            ),
            launcher_cls=Launcher,
            get_current_target=lambda: target,
            get_current_device=lambda: made.current,
            get_current_stream=lambda device: 0,
            get_active_torch_device=lambda: torch.device("cpu"),
            get_device_interface=lambda: torch.cpu,
            is_active=lambda: True,
            map_python_to_cpp_type=lambda kind: kind,
        )
    )
    _pretend(made)
    return made


def _pretend(made: Driver) -> None:
    """Have the runtime take the CPU for a device."""
    from bslang.runtime import plan
    from bslang.runtime.triton.device import Device
    from bslang.runtime.triton.launch import TritonTarget

    about = device_of(made.architecture)
    TritonTarget.missing = lambda self, device: ""  # type: ignore[method-assign]
    Device.of = staticmethod(lambda device: about)  # type: ignore[assignment, method-assign]
    asked = plan.is_capturing
    for module in list(sys.modules.values()):  # each that has its name
        if getattr(module, "is_capturing", None) is asked:
            module.is_capturing = lambda device: made.capturing  # type: ignore[attr-defined]


def _storages() -> Iterator[torch.UntypedStorage]:
    for x in gc.get_objects():
        if type(x) is torch.Tensor or type(x) is torch.nn.Parameter:
            yield x.untyped_storage()


def _holds(storage: torch.UntypedStorage, address: int) -> bool:
    return storage.data_ptr() <= address < storage.data_ptr() + max(storage.nbytes(), 1)
