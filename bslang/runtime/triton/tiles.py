"""The tiles, warps and stages of the Triton kernels: what suits a kernel, a head dimension and a device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from bslang import abi
from bslang.call import Call
from bslang.dims import Dims
from bslang.runtime.triton.device import Device
from bslang.runtime.triton.tuned import Sides, largest, tile_names


@dataclass(frozen=True)
class Launch:
    """How a kernel is compiled for a call: the constants of its source, and the compiler's options.

    instead: the kernel that stands in for the one that was asked for, by its name in `bslang.abi`, if any.
    """

    constants: dict[str, Any]
    options: dict[str, Any]
    instead: str = ""


class _Tile(NamedTuple):
    """Rows of the tile that a program keeps (of keys for dK and dV, else of queries), and of those that it
    streams (of the other side); stages of the pipeline that loads them."""

    kept: int
    streamed: int
    stages: int = 3


_Tiles = dict[str, dict[int, tuple[_Tile, ...]]]
"""By kernel, and the largest padded head dimension that they have: the first that a layout's blocks allow is
taken, or the last, cut to their sides."""

_TILES: dict[int, _Tiles] = {
    2: {
        "forward": {128: (_Tile(128, 64),), 256: (_Tile(64, 32),)},
        "delta": {128: (_Tile(64, 64),), 256: (_Tile(32, 32),)},
        "dq": {64: (_Tile(128, 64),), 128: (_Tile(64, 64),), 256: (_Tile(32, 32),)},
        "dkdv": {64: (_Tile(64, 64, 2),), 128: (_Tile(128, 32, 2),), 256: (_Tile(32, 32, 2),)},
    },
    # Exact products of fp32 have no matrix instruction: they are written out, and large tiles grow long.
    4: {
        "forward": {64: (_Tile(64, 32, 2),), 128: (_Tile(32, 16, 2),), 256: (_Tile(16, 16, 2),)},
        "delta": {64: (_Tile(64, 64),), 128: (_Tile(32, 32),), 256: (_Tile(16, 16),)},
        "dq": {64: (_Tile(32, 32, 2),), 256: (_Tile(16, 16, 2),)},
        "dkdv": {64: (_Tile(32, 32, 2),), 256: (_Tile(16, 16, 2),)},
    },
}
"""By bytes of an element. `python -m benchmarks.tiles` counts instructions of these tiles and of others."""

_FAMILIES = {
    "cuda:90": "hopper",
    **dict.fromkeys(("cuda:100", "cuda:103"), "blackwell"),
    **dict.fromkeys(("cuda:120", "cuda:121"), "desktop"),  # Blackwell without its matrix unit
}
"""By architecture; AMD's are "cdna", all others "ampere", whose tiles are those of `_TILES`."""

_OF_FAMILY: dict[str, _Tiles] = {
    # Matrix instructions of a warp group read both tiles from shared memory: wide ones read less.
    "hopper": {
        "forward": {128: (_Tile(128, 128, 2), _Tile(128, 64))},
        "dq": {64: (_Tile(128, 128, 2), _Tile(128, 64)), 128: (_Tile(64, 64, 2),)},
    },
    # A forward tile of 128x128 spills in dimension 128.
    "blackwell": {
        "forward": {64: (_Tile(128, 128), _Tile(128, 64))},
        "dq": {64: (_Tile(128, 64),), 128: (_Tile(128, 64, 2),)},
        "dkdv": {128: (_Tile(128, 64, 2),)},
    },
    "desktop": {"dkdv": {64: (_Tile(64, 64, 2),), 128: (_Tile(128, 16, 2),)}},
    "cdna": {
        "dq": {64: (_Tile(128, 64, 2),), 128: (_Tile(128, 32, 2),)},
        "dkdv": {64: (_Tile(128, 32, 2),), 128: (_Tile(128, 16, 2),)},
    },
}
"""What others than "ampere" have in 16 bits, where it differs."""

_HELD = {"forward": (0, 1, 1), "delta": (0, 0, 0), "dq": (1, 0, 2), "dkdv": (1, 1, 2)}
"""What a program holds for each row that it keeps: sums of the dimension of keys, sums of that of values,
scores of a streamed tile."""

MAX_DIM = 256
"""Largest head dimension, of keys and of values: kernels keep a row of it in registers."""

JOINED = 16
"""Rows whose parts a program joins: few, so that many programs share the work of a few split blocks."""

FOUND = 256
"""Blocks that a program looks at together when it finds spans."""

_REGISTERS = 160
"""Sums and scores that each thread of 4 warps may hold, of its 255 registers; 8 warps share more. Warps of
CDNA have 64 threads."""


