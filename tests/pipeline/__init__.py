"""Runs kernels of Gluon on a simulated machine, and finds what is wrong with their pipelines.

    kernels = Kernels(source)
    kernels.launch("forward", (programs,), q, k, out, HEAD_DIM=64, seed=3)

The Python source of a module is executed with modules of our own in place of Triton's: a kernel is
then a function of Python that computes on CPU tensors. What a program does wrong is a `Fault`, with
the line.
"""

from __future__ import annotations

import builtins
import inspect
import linecache
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import count, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from pipeline.beside import Descriptor, left_flying
from pipeline.language import Language, constexpr, counted
from pipeline.machine import KERNELS, Machine
from pipeline.mistakes import Mistake
from pipeline.values import Fault, Memory, Pointer, value

__all__ = ["Fault", "Kernels", "Mistake"]

OURS = {"bslang.runtime.triton.gluon"}
"""Modules of the project that pass on names of Triton."""

_numbers = count()


class Kernels:
    """A module of kernels, executed on a simulated machine."""

    def __init__(self, source: str, name: str = "pipeline_kernels") -> None:
        self.language = Language()
        self.names = self._execute(source, name)

    def _execute(self, source: str, name: str) -> dict[str, Any]:
        file = f"{KERNELS} {next(_numbers)}>"
        linecache.cache[file] = len(source), None, source.splitlines(True), file
        replaced = {"__import__": self._import, "range": counted}
        names = {"__name__": name, "__builtins__": {**vars(builtins), **replaced}}
        exec(compile(source, file, "exec"), names)
        return names

    def _import(
        self,
        name: str,
        globals: Any = None,
        locals: Any = None,
        fromlist: Any = (),
        level: int = 0,
    ) -> Any:
        if name in OURS:
            path = find_spec(name).origin  # type: ignore[union-attr]
            return SimpleNamespace(**self._execute(Path(str(path)).read_text(), name))
        if name.partition(".")[0] != "triton":
            return builtins.__import__(name, globals, locals, fromlist, level)
        return self.language.modules[name if fromlist else "triton"]

    def launch(
        self,
        kernel: str,
        grid: tuple[int, ...],
        *given: Any,
        seed: int = 0,
        warps: int = 4,
        only: Sequence[int] | None = None,
        mistake: Mistake | None = None,
        **named: Any,
    ) -> None:
        """Run a kernel, a program after another; tensors are changed in place.

        given, named: as at a launch of Triton: tensors, descriptors, numbers, None and tuples of them;
        only: the numbers of the programs that are run, None for all; mistake: one that they make.
        """
        function = self.names[kernel]
        bound = inspect.signature(function).bind(*given, **named)
        bound.apply_defaults()
        memories: dict[tuple[int, torch.dtype], Memory] = {}
        arguments = {
            name: x if _constant(function, name) else _argument(x, memories)
            for name, x in bound.arguments.items()
        }
        self.language.grid = (*grid, *(1,) * (3 - len(grid)))
        self.language.watched.mistake = mistake
        for number, place in enumerate(product(*(range(size) for size in self.language.grid))):
            if only is not None and number not in only:
                continue
            machine = self.language.machine = Machine(seed, warps, number)
            machine.ends.append(lambda machine=machine: left_flying(machine))
            self.language.program = place
            machine.run(lambda: function(**arguments))

    def mistakes(self) -> list[Mistake]:
        """All that can be made in what was launched."""
        return self.language.watched.mistakes()


def _constant(function: Any, name: str) -> bool:
    annotation = inspect.signature(function).parameters[name].annotation
    return annotation is constexpr or str(annotation).endswith("constexpr")


def _argument(x: Any, memories: dict[tuple[int, torch.dtype], Memory]) -> Any:
    def memory(tensor: torch.Tensor) -> Memory:
        key = tensor.untyped_storage().data_ptr(), tensor.dtype
        if key not in memories:
            memories[key] = Memory(tensor)
        return memories[key]

    if isinstance(x, torch.Tensor):
        return Pointer(memory(x), torch.tensor(x.storage_offset()))
    if isinstance(x, TensorDescriptor):
        first = x.base.storage_offset()
        return Descriptor(memory(x.base), first, x.shape, x.strides, x.block_shape, x.layout)
    if isinstance(x, tuple):
        return tuple(_argument(each, memories) for each in x)
    return x if x is None else value(x)
