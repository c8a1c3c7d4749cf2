"""bf16 and fp16 beside fp32, in the same rounds.

    python -m benchmarks.dtypes [--layouts NAME ...] [--lengths N ...] [--dims D ...] [--rounds N]

Prints a Markdown table, of fp32 and bf16 only, in three minutes.
`make bench` measures more lengths, and fp16.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

import torch

from benchmarks.contest import (
    OURS,
    Contestant,
    Row,
    check,
    check_ours,
    figures_of,
    ours,
    prepared,
    progress,
    result,
)
from benchmarks.machine import MM, MM_SIZE, Yardstick, bf16_instructions, matrix_product, processor
from benchmarks.markdown import spread, table
from benchmarks.peers import SDPA
from benchmarks.timing import alternate
from benchmarks.workloads import (
    BIGBIRD,
    CAUSAL,
    PHASES,
    WINDOW,
    Pattern,
    Workload,
)

PATTERNS = (BIGBIRD, WINDOW, CAUSAL)
DIMS = (64, 128)
LONGEST_CAUSAL = 16_384
"""Tokens: beyond, a round of dense causal attention takes half a minute."""

SHORT, SHORT_CAUSAL, SHORT_DTYPES = (4096, 16_384, 65_536), 4096, ("float32", "bfloat16")
"""What the command measures unless it is told: lengths in tokens, the longest of dense causal, dtypes."""


def workloads(
    lengths: Sequence[int],
    dims: Sequence[int] = DIMS,
    patterns: Sequence[Pattern] = PATTERNS,
    longest_causal: int = LONGEST_CAUSAL,
) -> tuple[Workload, ...]:
    """What is compared: of each layout, length in tokens and head dimension one, in fp32."""
    return tuple(
        Workload(pattern, length, dim=dim)
        for pattern, length, dim in product(patterns, lengths, dims)
        if pattern != CAUSAL or length <= longest_causal
    )


def products() -> dict[str, Yardstick]:
    """torch.mm by dtype."""
    return {
        dtype: matrix_product(MM_SIZE, getattr(torch, dtype)) for dtype in ("float32", "bfloat16")
    }


def run(
    works: Sequence[Workload], dtypes: Sequence[str], mm: dict[str, Yardstick], rounds: int
) -> list[Row]:
    """Rows of ours, whose `to_ours` is the time relative to the first dtype; beside dense causal, rows of
    SDPA in bf16, whose `to_ours` is relative to ours in bf16. `of_mm` is relative to torch.mm in the dtype
    of the row, or in fp32 where that is not among `mm`.

    Raises WrongResult where ours computes something else.
    """
    rows: list[Row] = []
    for number, (work, phase) in enumerate(product(works, PHASES), 1):
        about = f"{work.pattern.name}, {work.length:,} tokens, dim {work.dim}, {phase}"
        progress(f"dtypes {number}/{len(works) * len(PHASES)}: {about}")
        rows += _compare(work, phase, dtypes, mm, rounds)
    return rows


def _compare(
    work: Workload, phase: str, dtypes: Sequence[str], mm: dict[str, Yardstick], rounds: int
) -> Iterator[Row]:
    entered = list(_entered(work, phase, dtypes))
    calls = {f"{MM}, {dtype}": yard.call for dtype, yard in mm.items()}
    for one in entered:
        calls[_name(one)] = prepared(one.attend, one.computes.inputs(), phase)
    times = alternate(calls, rounds)
    for one in entered:
        dtype = one.computes.dtype
        by = dtype if dtype in mm else "float32"
        beside = _name(entered[0]) if one.name == OURS else f"{OURS}, {dtype}"
        known = times | {MM: times[f"{MM}, {by}"], one.name: times[_name(one)]}
        measured = figures_of(known, one, beside, phase, {MM: mm[by]})
        yield Row.of(one.name, one.computes, phase, measured)


def _name(one: Contestant) -> str:
    return f"{one.name}, {one.computes.dtype}"


def _entered(work: Workload, phase: str, dtypes: Sequence[str]) -> Iterator[Contestant]:
    for dtype in dtypes:
        mine = replace(work, dtype=dtype)
        check_ours(mine, phase)
        yield ours(mine)
        if work.pattern == CAUSAL and dtype == "bfloat16":
            attend, given = SDPA.build(mine, phase), mine.inputs()
            expected = result(ours(mine).attend, given, phase)
            check(SDPA.name, result(attend, given, phase), expected, dtype)
            yield Contestant(SDPA.name, mine, attend)


def as_markdown(rows: Sequence[Row]) -> str:
    return table(
        ("phase", "layout", "tokens", "dim", "dtype", "contestant", "ms", "GFLOP/s", "rate / torch.mm",
         "time / fp32", "time / bslang"),
        (
            (row.phase, row.layout, f"{row.length:,}", str(row.dim), row.dtype, row.contestant,
             f"{1000 * row.measured.seconds.median:,.1f}", f"{row.measured.gflops:.0f}",
             spread(row.measured.of_mm), *_ratios(row, spread(row.measured.to_ours)))
            for row in rows
            if row.measured
        ),
    )  # fmt: skip


def _ratios(row: Row, ratio: str) -> tuple[str, str]:
    """Relative to fp32, and to ours in the same dtype."""
    return (ratio, "1") if row.contestant == OURS else ("", ratio)


def main() -> None:
    """Print the table."""
    named = {pattern.name: pattern for pattern in PATTERNS}
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--layouts", nargs="+", choices=named, default=list(named))
    parser.add_argument("--lengths", nargs="+", type=int, metavar="N")
    parser.add_argument("--dims", nargs="+", type=int, default=DIMS, metavar="D")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    options = parser.parse_args()
    lengths, causal = (
        (options.lengths, LONGEST_CAUSAL) if options.lengths else (SHORT, SHORT_CAUSAL)
    )
    works = workloads(lengths, options.dims, [named[name] for name in options.layouts], causal)
    load, mm = os.getloadavg()[0], products()
    rows = run(works, SHORT_DTYPES, mm, options.rounds)
    said = bf16_instructions() or "no instructions for bf16"
    print(
        f"{processor()}, {said}, {torch.get_num_threads()} threads, load {load:.1f} at the start; "
        f"torch {torch.__version__}, {options.rounds} rounds.\n\n{as_markdown(rows)}"
    )


if __name__ == "__main__":
    main()
