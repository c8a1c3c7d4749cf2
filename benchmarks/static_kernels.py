"""Kernels of the triton target, compiled ahead of time and read, with what is counted in them."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path

from benchmarks.contest import progress
from benchmarks.flex import Flex, flex, per_scores
from benchmarks.workers import TaskError, Workers
from benchmarks.workloads import BIGBIRD, CAUSAL, WINDOW, Pattern
from bslang import api, compiler, layouts
from bslang.dims import Dims
from bslang.gpu import inspect
from bslang.gpu.machine.report import Inspected, Loop, Report
from bslang.runtime.triton.launch import TritonTarget
from bslang.runtime.triton.tiles import Launch
from bslang.syntax.source import Source

ARCHITECTURES = ("cuda:80", "cuda:86", "cuda:90", "cuda:100", "cuda:120", "hip:gfx942")
LAYOUTS = (BIGBIRD, CAUSAL, WINDOW)
HEAD_DIMS = (64, 128)
BLOCKS = (64, 128)
DTYPE = "bf16"
PASSES = ("forward", "dq", "dkdv")
"""The kernels with matrix products: the others read and write, and have no goals."""

OF_BACKEND = {"hopper": "cuda:90"}
"""The architecture of back ends whose kernels have names of their own, as "forward_hopper"."""

PROCESSES = 2
TIMEOUT = 240.0
"""Seconds for a kernel; a compiler that hangs is the end of that kernel alone."""


@dataclass(frozen=True)
class Kernel:
    """A kernel of a layout. full: its loops over full blocks, those that gather them one by one included."""

    layout: str
    block: int
    report: Report
    full: tuple[Loop, ...]

    @property
    def pass_(self) -> str:
        """That of `PASSES` which it computes, whatever its back end."""
        return self.report.kernel.partition("_")[0]

    @property
    def where(self) -> str:
        report = self.report
        return (
            f"{self.layout}, block {self.block}, {report.kernel}, dim {report.head_dim}, "
            f"{of_architecture(report.architecture)}"
        )

    @property
    def tile(self) -> tuple[int, int]:
        """Queries and keys."""
        return int(self.report.constants["TILE_Q"]), int(self.report.constants["TILE_K"])

    @property
    def flex(self) -> Flex | None:
        return flex(self.pass_, self.report.architecture, self.report.head_dim, self.tile)

    def per_scores(self, loop: Loop) -> float:
        """Instructions of a loop by all warps that compute, for 64 x 64 scores."""
        return per_scores(loop.instructions, self.tile, self.report.computing)

    def longest(self) -> float | None:
        """`per_scores` of its longest loop over full blocks; None if it has none."""
        return max(map(self.per_scores, self.full), default=None)

    def of_flex(self) -> float | None:
        """The longest loop relative to FlexAttention's of the same tile, or its best; None where no figure is
        known."""
        longest, other = self.longest(), self.flex
        return None if longest is None or other is None else longest / other.per_scores

    def spilled(self) -> int:
        return sum(loop.local for loop in self.report.loops)

    def by_wgmma(self) -> bool:
        """Whether the matrix instructions are HGMMA, which is wgmma in machine code, and no others."""
        names = {name.partition(".")[0] for loop in self.full for name in loop.products}
        return names == {"HGMMA"}

    def copies(self) -> bool:
        """Whether tiles are loaded asynchronously: in the loop itself, or by warps of their own."""
        if self.report.warps > self.report.asked:
            return any(loop.copies for loop in self.report.loops)
        return all(loop.copies for loop in self.full) and bool(self.full)


@dataclass(frozen=True)
class Run:
    """failed: the kernels that could not be compiled, each with why."""

    kernels: list[Kernel] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def run(
    layouts: Sequence[Pattern] = LAYOUTS,
    blocks: Sequence[int] = BLOCKS,
    architectures: Sequence[str] = ARCHITECTURES,
    head_dims: Sequence[int] = HEAD_DIMS,
    processes: int = PROCESSES,
) -> Run:
    """Compile and read the kernels of every layout that have matrix products, at the default tiles."""
    found = Run()
    with Workers(processes) as workers:
        tasks = {
            (layout.name, block, of_architecture(architecture), dim, kernel): workers.submit(
                read, layout.name, layout.spec, block, architecture, dim, kernel, timeout=TIMEOUT
            )
            for architecture, layout, block, dim in product(
                architectures, layouts, blocks, head_dims
            )
            for kernel in kernels(layout.spec, block, architecture)
        }
        for number, ((name, block, architecture, dim, kernel), task) in enumerate(tasks.items(), 1):
            where = f"{name}, block {block}, {kernel}, dim {dim}, {architecture}"
            progress(f"{number}/{len(tasks)} {where}")
            try:
                made = task.result()
            except TaskError as error:
                found.failed.append(f"{where}: {error}")
                continue
            if isinstance(made, Kernel):
                found.kernels.append(made)
            else:
                found.failed.append(f"{where}: {'; '.join(x.text for x in made.faults)}")
    return found


def kernels(spec: str, block: int, architecture: str) -> list[str]:
    """The names of a layout's kernels with matrix products, of every back end that an architecture has."""
    names = (each.partition("_") for each in target(spec, block).kernels)
    return [
        f"{pass_}{_}{backend}"
        for pass_, _, backend in names
        if pass_ in PASSES and OF_BACKEND.get(backend, architecture) == architecture
    ]


