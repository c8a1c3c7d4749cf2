"""Ranks that die, stall or raise: an error on all others, within the timeout of the group.

The table of docs/reliability.md names these tests.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import ranks
import torch
import torch.distributed as dist

import bslang
from bslang.distributed import context_parallel, shard_sequence, transport

TIMEOUT = timedelta(seconds=3)
STARTED = 60.0
"""Seconds for processes to start, import and fail: those that hang never do."""


def dies(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stalls(number: int) -> None:
    if number:  # the first answers say that all ranks agree
        time.sleep(STARTED)


def call(rank: int, store: str, fault: Callable[[int], None] | None, said: Connection) -> None:
    """Training steps on three ranks, of which the last has a fault at its exchanges; says how it ended."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", rank=rank, world_size=3, store=dist.FileStore(store, 3), timeout=TIMEOUT
    )
    layout = bslang.compile("last(20t) & causal", block=8, target="torch")
    sharding = shard_sequence(layout, 64, dist.group.WORLD)  # type: ignore[arg-type]  # there is one
    attention, number = context_parallel(layout, sharding), 0

    def hear(request: object) -> None:
        nonlocal number
        if fault is not None and rank == 2:
            fault(number)
        number += 1

    transport.HEARS.append(hear)
    q = torch.randn(1, 2, sharding.local_len, 8, requires_grad=True)
    try:
        for _ in range(3):
            attention(q, q, q).sum().backward()
        said.send("")
    except Exception as error:
        said.send(f"{type(error).__name__}: {error}")
    # Nobody is left to take leave of.
    os._exit(0)


@pytest.mark.parametrize("fault", [None, dies, stalls])
def test_a_rank_that_fails_is_an_error_on_all(
    fault: Callable[[int], None] | None, tmp_path: Path
) -> None:
    pipes = [ranks.CONTEXT.Pipe(duplex=False) for _ in range(3)]
    processes = [
        ranks.CONTEXT.Process(target=call, args=(rank, str(tmp_path / "store"), fault, said))
        for rank, (_, said) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    try:
        for heard, _ in pipes[:2]:
            assert heard.poll(STARTED), "a rank hangs"
            error = heard.recv()
            assert bool(error) == (fault is not None), error
            assert not error or any(
                word in error.lower()
                for word in ("closed", "reset", "timed out", "timeout", "abort")
            ), error
    finally:
        for process in processes:
            process.kill()
            process.join()
