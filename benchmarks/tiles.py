"""Tiles of the triton target, compared by the machine code that the compiler makes of them, without a GPU.

    python -m benchmarks.tiles [--target ARCH ...] [--dim D ...] [--block B ...] [--kernel K ...]

Prints a Markdown table for each kernel: the default first, then others, by instructions per 64x64 scores of
the loop over full blocks. Those that spill registers inside a loop, or do not fit the device, come last.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import product

from benchmarks.contest import progress
from benchmarks.markdown import table
from benchmarks.static_kernels import (
    ARCHITECTURES,
    BLOCKS,
    HEAD_DIMS,
    PASSES,
    PROCESSES,
    TIMEOUT,
    Kernel,
    of_architecture,
    read,
    target,
)
from benchmarks.workers import TaskError, Workers
from benchmarks.workloads import CAUSAL
from bslang.dims import Dims
from bslang.gpu.machine.devices import device
from bslang.runtime.triton.tiles import Launch, launch, padded, warps
from bslang.runtime.triton.tuned import largest, tile_names

KEPT, STREAMED, STAGES = (64, 128), (16, 32, 64, 128), (2, 3)
HEAD = (
    "tile",
    "warps",
    "stages",
    "/64\u00b2",
    "local in loops",
    "registers",
    "shared B",
    "programs",
)


def candidates(kernel: str, architecture: str, dim: int, block: int) -> Iterator[Launch]:
    """The default launch of a kernel, then others that the blocks allow."""
    dims, on, sides = Dims.of(dim), device(architecture), target(CAUSAL.spec, block).sides
    default = launch(kernel, dims, 2, sides, device=on)
    names, (most_kept, most_streamed) = tile_names(kernel), largest(kernel, sides)
    yield default
    for kept, streamed, stages in product(KEPT, STREAMED, STAGES):
        number = warps(kernel, padded(dims), 2, kept, streamed, on.lanes)
        made = Launch(
            default.constants | dict(zip(names, (kept, streamed), strict=True)),
            default.options | {"num_warps": number, "num_stages": stages},
        )
        if kept <= most_kept and streamed <= most_streamed and made != default:
            yield made


def ranked(found: Sequence[Kernel]) -> list[Kernel]:
    """The default first, then the others, the best first."""

    def rank(kernel: Kernel) -> tuple[bool, float]:
        fits = kernel.report.programs > 0 and not kernel.spilled()
        return not fits, kernel.longest() or float("inf")

    return [*found[:1], *sorted(found[1:], key=rank)]


def row(kernel: Kernel) -> tuple[str, ...]:
    """A line of a table, under HEAD."""
    report, longest = kernel.report, kernel.longest()
    return (
        f"{kernel.tile[0]}x{kernel.tile[1]}",
        str(report.warps),
        str(report.stages),
        "" if longest is None else f"{longest:.0f}",
        str(kernel.spilled()),
        str(report.registers),
        f"{report.shared:,}",
        str(report.programs),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tiles", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--target", nargs="+", default=ARCHITECTURES, choices=ARCHITECTURES)
    parser.add_argument("--dim", nargs="+", type=int, default=HEAD_DIMS)
    parser.add_argument("--block", nargs="+", type=int, default=BLOCKS)
    parser.add_argument("--kernel", nargs="+", default=PASSES, choices=PASSES)
    asked = parser.parse_args(arguments)
    with Workers(PROCESSES) as workers:
        for architecture, dim, block, kernel in product(
            asked.target, asked.dim, asked.block, asked.kernel
        ):
            where = f"{kernel}, dim {dim}, block {block}, {of_architecture(architecture)}"
            progress(where)
            given = (CAUSAL.name, CAUSAL.spec, block, architecture, dim, kernel)
            tasks = [
                workers.submit(read, *given, chosen, timeout=TIMEOUT)
                for chosen in candidates(kernel, architecture, dim, block)
            ]
            found, failed = [], 0
            for task in tasks:
                try:
                    made = task.result()
                except TaskError:  # a compiler that hangs
                    failed += 1
                    continue
                if isinstance(made, Kernel):
                    found.append(made)
                else:
                    failed += 1
            lines = table(HEAD, map(row, ranked(found)))
            print(f"### {where}\n\n{lines}\nNot compiled: {failed}\n", flush=True)


if __name__ == "__main__":
    main()