def read(
    name: str,
    spec: str,
    block: int,
    architecture: str,
    dim: int,
    kernel: str,
    chosen: Launch | None = None,
) -> Kernel | Inspected:
    """Compile a kernel and read it; what is known of it where that fails. chosen: other tiles than the
    default ones."""
    of = target(spec, block)
    report = inspect.inspect_kernel(of, kernel, architecture, Dims.of(dim), DTYPE, chosen)
    if not isinstance(report, Report):
        return report
    lines = full_lines(source(spec, block))
    return Kernel(name, block, report, tuple(x for x in report.loops if x.line in lines))


@cache
def target(spec: str, block: int) -> TritonTarget:
    return api._kernels(compiler.resolve(Source("<benchmark>", spec), block=block))


def source(spec: str, block: int) -> str:
    """The text of a layout's generated module."""
    resolved = compiler.resolve(Source("<benchmark>", spec), block=block)
    return Path(str(layouts.module(resolved, ("triton",)).__file__)).read_text(encoding="utf-8")


def full_lines(text: str) -> set[int]:
    """The lines of a module at which loops over full blocks begin: those that load whole tiles only, and in
    kernels with partitions those that multiply tiles and mask none."""
    tree = ast.parse(text)
    multiply = _that_call("warpgroup_mma", tree)
    lines = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.For):
            calls = [each for each in ast.walk(node) if isinstance(each, ast.Call)]
            loads = [each for each in calls if _name(each) in ("_keys", "_queries")]
            whole = (
                any(isinstance(x, ast.Constant) and x.value is None for x in c.args) for c in loads
            )
            names = {_name(each) for each in calls}
            multiplies = names & multiply and "where" not in names
            if (loads and all(whole)) or multiplies:
                lines.add(node.lineno)
    return lines


def _that_call(name: str, tree: ast.Module) -> set[str]:
    """A function, and those of a module that call it, or one that does."""
    calls = {
        each.name: {_name(call) for call in ast.walk(each) if isinstance(call, ast.Call)}
        for each in tree.body
        if isinstance(each, ast.FunctionDef)
    }
    found = {name}
    while more := {each for each, called in calls.items() if called & found} - found:
        found |= more
    return found


def _name(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def of_architecture(architecture: str) -> str:
    """As tables have it: "sm_90", "gfx942"."""
    backend, _, name = architecture.partition(":")
    return f"sm_{name}" if backend == "cuda" else name
