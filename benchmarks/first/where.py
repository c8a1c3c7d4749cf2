"""Where calls run: on a GPU; in Triton's interpreter, or through a driver that launches nothing, to try the
program out."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.workers import DeadError, reason

CUDA, INTERPRETER, NOTHING = "cuda", "interpreter", "nothing"
ON = (CUDA, INTERPRETER, NOTHING)


@dataclass(frozen=True)
class Where:
    """on: one of ON; architecture: that the driver which launches nothing pretends to be."""

    on: str
    architecture: str = "cuda:90"

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if self.on == CUDA else "cpu")

    @property
    def dtype(self) -> torch.dtype:
        """That of most checks: the interpreter has no bf16."""
        return torch.float16 if self.on == INTERPRETER else torch.bfloat16

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the processes that run tasks."""
        found = {"TORCHINDUCTOR_COMPILE_THREADS": "1"}
        if self.on == INTERPRETER:
            found["TRITON_INTERPRET"] = "1"
        if self.on != CUDA:
            found |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        return found

    @property
    def patience(self) -> float:
        """How much longer than on a GPU a task may take."""
        return 1.0 if self.on == CUDA else 10.0

    def begin(self) -> None:
        """Before the tasks of a process."""
        _begin(self)

    def synchronize(self) -> None:
        if self.on == CUDA:
            torch.cuda.synchronize()


@functools.cache
def _begin(where: Where) -> None:
    if where.on == NOTHING:
        from benchmarks.driver import install

        install(where.architecture).recording = False
    if where.on != INTERPRETER:
        from triton import knobs

        knobs.runtime.jit_post_compile_hook = _note
    warnings.filterwarnings("ignore")  # thousands of lines would be of torch's deterministic mode


_COMPILED: list[str] = []
"""Kernels that this process compiled: it should find all of them compiled."""


def _note(*, fn: Any, **rest: Any) -> None:
    _COMPILED.append(fn.name)


def task(function: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """A task, whose first argument is where it runs. A GPU's context is lost after a fault in a kernel, and
    with it the process."""

    @functools.wraps(function)
    def run(where: Where, *given: Any) -> dict[str, Any]:
        where.begin()
        _COMPILED.clear()
        try:
            found = function(where, *given)
            where.synchronize()
            return found | ({"compiled": list(_COMPILED)} if _COMPILED else {})
        except Exception as error:
            try:
                where.synchronize()
            except Exception as fault:  # whatever the driver says
                raise DeadError(f"{reason(error)} ({reason(fault)})") from error
            raise RuntimeError(f"{type(error).__name__}: {reason(error)}") from error

    return run


@contextmanager
def filled_with_nan() -> Iterator[None]:
    """`torch.empty` is NaN: what a kernel does not write is seen, and what it reads too."""
    before = torch.are_deterministic_algorithms_enabled(), _warns()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.utils.deterministic.fill_uninitialized_memory = filled


def _warns() -> bool:
    return torch.is_deterministic_algorithms_warn_only_enabled()
