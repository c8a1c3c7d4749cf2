"""Compiling a module's Triton kernels ahead of time, for a device that need not be there."""

from __future__ import annotations

from typing import Any

import torch

from bslang.errors import TargetError
from bslang.runtime.triton import TritonTarget, launch

_DTYPES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
_TABLES = ("programs", "merges", "pointer", "runs", "head_graph")
_LABELS = ("q_labels", "k_labels", "q_ranges", "k_ranges")
_FLOATS = ("lse", "grad_lse", "delta", "lse2", "parts")
_SHARED_KIB = {80: 163, 87: 163, 90: 227, 100: 227, 103: 227}
"""Shared memory of a program by compute capability; others have 99 KiB."""
_STRIDES = ("_batch", "_head", "_row")
_SIZES = ("batch", "heads", "key_heads", "len_q", "len_k", "q_start", "lanes", "start", "length")
_ALIGNED = [["tt.divisibility", 16]]


def compile_kernel(
    target: TritonTarget, kernel: str, architecture: str, head_dim: int, dtype: torch.dtype
) -> Any:
    """Compile one kernel, by its name in `TritonTarget.kernels`, as a call would on that device.

    architecture: "cuda:90" (compute capability 9.0), "hip:gfx942", ... Tensors are taken to be
    aligned to 16 bytes, and their strides to be multiples of 16 elements.

    Returns triton's CompiledKernel: machine code in `asm["cubin"]` or `asm["hsaco"]`. Raises
    TargetError for an architecture that is none.
    """
    import triton
    from triton.compiler import ASTSource

    device = gpu(architecture)
    shared = 64 if device.backend == "hip" else _SHARED_KIB.get(device.arch, 99)
    chosen = launch(
        kernel, head_dim, dtype.itemsize, target.tile, shared=shared * 1024, block=target.tile[0]
    )
    function = target.kernels[kernel]
    signature = {name: _type(name, chosen.constants, dtype) for name in function.arg_names}
    aligned = {
        (place,): _ALIGNED
        for place, (name, kind) in enumerate(signature.items())
        if kind.startswith("*") or name.endswith(_STRIDES)
    }
    source = ASTSource(function, signature, chosen.constants, aligned)
    return triton.compile(source, target=device, options=chosen.options)


def gpu(architecture: str) -> Any:
    """Triton's description of a device. Raises TargetError for an architecture that is none."""
    from triton.backends.compiler import GPUTarget

    backend, _, name = architecture.partition(":")
    if backend == "cuda" and name.isdecimal():
        return GPUTarget("cuda", int(name), 32)
    if backend == "hip" and name.startswith("gfx"):
        return GPUTarget("hip", name, 64 if name.startswith("gfx9") else 32)
    raise TargetError(
        f"unknown architecture {architecture!r}; write one such as cuda:80, cuda:90 or hip:gfx942"
    )


def _type(name: str, constants: dict[str, Any], dtype: torch.dtype) -> str:
    """The type of a kernel's argument, by its name."""
    if name in constants:
        return "constexpr"
    if name == "scale":
        return "fp32"
    if name == "parameters":
        return "*i64"
    if name in (*_TABLES, *_LABELS):
        return "*i32"
    if name in _FLOATS or name.startswith("part_"):
        return "*fp32"
    if name.endswith(("_batch", "_head")):
        return "i64"
    if name.endswith("_row") or name in _SIZES:
        return "i32"
    return f"*{_DTYPES[dtype]}"
