"""What lowering costs: time and memory of layouts at three lengths, which grow with runs, not with n^2.

    python benchmarks/lowering.py [--output FILE.json] [--lengths 65536,1048576]

Prints a Markdown table. Each time is the best of five; the memory is the most that lowering held at
once, by tracemalloc, in a run of its own.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
import tracemalloc
from pathlib import Path

import numpy as np

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
LENGTHS = (65_536, 1_048_576, 16_777_216)
BLOCK = 64
REPEATS = 5


def measure(spec: str, length: int) -> dict[str, float | int | str] | None:
    """Runs, best time in ms and peak memory in MB of one layout; None where a limit is passed."""
    resolved = compiler.resolve(Source("<benchmark>", spec), block=BLOCK)
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
        return None
    finally:
        tracemalloc.stop()
    return {
        "tokens": length,
        "runs": int(runs),
        "ms": round(1000 * min(times), 2),
        "peak_mb": round(peak / 1e6, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, help="write the figures as JSON, too")
    parser.add_argument("--lengths", default=",".join(map(str, LENGTHS)), help="in tokens")
    options = parser.parse_args()
    rows = []
    print("| layout | tokens | runs | ms | peak MB |\n|---|---|---|---|---|")
    for name, spec in LAYOUTS.items():
        for length in map(int, options.lengths.split(",")):
            found = measure(spec, length)
            if found is None:
                print(f"| {name} `{spec}` | {length:,} | past MAX_RUNS | | |", flush=True)
                continue
            rows.append({"layout": name, "spec": spec, **found})
            text = spec.replace("|", "\\|")
            print(
                f"| {name} `{text}` | {length:,} | {found['runs']:,} | {found['ms']:,.1f} "
                f"| {found['peak_mb']:,.1f} |",
                flush=True,
            )
    if options.output:
        about = {
            "machine": platform.machine(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "block": BLOCK,
        }
        text = json.dumps({**about, "layouts": rows}, indent=2)
        options.output.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
