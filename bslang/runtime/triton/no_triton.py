"""Stands in for `triton` and `triton.language` where Triton is not installed.

A generated module then imports all the same, and only launching one of its kernels is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from bslang.errors import TargetError
from bslang.missing import needs


class _Kernel:
    """A kernel that cannot run."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.__name__ = function.__name__

    def __getitem__(self, grid: Any) -> NoReturn:
        raise TargetError(f"the triton target {needs('triton')}, or move the tensors to the CPU")


def jit(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """`triton.jit`, as a decorator with or without options."""
    return _Kernel if function is None else _Kernel(function)


class constexpr:  # triton's name
    """`triton.language.constexpr`: an annotation, or a constant."""

    def __init__(self, value: Any) -> None:
        self.value = value
