"""What lowering costs: time and memory of layouts at some lengths, which grow with runs, not with n^2.

    python -m benchmarks.lowering [--output FILE.json] [--lengths 65536,1048576]

Prints a Markdown table. Each time is the best of five; the memory is the most that lowering held at
once, by tracemalloc, in a run of its own.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from textwrap import shorten

import numpy as np

from benchmarks.markdown import spec, table
from bslang import compiler
from bslang.errors import LimitError
from bslang.syntax.source import Source

LAYOUTS = {
    "BigBird": "window(3) | global(0, -1) | random(2, seed=7)",
    "causal": "causal",
    "window": "window(3)",
    "complement": "~window(3)",
    "causal difference": "causal - window(3)",
    "intersection": "window(9) & last(inf)",
    "symmetric difference": "window(9) ^ last(5)",
    "transpose": "(last(4) | rows(0)).T",
    "causal to the token": "(last(512t) | cols(0:4t)) & causal",
    "random among others": "random(2, seed=7, within=causal - window(3))",
    "NATTEN": "window(7, clamp=true)",
    "chunks": "chunks(4) & last(inf)",
    "strided": "strided(n // 16) & last(inf)",
}


def _ranges(count: int) -> list[tuple[int, int]]:
    """Ranges of 10 to 199 tokens, one after the other."""
    widths = [10 + 7919 * number % 190 for number in range(count)]
    return list(pairwise(accumulate(widths, initial=0)))


def _rectangles(count: int) -> str:
    return " | ".join(f"rows({a}t:{b}t) & cols({a}t:{b}t)" for a, b in _ranges(count))


NARROWED = {
    "formula beside a window": "last(64t) & {q, k : (q * 7 + k) % 5 < 2}",
    "equal numbers of two sides": "{q, k : q // 7 % 13 == k * k % 13}",
    "ordered numbers of two sides": "{q, k : q // 1000 % 13 <= k // 3000 % 15} & causal",
    "windows of 2 x 6 x 12 on a grid": "{q, k : q // 65160 // 2 == k // 65160 // 2 & "
    "q // 360 % 181 // 6 == k // 360 % 181 // 6 & q % 360 // 12 == k % 360 // 12}",
    "strided within strided": "(strided(24t) | strided(168t) | last(48t)) & causal",
    "strided blocks": "strided(128) & causal",
    "379 rectangles": f"({_rectangles(379)}) & causal",
    "800 rectangles": f"({_rectangles(800)}) & causal",
    "100 widths": f"chunks({', '.join(f'{b - a}t' for a, b in _ranges(100))}) & causal",
    "1,600 widths": f"chunks({', '.join(f'{b - a}t' for a, b in _ranges(1600))}) & causal",
}
"""Layouts whose parts must be lowered only where the others leave blocks open, or at once."""

LENGTHS = (16_384, 65_536, 1_048_576, 16_777_216)
BLOCK = 64
REPEATS = 5


@dataclass(frozen=True)
class Lowered:
    """A layout at a length, in tokens: its runs, the best time (ms), and the most memory held (MB).

    None where it has more runs than MAX_RUNS.
    """

    layout: str
    spec: str
    tokens: int
    runs: int | None = None
    ms: float | None = None
    peak_mb: float | None = None


def run(lengths: Sequence[int] = LENGTHS) -> Iterator[Lowered]:
    """All of LAYOUTS and of NARROWED, each at every length."""
    for name, text in (LAYOUTS | NARROWED).items():
        for length in lengths:
            yield measure(name, text, length)


def measure(name: str, text: str, length: int) -> Lowered:
    resolved = compiler.resolve(Source("<benchmark>", text), block=BLOCK)
    times = []
    try:
        for _ in range(REPEATS):
            begin = time.perf_counter()
            graph = compiler.lower(resolved, length, length)
            times.append(time.perf_counter() - begin)
        runs = graph.start.size
        del graph
        tracemalloc.start()
        compiler.lower(resolved, length, length)
        _, peak = tracemalloc.get_traced_memory()
    except LimitError:
        return Lowered(name, text, length)
    finally:
        tracemalloc.stop()
    ms, megabytes = round(1000 * min(times), 2), round(peak / 1e6, 2)
    return Lowered(name, text, length, int(runs), ms, megabytes)


def as_markdown(rows: Sequence[Lowered]) -> str:
    return table(
        ("layout", "tokens", "runs", "ms", "peak MB"),
        (
            (
                f"{row.layout} {spec(shorten(row.spec, 90, placeholder=' ...'))}",
                f"{row.tokens:,}",
                "past MAX_RUNS" if row.runs is None else f"{row.runs:,}",
                "" if row.ms is None else f"{row.ms:,.1f}",
                "" if row.peak_mb is None else f"{row.peak_mb:,.1f}",
            )
            for row in rows
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lowering", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--output", type=Path, help="write the figures as JSON, too")
    parser.add_argument("--lengths", default=",".join(map(str, LENGTHS)), help="in tokens")
    options = parser.parse_args()
    rows = list(run([int(length) for length in options.lengths.split(",")]))
    print(as_markdown(rows))
    if options.output:
        about = {
            "machine": platform.machine(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "block": BLOCK,
        }
        text = json.dumps({**about, "layouts": [asdict(row) for row in rows]}, indent=2)
        options.output.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
