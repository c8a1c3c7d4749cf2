"""What one process costs alone: peak memory of a call, and the time from a spec to its first result.

    python -m benchmarks.probe memory forward 131072
    python -m benchmarks.probe start

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
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import bslang
from benchmarks.contest import ours, prepared
from benchmarks.timing import Spread
from benchmarks.workloads import BIGBIRD, BOTH, FORWARD, Workload

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
    """Seconds from a call of `bslang.compile` to the first result of the cpu target.

    cold: with an empty cache; warm: in a new process, with what the cold one left; loading: what came
    before, once a process: `bslang.compile` is first named, which imports the compiler.
    """

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
    workload.layout().plan(length, length, "end", torch.device("cpu"), workload.heads)
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


def start() -> tuple[float, float]:
    """Seconds of loading the compiler, and from a spec to its first result, in this process."""
    q = torch.randn(1, 4, START_LENGTH, 64)
    begin = time.perf_counter()
    compile_ = bslang.compile
    loaded = time.perf_counter()
    compile_(BIGBIRD.spec, block=64, target="cpu")(q, q, q)
    return loaded - begin, time.perf_counter() - loaded


def memories(lengths: tuple[int, ...]) -> list[Memory]:
    return [
        Memory(**json.loads(_run("memory", phase, str(length))))
        for phase in (FORWARD, BOTH)
        for length in lengths
    ]


def starts(warm: int) -> Start:
    with tempfile.TemporaryDirectory(prefix="bslang-bench-") as folder:
        cold, *others = (
            json.loads(_run("start", BSLANG_CACHE_DIR=f"{folder}/cache")) for _ in range(1 + warm)
        )
    loading, first = zip(*others, strict=True)
    return Start(cold[1], Spread.of(first), Spread.of(loading))


def _run(*arguments: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.probe", *arguments],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())} | env,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


if __name__ == "__main__":
    if sys.argv[1] == "memory":
        print(json.dumps(asdict(memory(sys.argv[2], int(sys.argv[3])))))
    else:
        print(json.dumps(start()))
