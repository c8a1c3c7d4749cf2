"""The triton target's machine code beside FlexAttention's, compiled for GPUs that need not be there.

    python -m benchmarks.static [--docs]

Prints Markdown tables. docs/performance-gpu.md says what is counted.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from benchmarks.contest import progress
from benchmarks.flex import Flex, flex, per_scores
from benchmarks.markdown import table
from benchmarks.report import include
from benchmarks.workloads import BIGBIRD, CAUSAL, WINDOW, Pattern
from bslang import __version__, api, compiler, layouts
from bslang.errors import BslangError, TargetError
from bslang.gpu.machine.report import Loop, Report
from bslang.resolve.program import Resolved
from bslang.syntax.source import Source

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance-gpu.md"

ARCHITECTURES = ("cuda:80", "cuda:90")
HEAD_DIMS = (64, 128)
BLOCKS = (64, 128)
DTYPE = "bf16"
PRODUCTS = ("forward", "dq", "dkdv")
"""The kernels with matrix products."""


@dataclass(frozen=True)
class Kernel:
    """A kernel of a layout. full: its loops over full blocks, those that gather them one by one included."""

    layout: str
    block: int
    report: Report
    full: tuple[Loop, ...]

    @property
    def where(self) -> str:
        report = self.report
        return (
            f"{self.layout}, block {self.block}, {report.kernel}, dim {report.head_dim}, "
            f"{sm(report.architecture)}"
        )

    @property
    def tile(self) -> tuple[int, int]:
        """Queries and keys."""
        return int(self.report.constants["TILE_Q"]), int(self.report.constants["TILE_K"])

    @property
    def flex(self) -> Flex | None:
        return flex(self.report.kernel, self.report.architecture, self.report.head_dim, self.tile)

    def per_scores(self, instructions: int) -> float:
        return per_scores(instructions, self.tile, self.report.warps)

    def of_flex_loop(self) -> float | None:
        """Instructions of our longest loop over FlexAttention's; None if it has no figure for this tile."""
        other = self.flex
        if other is None or other.tile != self.tile or not self.full:
            return None
        return max(loop.instructions for loop in self.full) / other.instructions

    def of_flex_scores(self, of: Callable[[Iterable[int]], int] = max) -> float | None:
        """The same by 64 x 64 scores, of whatever tile; of: max or min, our longest or shortest loop."""
        other = self.flex
        if other is None or not self.full:
            return None
        return self.per_scores(of(loop.instructions for loop in self.full)) / other.per_scores


@dataclass(frozen=True)
class Run:
    """failed: the kernels that could not be compiled, each with why."""

    kernels: list[Kernel]
    failed: list[str]


def run(
    layouts: Sequence[Pattern] = (BIGBIRD, CAUSAL, WINDOW),
    blocks: Sequence[int] = BLOCKS,
    architectures: Sequence[str] = ARCHITECTURES,
    head_dims: Sequence[int] = HEAD_DIMS,
) -> Run:
    """Compile and read every kernel of every layout, at the default tiles."""
    found = Run([], [])
    for layout, block, architecture, dim in product(layouts, blocks, architectures, head_dims):
        where = f"{layout.name}, block {block}, dim {dim}, {sm(architecture)}"
        progress(where)
        resolved = compiler.resolve(Source("<benchmark>", layout.spec), block=block)
        try:
            reports = api.inspect(resolved, architecture, dim, DTYPE)
        except TargetError as error:
            found.failed.append(f"{where}: {error}")
            continue
        lines = full_lines(source(resolved))
        for report in reports:
            if not isinstance(report, Report):
                why = "; ".join(fault.text for fault in report.faults)
                found.failed.append(f"{where}: {why}")
                continue
            full = tuple(loop for loop in report.loops if loop.line in lines)
            found.kernels.append(Kernel(layout.name, block, report, full))
    return found


def source(resolved: Resolved) -> str:
    """The text of a layout's generated module."""
    return Path(str(layouts.module(resolved, ("triton",)).__file__)).read_text(encoding="utf-8")


