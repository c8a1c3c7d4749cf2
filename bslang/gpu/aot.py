"""Compiling a module's Triton kernels ahead of time, for a device that need not be there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from itertools import product
from typing import Any, NamedTuple

import torch

from bslang import abi
from bslang.abi_structs import CONSTANT, DESCRIPTOR
from bslang.dims import Dims, GivenDims
from bslang.errors import TargetError
from bslang.gpu.machine.devices import DEVICES, device
from bslang.progress import report
from bslang.runtime.triton import hopper
from bslang.runtime.triton.arguments import AS_A_WHOLE, IN_ONE_PIECE, Pages, Places
from bslang.runtime.triton.backends import kernels
from bslang.runtime.triton.beside import written
from bslang.runtime.triton.binaries import ALIGNMENT, SUFFIX, TYPES, Binary
from bslang.runtime.triton.launch import TritonTarget
from bslang.runtime.triton.tiles import MAX_DIM, Launch, launch
from bslang.runtime.triton.tuned import Sides

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
"""By the names that commands take."""


class _Use(NamedTuple):
    """What a binary is for. name: what its file's name says of it; places: of the calls; members: query heads
    of a key head, which a tile may hold."""

    name: str = ""
    places: Places = AS_A_WHOLE
    members: int = 1


_USES = (
    _Use(),
    _Use(".group", members=4),
    _Use(".step", Places(in_order=1)),
    _Use(".rows", Places(in_order=1, lengths=1)),
)
"""Calls with tables of their own, those whose query heads share key heads in fours, and steps of decoding,
which need no gradients: at one length, and of rows with lengths of their own. Kernels of other calls are
compiled when they are first called."""

_ALIGNED = [["tt.divisibility", ALIGNMENT]]


def compile_kernel(
    target: TritonTarget,
    kernel: str,
    architecture: str,
    head_dim: GivenDims,
    dtype: torch.dtype,
    pages: Pages = IN_ONE_PIECE,
    places: Places = AS_A_WHOLE,
    chosen: Launch | None = None,
) -> Any:
    """Compile a kernel, by its name in `TritonTarget.kernels`, as a call on that device would.

    architecture: "cuda:90" (compute capability 9.0), "hip:gfx942", ...; head_dim: that of all tensors, or a
    pair (of q and k, of v); pages, places: those of a call. Tensors are assumed to be aligned to 16 bytes,
    and if their head dimension is a multiple of 16, their strides too. chosen: other constants and options
    than those of such a call.

    Returns triton's CompiledKernel; its machine code is `asm["cubin"]` or `asm["hsaco"]`. Raises
    TargetError for an unknown architecture, for a head dimension or dtype that kernels do not take, and if
    Triton is missing or fails.
    """
    dims = Dims.of(head_dim)
    check(target, architecture, dims, dtype)
    import triton
    from triton.compiler import ASTSource
    from triton.experimental.gluon._runtime import GluonASTSource

    chosen = chosen or choice(kernel, architecture, dims, dtype, target.sides)
    function = target.kernels[kernel]
    constants = chosen.constants | pages.constants(kernel) | places.constants(kernel)
    signature = _signature(kernel, function, dtype, constants)
    absent = {name: None for name, kind in signature.items() if kind == CONSTANT}
    aligned = {
        (function.arg_names.index(name),): _ALIGNED
        for name in _aligned(kernel, signature, dims, constants)
    }
    made_of = GluonASTSource if kernel.endswith(abi.HOPPER) else ASTSource
    source = made_of(function, signature, absent | constants, aligned)
    try:
        return triton.compile(source, target=gpu(architecture), options=chosen.options)
    except Exception as error:  # of whatever kind: ptxas fails, an operation has no lowering
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise TargetError(
            f"triton cannot compile {kernel} for {architecture}, head dimension {dims} and "
            f"{TYPES[dtype]}: {reason}"
        ) from error


def choice(
    kernel: str,
    architecture: str,
    dims: Dims,
    dtype: torch.dtype,
    sides: Sides,
    members: int = 1,
) -> Launch:
    """The constants and options of a kernel as a call on that device would choose them; members: query heads
    that may share a tile."""
    if kernel.endswith(abi.HOPPER):
        return hopper.launch(kernel, dims, sides, members)
    of = device(architecture)
    return launch(kernel, dims, dtype.itemsize, sides, device=of, members=members)


def binaries(
    target: TritonTarget,
    name: str,
    module: str,
    architectures: Sequence[str],
    head_dims: Sequence[GivenDims],
    dtypes: Sequence[str],
    about: dict[str, Any],
) -> dict[str, str | bytes]:
    """Files for the folder of a generated module: the manifest `NAME.triton.json`, then what it lists.

    target: the module's kernels; module: its text, without which the manifest counts for nothing;
    about: what else the manifest says of the layout. Raises TargetError as `compile_kernel`.
    """
    wanted = list(product(architectures, dict.fromkeys(map(Dims.of, head_dims)), dtypes))
    for architecture, dims, dtype in wanted:
        check(target, architecture, dims, dtype_of(dtype))
    from triton import knobs

    entries: list[Binary] = []
    files: dict[str, str | bytes] = {}
    with knobs.compilation.scope():
        knobs.compilation.disable_line_info = True  # it would name folders of this machine
        each = dict.fromkeys(
            (kernel, use, architecture, of_kernel, dtype)
            for architecture, dims, dtype in wanted
            for kernel in kernels(target.kernels, architecture)
            for of_kernel in compiled_for(kernel, dims)
            for use in _USES
            if not use.places.in_order or kernel in ("forward", "merge")
        )
        for done, (kernel, use, architecture, dims, dtype) in enumerate(each):
            report(done, len(each))
            given = kernel, architecture, dims, dtype_of(dtype)
            chosen = choice(*given, target.sides, use.members)
            if use.members > 1 and chosen.constants.get("MEMBERS", 1) == 1:  # as of one head
                continue
            made = compile_kernel(target, *given, places=use.places, chosen=chosen)
            suffix = "hsaco" if architecture.startswith("hip") else "cubin"
            of_dims = str(dims).replace("/", "x")
            of = f"{kernel}{use.name}.{architecture.replace(':', '')}.d{of_dims}.{dtype}"
            file = f"{name}.{of}.{suffix}"
            files[file] = made.asm[suffix]
            entries.append(
                _entry(file, kernel, architecture, dims, dtype, chosen, use.places, made)
            )
    manifest = written(
        f"kernels of {name}.py compiled ahead of time",
        module,
        about | {"binaries": [asdict(entry) for entry in entries]},
    )
    return {f"{name}{SUFFIX}": manifest, **files}


def compiled_for(kernel: str, dims: Dims) -> list[Dims]:
    """The dimensions that a kernel is compiled for, in calls of some. Kernels of outputs have those of
    values alone; "sum" joins gradients of either."""
    if kernel in ("merge", "delta"):
        return [Dims.of(dims.value)]
    return [*dict.fromkeys(map(Dims.of, dims))] if kernel == "sum" else [dims]


def _entry(
    file: str,
    kernel: str,
    architecture: str,
    dims: Dims,
    dtype: str,
    chosen: Launch,
    places: Places,
    made: Any,
) -> Binary:
    metadata = json.loads(json.dumps(made.metadata._asdict(), default=vars))
    # The folder of Triton's libraries, and a key of its cache: nothing that a launch asks for.
    metadata = {name: x for name, x in metadata.items() if name not in ("extern_libs", "hash")}
    return Binary(
        file=file,
        sha256=hashlib.sha256(made.asm[file.rpartition(".")[2]]).hexdigest(),
        kernel=kernel,
        architecture=architecture,
        head_dim=dims.key,
        value_dim=dims.value,
        dtype=dtype,
        constants=chosen.constants | places.constants(kernel),
        options=chosen.options,
        arguments=dict(made.src.signature),
        aligned=tuple(_aligned(kernel, made.src.signature, dims, chosen.constants)),
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


def check(target: TritonTarget, architecture: str, dims: Dims, dtype: torch.dtype) -> None:
    """Raise TargetError for what kernels do not take, and where Triton does not compile."""
    if target.uncompiled:
        raise TargetError(f"kernels cannot be compiled ahead of time: {target.uncompiled}")
    gpu(architecture)
    check_call(dims, dtype)


def check_call(dims: Dims, dtype: torch.dtype) -> None:
    """Raise TargetError for a head dimension or a dtype that kernels do not take."""
    if not all(1 <= dim <= MAX_DIM for dim in dims):
        raise TargetError(f"the head dimension must be from 1 to {MAX_DIM}, not {dims}")
    if dtype not in DTYPES.values():
        raise TargetError(f"unknown dtype {dtype}; kernels take {', '.join(DTYPES)}")


def _aligned(
    kernel: str, signature: dict[str, str], dims: Dims, constants: Mapping[str, Any]
) -> Iterable[str]:
    """Arguments that are taken to be multiples of ALIGNMENT."""
    alignment = ALIGNMENT * constants.get("STEP", 1)
    of_keys = {"q", "k", "dq", "dk", "total"}
    strides = {
        each.name
        for each in (*abi.KERNELS[kernel].strides, *abi.KERNELS[kernel].results)
        if dims[each.name.partition("_")[0] not in of_keys] % alignment
        == 0  # else dense rows lie otherwise
    }
    return [
        name
        for name, kind in signature.items()
        if kind.startswith("*") or (name in strides and kind != CONSTANT)
    ]


def _signature(
    kernel: str, function: Any, dtype: torch.dtype, constants: Mapping[str, Any]
) -> dict[str, str]:
    """The types of a kernel's arguments, in order, by their names; constants: those that are compiled in."""
    types = {
        each.name: each.type.replace(abi.ELEMENT, TYPES[dtype]) for each in abi.KERNELS[kernel].all
    }
    types |= {each.name: CONSTANT for each in abi.KERNELS[kernel].absent(constants)}
    if kernel.endswith(abi.HOPPER):
        tiles = hopper.tiles(kernel, constants)
        for each in abi.KERNELS[kernel].all:
            if each.is_descriptor:
                kind = types[each.name].removeprefix(DESCRIPTOR)
                types[each.name] = hopper.type_of(tiles[each.name], kind)
    return {name: types[name] for name in function.arg_names}
