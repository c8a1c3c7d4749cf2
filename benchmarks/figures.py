"""A run: everything that a suite measures, and the figures that the project wants to reach."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from benchmarks import (
    bigbird,
    commands,
    crossover,
    decoding,
    dtypes,
    library,
    longformer,
    lowering,
    masks,
    probe,
)
from benchmarks.contest import (
    OURS,
    Contestant,
    Row,
    check_ours,
    contest,
    measure,
    ours,
    progress,
)
from benchmarks.machine import MM, PEAK, Yardstick, describe, yardsticks
from benchmarks.peers import NotRun
from benchmarks.suites import SMALL_BESIDE, Suite
from benchmarks.timing import Spread, alternate, rate_ratio
from benchmarks.workloads import BIGBIRD, BOTH, DTYPES, FORWARD, PHASES, Workload


@dataclass(frozen=True)
class Yardsticks:
    """torch.mm and the processor's fused multiply-adds in GFLOP/s, and the first over the second."""

    mm_gflops: Spread
    peak_gflops: Spread
    mm_of_peak: Spread


@dataclass(frozen=True)
class Figures:
    """The whole of a run.

    hugging_face: rows of the layouts of its BigBird and Longformer; library: published layouts; dtypes:
    see `dtypes.run`; scaling, small: ours beside ours, `to_ours` is over the first row, in `small` over the
    row before, of the same layout at SMALL_BESIDE tokens; cached: steps of decoding over many keys; starts:
    from a layout to its first result, ours first; commands: whole processes.
    """

    machine: dict[str, str | int | float]
    rounds: int
    yardsticks: Yardsticks
    contests: list[Row]
    hugging_face: list[Row]
    library: list[library.Published]
    dtypes: list[Row]
    scaling: list[Row]
    small: list[Row]
    cached: list[decoding.Step]
    crossover: crossover.Crossing
    memory: list[probe.Memory]
    masks: list[masks.Made]
    lowering: list[lowering.Lowered]
    starts: list[probe.Start]
    commands: list[commands.Started]
    minutes: float


def run(suite: Suite) -> Figures:
    """Measure a suite. Raises WrongResult where ours computes something else, BuildError
    where there is no compiler."""
    begin = time.perf_counter()
    machine, yards, rounds = describe(), yardsticks(), suite.rounds
    progress("starts, commands and memory, in processes of their own")
    starts, started = probe.starts(suite.starts), commands.run(suite.commands)
    memory = probe.memories(suite.memory)
    times = alternate({name: yard.call for name, yard in yards.items()}, 2 * rounds)
    rates = {
        name: Spread.of([yard.flops / 1e9 / t for t in times[name]]) for name, yard in yards.items()
    }
    share = rate_ratio(times, MM, yards[MM].flops, PEAK, yards[PEAK].flops)

    progress("short lengths, masks and lowering")
    crossing = crossover.run(suite.crossover, suite.dims, suite.library, rounds)
    made = list(masks.run(suite.masks, min(rounds, 3)))
    lowered = list(lowering.run(suite.lowering))
    progress("published layouts")
    entries = library.library()[:: suite.published]
    published = library.run(suite.library, rounds, entries)
    rows: list[Row] = []
    for number, entry in enumerate(suite.contests, 1):
        progress(
            f"{number}/{len(suite.contests)} {describe_workload(entry.workload)}, {entry.phase}"
        )
        at_most = min(rounds, entry.rounds or rounds)
        rows += contest(entry.workload, entry.phase, entry.peers, yards, at_most)
    hugging_face = _hugging_face(suite, yards)
    kinds = dtypes.run(suite.dtypes, [*DTYPES.values()], dtypes.products(), min(rounds, 3))
    scaling: list[Row] = []
    small: list[Row] = []
    for phase in PHASES:
        progress(f"lengths, {phase}")
        scaling += _each(
            [Workload(BIGBIRD, length) for length in suite.scaling], phase, yards, rounds
        )
        for work in suite.small:
            pair = [replace(work, length=SMALL_BESIDE), work]
            small += _each(pair, phase, yards, rounds)
    progress("decoding")
    cached = [decoding.over_many_keys(cache, rounds) for cache in suite.cached]
    return Figures(
        machine,
        rounds,
        Yardsticks(rates[MM], rates[PEAK], share),
        rows,
        hugging_face,
        published,
        kinds,
        scaling,
        small,
        cached,
        crossing,
        memory,
        made,
        lowered,
        starts,
        started,
        (time.perf_counter() - begin) / 60,
    )


def _hugging_face(suite: Suite, yards: dict[str, Yardstick]) -> list[Row]:
    """Ours and its modules on their own layouts."""
    rows: list[Row] = []
    for shape in (*suite.hugging_face, *suite.longformer):
        drawn = shape in suite.hugging_face
        peers = (
            (bigbird.HUGGING_FACE, bigbird.HUGGING_FACE_BARE)
            if drawn
            else (longformer.HUGGING_FACE,)
        )
        for phase in (FORWARD, BOTH):
            progress(f"Hugging Face: {describe_workload(shape)}, {phase}")
            try:
                work = shape
                if drawn:
                    work = bigbird.workload(shape.length, shape.block, shape.dim, shape.heads)
                rows += contest(work, phase, peers, yards, suite.rounds)
            except NotRun as error:
                rows += [Row.of(peer.name, shape, phase, why=str(error)) for peer in peers]
    return rows


def _each(
    workloads: list[Workload], phase: str, yards: dict[str, Yardstick], rounds: int
) -> list[Row]:
    """Ours on several workloads, in the same rounds."""
    entered: list[Contestant] = []
    for work in workloads:
        check_ours(work, phase)
        entered.append(ours(work, f"{OURS}, {work.length} {work.dtype}"))
    rows = measure(entered, None, phase, yards, rounds)
    return [replace(row, contestant=OURS) for row in rows]


def describe_workload(work: Workload | Row) -> str:
    """A workload in words."""
    layout = work.pattern.name if isinstance(work, Workload) else work.layout
    heads = f"{work.heads} head{'s' * (work.heads > 1)}"
    dtype = "" if work.dtype == "float32" else f", {work.dtype}"
    return f"{layout}, {work.length:,} tokens, block {work.block}, dim {work.dim}, {heads}{dtype}"
