"""What the examples share: sizes from the command line, data of installed packages, tables, plots."""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch


def sizes(doc: str, **defaults: Any) -> argparse.Namespace:
    """The defaults, or what the command line says instead: `--steps 20`, `--lengths 512 1024`.

    `output` is the folder of plots. A notebook has no command line: edit the defaults there.
    """
    parser = argparse.ArgumentParser(description=doc)
    for name, value in ({"output": "build"} | defaults).items():
        first, nargs = (value[0], "+") if isinstance(value, list) else (value, None)
        parser.add_argument(
            f"--{name}", type=type(first), nargs=nargs, default=value, help=f"default: {value}"
        )
    return parser.parse_args([] if "ipykernel" in sys.modules else None)


def package_file(package: str, path: str) -> Path:
    """A file of an installed package, which is not imported. Ends the program where it is missing."""
    found = find_spec(package)
    file = Path((found.submodule_search_locations or [""])[0], path) if found else None
    if file is None or not file.is_file():
        raise SystemExit(f"no {path} of {package}: pip install -c constraints.txt '.[examples]'")
    return file


def spread(values: list[float], digits: int = 3, unit: str = "") -> str:
    """The mean of several seeds, and their standard deviation: "1.320 ± 0.004"."""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}{unit}"


def table(rows: list[dict[str, str]]) -> None:
    """Print rows as a Markdown table, and what it was measured on."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print(f"| {' | '.join(cells)} |")
    model = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    threads = torch.get_num_threads()
    print(f"\n{model[1] if model else 'CPU'}, threads: {threads}, torch {torch.__version__}\n")


def figure(title: str, x: str, y: str) -> tuple[Any, Any]:
    """A chart of matplotlib's and its axes, large enough for a slide. x and y: labels with units."""
    from matplotlib import pyplot

    pyplot.rcParams.update({"font.size": 13, "svg.hashsalt": "bslang", "lines.linewidth": 2.5})
    chart, axes = pyplot.subplots(figsize=(9, 5), layout="constrained")
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    return chart, axes


def save(chart: Any, folder: str, name: str) -> None:
    """Write a chart to folder/name.svg and say where."""
    path = Path(folder, f"{name}.svg")
    path.parent.mkdir(parents=True, exist_ok=True)
    chart.savefig(path, metadata={"Date": None})
    print(f"plot: {path}")
