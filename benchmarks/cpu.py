"""The CPU target beside its peers: speed, memory, starts, in one process and one run.

    python -m benchmarks.cpu [--quick] [--output DIR] [--docs]

Prints Markdown tables. docs/performance.md says what is measured and how.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks import crossover, figures, markdown, report, suites
from bslang.errors import BslangError

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cpu", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="fewer workloads: some minutes")
    parser.add_argument("--rounds", type=int, help="rounds of each contest, instead of the suite's")
    parser.add_argument("--threads", type=int, help="torch's threads, instead of its own choice")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="write cpu.json, cpu.md and plots"
    )
    parser.add_argument(
        "--docs",
        action="store_true",
        help="write docs/performance.md, and what `bslang stats` knows of times",
    )
    options = parser.parse_args()
    for name in ("rounds", "threads"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1")
    if options.threads:
        torch.set_num_threads(options.threads)
    suite = suites.quick() if options.quick else suites.full()
    if options.rounds:
        suite = replace(suite, rounds=options.rounds)
    try:
        found = figures.run(suite)
        text, goals = report.as_markdown(found), report.goals_as_markdown(found)
        print(f"{text}\n{goals}")
        written = report.write(found, options.output) if options.output else []
        if options.docs:
            here = PAGE.parent.parent
            plots = [
                f"![{path.stem}](../{path.resolve().relative_to(here)})"
                for path in written
                if path.suffix == ".svg" and path.resolve().is_relative_to(here)
            ]
            page = markdown.include("\n".join([text, *plots]), PAGE.read_text(encoding="utf-8"))
            PAGE.write_text(markdown.include(goals, page, "goals"), encoding="utf-8")
            crossover.write(found.crossover)
    except (BslangError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
