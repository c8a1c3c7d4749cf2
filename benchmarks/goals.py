"""The figures that the project wants to reach, and whether a run reached them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.bigbird import HUGGING_FACE
from benchmarks.contest import OURS, Measured, Row
from benchmarks.figures import Figures, describe_workload
from benchmarks.machine import AMX, AVX512_BF16
from benchmarks.peers import FLEX, SDPA
from benchmarks.probe import Start
from benchmarks.workloads import BACKWARD, BOTH, CAUSAL, DENSE, FORWARD, PHASES

Values = list[tuple[float, str]]
"""Values, each with where it was measured."""


@dataclass(frozen=True)
class Goal:
    """A figure wanted: at least `wanted`, or at most, of every value."""

    text: str
    wanted: float
    values: Callable[[Figures], Values]
    at_least: bool = True


@dataclass(frozen=True)
class Verdict:
    """A goal compared with a run. worst: the measured value that comes nearest to missing it, or misses it
    by most; None where nothing was measured."""

    text: str
    wanted: str
    worst: float | None = None
    best: float | None = None
    where: str = ""
    reached: bool | None = None


def verdicts(figures: Figures) -> list[Verdict]:
    return [judge(goal, figures) for goal in GOALS]


def judge(goal: Goal, figures: Figures) -> Verdict:
    sign = "at least" if goal.at_least else "at most"
    wanted = f"{sign} {goal.wanted:.3g}"
    values = sorted(goal.values(figures), reverse=not goal.at_least)
    if not values:
        return Verdict(goal.text, wanted)
    worst, where = values[0]
    reached = worst >= goal.wanted if goal.at_least else worst <= goal.wanted
    return Verdict(goal.text, wanted, worst, values[-1][0], where, reached)


# ---- where the values stand ----------------------------------------------------------------------


def _of(
    rows: Iterable[Row], name: str, keep: Callable[[Row], bool], value: Callable[[Measured], float]
) -> Values:
    return [
        (value(row.measured), f"{row.phase}, {describe_workload(row)}")
        for row in rows
        if row.contestant == name and row.measured and keep(row)
    ]


def _ours(
    phase: str, value: Callable[[Measured], float], keep: Callable[[Row], bool] = lambda row: True
) -> Callable[[Figures], Values]:
    return lambda figures: _of(
        figures.contests, OURS, lambda row: row.phase == phase and keep(row), value
    )


def _peer(name: str, keep: Callable[[Row], bool]) -> Callable[[Figures], Values]:
    def values(figures: Figures) -> Values:
        rows = figures.contests + figures.hugging_face
        return _of(rows, name, keep, lambda measured: measured.to_ours.median)

    return values


def _of_ideal(figures: Figures) -> Values:
    """Dense attention's time times the density, over ours: 1 where time is as the visited blocks."""
    return [
        (row.measured.of_ideal.median, describe_workload(row))
        for row in figures.contests
        if row.contestant == OURS and row.phase == BOTH and row.measured and row.measured.of_ideal
    ]


def growth(figures: Figures) -> Values:
    """Most time per visited block over the least, from length to length."""
    found = []
    for phase in PHASES:
        rows = [row for row in figures.scaling if row.phase == phase and row.measured]
        each = [row.measured.to_ours.median / row.visited for row in rows if row.measured]
        if len(each) > 1:
            where = f"{phase}, {rows[0].length:,} to {rows[-1].length:,} tokens"
            found.append((max(each) / min(each), where))
    return found


def _dtype(name: str, contestant: str, *phases: str) -> Callable[[Figures], Values]:
    """Time relative to fp32 of ours in a dtype, or of SDPA relative to ours."""
    return lambda figures: _of(
        figures.dtypes,
        contestant,
        lambda row: row.dtype == name and row.phase in phases,
        lambda measured: measured.to_ours.median,
    )


def _bf16(having: Callable[[str], bool], *phases: str) -> Callable[[Figures], Values]:
    """Time of bf16 relative to fp32 on processors whose instructions for bf16 are some."""
    values = _dtype("bfloat16", OURS, *phases)
    return lambda figures: values(figures) if having(str(figures.machine.get("bf16", ""))) else []


def small(figures: Figures) -> Values:
    """Rate of small calls relative to the same layout's at more tokens, measured in the same rounds."""
    pairs = zip(figures.small[::2], figures.small[1::2], strict=True)
    return [
        (row.visited / long.visited / row.measured.to_ours.median,
         f"{row.phase}, {describe_workload(row)}")
        for long, row in pairs
        if row.measured
    ]  # fmt: skip


