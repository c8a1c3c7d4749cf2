"""Run the examples at their full size, one after another.

    python -m benchmarks.examples [--docs] [NAME ...]

What they print comes through; plots go to build/. With --docs the tables and the plots go into
docs/examples.md, which says how to read them.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.markdown import include

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "examples.md"
PICTURES = ROOT / "docs" / "images" / "examples"
BUILD = ROOT / "build"
EXAMPLES = (
    *("recall", "dna", "vit", "packed", "tree", "finetune", "serving", "paged_serving", "train_lm"),
    "context_parallel",
)

_TABLE = re.compile(
    r"^(?P<table>\| [^\n]* \|\n\| --- .*?)^plot: (?P<plot>[^\n]+)$", re.DOTALL | re.MULTILINE
)


def figures(printed: str) -> tuple[str, Path]:
    """The table that an example printed, with the lines below it, and the plot that it wrote.

    Raises ValueError where there is none.
    """
    found = _TABLE.search(printed)
    if found is None:
        raise ValueError("the example printed no table and named no plot")
    return found["table"].strip(), Path(found["plot"])


def run(name: str) -> str:
    """Run an example; what it prints, which is shown as it comes. Ends the program where it fails."""
    print(f"== {name}", flush=True)
    started, lines = time.monotonic(), []
    command = [sys.executable, ROOT / "examples" / f"{name}.py", "--output", BUILD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        raise SystemExit(f"{name} ended with status {process.returncode}")
    print(f"== {name}: {time.monotonic() - started:.0f} s\n", flush=True)
    return "".join(lines)


def write(name: str, printed: str) -> None:
    """Put the table and the plot of an example into the page."""
    table, plot = figures(printed)
    PICTURES.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(plot, PICTURES / plot.name)
    picture = f"![The table of {name} as a plot](images/examples/{plot.name})"
    text = include(f"{table}\n\n{picture}", PAGE.read_text(encoding="utf-8"), name)
    PAGE.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(EXAMPLES)}")
    parser.add_argument(
        "--docs", action="store_true", help="put tables and plots into docs/examples.md"
    )
    options = parser.parse_args()
    unknown = set(options.names) - set(EXAMPLES)
    if unknown:
        parser.error(f"no example is called {', '.join(sorted(unknown))}")
    for name in options.names or EXAMPLES:
        printed = run(name)
        if options.docs:
            write(name, printed)


if __name__ == "__main__":
    main()
