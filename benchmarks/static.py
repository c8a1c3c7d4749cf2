"""The triton target's machine code beside its goals and FlexAttention's, for GPUs that need not be there.

    python -m benchmarks.static [--docs]

Prints Markdown tables. docs/performance-gpu.md says what is counted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from benchmarks.markdown import include, table
from benchmarks.static_goals import Verdict, verdicts
from benchmarks.static_kernels import DTYPE, LAYOUTS, Kernel, Run, of_architecture, run
from bslang import __version__
from bslang.errors import BslangError

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance-gpu.md"

HEAD = ("dim", "block", "kernel", "back end", "tile, warps", "registers",
        *(f"/64², {layout.name}" for layout in LAYOUTS), "Flex /64²", "stack B", "local in loops",
        "shared B")  # fmt: skip


def as_markdown(found: Run) -> str:
    import torch
    import triton

    parts = [
        f"bslang {__version__}, triton {triton.__version__}, torch {torch.__version__}; {DTYPE}, "
        f"default tiles. {len(found.kernels)} kernels compiled."
    ]
    for architecture, kernels in groupby(found.kernels, lambda each: each.report.architecture):
        parts += [f"### {of_architecture(architecture)}", _kernels(list(kernels))]
    if found.failed:
        parts += ["Not compiled:", "\n".join(f"- {text}" for text in found.failed)]
    return "\n\n".join(parts) + "\n"


def _kernels(kernels: Sequence[Kernel]) -> str:
    """A line for each kernel, with what it has in each layout."""
    lines: dict[tuple[object, ...], list[Kernel]] = {}
    for each in kernels:
        report = each.report
        key = (report.head_dim, each.block, report.kernel, each.tile, report.warps)
        lines.setdefault(key, []).append(each)
    return table(HEAD, map(row, lines.values()))


def row(alike: Sequence[Kernel]) -> tuple[str, ...]:
    """A line of a table, under HEAD: a kernel of several layouts, with one tile."""
    first, reports = alike[0], [each.report for each in alike]
    report, flex = first.report, first.flex
    by_layout = {each.layout: each for each in alike}
    return (
        str(report.head_dim),
        str(first.block),
        first.pass_,
        report.backend,
        f"{first.tile[0]}x{first.tile[1]}, {report.warps}",
        span([each.registers for each in reports]),
        *(_loops(by_layout.get(layout.name)) for layout in LAYOUTS),
        f"{flex.per_scores:.0f}" if flex else "",
        span([each.stack for each in reports]),
        span([each.spilled() for each in alike]),
        span([each.shared for each in reports]),
    )


def _loops(kernel: Kernel | None) -> str:
    return span([round(kernel.per_scores(loop)) for loop in kernel.full]) if kernel else ""


def span(numbers: Sequence[int]) -> str:
    """The smallest and the largest."""
    if not numbers:
        return "none"
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def goals_as_markdown(found: Sequence[Verdict]) -> str:
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