def _one_block(figures: Figures) -> Values:
    """Time of calls whose queries are one block, relative to dense attention."""
    return [
        (row.seconds / row.dense, f"{row.layout}, dim {row.dim}, {row.dtype}")
        for row in figures.crossover.expected
        if (row.length, row.phase) == (64, FORWARD) and row.layout in (DENSE.name, CAUSAL.name)
    ]


def _cached(figures: Figures) -> Values:
    return [(step.of_copy.median, step.cache.about) for step in figures.cached]


def _memory(phase: str) -> Callable[[Figures], Values]:
    return lambda figures: [
        (m.units, f"{m.length:,} tokens") for m in figures.memory if m.phase == phase
    ]


def _start(value: Callable[[Start], float]) -> Callable[[Figures], Values]:
    return lambda figures: [
        (value(start), "a process with torch and bslang imported")
        for start in figures.starts
        if start.contestant == OURS
    ]


def _mm(measured: Measured) -> float:
    return measured.of_mm.median


def _peak(measured: Measured) -> float:
    assert measured.of_peak is not None  # it is a yardstick of every run on a processor
    return measured.of_peak.median


GOALS = (
    Goal(
        "forward: rate relative to torch.mm, 1,024 to 65,536 tokens",
        0.85,
        _ours(FORWARD, _mm, lambda row: row.length <= 65_536),
    ),
    Goal(
        "forward: rate relative to the FMA peak",
        0.65,
        _ours(FORWARD, _peak),
    ),
    Goal(
        "forward: speed-up over FlexAttention, compiled",
        2.5,
        _peer(FLEX.name, lambda row: row.phase == FORWARD),
    ),
    Goal(
        "forward: speed-up over Hugging Face BigBird, same pairs",
        12,
        _peer(HUGGING_FACE.name, lambda row: row.phase == FORWARD),
    ),
    Goal(
        "dense causal, forward: speed-up over SDPA with is_causal",
        1.0,
        _peer(SDPA.name, lambda row: row.layout == CAUSAL.name and row.phase == FORWARD),
    ),
    Goal(
        "backward: rate relative to torch.mm, 4 to 8 heads",
        1.05,
        _ours(BACKWARD, _mm, lambda row: row.heads > 1),
    ),
    Goal(
        "backward: rate relative to torch.mm, one head for all threads",
        0.7,
        _ours(BACKWARD, _mm, lambda row: row.heads == 1),
    ),
    Goal("forward and backward: share of the ideal speed-up over dense SDPA", 0.9, _of_ideal),
    Goal("forward: growth of peak memory, in tensors (out is one)", 1.5, _memory(FORWARD), False),
    Goal(
        "forward and backward: growth of peak memory, in tensors (out and gradients are four)",
        8,
        _memory(BOTH),
        False,
    ),
    Goal("time per visited block: the longest over the shortest, by length", 1.15, growth, False),
    Goal(
        "1,024 tokens: rate relative to 16,384 tokens",
        0.8,
        small,
    ),
    Goal("a call of 64 queries, forward: time relative to SDPA", 1.2, _one_block, False),
    Goal("decoding over 32,768 keys: bytes per second relative to a copy", 0.7, _cached),
    Goal(
        "forward: time of bf16 relative to fp32, with AVX512-BF16",
        1 / 1.6,
        _bf16(lambda has: has == AVX512_BF16, FORWARD),
        False,
    ),
    Goal(
        "backward: time of bf16 relative to fp32, with AVX512-BF16",
        1 / 1.4,
        _bf16(lambda has: has == AVX512_BF16, BACKWARD),
        False,
    ),
    Goal(
        "forward: time of bf16 relative to fp32, with AMX",
        1 / 3,
        _bf16(lambda has: AMX in has, FORWARD),
        False,
    ),
    Goal(
        "time of bf16 relative to fp32, without instructions for bf16",
        1.3,
        _bf16(lambda has: not has, *PHASES),
        False,
    ),
    Goal("time of fp16 relative to fp32", 1.3, _dtype("float16", OURS, *PHASES), False),
    Goal(
        "dense causal in bf16: speed-up over SDPA with is_causal",
        1.0,
        _dtype("bfloat16", SDPA.name, FORWARD),
    ),
    Goal(
        "seconds from spec to first result, empty cache",
        2.0,
        _start(lambda start: start.cold),
        False,
    ),
    Goal(
        "seconds from spec to first result, warm cache",
        0.05,
        _start(lambda start: start.warm.median),
        False,
    ),
)
