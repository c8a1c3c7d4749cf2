"""The kernels for Hopper on the simulated machine, behind a layout as any caller has it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pipeline import Kernels

import bslang
from bslang import abi
from bslang.dims import Dims
from bslang.runtime.triton import hopper
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

    def missing(self, device: torch.device) -> str:
        return ""

    def _start(self, kernel: str, chosen: Launch, programs: int, arguments: Sequence[Any]) -> Any:
        values = dict(zip(self._names(kernel), arguments, strict=True))
        if kernel + abi.HOPPER in self.kernels:
            kernel += abi.HOPPER
            chosen, programs, values = self._described(kernel, values)
        given = {name: values[name] for name in self._names(kernel)}
        made = Launched(kernel, programs, {**given, **chosen.constants})
        self.launched.append(made)
        made.run(self.simulated, seed=self.seed)
        return None, None, ()  # nothing was compiled that the next launch could take

    def _names(self, kernel: str) -> list[str]:
        """The names of a kernel's arguments that are not constants."""
        signature = inspect.signature(self.simulated.names[abi.KERNELS[kernel].function])
        constants = {each.name for each in abi.KERNELS[kernel].constants} | {"SOFTCAP"}
        return [name for name in signature.parameters if name not in constants]

    def _described(self, kernel: str, values: dict[str, Any]) -> tuple[Launch, int, dict[str, Any]]:
        q, v = values["q"], values["v"]
        # Heads that have other blocks, or masks, are not held by one tile.
        members = 1 if "head_graph" in values else values["heads"] // values["key_heads"]
        chosen = hopper.launch(kernel, Dims(q.shape[3], v.shape[3]), self.sides, members)
        tiles = hopper.tiles(kernel, chosen.constants)
        for name in [each.name for each in abi.KERNELS[kernel].tensors if each.is_descriptor]:
            x, tile = values[name], tiles[name]
            if len(tile) == 2:  # rows of vectors begin at multiples of 16 bytes
                lanes, length = values["batch"] * values["heads"], values["len_q"]
                padded = x.new_full((lanes, -(-length // 4) * 4), torch.nan)
                padded[:, :length] = x.flatten()[: lanes * length].view(lanes, length)
                x = padded[:, :length]
            values[name] = hopper.described(x, tile)
        if kernel == f"dkdv{abi.HOPPER}":
            parts = self.names["BLOCK_K"] // chosen.constants["TILE_K"]
            lanes = values["batch"] * values["key_heads"]
        else:
            parts = self.names["BLOCK_Q"] // chosen.constants["TILE_Q"]
            lanes = values["batch"] * values["heads"] // chosen.constants["MEMBERS"]
        return chosen, values["programs"].shape[0] * parts * lanes, values

    @property
    def names(self) -> dict[str, Any]:
        return self.simulated.names


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
    try:
        yield target
    finally:
        target.__class__ = TritonTarget
        target.__dict__.clear()
        target.__dict__.update(before)