@cache
def launch(
    kernel: str,
    dims: Dims,
    itemsize: int,
    sides: Sides,
    *,
    device: Device,
    precision: str = "ieee",
    members: int = 1,
) -> Launch:
    """What suits a kernel: "forward", "merge", "delta", "dq", "dkdv", "sum", "row_spans" or "column_spans".

    dims: of the call; "sum" takes the first, that of the gradient that it joins.
    itemsize: bytes of an element; sides: the largest (query, key) of a tile that the layout's blocks
    allow, of what a program holds and of what it meets;
    device: that it is launched on; precision: of products of fp32, "ieee" or "tf32"; members: query heads,
    a power of 2, that may share a tile: it has TILE_Q rows of each of MEMBERS heads. The numbers of a call
    that are compiled in are those of a call that says nothing, and has no pages.
    """
    if kernel in ("row_spans", "column_spans"):  # a warp, as most programs have few blocks
        found: dict[str, Any] = {"TILE": FOUND, "IN_ORDER": 0, "LENGTHS": 0}
        return Launch(found, {"num_warps": 1, "num_stages": 2, "enable_fp_fusion": True})
    pads = padded(dims)
    names = {each.name for each in abi.KERNELS[kernel].constants}
    constants: dict[str, Any] = {x: 0 for x in abi.OF_CALLS if x in names}
    if "PAD" in names:
        constants |= {"HEAD_DIM": dims.key, "PAD": pads.key}
    if "VALUE_PAD" in names:
        constants |= {"VALUE_DIM": dims.value, "VALUE_PAD": pads.value}
    if "STEP" in names:
        constants["STEP"] = stride_step(dims)
    if kernel in ("merge", "sum"):
        constants["TILE"] = JOINED
        return Launch(constants, {"num_warps": 4, "num_stages": 2, "enable_fp_fusion": True})
    widest = max(constants.get("PAD", 0), pads.value)
    if "MEMBERS" not in names:
        members = 1
    tile, members = _tile(kernel, widest, itemsize, sides, device, members)
    kept, streamed = tile.kept, tile.streamed
    if kernel == "delta":
        constants["TILE_Q"] = kept
    else:
        constants |= dict(zip(tile_names(kernel), (kept // members, streamed), strict=True))
        constants |= {"PRECISION": precision, **Call(1.0).constants}
    if "MEMBERS" in names:
        constants["MEMBERS"] = members
    options = {
        "num_warps": warps(kernel, pads, itemsize, kept, streamed, device.lanes),
        "num_stages": tile.stages if device.shared >= 160 * 1024 else 2,
        "enable_fp_fusion": True,  # a score meets its scale and its row's maximum in one instruction
    }
    return Launch(constants, options)


def _tile(
    kernel: str, widest: int, itemsize: int, sides: Sides, device: Device, members: int
) -> tuple[_Tile, int]:
    """The tile of a kernel for a padded head dimension, and how many of so many heads it has rows of: as many
    as it takes where a block has fewer rows than the tile."""
    amd = device.architecture.startswith("hip")
    family = "cdna" if amd else _FAMILIES.get(device.architecture, "ampere")
    tables = [_TILES[itemsize][kernel]]
    if itemsize == 2 and kernel in _OF_FAMILY.get(family, {}):
        tables.insert(0, _OF_FAMILY[family][kernel])
    tiles = next(tiles for table in tables for most, tiles in table.items() if widest <= most)
    kept, streamed = largest(kernel, sides)
    most = kept * members
    allowed = (tile for tile in tiles if tile.kept <= most and tile.streamed <= streamed)
    found = next(allowed, tiles[-1])
    rows = min(found.kept, most)
    tile = _Tile(rows, min(found.streamed, streamed), found.stages)
    return tile, rows // min(rows, kept)


def stride_step(dims: Dims) -> int:
    """What kernels multiply strides by, so that the compiler knows that rows begin at 16 bytes.

    Of multiples of 16 it is told at the launch; those of 8, as dense tensors of 72 columns have them, it
    would load number by number.
    """
    return 8 if any(dim % 16 for dim in dims) and all(dim % 8 == 0 for dim in dims) else 1


def padded(dims: Dims) -> Dims:
    """Columns of tiles: Triton takes powers of 2, and products of at least 16."""
    return Dims(*(max(16, 1 << (dim - 1).bit_length()) for dim in dims))


def warps(kernel: str, pads: Dims, itemsize: int, kept: int, streamed: int, lanes: int = 32) -> int:
    """Warps, of so many threads, of a program that keeps and streams so many rows, of padded head
    dimensions."""
    of_keys, of_values, scores = _HELD[kernel]
    held = kept * (of_keys * pads.key + of_values * pads.value + scores * streamed)
    if itemsize != 2:
        return 8
    least = (
        4 if lanes == 32 else max(2, min(kept // 32, 4))
    )  # matrix instructions of CDNA have 32 rows
    return least if held <= _REGISTERS * least * lanes else 2 * least
