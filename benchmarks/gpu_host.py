"""Host time of a call on a GPU: what a step costs when its kernels take no time.

    python -m benchmarks.gpu_host [--rounds 15]

Kernels are compiled for an H100 that is not there, and nothing is launched (`benchmarks.driver`); times are
of one thread's clock, the least of some rounds of 100 calls.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch

import bslang
from benchmarks import driver
from benchmarks.markdown import table

GOALS = {"forward": 60.0, "forward and backward": 250.0}
"""Microseconds."""


def contestants() -> dict[str, Callable[[], object]]:
    """Calls by name, each of a kind that was called before: `causal`, q (1, 2, 256, 128) in bf16."""
    layout = bslang.compile("causal", block=64, target="triton")
    q = torch.zeros(1, 2, 256, 128, dtype=torch.bfloat16, device="cpu")
    x, grad = q.clone().requires_grad_(), torch.zeros_like(q)
    lengths = torch.tensor([200], dtype=torch.int64, device="cpu")
    return {
        "forward": lambda: layout(q, q, q),
        "forward and backward": lambda: layout(x, x, x).backward(grad),
        "a step of decoding": lambda: layout(q[:, :, :1], q, q),
        "a step, `lengths` on the device": lambda: layout(q[:, :, :1], q, q, lengths=lengths),
    }


def timed(rounds: int, calls: int = 100) -> dict[str, float]:
    """Microseconds of each."""
    found = {}
    for name, call in contestants().items():
        call()
        best = float("inf")
        for _ in range(rounds):
            begin = time.thread_time()
            for _ in range(calls):
                call()
            best = min(best, time.thread_time() - begin)
        found[name] = best / calls * 1e6
    return found


def report(found: dict[str, float]) -> str:
    """The times as a Markdown table."""
    rows: list[list[Any]] = [
        [name, f"{us:.0f}", f"{GOALS[name]:.0f}" if name in GOALS else ""]
        for name, us in found.items()
    ]
    return table(["a call", "host, us", "goal"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    driver.install().recording = False
    print(report(timed(rounds)))


if __name__ == "__main__":
    main()
