"""A run as text: JSON for programs, Markdown for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from benchmarks import commands, crossover, decoding, dtypes, library, lowering, masks
from benchmarks.contest import OURS, Measured, Row
from benchmarks.figures import Figures
from benchmarks.goals import small, verdicts
from benchmarks.markdown import spread, table
from benchmarks.plots import plots
from benchmarks.probe import Start
from benchmarks.workloads import BACKWARD, BOTH, FORWARD


def as_json(figures: Figures) -> str:
    """All figures, and how they compare with the goals, as one object."""
    goals = [asdict(verdict) for verdict in verdicts(figures)]
    return json.dumps(asdict(figures) | {"goals": goals}, indent=1) + "\n"


def as_markdown(figures: Figures) -> str:
    """Tables of what was measured, without headings above the third level."""
    return (
        "\n\n".join(
            [
                _machine(figures),
                *(
                    f"### {phase.capitalize()}\n\n" + _contests(figures.contests, phase)
                    for phase in (FORWARD, BACKWARD, BOTH)
                ),
                "### The layouts of Hugging Face's BigBird and Longformer\n\n"
                + "".join(
                    f"{phase.capitalize()}:\n\n{_contests(figures.hugging_face, phase)}\n\n"
                    for phase in (FORWARD, BOTH)
                ).rstrip(),
                "### Published layouts\n\n" + library.as_markdown(figures.library),
                "### Dtypes\n\n" + dtypes.as_markdown(figures.dtypes),
                "### Lengths\n\n" + _scaling(figures.scaling),
                "### Small calls\n\n" + _small(figures),
                "### Decoding over many keys\n\n" + decoding.as_markdown(figures.cached),
                "### Short lengths\n\n" + crossover.as_markdown(figures.crossover),
                "### Memory\n\n" + _memory(figures),
                "### Lowering\n\n" + lowering.as_markdown(figures.lowering),
                "### Lowering compared with create_block_mask\n\n"
                + masks.as_markdown(figures.masks),
                "### First result\n\n" + _starts(figures.starts),
                "### Commands\n\n" + commands.as_markdown(figures.commands),
            ]
        )
        + "\n"
    )


def _machine(figures: Figures) -> str:
    about, yards = figures.machine, figures.yardsticks
    return (
        f"{about['processor']}, {about['cores']} cores, {about['threads']} threads, load {about['load']} "
        f"at the start, {about['memory_gb']} GB, {about['vectors']}; "
        f"{about['system']}, Python {about['python']}, torch {about['torch']}, "
        f"{about['compiler']}; bslang {about['bslang']}, commit {about['commit']}, {about['date']}. "
        f"{figures.rounds} rounds, {figures.minutes:.0f} minutes.\n\n"
        f"FMA peak: {spread(yards.peak_gflops, '.0f')} GFLOP/s. torch.mm: "
        f"{spread(yards.mm_gflops, '.0f')} GFLOP/s, {spread(yards.mm_of_peak)} of the peak."
    )


def goals_as_markdown(figures: Figures) -> str:
    """How many goals are reached, and a table of them."""
    found = verdicts(figures)
    words = {True: "yes", False: "no", None: "not measured"}
    reached = sum(verdict.reached is True for verdict in found)
    said = table(
        ("figure", "goal", "worst", "best", "where it is worst", "reached"),
        (
            (
                verdict.text,
                verdict.wanted,
                "" if verdict.worst is None else f"{verdict.worst:.3g}",
                "" if verdict.best is None else f"{verdict.best:.3g}",
                verdict.where,
                words[verdict.reached],
            )
            for verdict in found
        ),
    )
    return f"{reached} of {len(found)} goals are reached.\n\n{said}\n"


def _shape(row: Row) -> str:
    dtype = "" if row.dtype == "float32" else f", {row.dtype}"
    return f"block {row.block}, dim {row.dim}, {row.heads} head{'s' * (row.heads > 1)}{dtype}"


def _rates(measured: Measured) -> tuple[str, ...]:
    return (
        f"{1000 * measured.seconds.median:,.1f}",
        f"{measured.gflops:.0f}",
        f"{measured.exact_gflops:.0f}",
        spread(measured.of_mm),
        spread(measured.of_peak),
    )


def _contests(rows: list[Row], phase: str) -> str:
    """Contestants of one phase; those that were not run, below, with why."""
    mine = [row for row in rows if row.phase == phase]
    timed = table(
        ("layout", "tokens", "shape", "contestant", "ms", "GFLOP/s", "of exact pairs",
         "rate / torch.mm", "rate / FMA peak", "time / bslang"),
        (
            (
                row.layout,
                f"{row.length:,}",
                _shape(row),
                row.contestant,
                *_rates(row.measured),
                "1" if row.contestant == OURS else spread(row.measured.to_ours),
            )
            for row in mine
            if row.measured
        ),
    )  # fmt: skip
    lines = not_run(mine)
    return "\n".join([timed, *(["", *lines] if lines else [])])


def not_run(rows: list[Row]) -> list[str]:
    """A list of Markdown: the contestants that were not measured, where and why."""
    missed = [row for row in rows if not row.measured]
    missed.sort(key=lambda row: (row.contestant, row.not_run))
    lines = []
    for (name, why), group in groupby(missed, lambda row: (row.contestant, row.not_run)):
        where = ", ".join(dict.fromkeys(f"{row.layout} at {row.length:,}" for row in group))
        lines.append(f"- {name}: not run ({where}): {why}.")
    return lines


def _small(figures: Figures) -> str:
    return table(
        ("call", "rate / that of the layout at 16,384 tokens"),
        ((where, f"{rate:.2f}") for rate, where in small(figures)),
    )


def _scaling(rows: list[Row]) -> str:
    first = {row.phase: row for row in reversed(rows)}
    return table(
        ("phase", "layout", "tokens", "shape", "ms", "GFLOP/s", "time per visited block / that of the first"),
        (
            (row.phase, row.layout, f"{row.length:,}", _shape(row),
             f"{1000 * row.measured.seconds.median:,.1f}", f"{row.measured.gflops:.0f}",
             f"{row.measured.to_ours.median * first[row.phase].visited / row.visited:.2f}")
            for row in rows
            if row.measured
        ),
    )  # fmt: skip


def _memory(figures: Figures) -> str:
    grown = "growth of peak memory, in tensors (heads, length, dim) of fp32"
    return table(
        ("phase", "tokens", "shape", grown),
        (
            (m.phase, f"{m.length:,}", f"dim {m.dim}, {m.heads} heads", f"{m.units:.2f}")
            for m in figures.memory
        ),
    )


def _starts(starts: list[Start]) -> str:
    return table(
        ("contestant", "layout", "empty cache, s", "warm cache, s", "loading before it, s"),
        (
            (
                s.contestant,
                s.layout,
                f"{s.cold:.2f}",
                spread(s.warm, ".3f"),
                spread(s.loading, ".3f"),
            )
            for s in starts
        ),
    )


# ---- files ---------------------------------------------------------------------------------------


def write(figures: Figures, folder: Path) -> list[Path]:
    """cpu.json, cpu.md, and the plots where matplotlib is installed: the paths of what was written."""
    text = f"{as_markdown(figures)}\n### Goals\n\n{goals_as_markdown(figures)}"
    files = {"cpu.json": as_json(figures), "cpu.md": text}
    return put(files, folder) + plots(figures, folder)


def put(files: Mapping[str, str], folder: Path) -> list[Path]:
    """Write texts by the names of their files: their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in files]
