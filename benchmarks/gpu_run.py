"""A run on a GPU, contest by contest, each checked before it is timed, and what came of it as text."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch

from benchmarks.contest import OURS, Row, contest, progress
from benchmarks.device import Device, yardsticks
from benchmarks.figures import describe_workload
from benchmarks.flexes import FLEXIBLE, Flexes, compile_for
from benchmarks.grid import Grid
from benchmarks.machine import MM, Yardstick
from benchmarks.markdown import spread, table
from benchmarks.report import not_run
from benchmarks.suites import Contest
from benchmarks.timing import Spread, alternate
from benchmarks.workers import Workers, reason
from benchmarks.workloads import Workload


@dataclass(frozen=True)
class Figures:
    """The whole of a run, or what there is of it so far.

    checked: contests in which ours was right, against the torch target; unreached: see Grid.
    """

    machine: dict[str, str | int | float]
    rounds: int
    mm_tflops: Spread
    checked: int
    unreached: list[str]
    contests: list[Row]
    minutes: float


COMPILERS = 4
"""Processes that compile FlexAttention."""

COMPILE_SECONDS = 300.0
"""For one mask; also what a contest waits for it."""


def run(grid: Grid, device: Device, rounds: int, keep: Callable[[Figures], object]) -> Figures:
    """Check and time a grid, contest by contest. keep: takes the figures so far, after each.

    Where ours computes something else, or fails, that is its row, and the next contest follows. Raises
    RuntimeError where the device takes no more work.
    """
    begin = time.perf_counter()
    machine, yards = device.describe(), yardsticks(device)
    times = alternate({MM: yards[MM].call}, 2 * rounds, device.watch)
    rates = Spread.of([yards[MM].flops / 1e12 / seconds for seconds in times[MM]])
    contests = grid.contests()
    found = Figures(machine, rounds, rates, 0, grid.unreached(), [], 0.0)
    with Workers(COMPILERS) as pool:
        flexes = compiling(grid, contests, pool)
        for number, entry in enumerate(contests):
            where = f"{describe_workload(entry.workload)}, {entry.phase}"
            progress(f"{number + 1}/{len(contests)} {where}")
            rows = _rows(number, entry, yards, rounds, device, flexes)
            for row in rows:
                progress(f"  {row.contestant}: {_said(row)}")
            about = machine | {"clocks at the end": device.clocks() or "unknown"}
            found = replace(
                found,
                machine=about,
                checked=found.checked + any(x.contestant == OURS and x.measured for x in rows),
                contests=found.contests + rows,
                minutes=(time.perf_counter() - begin) / 60,
            )
            keep(found)
            if grid.device == "cuda":
                torch.cuda.synchronize()  # raises after a fault in a kernel
    return found


def _rows(
    number: int,
    entry: Contest,
    yards: dict[str, Yardstick],
    rounds: int,
    device: Device,
    flexes: Flexes,
) -> list[Row]:
    work, phase = entry.workload, entry.phase
    why = {peer: flexes.why_not(number, peer, COMPILE_SECONDS) for peer in entry.peers}
    missed = [Row.of(peer.name, work, phase, why=text) for peer, text in why.items() if text]
    peers = [peer for peer, text in why.items() if not text]
    try:
        return contest(work, phase, peers, yards, rounds, device.watch) + missed
    except torch.OutOfMemoryError:
        return [Row.of(OURS, work, phase, why="out of memory"), *missed]
    except Exception as error:  # a wrong result, or whatever a compiler of kernels raises
        return [Row.of(OURS, work, phase, why=reason(error)), *missed]


def _said(row: Row) -> str:
    return row.not_run or (
        f"{1000 * row.measured.seconds.median:,.3f} ms" if row.measured else "nothing"
    )


def compiling(grid: Grid, contests: Sequence[Contest], pool: Workers) -> Flexes:
    """The tasks that compile FlexAttention for a GPU: one for the phases of a workload."""
    if grid.device != "cuda":
        return Flexes()
    numbers: dict[tuple[Workload, str], list[int]] = {}
    for number, entry in enumerate(contests):
        for peer in entry.peers:
            if peer in FLEXIBLE:
                numbers.setdefault((entry.workload, peer.name), []).append(number)
    given = {x.name: getattr(grid, x.name) for x in fields(grid) if x.name != "peers"}
    made = {}
    for (_, peer_), each in numbers.items():
        task = pool.submit(compile_flex, given, each, peer_, timeout=COMPILE_SECONDS)
        made |= {(number, peer_): task for number in each}
    return Flexes(made)


def compile_flex(given: dict[str, Any], numbers: Sequence[int], peer: str) -> None:
    """Compile a peer for some contests of a grid, whose masks cannot be sent to a process."""
    contests = Grid(**given).contests()
    for number in numbers:
        compile_for(contests[number], peer)


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
        f"torch.mm in bf16: {spread(figures.mm_tflops, '.3g')} TFLOP/s. Contests in which bslang was right, "
        f"and was timed: {figures.checked}."
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
