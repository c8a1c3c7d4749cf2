"""The triton target beside its peers on a GPU: speed over lengths and densities, in one process.

    python -m benchmarks.gpu [--quick] [--output DIR] [--docs]

Prints Markdown tables. docs/performance-gpu.md says what is measured and how.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import gpu_run, grid, markdown, report
from benchmarks.device import DEVICES
from benchmarks.gpu_run import Figures
from bslang.errors import BslangError

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance-gpu.md"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="two lengths, two densities")
    parser.add_argument("--rounds", type=_count, default=7, help="rounds of each contest")
    sizes: dict[str, Any] = {"nargs": "+", "type": _count, "metavar": "N"}
    parser.add_argument("--lengths", **sizes, help="tokens, in place of the suite's")
    parser.add_argument("--blocks", **sizes, help="tokens, likewise")
    parser.add_argument("--dims", **sizes, help="head dimensions, likewise")
    parser.add_argument("--heads", type=_count, help="heads, likewise")
    parser.add_argument("--densities", nargs="+", type=_share, metavar="X", help="likewise")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write gpu.json and gpu.md")
    parser.add_argument("--docs", action="store_true", help="write docs/performance-gpu.md")
    parser.add_argument(
        "--device", choices=DEVICES, default="cuda", help="cpu tries the program out: no figures"
    )
    options = parser.parse_args()
    if options.docs and options.device != "cuda":
        parser.error("--docs takes the figures of a GPU only")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.exit(2, "error: no CUDA device here; `--device cpu` tries the program out\n")
    suite = replace(grid.quick() if options.quick else grid.Grid(), device=options.device)
    for name in ("lengths", "blocks", "dims", "heads", "densities"):
        value = getattr(options, name)
        if value is not None:
            given: Any = tuple(value) if isinstance(value, list) else value
            suite = replace(suite, **{name: given})
    if any(length % block for length in suite.lengths for block in suite.blocks):
        parser.error("--lengths must be multiples of --blocks")

    def keep(found: Figures) -> None:
        """Whatever comes later, these are written."""
        if options.output:
            texts = {"gpu.json": gpu_run.as_json(found), "gpu.md": gpu_run.as_markdown(found)}
            report.put(texts, options.output)

    try:
        text = gpu_run.as_markdown(
            gpu_run.run(suite, DEVICES[options.device](), options.rounds, keep)
        )
        print(text)
        if options.docs:
            page = markdown.include(text, PAGE.read_text(encoding="utf-8"))
            PAGE.write_text(page, encoding="utf-8")
    except (BslangError, OSError, RuntimeError, ValueError) as error:
        sys.exit(f"error: {error}")


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def _share(text: str) -> float:
    number = float(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, not {text}")
    return number


if __name__ == "__main__":
    main()
