"""What one process costs alone: peak memory of a call, and the time from a spec to its first result.

    python -m benchmarks.probe memory forward 131072
    python -m benchmarks.probe start bslang

Run by `benchmarks.cpu`, each in a fresh process; prints JSON.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import bslang
from benchmarks.contest import OURS, ours, prepared
from benchmarks.peers import FLEX, TORCH_TARGET
from benchmarks.timing import Spread
from benchmarks.workloads import BIGBIRD, BOTH, FORWARD, WINDOW, Pattern, Workload

ROOT = Path(__file__).resolve().parent.parent
START_LENGTH = 1024


@dataclass(frozen=True)
class Memory:
    """Growth of a process's peak resident memory in a call, in units of one fp32 (heads, length, dim).

    out is one of them, and each gradient is another.
    """

    phase: str
    length: int
    heads: int
    dim: int
    units: float


@dataclass(frozen=True)
class Start:
    """Seconds from a layout to its first result at START_LENGTH tokens, where it is compiled for.

    Ours begins with the text of a spec, FlexAttention with the function of a mask. cold: with an empty
    cache; warm: in a new process, with what the cold one left; loading: what came before, once a
    process: the compiler is imported.
    """

    contestant: str
    layout: str
    cold: float
    warm: Spread
    loading: Spread


def memory(phase: str, length: int) -> Memory:
    """Measure in this process; its peak so far must be what it holds now."""
    workload = Workload(BIGBIRD, length)
    small = Workload(BIGBIRD, 2048)
    prepared(ours(small).attend, small.inputs(), phase)()  # builds, loads, and starts threads
    given = workload.inputs()
    call = prepared(ours(workload).attend, given, phase)
    workload.layout()._plan(length, length, "end", torch.device("cpu"), workload.heads)
    before = _peak()
    result = call()
    after = _peak()
    del result
    units = (after - before) / (4 * workload.heads * length * workload.dim)
    return Memory(phase, length, workload.heads, workload.dim, units)


def _peak() -> int:
    """Bytes of the most memory that this process has held."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def start(contestant: str) -> tuple[float, float]:
    """Seconds of loading the compiler, and from a layout to its first result, in this process."""
    q = torch.randn(1, 4, START_LENGTH, 64)
    begin = time.perf_counter()
    first = STARTS[contestant][1]()
    loaded = time.perf_counter()
    first(q)
    return loaded - begin, time.perf_counter() - loaded


def _ours(target: str) -> Callable[[torch.Tensor], object]:
    compile_ = bslang.compile
    return lambda q: compile_(BIGBIRD.spec, block=64, target=target)(q, q, q)


def _flex() -> Callable[[torch.Tensor], object]:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    mask: Any = WINDOW.mask

    def first(q: torch.Tensor) -> object:
        blocks = create_block_mask(
            lambda b, h, q, k: mask(q, k), None, None, START_LENGTH, START_LENGTH, device="cpu"
        )
        return torch.compile(flex_attention)(q, q, q, block_mask=blocks)

    return first


STARTS: dict[str, tuple[Pattern, Callable[[], Callable[[torch.Tensor], object]]]] = {
    OURS: (BIGBIRD, lambda: _ours("cpu")),
    TORCH_TARGET.name: (BIGBIRD, lambda: _ours("torch")),
    FLEX.name: (WINDOW, _flex),
}
"""The layout of each contestant, and what loads its compiler and gives the call that is timed."""


def memories(lengths: tuple[int, ...]) -> list[Memory]:
    return [
        Memory(**json.loads(_run("memory", phase, str(length))))
        for phase in (FORWARD, BOTH)
        for length in lengths
    ]


def starts(warm: int) -> list[Start]:
    return [_start(contestant, warm) for contestant in STARTS]


def _start(contestant: str, warm: int) -> Start:
    with tempfile.TemporaryDirectory(prefix="bslang-bench-") as folder:
        caches = ("BSLANG_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
        env = {name: f"{folder}/{name}" for name in caches}
        cold, *others = (json.loads(_run("start", contestant, **env)) for _ in range(1 + warm))
    loading, first = zip(*others, strict=True)
    layout = STARTS[contestant][0].name
    return Start(contestant, layout, cold[1], Spread.of(first), Spread.of(loading))


def _run(*arguments: str, **env: str) -> str:
    inherited = dict(os.environ)
    inherited.pop("PYTHONDONTWRITEBYTECODE", None)  # users have Python keep what it has compiled
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.probe", *arguments],
        cwd=ROOT,
        env=inherited | {"OMP_NUM_THREADS": str(torch.get_num_threads())} | env,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


if __name__ == "__main__":
    if sys.argv[1] == "memory":
        print(json.dumps(asdict(memory(sys.argv[2], int(sys.argv[3])))))
    else:
        print(json.dumps(start(sys.argv[2])))
