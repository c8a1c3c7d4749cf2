"""Tiles that were faster on a device: found beside their module, judged, and stored there.

`NAME.tune.json` has them; bslang.gpu.tune finds them. What is wrong with the file is warned of, and
kernels then have their default tiles.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from bslang.errors import BuildError
from bslang.files import write_whole
from bslang.runtime.triton.beside import module_of, read, written

SUFFIX = ".tune.json"

Sides = tuple[tuple[int, int], tuple[int, int]]
"""The largest (query, key) sides of a tile, of what a program holds and of what it meets."""


def tile_names(kernel: str) -> tuple[str, str]:
    """The constants that are the sides of a tile: of what a program holds, and of what it meets."""
    return ("TILE_K", "TILE_Q") if kernel == "dkdv" else ("TILE_Q", "TILE_K")


def largest(kernel: str, sides: Sides) -> tuple[int, int]:
    """The largest sides of a kernel's tile, in the same order."""
    (held_q, held_k), (met_q, met_k) = sides
    return (held_k, met_q) if kernel == "dkdv" else (held_q, met_k)


class Key(NamedTuple):
    """The calls that a winner is for. device: as torch names it; head_dim: of q and k; value_dim: of v;
    dtype: as Triton names it; precision: of products of fp32."""

    device: str
    kernel: str
    head_dim: int
    value_dim: int
    dtype: str
    precision: str


@dataclass(frozen=True)
class Tuned:
    """The winner of a kernel: its tile (TILE_Q, TILE_K) and options (num_warps, num_stages).

    length: tokens that it was timed at; times: milliseconds of the pass that the kernel is part of, with
    the default's tile ("default") and with the winner's ("best").
    """

    device: str
    kernel: str
    head_dim: int
    value_dim: int
    dtype: str
    precision: str
    tile: dict[str, int]
    options: dict[str, int]
    length: int
    times: dict[str, float]

    @property
    def key(self) -> Key:
        return Key(
            self.device, self.kernel, self.head_dim, self.value_dim, self.dtype, self.precision
        )

    def allowed(self, sides: Sides) -> bool:
        """Whether kernels may be compiled with it: with other tiles they would leave out pairs."""
        tile = (self.tile[name] for name in tile_names(self.kernel))
        most = largest(self.kernel, sides)
        return (
            all(_power(side) and 16 <= side <= top for side, top in zip(tile, most, strict=True))
            and set(self.options) == {"num_warps", "num_stages"}
            and _power(self.options["num_warps"])
            and self.options["num_warps"] <= 16
            and type(self.options["num_stages"]) is int
            and 1 <= self.options["num_stages"] <= 8
            and len(self.tile) == 2
        )


def _power(number: object) -> bool:
    return type(number) is int and number > 0 and number & (number - 1) == 0


@cache
def device_name(device: torch.device) -> str:
    """The name of a device's model: what was measured on one holds for its like."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def beside(function: Any, sides: Sides) -> dict[Key, Tuned]:
    """The winners beside the module of a jit function; none, with a warning, where they are not for it."""
    module = module_of(function)
    if not module.with_suffix(SUFFIX).is_file():
        return {}
    try:
        return _read(module, sides)
    except BuildError as error:
        warnings.warn(
            f"{error}. Until then kernels have their default tiles", RuntimeWarning, stacklevel=2
        )
        return {}


def store(function: Any, sides: Sides, entries: Iterable[Tuned]) -> None:
    """Write winners beside the module of a jit function.

    Winners of other devices and calls that are there already stay, if they are for this module and this
    Triton. Raises OSError where the file cannot be written.
    """
    module = module_of(function)
    try:
        kept = _read(module, sides)
    except BuildError:
        kept = {}
    kept |= {entry.key: entry for entry in entries}
    text = written(
        f"tiles for {module.name}, as timed",
        module.read_text(encoding="utf-8"),
        {"entries": [asdict(kept[key]) for key in sorted(kept)]},
    )
    write_whole(module.parent, {module.with_suffix(SUFFIX).name: text})


def _read(module: Path, sides: Sides) -> dict[Key, Tuned]:
    """The winners beside a module. Raises BuildError where they are not for it or for this Triton."""

    def made(content: Any) -> dict[Key, Tuned]:
        # Files of before value dimensions were apart have one dimension.
        entries = [Tuned(**{"value_dim": each["head_dim"]} | each) for each in content["entries"]]
        if not all(entry.allowed(sides) for entry in entries):
            raise ValueError("a tile that the layout's blocks do not allow")
        return {entry.key: entry for entry in entries}

    return read(module.with_suffix(SUFFIX), module, "tune the layout again", made)
