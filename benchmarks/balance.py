"""How evenly the Triton kernels load a GPU: a simulation, for machines without one.

    python -m benchmarks.balance [--tokens 131072] [--start 1.0]

The programs of a kernel are given out in launch order, each to the first of S processors that is
free. A processor runs one program at a time. Costs are in tiles, the unit being one step of a
program's inner loop (a tile of queries by a tile of keys):

- a program costs the tiles that it visits, and `start` for its launch, its tables, and the tile
  that it loads and stores;
- a merge runs when all programs have ended. Each of its programs takes MERGED queries (or keys) of
  a split row, and costs `start` and its share of the partial results. Those are fp32, one tensor
  forward and two for dK and dV; a step of the inner loop reads two tensors of 16 bits. So MERGED
  rows of a partial result cost as much as MERGED / streamed steps forward, and twice that backward.

The ideal is the work that one program a row would do, without merges, evenly over S. A figure is
the time until all is done over the ideal: what splitting costs counts against it.

Prints a Markdown table: the figure with heavy rows split, and in parentheses those of one program a
row, the heaviest first and row after row. tests/test_balance.py holds the first to GOAL.
"""

from __future__ import annotations

import argparse
import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from benchmarks.lowering import LAYOUTS
from bslang import compiler
from bslang.graph.blockgraph import BlockGraph
from bslang.schedule.schedule import Schedule, Table
from bslang.syntax.source import Source

Costs = npt.NDArray[np.float64]

TOKENS = 131_072
START = 1.0
MERGED = 4
HEADS = (1, 2, 4, 8, 16, 32)
PROCESSORS = (108, 132)
"""Of an A100 and of an H100."""

GOAL = 1.08


@dataclass(frozen=True)
class Kernel:
    """A kernel whose programs hold a block row, or a block column, and stream tiles of the other axis.

    block: side of a block and of the held tile; streamed: of the others; both in tokens.
    """

    columns: bool
    block: int
    streamed: int

    @property
    def name(self) -> str:
        return "dK, dV by columns" if self.columns else "forward, dQ by rows"

    def table(self, made: Schedule, split: bool) -> Table:
        if self.columns:
            return made.split_cols() if split else made.cols
        return made.split_rows() if split else made.rows


KERNELS = [
    Kernel(columns, block, streamed)
    for columns in (False, True)
    for block, streamed in ((64, 64), (128, 64), (128, 128))
]


@dataclass(frozen=True)
class Figure:
    """Times over the ideal, for one kernel, some heads, and a number of processors.

    split: with heavy rows in parts, merges included; heaviest: one program a row, the heaviest
    first; in_order: one program a row, row after row. parts: partial results of a head.
    """

    kernel: Kernel
    heads: int
    processors: int
    parts: int
    split: float
    heaviest: float
    in_order: float


def makespan(costs: Iterable[float], processors: int) -> float:
    """When the last program ends, where each goes to the first processor that is free."""
    free = [0.0] * processors
    for cost in costs:
        heapq.heapreplace(free, free[0] + cost)
    return max(free)


def blocks(table: Table) -> npt.NDArray[np.int64]:
    """int64 (programs,): blocks that each program visits, of a layout that is one for all heads."""
    programs = len(table.programs.program)
    length = np.append(0, np.cumsum(table.runs[:, 1] - table.runs[:, 0], dtype=np.int64))
    by_class = np.diff(length[table.pointer])
    return by_class.reshape(programs, -1).sum(1)


def merge_costs(table: Table, kernel: Kernel, start: float) -> Costs:
    """float64 (merge programs,), in tiles; for one head."""
    _, first, last = table.programs.merges.T
    read = (last - first) * MERGED * (2 if kernel.columns else 1) / kernel.streamed
    return np.repeat(start + read, kernel.block // MERGED)


def figure(made: Schedule, kernel: Kernel, heads: int, processors: int, start: float) -> Figure:
    """Simulate one launch; heads come fastest in it, as in the kernels."""

    def time(costs: Costs) -> float:
        return makespan(np.repeat(costs, heads).tolist(), processors)

    def costs(table: Table) -> Costs:
        return blocks(table) * (kernel.block / kernel.streamed) + start

    split, whole = kernel.table(made, split=True), kernel.table(made, split=False)
    rows = costs(whole)
    ideal = float(rows.sum()) * heads / processors
    return Figure(
        kernel,
        heads,
        processors,
        split.programs.slots,
        (time(costs(split)) + time(merge_costs(split, kernel, start))) / ideal,
        time(rows) / ideal,
        time(rows[np.argsort(whole.order)]) / ideal,
    )


def bigbird(block: int, tokens: int = TOKENS) -> BlockGraph:
    resolved = compiler.resolve(Source("<benchmark>", LAYOUTS["BigBird"]), block=block)
    return compiler.lower(resolved, tokens, tokens)


def figures(tokens: int = TOKENS, start: float = START) -> Iterator[Figure]:
    """Of BigBird, for all of KERNELS, PROCESSORS and HEADS, the last of them fastest."""
    made = {
        block: compiler.schedule(bigbird(block, tokens)) for block in {k.block for k in KERNELS}
    }
    for kernel, processors, heads in product(KERNELS, PROCESSORS, HEADS):
        yield figure(made[kernel.block], kernel, heads, processors, start)


def main() -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table as Printed

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.balance", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument(
        "--start", type=float, default=START, help="cost of a program's start and end, in tiles"
    )
    options = parser.parse_args()
    found = list(figures(options.tokens, options.start))
    printed = Printed(box=box.MARKDOWN)
    printed.add_column("kernel")
    for title in ("tile", "parts", "processors", *(f"{n} head{'s' * (n > 1)}" for n in HEADS)):
        printed.add_column(title, justify="right")
    for row in zip(*(iter(found),) * len(HEADS), strict=True):
        kernel = row[0].kernel
        printed.add_row(
            kernel.name,
            f"{kernel.block}x{kernel.streamed}",
            str(row[0].parts),
            str(row[0].processors),
            *(f"{x.split:.3f} ({x.heaviest:.2f}, {x.in_order:.2f})" for x in row),
        )
    worst = (max(x.split for x in found if x.heads == heads) for heads in HEADS)
    printed.add_row("worst", "", "", "", *(f"{x:.3f}" for x in worst))
    Console(width=200).print(printed)


if __name__ == "__main__":
    main()
