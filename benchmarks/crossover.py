"""What `bslang stats` knows of the time of calls: from which length on a layout beats dense attention.

    python -m benchmarks.crossover [--dtype fp32] [--dim 64]

prints it, and renews bslang/analysis/costs.json, as `make bench` does among all else. A dtype or a head
dimension alone renews its part; what was measured on another device is then left out of the file.

At lengths of powers of two, ours and dense attention run in the same rounds, of which the best counts.
Of ours, three numbers are kept: what a call costs, and what a pair of a full block, and of a partial
one, adds to it. Each is of a layout that has no other blocks, by what it takes at the shortest length,
and by the median of what more it takes at longer ones. Two further layouts, one with blocks of both
kinds and one with scattered ones, say how far that is off. Of dense attention, the times themselves are
kept.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product

import torch

from benchmarks import suites
from benchmarks.contest import check_ours, ours, prepared
from benchmarks.machine import processor
from benchmarks.markdown import table
from benchmarks.peers import SDPA
from benchmarks.timing import Call, alternate
from benchmarks.workloads import (
    BIGBIRD,
    BOTH,
    CAUSAL,
    DENSE,
    DTYPES,
    FORWARD,
    TARGETS,
    Pattern,
    Workload,
)
from bslang.analysis.costs import FILE, Costs, known

PARTIAL = Pattern("every third diagonal", "{q, k : (q - k) % 3 == 0}")
"""All blocks are partial, with a mask that is asked for every pair."""

PATTERNS = (DENSE, PARTIAL, CAUSAL, BIGBIRD)

MEASURED = ("fp32", "bf16")


@dataclass(frozen=True)
class Expected:
    """A layout at a length: seconds as measured, and as Costs has them; dense: of dense attention,
    causal where the layout is."""

    layout: str
    length: int
    dim: int
    dtype: str
    phase: str
    seconds: float
    expected: float
    dense: float


@dataclass(frozen=True)
class Crossing:
    costs: list[Costs]
    expected: list[Expected]


def run(
    lengths: Sequence[int],
    dims: Sequence[int],
    shape: Workload,
    rounds: int,
    dtypes: Sequence[str] = MEASURED,
) -> Crossing:
    """Measure in the shape of a workload; lengths: tokens, powers of two, ascending.

    Raises WrongResult where ours computes something else.
    """
    threads = torch.get_num_threads()
    device = f"{processor()}, {threads} thread{'s' * (threads > 1)}"
    costs, expected = [], []
    for dtype, dim, phase in product(dtypes, dims, (FORWARD, BOTH)):
        base = replace(shape, dim=dim, dtype=DTYPES[dtype])
        times = {length: _times(replace(base, length=length), phase, rounds) for length in lengths}
        found = fit(times, base, phase, device)
        costs.append(found)
        expected += _expected(times, base, found)
    return Crossing(costs, expected)


Seconds = dict[str, float]
"""Of the best round: of ours by the name of the layout, and of SDPA by its own with the layout's."""


def _times(work: Workload, phase: str, rounds: int) -> Seconds:
    given = work.inputs()
    calls: dict[str, Call] = {}
    for pattern in PATTERNS:
        mine = replace(work, pattern=pattern)
        check_ours(mine, phase)
        calls[pattern.name] = prepared(ours(mine).attend, given, phase)
    for pattern in (DENSE, CAUSAL):
        peer = SDPA.build(replace(work, pattern=pattern), phase)
        calls[_dense(pattern)] = prepared(peer, given, phase)
    return {name: min(times) for name, times in alternate(calls, rounds).items()}


def _dense(pattern: Pattern) -> str:
    return f"{SDPA.name}, {(CAUSAL if pattern == CAUSAL else DENSE).name}"


def fit(times: dict[int, Seconds], shape: Workload, phase: str, device: str) -> Costs:
    """Costs from the times at the shortest length, which is one block, and at the longer half."""
    first, *others = sorted(times)
    longer = others[len(others) // 2 :]

    def a_pair(pattern: Pattern) -> float:
        return statistics.median(
            (times[length][pattern.name] - times[first][pattern.name]) / (length**2 - first**2)
            for length in longer
        )

    full, partial = a_pair(DENSE), a_pair(PARTIAL)
    dense, causal = (
        {length: seconds[_dense(pattern)] for length, seconds in times.items()}
        for pattern in (DENSE, CAUSAL)
    )
    call = max(0.0, times[first][DENSE.name] - full * first**2)
    target = TARGETS[shape.device]
    dtype = next(name for name, of_torch in DTYPES.items() if of_torch == shape.dtype)
    return Costs(
        device, target, dtype, phase, shape.heads, shape.dim, call, full, partial, dense, causal
    )


def _expected(times: dict[int, Seconds], shape: Workload, costs: Costs) -> Iterator[Expected]:
    for pattern in PATTERNS:
        for length, seconds in times.items():
            graph = replace(shape, pattern=pattern, length=length).graph()
            yield Expected(
                pattern.name, length, costs.dim, costs.dtype, costs.phase,
                seconds[pattern.name], costs.sparse_seconds(graph), seconds[_dense(pattern)],
            )  # fmt: skip


def write(found: Crossing) -> None:
    """Renew the package's costs.json, in which a number has three digits: more are of the day.

    What it has of the same device stays where it was not measured again.
    """
    kept = [old for old in known() if old.device == found.costs[0].device]
    by_what = {(each.dtype, each.dim, each.phase): each for each in (*kept, *found.costs)}
    values = [_rounded(asdict(costs)) for costs in sorted(by_what.values(), key=_order)]
    FILE.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _order(costs: Costs) -> tuple[int, int, str]:
    return [*DTYPES].index(costs.dtype), costs.dim, costs.phase


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return float(f"{value:.3g}") if isinstance(value, float) else value


def as_markdown(found: Crossing) -> str:
    return table(
        ("layout", "tokens", "dim", "dtype", "phase", "ms", "expected, ms", "dense, ms", "faster"),
        (
            (
                row.layout,
                f"{row.length:,}",
                str(row.dim),
                row.dtype,
                row.phase,
                f"{1000 * row.seconds:,.3f}",
                f"{1000 * row.expected:,.3f}",
                f"{1000 * row.dense:,.3f}",
                "dense" if row.dense < row.seconds else "bslang",
            )
            for row in found.expected
        ),
    )


def main() -> None:
    suite = suites.full()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dtype", choices=MEASURED, action="append", help="default: all")
    parser.add_argument("--dim", type=int, choices=suite.dims, action="append", help="default: all")
    options = parser.parse_args()
    dims, dtypes = options.dim or suite.dims, options.dtype or MEASURED
    found = run(suite.crossover, dims, suite.library, suite.rounds, dtypes)
    print(as_markdown(found))
    write(found)


if __name__ == "__main__":
    main()
