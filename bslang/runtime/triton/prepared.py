"""Prepared launches: what a kernel was given in a call, but for addresses and lengths, for the next ones.

Triton's own launcher asks each argument of each call what it is, which takes longer than most kernels run.
A prepared launch asks for the addresses alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from bslang import abi
from bslang.runtime.plan import DevicePlan
from bslang.runtime.triton.binaries import ALIGNMENT
from bslang.runtime.triton.device import Device
from bslang.runtime.triton.hopper import Describe

LIMIT = 64
"""Prepared launches of a plan, of all kernels; then the oldest is forgotten."""

_NEAR = 2**31 - 1
"""Bytes up to which Triton compiles accesses of a tensor's memory for CDNA with 32 bits."""


class Launched(NamedTuple):
    """What was launched: Triton's CompiledKernel, its jit function, and all arguments in order."""

    kernel: Any
    function: Any
    arguments: Sequence[Any]


class Grid(NamedTuple):
    """The programs of a launch: tiles of a block that each have one, and heads that share one."""

    tiles: int
    members: int

    def programs(self, blocks: int) -> int:
        """How many there are; blocks: of all heads."""
        return blocks * self.tiles // self.members


@dataclass(frozen=True, eq=False)
class Prepared:
    """One launch, on one device, for calls of one kind.

    kernel: Triton's CompiledKernel; function: its jit function; arguments: all of them in order, constants
    and the addresses of the plan's own tensors included; pointers, sizes: where the addresses of a call's
    tensors go, and its numbers, by name; describes: where their descriptors go, and what makes them; near:
    whether it holds for tensors of at most `_NEAR` bytes; knobs, drivers: Triton's.
    """

    kernel: Any
    function: Any
    arguments: list[Any]
    pointers: tuple[tuple[str, int], ...]
    sizes: tuple[tuple[str, int], ...]
    describes: tuple[tuple[str, int, Describe], ...]
    grid: Grid
    device: int | None
    near: bool
    knobs: Any
    drivers: Any

    def launch(self, tensors: Mapping[str, Any], sizes: Mapping[str, int], programs: int) -> bool:
        """Launch it with the tensors and numbers of a call; whether it could be: it cannot where the kernel
        was compiled for addresses of another kind, and where someone has to see all arguments."""
        if is_watched(self.function, self.knobs):
            return False
        arguments = self.arguments.copy()
        together = 0
        for name, place in self.pointers:
            arguments[place] = address = tensors[name].data_ptr()
            together |= address
        for name, place, describe in self.describes:
            x = tensors[name]
            address = x.data_ptr()
            arguments[place] = describe.made.get(address) or describe(x)
            together |= address
        if together % ALIGNMENT or (self.near and not are_near(tensors)):
            return False
        for name, place in self.sizes:
            arguments[place] = sizes[name]
        driver = self.drivers.active
        current = driver.get_current_device()
        if self.device is None or self.device == current:
            self._run(programs, driver.get_current_stream(current), arguments)
        else:
            with torch.cuda.device(self.device):
                self._run(programs, driver.get_current_stream(self.device), arguments)
        return True

    def _run(self, programs: int, stream: int, arguments: Sequence[Any]) -> None:
        kernel = self.kernel
        about = kernel.function, kernel.packed_metadata
        kernel.run(self.grid.programs(programs), 1, 1, stream, *about, None, None, None, *arguments)


def keep(
    launches: dict[Hashable, Prepared],
    key: Hashable,
    kernel: str,
    launched: Launched,
    grid: Grid,
    plan: DevicePlan,
    tensors: Mapping[str, Any],
    sizes: Mapping[str, int],
    describes: Mapping[str, Describe],
) -> None:
    """Prepare the next launches like one: among a plan's `launches`, if it can be.

    kernel: by its name in `bslang.abi`; the rest as in `Prepared`.
    """
    from triton import knobs
    from triton.runtime.driver import driver

    compiled, function, arguments = launched
    near = Device.of(plan.parameters.device).architecture.startswith("hip")
    addresses = [x.data_ptr() for x in tensors.values()]
    if not hasattr(compiled, "packed_metadata") or is_watched(function, knobs.runtime):
        return
    if any(address % ALIGNMENT for address in addresses) or (near and not are_near(tensors)):
        return
    place = {name: number for number, name in enumerate(function.arg_names)}
    numbers = tuple((name, place[name]) for name in sizes if name in place)
    assert {name for name, _ in numbers} <= set(abi.KERNELS[kernel].unspecialised)
    fixed = [x.data_ptr() if isinstance(x, torch.Tensor) else x for x in arguments]
    if len(launches) >= LIMIT:
        launches.pop(next(iter(launches)), None)
    launches[key] = Prepared(
        compiled,
        function,
        fixed,
        tuple((x, place[x]) for x in tensors if x in place and x not in describes),
        numbers,
        tuple((name, place[name], describe) for name, describe in describes.items()),
        grid,
        plan.parameters.device.index,
        near,
        knobs.runtime,
        driver,
    )


def is_watched(function: Any, knobs: Any) -> bool:
    """Whether a launch has to go through Triton's own launcher: hooks of it are set, or it debugs."""
    return bool(
        function.pre_run_hooks
        or knobs.debug
        or getattr(knobs.launch_enter_hook, "calls", knobs.launch_enter_hook)
        or getattr(knobs.launch_exit_hook, "calls", knobs.launch_exit_hook)
        or getattr(knobs, "add_stages_inspection_hook", None)
    )


def are_near(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether all tensors are of memory that kernels for CDNA reach with 32 bits."""
    return all(x.untyped_storage().nbytes() <= _NEAR for x in tensors.values())
