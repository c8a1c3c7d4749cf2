"""The kernels of a generated module: how each is compiled for a call, and launched.

Only the generated module imports Triton; here it is met through its kernels.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeAlias

import torch

from bslang import abi
from bslang.call import Call
from bslang.dims import Dims
from bslang.missing import needs
from bslang.runtime.building import building
from bslang.runtime.plan import DevicePlan
from bslang.runtime.triton import backends, hopper
from bslang.runtime.triton.arguments import (
    AS_A_WHOLE,
    IN_ONE_PIECE,
    Pages,
    Places,
    complete,
    in_order,
)
from bslang.runtime.triton.beside import plain
from bslang.runtime.triton.binaries import TYPES, Binaries
from bslang.runtime.triton.device import Device
from bslang.runtime.triton.gluon import AVAILABLE
from bslang.runtime.triton.prepared import Grid, Launched, Prepared, keep
from bslang.runtime.triton.tiles import MAX_DIM, Launch, launch
from bslang.runtime.triton.tuned import Key, Tuned, beside, device_name

Work: TypeAlias = tuple[Launch, int, dict[str, Any]]
"""How a kernel is compiled for a call, the tiles of a block, and arguments by name."""


class ModuleKernels:
    """The jit functions of a generated module, with what was compiled of them ahead of time, and tuned."""

    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float16, torch.bfloat16)
    largest_dim: int | None = MAX_DIM

    def __init__(
        self,
        kernels: Sequence[Any],
        *,
        held: tuple[int, int],
        streamed: tuple[int, int],
        rows: Sequence[str],
        columns: Sequence[str],
        settled: int = 0,
    ) -> None:
        """The module's jit functions, in the order of `bslang.abi`; held, streamed: the largest (query, key)
        sides of a tile that its blocks allow, of what a program holds and of what it meets; rows,
        columns: what the kernels compute of the block rows, or columns, that they hold (lines of
        `bslang.schedule.strips.Rules`); settled: of how many masks calls settle blocks."""
        names = [name for name, each in abi.KERNELS.items() if settled or not each.only]
        if len(kernels) < len(names):
            names = [name for name in names if not name.endswith(abi.HOPPER)]
        self.kernels = dict(zip(names, kernels, strict=True))
        self.settled = settled
        self.sides, self.rows, self.columns = (held, streamed), rows, columns
        module = type(kernels[0]).__module__
        self._installed = module != "bslang.runtime.triton.no_triton"
        self._interpreted = module == "triton.runtime.interpreter"
        if self._interpreted:
            self.dtypes = (torch.float32, torch.float16)
        self.backends = backends.allowed()
        self._launched: set[str] = set()  # kernels that Triton has been asked for
        weakref.finalize(self, _forget, str(getattr(kernels[0], "module", "")))

    @property
    def uncompiled(self) -> str:
        """Why its kernels cannot be compiled, or "" if they can."""
        if not self._installed:
            return f"this {needs('triton')}"
        return "TRITON_INTERPRET is set" if self._interpreted else ""

    @cached_property
    def _binaries(self) -> Binaries:
        """Kernels compiled ahead of time that lie beside the generated module."""
        if self.uncompiled:
            return Binaries()
        return Binaries.beside(self.kernels["forward"])

    @cached_property
    def tuned(self) -> dict[Key, Tuned]:
        """Winners of `bslang.gpu.tune` that lie beside the generated module, for any device."""
        return beside(self.kernels["forward"], self.sides) if self._installed else {}

    def missing(self, device: torch.device) -> str:
        """As `Target.missing`."""
        if not self._installed:
            return needs("triton")
        if device.type != ("cpu" if self._interpreted else "cuda"):
            return (
                "runs on the CPU under TRITON_INTERPRET=1" if self._interpreted else "needs a GPU"
            )
        return ""

    def _launch(
        self,
        kernel: str,
        q: torch.Tensor,
        v: torch.Tensor,
        pages: Pages = IN_ONE_PIECE,
        places: Places = AS_A_WHOLE,
        members: int = 1,
    ) -> Launch:
        chosen = self.default(kernel, q, v, members)
        of_call = pages.constants(kernel) | places.constants(kernel)
        chosen = replace(chosen, constants=chosen.constants | of_call)
        if not self.tuned or chosen.constants.get("MEMBERS", 1) > 1:  # tuned with a head a tile
            return chosen
        precision = chosen.constants.get("PRECISION", "")
        device, dtype = device_name(q.device), TYPES[q.dtype]
        key = Key(device, kernel, q.shape[3], v.shape[3], dtype, precision)
        found = self.tuned.get(key)
        if found is None:
            return chosen
        return Launch(chosen.constants | found.tile, chosen.options | found.options)

    def _on_hopper(
        self,
        kernel: str,
        tensors: Mapping[str, torch.Tensor],
        plan: DevicePlan,
        call: Call,
        members: int,
    ) -> Launch | None:
        """How a kernel for Hopper stands in for a kernel, where it takes the call. tensors: those that it
        reads, by name; members: `bslang.runtime.grouped.members`."""
        name, q, v = f"{kernel}{abi.HOPPER}", tensors["q"], tensors["v"]
        if name not in backends.kernels(self.kernels, Device.of(q.device).architecture):
            return None
        if "hopper" not in self.backends or not AVAILABLE:
            return None
        dims = Dims(q.shape[3], v.shape[3])
        vectors = plan.len_q if kernel == "dkdv" else 0
        if (
            (call.q_pages, call.k_pages, call.lengths) != (None, None, None)
            or (call.softcap or plan.in_order or plan.position is not None)
            or (hopper.lacks(dims, q.dtype) or hopper.unfit(tensors, vectors))
        ):
            return None
        return hopper.launch(name, dims, self.sides, members)

    def default(self, kernel: str, q: torch.Tensor, v: torch.Tensor, members: int = 1) -> Launch:
        """How a kernel is compiled for tensors like q and v, where nothing was tuned; members: query heads
        that may share a tile."""
        fast = q.dtype == torch.float32 and is_tf32()
        return launch(
            kernel,
            Dims(q.shape[3], v.shape[3]),
            q.itemsize,
            self.sides,
            device=Device.of(q.device),
            precision="tf32" if fast and torch.version.hip is None else "ieee",
            members=members,
        )

    def _run(
        self,
        kernel: str,
        key: Hashable,
        plan: DevicePlan,
        tensors: Mapping[str, torch.Tensor],
        sizes: Mapping[str, int],
        programs: int,
        work: Callable[[], Work],
    ) -> None:
        """Launch a kernel as it was prepared for calls of this key, or else through Triton's own launcher.

        key: all that it is compiled for and given, but for what tensors and sizes, arguments by name, say;
        programs: how many there are, but for the tiles of a block, each of which has one; work: the choice of
        how it is compiled, tiles of a block, and its other arguments by name; tensors there are the plan's.
        """
        tuned, kept = plan.made.get("launches", (None, {}))
        if tuned is not self.tuned:  # other tiles
            tuned, kept = plan.made["launches"] = (self.tuned, {})
        prepared: Prepared | None = kept.get(key)
        if not programs or (prepared is not None and prepared.launch(tensors, sizes, programs)):
            return
        chosen, tiles, values = work()
        values |= {**tensors, **sizes}
        describes: dict[str, hopper.Describe] = {}
        if chosen.instead:
            kernel = chosen.instead
            describes = hopper.describes(kernel, chosen.constants, plan.len_q)
            values |= {name: made(tensors[name]) for name, made in describes.items()}
        arguments = in_order(kernel, values, chosen.constants)
        grid = Grid(tiles, chosen.constants.get("MEMBERS", 1))
        launched = self._start(kernel, chosen, grid.programs(programs), arguments)
        if prepared is None:
            keep(kept, key, kernel, launched, grid, plan, tensors, sizes, describes)

    def _start(
        self, kernel: str, chosen: Launch, programs: int, arguments: Sequence[Any]
    ) -> Launched:
        """Launch a kernel by its arguments that are no constants."""
        function, made = self.kernels[kernel], (chosen.constants, chosen.options)
        first_tensor = next(x for x in arguments if isinstance(x, torch.Tensor))
        with torch.cuda.device_of(first_tensor):  # type: ignore[no-untyped-call]  # torch's
            if found := self._binaries.find(kernel, function, made, arguments):
                compiled, given = found
                compiled[(programs, 1, 1)](*given)
            else:
                first = kernel not in self._launched and not self.uncompiled
                self._launched.add(kernel)
                with building("kernels for the GPU") if first else nullcontext():
                    compiled = function[(programs,)](
                        *arguments, **chosen.constants, **chosen.options
                    )
                given = complete(function, arguments, chosen.constants)
        return Launched(compiled, plain(function), given)


def is_tf32() -> bool:
    """Whether products of fp32 may be rounded to tf32, by whichever of torch's settings says so: the older
    of them may not be asked where the newer one was used."""
    newer = getattr(torch.backends.cuda.matmul, "fp32_precision", None)
    if newer is None:
        return torch.get_float32_matmul_precision() != "highest"
    return bool(newer == "tf32")


def _forget(module: str) -> None:
    """Take a module's functions out of Triton's registry, which keeps every jit function by its name."""
    jit = sys.modules.get("triton.runtime.jit")
    registry: dict[str, Any] = getattr(jit, "_triton_jit_function_registry", {})
    for name in list(registry):
        if name.startswith(f"{module}:"):
            registry.pop(name, None)
