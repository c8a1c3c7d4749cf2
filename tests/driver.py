"""Processes whose Triton compiles for a GPU that is not there and launches nothing (`benchmarks.driver`)."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

import torch

from benchmarks import driver

_INSTALLED: list[driver.Driver] = []
"""The driver of this process."""


@contextmanager
def pretending(architecture: str) -> Iterator[Callable[..., Any]]:
    """on(check, ...) calls check(driver, ...) in a process of its own, which lives as long as the block."""
    pool: Executor = ProcessPoolExecutor(1, get_context("spawn"), prepare, (architecture,))

    def on(check: Callable[..., Any], *given: Any) -> Any:
        # multiprocessing asks for it when it starts the process; what runs as a program here may have none.
        vars(sys.modules["__main__"]).setdefault("__spec__", None)
        return pool.submit(call, check, *given).result()

    yield on
    pool.shutdown(cancel_futures=True)


def prepare(architecture: str) -> None:
    torch.set_num_threads(1)
    _INSTALLED.append(driver.install(architecture))
    gc.freeze()  # as in conftest.py


def call(check: Callable[..., Any], *given: Any) -> Any:
    """Call a function of a test's module with the driver, whose log is empty then."""
    (found,) = _INSTALLED
    found.launches.clear()
    found.loaded.clear()
    return check(found, *given)
