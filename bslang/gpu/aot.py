"""Compiling a module's Triton kernels ahead of time, for a device that need not be there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from itertools import product
from typing import Any

import torch

from bslang import abi
from bslang.errors import TargetError
from bslang.gpu.machine.devices import DEVICES
from bslang.progress import report
from bslang.runtime.triton.beside import written
from bslang.runtime.triton.binaries import ALIGNMENT, SUFFIX, TYPES, Binary
from bslang.runtime.triton.launch import TritonTarget
from bslang.runtime.triton.tiles import MAX_DIM, Launch, launch
from bslang.runtime.triton.tuned import Sides

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
"""By the names that commands take."""

_ALIGNED = [["tt.divisibility", ALIGNMENT]]


def compile_kernel(
    target: TritonTarget, kernel: str, architecture: str, head_dim: int, dtype: torch.dtype
) -> Any:
    """Compile a kernel, by its name in `TritonTarget.kernels`, as a call on that device would.

    architecture: "cuda:90" (compute capability 9.0), "hip:gfx942", ... Tensors are assumed to be aligned to
    16 bytes, and if the head dimension is a multiple of 16, their strides too.

    Returns triton's CompiledKernel; its machine code is `asm["cubin"]` or `asm["hsaco"]`. Raises
    TargetError for an unknown architecture, for a head dimension or dtype that kernels do not take, and if
    Triton is missing or fails.
    """
    check(target, architecture, head_dim, dtype)
    import triton
    from triton.compiler import ASTSource

    chosen = choice(kernel, architecture, head_dim, dtype, target.sides)
    function = target.kernels[kernel]
    signature = _signature(kernel, function, dtype)
    aligned = {
        (function.arg_names.index(name),): _ALIGNED
        for name in _aligned(kernel, signature, head_dim)
    }
    source = ASTSource(function, signature, chosen.constants, aligned)
    try:
        return triton.compile(source, target=gpu(architecture), options=chosen.options)
    except Exception as error:  # of whatever kind: ptxas fails, an operation has no lowering
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise TargetError(
            f"triton cannot compile {kernel} for {architecture}, head dimension {head_dim} and "
            f"{TYPES[dtype]}: {reason}"
        ) from error


def choice(
    kernel: str,
    architecture: str,
    head_dim: int,
    dtype: torch.dtype,
    sides: Sides,
) -> Launch:
    """The constants and options of a kernel as a call on that device would choose them."""
    device = DEVICES[architecture]
    return launch(
        kernel, head_dim, dtype.itemsize, sides, shared=device.program * 1024, lanes=device.lanes
    )


def binaries(
    target: TritonTarget,
    name: str,
    module: str,
    architectures: Sequence[str],
    head_dims: Sequence[int],
    dtypes: Sequence[str],
    about: dict[str, Any],
) -> dict[str, str | bytes]:
    """Files for the folder of a generated module: the manifest `NAME.triton.json`, then what it lists.

    target: the module's kernels; module: its text, without which the manifest counts for nothing;
    about: what else the manifest says of the layout. Raises TargetError as `compile_kernel`.
    """
    wanted = list(product(architectures, head_dims, dtypes))
    for architecture, dim, dtype in wanted:
        check(target, architecture, dim, dtype_of(dtype))
    from triton import knobs

    entries: list[Binary] = []
    files: dict[str, str | bytes] = {}
    with knobs.compilation.scope():
        knobs.compilation.disable_line_info = True  # it would name folders of this machine
        each = [*product(wanted, target.kernels)]
        for done, ((architecture, dim, dtype), kernel) in enumerate(each):
            report(done, len(each))
            made = compile_kernel(target, kernel, architecture, dim, dtype_of(dtype))
            suffix = "hsaco" if architecture.startswith("hip") else "cubin"
            file = f"{name}.{kernel}.{architecture.replace(':', '')}.d{dim}.{dtype}.{suffix}"
            files[file] = made.asm[suffix]
            entries.append(_entry(file, kernel, architecture, dim, dtype, target, made))
    manifest = written(
        f"kernels of {name}.py compiled ahead of time",
        module,
        about | {"binaries": [asdict(entry) for entry in entries]},
    )
    return {f"{name}{SUFFIX}": manifest, **files}


def _entry(
    file: str,
    kernel: str,
    architecture: str,
    head_dim: int,
    dtype: str,
    target: TritonTarget,
    made: Any,
) -> Binary:
    chosen = choice(kernel, architecture, head_dim, dtype_of(dtype), target.sides)
    metadata = json.loads(json.dumps(made.metadata._asdict(), default=vars))
    # The folder of Triton's libraries, and a key of its cache: nothing that a launch asks for.
    metadata = {name: x for name, x in metadata.items() if name not in ("extern_libs", "hash")}
    return Binary(
        file=file,
        sha256=hashlib.sha256(made.asm[file.rpartition(".")[2]]).hexdigest(),
        kernel=kernel,
        architecture=architecture,
        head_dim=head_dim,
        dtype=dtype,
        constants=chosen.constants,
        options=chosen.options,
        arguments=dict(made.src.signature),
        aligned=tuple(_aligned(kernel, made.src.signature, head_dim)),
        metadata=metadata,
    )


def gpu(architecture: str) -> Any:
    """Triton's description of a device. Raises TargetError for an architecture that is none."""
    if architecture not in DEVICES:
        close = get_close_matches(architecture, DEVICES, 1, cutoff=0.8)
        guess = f"; did you mean {close[0]!r}?" if close else ""
        raise TargetError(
            f"unknown architecture {architecture!r}; supported architectures: "
            f"{', '.join(DEVICES)}{guess}"
        )
    from triton.backends.compiler import GPUTarget

    backend, _, name = architecture.partition(":")
    if backend == "hip":
        return GPUTarget("hip", name, 64)
    return GPUTarget("cuda", int(name), 32)


