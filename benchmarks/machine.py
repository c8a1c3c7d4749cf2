"""The machine that is measured on: what it is, and the two rates that all others are held against."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch

import bslang
from benchmarks.timing import Call
from bslang.runtime.cpu.build import build, find_compiler

MM_SIZE = 2048
PEAK = "FMA peak"
MM = "torch.mm"


@dataclass(frozen=True)
class Yardstick:
    """Something whose rate is known to be good: a call, and the floating-point operations in it."""

    call: Call
    flops: float


def yardsticks() -> dict[str, Yardstick]:
    """The processor's fused multiply-adds alone, and torch's product of two fp32 matrices.

    Both on torch's number of threads. Raises BuildError where there is no compiler.
    """
    return {PEAK: _fma_peak(), MM: matrix_product(MM_SIZE)}


def _fma_peak(steps: int = 5_000_000) -> Yardstick:
    source = Path(__file__).with_name("peak.cpp").read_text(encoding="utf-8")
    run = ctypes.CDLL(str(build(source))).bslang_peak
    run.argtypes = (ctypes.c_int64, ctypes.c_int64, ctypes.POINTER(ctypes.c_float))
    run.restype = ctypes.c_double
    sink, threads = ctypes.c_float(), torch.get_num_threads()
    flops = run(threads, 1, sink) * steps
    return Yardstick(lambda: run(threads, steps, sink), flops)


def matrix_product(size: int, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Yardstick:
    """torch's product of two square matrices."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return Yardstick(lambda: torch.mm(a, b), 2.0 * size**3)


def memory(device: str = "cpu") -> int:
    """Bytes of a device's memory."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[1])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def describe() -> dict[str, str | int | float]:
    """What a reader must know to compare figures with others."""
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "bf16": bf16_instructions(),
        "load": round(os.getloadavg()[0], 2),
        "memory_gb": round(memory() / 1e9, 1),
        "numpy": np.__version__,
        "compiler": first_line([*find_compiler(), "--version"]),
    } | software()


def software() -> dict[str, str | int | float]:
    """What of it every device has."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "bslang": bslang.__version__,
        "commit": _commit(),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }


def processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


AVX512_BF16, AMX, BFMMLA = "AVX512-BF16", "AMX", "BFMMLA"
BF16 = {"avx512_bf16": AVX512_BF16, "amx_bf16": AMX, "bf16": BFMMLA}
"""Instructions for bf16, by the flags of Linux."""


def bf16_instructions() -> str:
    """Instructions of this processor for products of bf16; "" where there are none, or it is not known."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "").split()
    return " and ".join(name for flag, name in BF16.items() if flag in flags)


def _commit() -> str:
    """The commit that is checked out, and whether files differ from it; "unknown" outside of git."""
    here = ["git", "-C", str(Path(__file__).parent)]
    commit = first_line([*here, "rev-parse", "--short=12", "HEAD"])
    changed = first_line([*here, "status", "--porcelain", "--untracked-files=no"])
    return (commit or "unknown") + (" with changes" if changed else "")


def first_line(command: list[str]) -> str:
    """What a program prints first; "" where there is no such program."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.partition("\n")[0].strip()
