"""The kernels for Hopper: what they take, their tiles, and the descriptors of their tensors.

A descriptor tells the hardware how to copy tiles of a tensor (NVIDIA's Tensor Memory Accelerator). It is
made on the host, and handed to a kernel by value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from bslang import abi
from bslang.dims import Dims
from bslang.runtime.triton.binaries import TYPES, descriptor_type
from bslang.runtime.triton.tiles import Launch, padded
from bslang.runtime.triton.tuned import Sides

ROWS = 64
"""Rows of a tile that a group of four warps holds: those of one matrix instruction."""

LARGEST_DIM = 128
"""Largest head dimension: beyond it sums do not fit into the registers of a group."""

_SCORES = {"forward": (128, 128), "dq": (128, 64), "dkdv": (64, 64)}
"""Rows of a tile that a program meets, by kernel, for head dimensions up to 64 and up to 128: as many as
their scores leave registers for. `make bench-static` shows what the compiler makes of them."""


def lacks(dims: Dims, dtype: torch.dtype) -> str:
    """Why calls of head dimensions and a dtype have no kernels for Hopper, or ""."""
    if dtype.itemsize != 2:
        return f"{dtype} has no products of its own there"
    if max(dims) > LARGEST_DIM:
        return f"a head dimension is above {LARGEST_DIM}"
    if dims.key % 8 or dims.value % 8:
        return "a head dimension is not a multiple of 8"
    return ""


def unfit(tensors: Mapping[str, torch.Tensor], length: int) -> str:
    """Why descriptors cannot be made of the tensors (batch, heads, length, dim) of a call, by name, and of
    vectors of that length, or "": hardware wants addresses and strides that are multiples of 16 bytes."""
    if length % 4:
        return "the number of queries is not a multiple of 4"
    for name, x in tensors.items():
        apart = [
            stride for size, stride in zip(x.shape[:-1], x.stride()[:-1], strict=True) if size > 1
        ]
        if x.stride(-1) != 1 or any(s <= 0 or s * x.itemsize % 16 for s in apart):
            return f"rows of {name} are not a multiple of 16 bytes apart"
        if x.data_ptr() % 16:
            return f"{name} does not begin at a multiple of 16 bytes"
    return ""


def launch(kernel: str, dims: Dims, sides: Sides, members: int = 1) -> Launch:
    """How a kernel is compiled for calls of some head dimensions; kernel: with `bslang.abi.HOPPER`.

    sides: as in `bslang.runtime.triton.tiles.launch`; members: query heads that share a key head, if a tile
    may hold several.
    """
    base, pads = kernel.removesuffix(abi.HOPPER), padded(dims)
    wide = max(pads) > 64
    (held_q, held_k), (met_q, met_k) = sides
    held, met = (held_k, met_q) if base == "dkdv" else (held_q, met_k)
    names = {each.name for each in abi.KERNELS[kernel].constants}
    met = min(met, _SCORES[base][wide])
    groups, several = min(held // ROWS, 2), 1
    if groups == 1 and "MEMBERS" in names and members % 2 == 0:
        groups, several = 2, 2
    kept, streamed = ("TILE_K", "TILE_Q") if base == "dkdv" else ("TILE_Q", "TILE_K")
    constants = {
        "HEAD_DIM": dims.key,
        "PAD": pads.key,
        "VALUE_DIM": dims.value,
        "VALUE_PAD": pads.value,
        kept: ROWS * groups // several,
        streamed: met,
        "MEMBERS": several,
        "STAGES": 2,
    }
    options = {"num_warps": 4, "enable_fp_fusion": True}
    if groups == 1:
        options["maxnreg"] = 128
    return Launch({name: x for name, x in constants.items() if name in names}, options, kernel)


def tiles(kernel: str, constants: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shapes of the tiles that a kernel copies, by the tensor that they are of."""
    columns = {"q": constants["PAD"], "v": constants["VALUE_PAD"]}
    columns |= {"k": columns["q"], "do": columns["v"]}
    if kernel == f"dkdv{abi.HOPPER}":
        met = constants["TILE_Q"]
        rows = {"q": met, "do": met, "k": ROWS, "v": ROWS}
    else:
        met = constants["TILE_K"]
        rows = {"q": ROWS, "do": ROWS, "k": met, "v": met}
    found: dict[str, tuple[int, ...]] = {name: (1, 1, rows[name], columns[name]) for name in rows}
    return found | {"delta": (1, met), "lse2": (1, met)}


def in_shared_memory(tile: tuple[int, ...], dtype: str) -> Any:
    """Triton's layout of a tile in shared memory; dtype: as Triton names it."""
    from bslang.runtime.triton.gluon import gl

    if len(tile) == 2:  # elements of a vector
        return gl.NVMMASharedLayout(swizzle_byte_width=0, element_bitwidth=32, rank=2)
    kind = {"bf16": gl.bfloat16, "fp16": gl.float16}[dtype]
    return gl.NVMMASharedLayout.get_default_for(list(tile), kind)


def type_of(tile: tuple[int, ...], dtype: str) -> str:
    """The type of an argument that is a descriptor, as Triton writes it."""
    return descriptor_type(dtype, tile, in_shared_memory(tile, dtype))


def described(x: torch.Tensor, tile: tuple[int, ...], of: Any = None) -> Any:
    """The descriptor of a tensor (batch, heads, length, dim), or of a vector (lanes, length).

    tile: as in `tiles`; of: what Triton asks for the address and the dtype, instead of the tensor.
    """
    from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

    shape, strides = list(x.shape), x.stride()
    # A stride that nothing walks along may be any; the hardware wants one.
    steps = [s if n > 1 else 16 for n, s in zip(shape[:-1], strides[:-1], strict=True)]
    layout = in_shared_memory(tile, TYPES[x.dtype])
    return TensorDescriptor(x if of is None else of, shape, [*steps, 1], list(tile), layout)


class _Address:
    """The address and the dtype of a tensor, which a descriptor that is kept does not keep alive."""

    def __init__(self, x: torch.Tensor) -> None:
        self._address, self.dtype = x.data_ptr(), x.dtype

    def data_ptr(self) -> int:
        return self._address


class Describe:
    """Makes the descriptors of an argument of one launch, whose tensors differ in their addresses alone.

    made: those made last, by address.
    """

    _LIMIT = 256

    def __init__(self, tile: tuple[int, ...], length: int) -> None:
        """tile: as in `tiles`; length: of a vector, which has an element for each query of each head."""
        self._tile, self._length = tile, length
        self._first: Any = None
        self.made: dict[int, Any] = {}

    def __call__(self, x: torch.Tensor) -> Any:
        """That of a tensor (batch, heads, length, dim), or of a vector in one piece."""
        base = _Address(x)
        if self._first is None:
            whole = x if len(self._tile) == 4 else x.view(-1, self._length)
            found = self._first = described(whole, self._tile, base)
        else:  # Triton would check shape and strides again, which takes ten times as long
            found = object.__new__(type(self._first))
            vars(found).update(vars(self._first), base=base)
        if len(self.made) >= self._LIMIT:
            self.made.clear()
        self.made[base.data_ptr()] = found
        return found


def describes(kernel: str, constants: Mapping[str, Any], length: int) -> dict[str, Describe]:
    """What makes the descriptors of a kernel's arguments, by name; length: queries of a call."""
    shapes, arguments = tiles(kernel, constants), abi.KERNELS[kernel].tensors
    return {x.name: Describe(shapes[x.name], length) for x in arguments if x.is_descriptor}
