"""A run on a GPU: everything is checked first, and then timed, and what came of it as text."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch

from benchmarks.contest import OURS, Row, WrongResult, check_ours, contest, progress
from benchmarks.device import Device, yardsticks
from benchmarks.figures import describe_workload
from benchmarks.grid import Grid
from benchmarks.machine import MM
from benchmarks.markdown import spread, table
from benchmarks.report import not_run
from benchmarks.timing import Spread, alternate
from benchmarks.workloads import BOTH, Workload


@dataclass(frozen=True)
class Figures:
    """The whole of a run, or what there is of it so far.

    checked: workloads whose results were held against the torch target; unreached: see Grid.
    """

    machine: dict[str, str | int | float]
    rounds: int
    mm_tflops: Spread
    checked: int
    unreached: list[str]
    contests: list[Row]
    minutes: float


def run(grid: Grid, device: Device, rounds: int, keep: Callable[[Figures], object]) -> Figures:
    """Check and time a grid. keep: takes the figures so far, after each contest.

    Raises WrongResult before anything is timed where ours computes something else, or fails.
    """
    begin = time.perf_counter()
    machine, yards = device.describe(), yardsticks(device)
    checked, large = check_all(grid)
    times = alternate({MM: yards[MM].call}, 2 * rounds, device.watch)
    rates = Spread.of([yards[MM].flops / 1e12 / seconds for seconds in times[MM]])
    contests = grid.contests()
    found = Figures(machine, rounds, rates, len(checked), grid.unreached(), [], 0.0)
    for number, entry in enumerate(contests, 1):
        work, phase = entry.workload, entry.phase
        progress(f"{number}/{len(contests)} {describe_workload(work)}, {phase}")
        rows = [Row.of(OURS, work, phase, why="out of memory")]
        if work not in large:
            try:
                rows = contest(work, phase, entry.peers, yards, rounds, device.watch)
            except torch.OutOfMemoryError:
                progress("out of memory")
        about = machine | {"clocks at the end": device.clocks() or "unknown"}
        minutes = (time.perf_counter() - begin) / 60
        found = replace(found, machine=about, contests=found.contests + rows, minutes=minutes)
        keep(found)
    return found


def check_all(grid: Grid) -> tuple[list[Workload], list[Workload]]:
    """Check ours, forward and gradients, on every workload of a grid, and on those that its peers compute.

    Returns those that are right, and those that do not fit into memory beside their reference.
    """
    entries = grid.contests()
    works = [
        work
        for entry in entries
        for work in (entry.workload, *(peer.computes(entry.workload) for peer in entry.peers))
    ]
    right, large = [], []
    for work in dict.fromkeys(works):
        progress(f"checking {describe_workload(work)}")
        try:
            check_ours(work, BOTH)
            right.append(work)
        except torch.OutOfMemoryError:
            large.append(work)
        except WrongResult:
            raise
        except Exception as error:  # whatever a compiler of kernels raises
            why = str(error).strip().partition("\n")[0] or type(error).__name__
            raise WrongResult(f"{describe_workload(work)}: {why}") from error
    return right, large


# ---- as text -------------------------------------------------------------------------------------


def as_json(figures: Figures) -> str:
    """All figures, as one object."""
    return json.dumps(asdict(figures), indent=1) + "\n"


def as_markdown(figures: Figures) -> str:
    """Tables of each phase, without headings above the second level."""
    parts = [_machine(figures)]
    for phase in dict.fromkeys(row.phase for row in figures.contests):
        rows = [row for row in figures.contests if row.phase == phase]
        parts.append(f"## {phase.capitalize()}\n\n{_contests(rows)}")
        parts += ["\n".join(lines) for lines in [not_run(rows)] if lines]
    if figures.unreached:
        lines = (f"- {text}" for text in figures.unreached)
        parts.append("## Not reached\n\nNo layout comes near these:\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _machine(figures: Figures) -> str:
    about = "; ".join(f"{key.replace('_', ' ')} {value}" for key, value in figures.machine.items())
    return (
        f"{about}. {figures.rounds} rounds, {figures.minutes:.0f} minutes.\n\n"
        f"torch.mm in bf16: {spread(figures.mm_tflops, '.3g')} TFLOP/s. Checked before anything was timed: "
        f"{figures.checked} workloads."
    )


def _contests(rows: list[Row]) -> str:
    return table(
        ("layout", "tokens", "density", "block", "dim", "contestant", "ms", "TFLOP/s",
         "rate / torch.mm", "dense time x density / time", "time / bslang"),
        (
            (
                row.layout,
                f"{row.length:,}",
                f"{row.density:.4f}",
                str(row.block),
                str(row.dim),
                row.contestant,
                f"{1000 * row.measured.seconds.median:,.3f}",
                f"{row.measured.gflops / 1000:.3g}",
                spread(row.measured.of_mm),
                spread(row.measured.of_ideal),
                "1" if row.contestant == OURS else spread(row.measured.to_ours),
            )
            for row in rows
            if row.measured
        ),
    )  # fmt: skip