def dtype_of(name: str) -> torch.dtype:
    """The dtype of a name. Raises TargetError where there is none."""
    if name not in DTYPES:
        raise TargetError(f"unknown dtype {name!r}; kernels take {', '.join(DTYPES)}")
    return DTYPES[name]


def check(target: TritonTarget, architecture: str, head_dim: int, dtype: torch.dtype) -> None:
    """Raise TargetError for what kernels do not take, and where Triton does not compile."""
    if target.uncompiled:
        raise TargetError(f"kernels cannot be compiled ahead of time: {target.uncompiled}")
    gpu(architecture)
    check_call(head_dim, dtype)


def check_call(head_dim: int, dtype: torch.dtype) -> None:
    """Raise TargetError for a head dimension or a dtype that kernels do not take."""
    if not 1 <= head_dim <= MAX_DIM:
        raise TargetError(f"the head dimension must be from 1 to {MAX_DIM}, not {head_dim}")
    if dtype not in DTYPES.values():
        raise TargetError(f"unknown dtype {dtype}; kernels take {', '.join(DTYPES)}")


def _aligned(kernel: str, signature: dict[str, str], head_dim: int) -> Iterable[str]:
    """Arguments that are taken to be multiples of ALIGNMENT."""
    strides: tuple[abi.Argument, ...] = ()
    if head_dim % ALIGNMENT == 0:  # else dense rows lie otherwise
        strides = abi.KERNELS[kernel].strides
    return [
        name
        for name, kind in signature.items()
        if kind.startswith("*") or name in {stride.name for stride in strides}
    ]


def _signature(kernel: str, function: Any, dtype: torch.dtype) -> dict[str, str]:
    """The types of a kernel's arguments, in order, by their names."""
    types = {each.name: each.type for each in abi.KERNELS[kernel].all}
    return {name: types[name].replace(abi.ELEMENT, TYPES[dtype]) for name in function.arg_names}
