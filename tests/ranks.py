"""Four processes that are a group, over gloo: one pool of them for all tests of a run's process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, wait
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

# They are forks of a process that has imported all they need, once.
CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "torch.distributed.fsdp",
        "torch.distributed.tensor.parallel",
        "torch._dynamo",
        "bslang.distributed",
        "bslang.nn",
        "bslang.integrations.transformers",
        "transformers.models.llama.modeling_llama",
    ]
)
COUNT = 4
TIMEOUT = timedelta(seconds=60)
"""Far more than a test takes: a rank that fails leaves the others waiting for so long."""


class Ranks:
    """Processes that each call the same function."""

    def __init__(self, pools: Sequence[Executor]) -> None:
        self._pools = pools

    def run(self, check: Callable[..., Any], *given: Any) -> list[Any]:
        """What `check(*given)` returns on each rank. Raises what the first one that fails raises."""
        futures = [pool.submit(check, *given) for pool in self._pools]
        wait(futures)
        failed = [future.exception() for future in futures if future.exception() is not None]
        # Those who wait for a rank that failed fail as well, of another cause.
        failed.sort(key=lambda error: "onnection" in str(error) or "imed out" in str(error))
        if failed:
            raise failed[0]
        return [future.result() for future in futures]


@contextmanager
def started(count: int = COUNT) -> Iterator[Ranks]:
    """Start processes and join them to a group."""
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        pools = [
            ProcessPoolExecutor(1, CONTEXT, join, (rank, count, store)) for rank in range(count)
        ]
        wait([pool.submit(os.getpid) for pool in pools])
        yield Ranks(pools)
        wait([pool.submit(dist.destroy_process_group) for pool in pools])
        for pool in pools:
            pool.shutdown()


def join(rank: int, count: int, store: str) -> None:
    """Make this process a rank of a group that meets at a file."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", rank=rank, world_size=count, store=dist.FileStore(store, count), timeout=TIMEOUT
    )


@cache
def mesh(*shape: int) -> DeviceMesh:
    """The ranks as a mesh: over the sequence, and over heads."""
    names = ("cp", "tp")[: len(shape)]
    return init_device_mesh("cpu", shape, mesh_dim_names=names)
