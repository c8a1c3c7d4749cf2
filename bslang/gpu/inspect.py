"""Reading compiled kernels with the tools that Triton's package carries."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from bslang.dims import Dims, GivenDims
from bslang.errors import TargetError
from bslang.gpu.aot import check, choice, compile_kernel, compiled_for, dtype_of
from bslang.gpu.machine import amdgcn, sass
from bslang.gpu.machine.code import Instruction, Loops, counts
from bslang.gpu.machine.devices import DEVICES
from bslang.gpu.machine.faults import faults
from bslang.gpu.machine.report import Fault, Inspected, Report, loops
from bslang.runtime.triton.backends import backend, kernels
from bslang.runtime.triton.beside import module_of, plain
from bslang.runtime.triton.launch import TritonTarget
from bslang.runtime.triton.tiles import Launch


def inspect(
    target: TritonTarget, architecture: str, head_dim: GivenDims, dtype: str
) -> list[Inspected]:
    """Compile the kernels of a module, and report what is in them and what is wrong with them; no GPU is
    needed.

    A kernel that Triton cannot compile, or whose machine code cannot be read, has that as its fault. Raises
    TargetError as `bslang.gpu.aot.check`.
    """
    dims = Dims.of(head_dim)
    check(target, architecture, dims, dtype_of(dtype))
    return [
        inspect_kernel(target, kernel, architecture, of_kernel, dtype)
        for kernel in kernels(target.kernels, architecture)
        for of_kernel in compiled_for(kernel, dims)
    ]


def inspect_kernel(
    target: TritonTarget,
    kernel: str,
    architecture: str,
    dims: Dims,
    dtype: str,
    chosen: Launch | None = None,
) -> Inspected:
    """As `inspect`, of one kernel, by its name in `TritonTarget.kernels`; chosen: as for `compile_kernel`."""
    try:
        return _report(target, kernel, architecture, dims, dtype, chosen)
    except TargetError as error:
        return Inspected(
            kernel,
            backend(kernel, architecture),
            architecture,
            dims.key,
            dims.value,
            dtype,
            (Fault("compile", str(error)),),
        )


def _report(
    target: TritonTarget,
    kernel: str,
    architecture: str,
    dims: Dims,
    dtype: str,
    chosen: Launch | None,
) -> Report:
    chosen = chosen or choice(kernel, architecture, dims, dtype_of(dtype), target.sides)
    made = compile_kernel(target, kernel, architecture, dims, dtype_of(dtype), chosen=chosen)
    read = _amd if architecture.startswith("hip") else _nvidia
    code, registers, stack = read(made)
    found = Loops(code)
    shared, warps = int(made.metadata.shared), int(made.metadata.num_warps)
    device = DEVICES[architecture]
    columns = int(getattr(made.metadata, "tmem_size", None) or 0)
    programs, limit = device.occupancy(registers, shared, warps, columns)
    function = plain(target.kernels[kernel])
    source = module_of(function).read_text(encoding="utf-8")
    report = Report(
        kernel=kernel,
        backend=backend(kernel, architecture),
        architecture=architecture,
        head_dim=dims.key,
        value_dim=dims.value,
        dtype=dtype,
        faults=(),
        constants=chosen.constants,
        warps=warps,
        asked=int(chosen.options["num_warps"]),
        stages=int(made.metadata.num_stages),
        registers=registers,
        stack=stack,
        local=counts(code)["local"],
        shared=shared,
        columns=columns,
        programs=programs,
        most_warps=device.warps,
        limit=limit,
        loops=loops(found, source, function.fn.__name__),
    )
    return replace(report, faults=faults(report, found))


def _nvidia(made: Any) -> tuple[list[Instruction], int, int]:
    """The instructions of a kernel, its registers, and the bytes of its stack."""
    from triton import knobs

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "kernel.cubin")
        file.write_bytes(made.asm["cubin"])
        usage = _run(knobs.nvidia.cuobjdump.path, "-res-usage", file)
        text = _run(knobs.nvidia.nvdisasm.path, "-c", "-gi", file)
    name = re.escape(made.metadata.name)
    found = re.search(rf"Function {name}:\s+REG:(\d+) STACK:(\d+)", usage)
    if found is None:
        raise TargetError("cannot read a kernel's registers from the output of cuobjdump")
    return sass.read(text, made.metadata.name), int(found[1]), int(found[2])


def _run(tool: str, *arguments: str | Path) -> str:
    try:
        done = subprocess.run([tool, *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise TargetError(
            f"{Path(tool).name}, of triton's package, does not run: {error}"
        ) from None
    return done.stdout + done.stderr


def _amd(made: Any) -> tuple[list[Instruction], int, int]:
    """As `_nvidia`."""
    text = made.asm["amdgcn"]
    numbers = amdgcn.numbers(text)
    code = amdgcn.read(text, made.metadata.name)
    return code, numbers["vgpr_count"], numbers["private_segment_fixed_size"]