def full_lines(text: str) -> set[int]:
    """The lines of a module at which loops over full blocks begin: those that load whole tiles only."""
    lines = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.For):
            loads = [each for each in ast.walk(node) if isinstance(each, ast.Call) and _loads(each)]
            whole = (
                any(isinstance(x, ast.Constant) and x.value is None for x in c.args) for c in loads
            )
            if loads and all(whole):
                lines.add(node.lineno)
    return lines


def _loads(call: ast.Call) -> bool:
    """Whether a call loads tiles of keys or queries."""
    return isinstance(call.func, ast.Name) and call.func.id in ("_keys", "_queries")


# ---- goals ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """A goal compared with the kernels that it is about; worst: the value farthest from it.

    reached, of: how many of them reach it. None of none is not reached.
    """

    text: str
    wanted: str
    reached: int
    of: int
    worst: str
    where: str

    @property
    def holds(self) -> bool:
        return 0 < self.of == self.reached


def at_most(
    text: str,
    limit: float,
    kernels: Iterable[Kernel],
    value: Callable[[Kernel], float | None],
    *,
    below: bool = False,
) -> Verdict:
    """Hold a value of each kernel that has one against a limit; below: which it must not reach."""
    found = [(x, kernel.where) for kernel in kernels if (x := value(kernel)) is not None]
    reached = sum(x < limit or (x == limit and not below) for x, _ in found)
    worst, where = max(found, default=(None, ""))
    shown = "" if worst is None else f"{worst:.3g}"
    sign = "below" if below else "at most"
    return Verdict(text, f"{sign} {limit:g}", reached, len(found), shown, where)


def every(text: str, kernels: Iterable[Kernel], holds: Callable[[Kernel], bool]) -> Verdict:
    """Hold each kernel against a rule; shown is the first that breaks it."""
    found = [(holds(kernel), kernel.where) for kernel in kernels]
    broken = [where for right, where in found if not right]
    return Verdict(text, "all", len(found) - len(broken), len(found), "", "".join(broken[:1]))


def verdicts(found: Run) -> list[Verdict]:
    everything = found.kernels
    loops = [kernel for kernel in everything if kernel.report.kernel in PRODUCTS]
    forward = [kernel for kernel in loops if kernel.report.kernel == "forward"]
    backward = [kernel for kernel in loops if kernel.report.kernel != "forward"]
    hopper = [kernel for kernel in loops if kernel.report.architecture == "cuda:90"]
    small = [kernel for kernel in everything if kernel.block == 64]
    failed = [text for text in found.failed if "block 64," in text]
    loop = "instructions of the loop over full blocks relative to FlexAttention's, same tile"
    same = "instructions for 64x64 scores relative to FlexAttention's, same tile"
    scores = "the same, any tile"
    return [
        at_most("no spills: bytes of stack", 0, everything, lambda x: x.report.stack),
        at_most("loads and stores of spilled registers in inner loops", 0, everything, spilled),
        every("sm_90: every product of a full block by wgmma", hopper, by_wgmma),
        at_most(f"forward: {loop}", 1, forward, Kernel.of_flex_loop),
        at_most(f"forward: {same}", 1, same_tile(forward), Kernel.of_flex_scores),
        at_most(f"forward: {scores}", 1, forward, Kernel.of_flex_scores),
        at_most(
            "forward: the same, same tile, only the shortest loop, which needs no index", 1,
            same_tile(forward), lambda kernel: kernel.of_flex_scores(min), below=True,
        ),
        at_most(f"backward: {loop}", 1, backward, Kernel.of_flex_loop),
        at_most(f"backward: {same}", 1, same_tile(backward), Kernel.of_flex_scores),
        at_most(f"backward: {scores}", 1, backward, Kernel.of_flex_scores),
        every("asynchronous copies in the loops over full blocks", loops, copies),
        Verdict("blocks of 64 tokens compile and fit, forward and backward", "all",
                sum(kernel.report.programs > 0 for kernel in small), len(small) + len(failed), "",
                "; ".join(failed)),
    ]  # fmt: skip


def same_tile(kernels: Iterable[Kernel]) -> list[Kernel]:
    """Those for whose tile FlexAttention has a figure."""
    return [kernel for kernel in kernels if kernel.flex and kernel.flex.tile == kernel.tile]


def spilled(kernel: Kernel) -> int:
    return sum(loop.local for loop in kernel.report.loops)


def by_wgmma(kernel: Kernel) -> bool:
    """Whether the matrix instructions are HGMMA, which is wgmma in machine code, and no others."""
    names = {name.partition(".")[0] for loop in kernel.full for name in loop.products}
    return names == {"HGMMA"}


def copies(kernel: Kernel) -> bool:
    return all(loop.copies for loop in kernel.full) and bool(kernel.full)


# ---- as text -------------------------------------------------------------------------------------


def as_markdown(found: Run) -> str:
    import torch
    import triton

    parts = [
        f"bslang {__version__}, triton {triton.__version__}, torch {torch.__version__}; {DTYPE}, "
        f"default tiles. {len(found.kernels)} kernels compiled.",
        "### Kernels",
        _kernels([kernel for kernel in found.kernels if kernel.report.kernel in PRODUCTS]),
    ]
    if found.failed:
        parts += ["Not compiled:", "\n".join(f"- {text}" for text in found.failed)]
    return "\n\n".join(parts) + "\n"


def goals_as_markdown(found: list[Verdict]) -> str:
    """How many goals are reached, and a table of them."""
    said = table(
        ("figure", "goal", "reached", "kernels that reach it", "worst", "where it is worst"),
        (
            (each.text, each.wanted, "yes" if each.holds else "no",
             f"{each.reached} of {each.of}", each.worst, each.where)
            for each in found
        ),
    )  # fmt: skip
    return f"{sum(each.holds for each in found)} of {len(found)} goals are reached.\n\n{said}\n"


HEAD = ("layout", "block", "dim", "kernel", "sm", "tile, warps", "registers", "stack B (local in loops)",
        "shared B", "loop", "matrix", "exp2", "copies", "/64²", "Flex: tile, warps", "loop", "/64²",
        "loop at most", "/64² at most")  # fmt: skip


def _kernels(kernels: list[Kernel]) -> str:
    return table(HEAD, map(row, kernels))


def row(kernel: Kernel) -> tuple[str, ...]:
    """A line of the table, under HEAD."""
    report, full, other = kernel.report, kernel.full, kernel.flex
    instructions = [loop.instructions for loop in full]
    return (
        kernel.layout,
        str(kernel.block),
        str(report.head_dim),
        report.kernel,
        sm(report.architecture),
        _tile(kernel.tile, report.warps),
        str(report.registers),
        f"{report.stack} ({spilled(kernel)})",
        f"{report.shared:,}",
        _span(instructions),
        _span([loop.matrix for loop in full]),
        _span([loop.exp2 for loop in full]),
        _span([loop.copies for loop in full]),
        _span([round(kernel.per_scores(n)) for n in instructions]),
        *((_tile(other.tile, other.warps), str(other.instructions), f"{other.per_scores:.0f}")
          if other else ("", "", "")),
        _answer(kernel.of_flex_loop()),
        _answer(kernel.of_flex_scores()),
    )  # fmt: skip


def sm(architecture: str) -> str:
    return f"sm_{architecture.removeprefix('cuda:')}"


def _tile(tile: tuple[int, int], warps: int) -> str:
    return f"{tile[0]}x{tile[1]}, {warps}"


def _span(numbers: list[int]) -> str:
    """The smallest and the largest."""
    if not numbers:
        return "none"
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def _answer(ratio: float | None) -> str:
    return "" if ratio is None else f"{'yes' if ratio <= 1 else 'no'} ({ratio:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.static", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--docs", action="store_true", help="write docs/performance-gpu.md, too")
    options = parser.parse_args()
    try:
        found = run()
        text, goals = as_markdown(found), goals_as_markdown(verdicts(found))
        print(f"{text}\n{goals}")
        if options.docs:
            page = include(text, PAGE.read_text(encoding="utf-8"), "static")
            PAGE.write_text(include(goals, page, "goals"), encoding="utf-8")
    except (BslangError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
