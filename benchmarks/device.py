"""What a run of `benchmarks.gpu` measures on: how calls are timed there, and what the device is.

The processor stands in for a GPU where there is none, so that all of the program can be tested.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

import torch

from benchmarks.machine import (
    MM,
    Yardstick,
    first_line,
    matrix_product,
    memory,
    processor,
    software,
)
from benchmarks.timing import CLOCK, Call, Watch

HOLD_BYTES = 2**30
"""Written before each timed call: at 3 TB/s for a third of a millisecond."""

GPU_MM_SIZE = 8192


class Device(Protocol):
    """watch: how calls are timed on it."""

    watch: Watch

    def yardstick(self) -> Yardstick:
        """torch.mm in bf16."""
        ...

    def describe(self) -> dict[str, str | int | float]:
        """What a reader must know to compare figures with others."""
        ...

    def clocks(self) -> str:
        """Its clocks now, "" where they cannot be had."""
        ...


@dataclass(frozen=True)
class Events:
    """The watch of a GPU: CUDA events on its own clock.

    Before each call a buffer is written that is larger than the L2 cache, for two reasons. No call
    finds its inputs there, as none would inside a model. And while the device writes, the host queues
    the call behind it, so that events stand around the kernels alone; only what Python needs beyond
    that to launch a short call is in its time.

    buffer: tensor to write; cuda: torch.cuda, or what stands in for it in tests.
    """

    buffer: torch.Tensor
    cuda: Any = torch.cuda
    least: float = 0.02
    warm_rounds: int = 1

    def __call__(self, call: Call, repeats: int) -> float:
        """Seconds a call, over so many calls."""
        spans = [
            tuple(self.cuda.Event(enable_timing=True) for _ in range(2)) for _ in range(repeats)
        ]
        self.cuda.synchronize()
        for begin, end in spans:
            self.buffer.zero_()
            begin.record()
            call()
            end.record()
        self.cuda.synchronize()
        return float(sum(begin.elapsed_time(end) for begin, end in spans)) / 1000 / repeats

    def rest(self) -> None:
        """Nothing: a call begins when those before it are done."""


class Cuda:
    """The current CUDA device. Raises RuntimeError where there is none."""

    def __init__(self) -> None:
        size = min(HOLD_BYTES, memory("cuda") // 16)
        self.watch: Watch = Events(torch.empty(size, dtype=torch.int8, device="cuda"))

    def yardstick(self) -> Yardstick:
        return matrix_product(GPU_MM_SIZE, torch.bfloat16, "cuda")

    def describe(self) -> dict[str, str | int | float]:
        about = torch.cuda.get_device_properties(torch.cuda.current_device())
        return {
            "device": about.name,
            "compute capability": f"{about.major}.{about.minor}",
            "multiprocessors": about.multi_processor_count,
            "memory_gb": round(about.total_memory / 1e9, 1),
            "l2_mb": round(getattr(about, "L2_cache_size", 0) / 1e6, 1),
            "driver": _smi("driver_version") or "unknown",
            "power limit": _smi("power.limit") or "unknown",
            "clocks at the start": self.clocks() or "unknown",
            "cuda": str(torch.version.cuda or torch.version.hip),
            "triton": _version("triton"),
            "processor": processor(),
        } | software()

    def clocks(self) -> str:
        found = _smi("clocks.sm,clocks.max.sm,clocks.mem,temperature.gpu").split(", ")
        return "SM {} of {}, memory {}, {} C".format(*found) if len(found) == 4 else ""


class Processor:
    """The processor in the place of a GPU: it proves the program, and its figures mean nothing here."""

    watch: Watch = CLOCK

    def yardstick(self) -> Yardstick:
        return matrix_product(512, torch.bfloat16)

    def describe(self) -> dict[str, str | int | float]:
        return {"device": f"{processor()} in the place of a GPU", "triton": _version("triton")} | (
            software()
        )

    def clocks(self) -> str:
        return ""


DEVICES: dict[str, Callable[[], Device]] = {"cuda": Cuda, "cpu": Processor}
"""By the name that `Workload.device` has."""


def yardsticks(device: Device) -> dict[str, Yardstick]:
    """By name, as `contest.measure` takes them."""
    return {MM: device.yardstick()}


def _smi(query: str) -> str:
    """What nvidia-smi says of the current device, with units; "" where it says nothing."""
    about = torch.cuda.get_device_properties(torch.cuda.current_device())
    which = ["-i", f"GPU-{about.uuid}"] if hasattr(about, "uuid") else []
    return first_line(["nvidia-smi", *which, f"--query-gpu={query}", "--format=csv,noheader"])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
