"""The kernels for Hopper on the simulated machine, behind a layout as any caller has it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from pipeline import Kernels
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

import bslang
from bslang import abi
from bslang.runtime.triton.device import Device
from bslang.runtime.triton.launch import TritonTarget
from bslang.runtime.triton.tiles import Launch


class Launched(NamedTuple):
    """A launch, which can be repeated; given: arguments and constants by name."""

    kernel: str
    programs: int
    given: dict[str, Any]

    def run(self, kernels: Kernels, **options: Any) -> None:
        function = abi.KERNELS[self.kernel].function
        kernels.launch(function, (self.programs,), **self.given, **options)

    @property
    def results(self) -> dict[str, torch.Tensor]:
        names = [name for name in self.given if name in RESULTS or name.startswith("part_")]
        return {name: self.given[name] for name in names}


RESULTS = {"out", "lse", "dq", "dk", "dv"}


class Simulated(TritonTarget):
    """A target that launches on the simulated machine: all kernels, those for Hopper where there are any."""

    simulated: Kernels
    seed: int
    launched: list[Launched]
    tensors: dict[str, torch.Tensor]

    def missing(self, device: torch.device) -> str:
        return ""

    def _run(self, kernel: str, key: Any, plan: Any, tensors: Any, *rest: Any) -> None:
        self.tensors = tensors
        super()._run(kernel, key, plan, tensors, *rest)

    def _start(self, kernel: str, chosen: Launch, programs: int, arguments: Sequence[Any]) -> Any:
        values = dict(zip(self._names(kernel), arguments, strict=True))
        for name, x in values.items():
            if isinstance(x, TensorDescriptor):  # which has no more than the tensor's address
                assert x.base.data_ptr() == self.tensors[name].data_ptr()
                values[name] = replace(x, base=self.tensors[name])
        made = Launched(kernel, programs, {**values, **chosen.constants})
        self.launched.append(made)
        made.run(self.simulated, seed=self.seed)
        return None, None, ()  # nothing was compiled that the next launch could take

    def _names(self, kernel: str) -> list[str]:
        """The names of a kernel's arguments that are not constants."""
        signature = inspect.signature(self.simulated.names[abi.KERNELS[kernel].function])
        constants = {each.name for each in abi.KERNELS[kernel].constants} | {"SOFTCAP"}
        return [name for name in signature.parameters if name not in constants]


def source_of(layout: bslang.Layout) -> str:
    """The generated module of a layout, down to what makes the layout and registers it."""
    target = layout.targets["triton"]
    assert isinstance(target, TritonTarget)
    source = Path(inspect.getsourcefile(target.kernels["forward"].fn) or "").read_text()
    kernels, _, rest = source.partition("# ---- the layout")
    assert rest
    return kernels


@contextmanager
def on_hopper(layout: bslang.Layout, source: str = "", seed: int = 0) -> Iterator[Simulated]:
    """Run a layout on the simulated machine, with the source of its module or a changed one."""
    target: Any = layout.targets["triton"]
    kernels = Kernels(source or source_of(layout))
    before = dict(target.__dict__)
    target.__class__ = (
        Simulated  # the layout may be shared, and its operator finds it by its digest
    )
    target.__dict__.update(simulated=kernels, seed=seed, launched=[])
    h200 = Device("cuda:90", shared=227 * 1024)
    try:
        with patch.object(Device, "of", staticmethod(lambda _: h200)):
            yield target
    finally:
        target.__class__ = TritonTarget
        target.__dict__.clear()
        target.__dict__.update(before)
