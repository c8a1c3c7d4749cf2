"""A contest: ours and its peers on one workload, checked against one another and then timed in turn."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

import torch

import bslang
from benchmarks.machine import MM, PEAK, Yardstick
from benchmarks.peers import Attend, NotRun, Peer
from benchmarks.timing import CLOCK, Call, Spread, Times, Watch, alternate, rate_ratio, ratio
from benchmarks.workloads import BACKWARD, FORWARD, Inputs, Workload

OURS = "bslang"
IDEAL = "dense attention, times density"
TOLERANCE = {"float32": 2e-5, "float16": 5e-3, "bfloat16": 3e-2}
"""Difference that rounding explains, as a share of the largest value among some neighbouring tokens:
where thousands of keys are averaged, as by the last queries of causal attention, values are small."""

NEIGHBOURS = 256

TIMES_GRADIENT = 5
"""Gradients are sums of products of sums: the tolerance times this."""

Tensors = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Contestant:
    """Something to be timed. computes: the workload whose result it must have; dense: see Peer."""

    name: str
    computes: Workload
    attend: Attend
    dense: bool = False


@dataclass(frozen=True)
class Measured:
    """Figures of a contestant; a Spread is over rounds.

    seconds: a call. gflops: rate over the pairs of visited blocks; exact_gflops: over the pairs that
    are attended. of_mm, of_peak: its rate over those of torch.mm and of the processor's fused
    multiply-adds. to_ours: its time over ours. of_ideal: the time of the fastest dense attention in
    the same round, times the density, over its time: 1 where time is as the visited pairs. None where
    there is nothing to compare with.
    """

    seconds: Spread
    gflops: float
    exact_gflops: float
    of_mm: Spread
    of_peak: Spread | None
    to_ours: Spread
    of_ideal: Spread | None = None


@dataclass(frozen=True)
class Row:
    """A contestant on a workload; not_run says why it was not measured.

    visited: pairs of the visited blocks, of all heads; density: their share of all pairs.
    """

    contestant: str
    layout: str
    spec: str
    length: int
    block: int
    dim: int
    heads: int
    dtype: str
    phase: str
    visited: int
    density: float
    measured: Measured | None = None
    not_run: str = ""

    @classmethod
    def of(
        cls, name: str, work: Workload, phase: str, measured: Measured | None = None, why: str = ""
    ) -> Row:
        shape = (work.length, work.block, work.dim, work.heads, work.dtype)
        pattern = work.pattern
        return cls(
            name,
            pattern.name,
            pattern.spec,
            *shape,
            phase,
            work.visited,
            work.density,
            measured,
            why,
        )


def ours(workload: Workload, name: str = OURS) -> Contestant:
    """The workload's own layout; checked against the torch target when it is entered."""
    layout = workload.layout()

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return layout(q, k, v)

    return Contestant(name, workload, attend)


def contest(
    workload: Workload,
    phase: str,
    peers: Sequence[Peer],
    yardsticks: dict[str, Yardstick],
    rounds: int,
    watch: Watch = CLOCK,
) -> list[Row]:
    """Rows of ours and of every peer. A peer whose result is another is refused, not timed; nor is one
    that fails, or does not fit into memory."""
    given = workload.inputs()
    check_ours(workload, phase)
    entered, missed = [ours(workload)], []
    expected: dict[Workload, Tensors] = {}
    torch.compiler.reset()  # each workload has compiled kernels of its own, as its user would have
    for peer in peers:
        try:
            entered.append(_entrant(peer, workload, given, phase, expected))
        except Exception as error:  # whatever a peer raises is why it is not run
            missed.append(Row.of(peer.name, workload, phase, why=_reason(error)))
    expected.clear()
    rows: list[Row] = []
    with suppress(torch.OutOfMemoryError):
        rows = measure(entered, given, phase, yardsticks, rounds, workload, watch)
    if not rows:  # each fits, but not all at once
        rows = measure(entered[:1], given, phase, yardsticks, rounds, workload, watch)
        why = "out of memory beside the other contestants"
        missed += [Row.of(one.name, workload, phase, why=why) for one in entered[1:]]
    return rows + missed


def _entrant(
    peer: Peer, workload: Workload, given: Inputs, phase: str, expected: dict[Workload, Tensors]
) -> Contestant:
    """A peer that is ready and right. expected: results of ours that are known by now."""
    computes = peer.computes(workload)
    entrant = Contestant(peer.name, computes, peer.build(workload, phase), peer.dense)
    found = result(entrant.attend, given, phase)
    if computes not in expected:
        expected[computes] = result(ours(computes).attend, given, phase)
    check(peer.name, found, expected[computes], workload.dtype)
    del found
    prepared(entrant.attend, given, phase)()  # what fails only there fails here, too
    return entrant


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "out of memory"
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__


def measure(
    entered: Sequence[Contestant],
    given: Inputs | None,
    phase: str,
    yardsticks: dict[str, Yardstick],
    rounds: int,
    labels: Workload | None = None,
    watch: Watch = CLOCK,
) -> list[Row]:
    """Time contestants, the first of them ours, and give their rows.

    given: the inputs that they share; None where each workload has its own. labels: the workload
    that all rows are listed under; each its own for None.
    """
    calls: dict[str, Call] = {name: yard.call for name, yard in yardsticks.items()}
    for one in entered:
        calls[one.name] = prepared(one.attend, given or one.computes.inputs(), phase)
    times = alternate(calls, rounds, watch)
    ideal = ideal_times(times, entered)
    rows = []
    for one in entered:
        figures = figures_of(times, one, entered[0].name, phase, yardsticks, ideal)
        rows.append(Row.of(one.name, labels or one.computes, phase, figures))
    return rows


def ideal_times(times: Times, entered: Sequence[Contestant]) -> tuple[float, ...] | None:
    """Of each round: seconds that the pairs of the first contestant would take at the rate of the
    fastest dense one; None where there is no dense one."""
    pairs = entered[0].computes.visited
    each = [
        [seconds * pairs / one.computes.visited for seconds in times[one.name]]
        for one in entered
        if one.dense
    ]
    return tuple(map(min, zip(*each, strict=True))) if each else None


def figures_of(
    times: Times,
    one: Contestant,
    mine: str,
    phase: str,
    yardsticks: dict[str, Yardstick],
    ideal: tuple[float, ...] | None = None,
) -> Measured:
    seconds = Spread.of(times[one.name])
    work = one.computes.flops(phase)
    exact = work * one.computes.attended / one.computes.visited
    of = {
        name: rate_ratio(times, one.name, work, name, yard.flops)
        for name, yard in yardsticks.items()
    }
    return Measured(
        seconds,
        work / seconds.median / 1e9,
        exact / seconds.median / 1e9,
        of[MM],
        of.get(PEAK),
        ratio(times, one.name, mine),
        ratio(times | {IDEAL: ideal}, IDEAL, one.name) if ideal else None,
    )


def prepared(attend: Attend, given: Inputs, phase: str) -> Call:
    """The call that is timed. Backward alone goes through a graph that is kept."""
    if phase == FORWARD:
        q, k, v = (x.detach() for x in given.qkv)  # FlexAttention refuses others on the CPU
        return lambda: attend(q, k, v)
    if phase == BACKWARD:
        out = attend(*given.qkv)
        return lambda: torch.autograd.grad(out, given.qkv, given.grad_out, retain_graph=True)
    return lambda: torch.autograd.grad(attend(*given.qkv), given.qkv, given.grad_out)


# ---- no time without the right result ------------------------------------------------------------


def result(attend: Attend, given: Inputs, phase: str) -> Tensors:
    """(out,) of a forward pass, or (out, dq, dk, dv)."""
    if phase == FORWARD:
        return (attend(*(x.detach() for x in given.qkv)),)
    out = attend(*given.qkv)
    return out.detach(), *torch.autograd.grad(out, given.qkv, given.grad_out)


def check(name: str, found: Tensors, expected: Tensors, dtype: str) -> None:
    """Raise NotRun where a result, or a gradient, is another than rounding explains."""
    for part, mine, truth in zip(("out", "dq", "dk", "dv"), found, expected, strict=False):
        if mine.shape != truth.shape:
            raise NotRun(f"refused: {part} has shape {tuple(mine.shape)}")
        allowed = TOLERANCE[dtype] * (1 if part == "out" else TIMES_GRADIENT)
        error = relative(mine, truth)
        if not error <= allowed:  # nor is NaN
            raise NotRun(f"refused: {part} of {name} is off by {error:.1e}, {allowed:.0e} allowed")


def relative(found: torch.Tensor, truth: torch.Tensor) -> float:
    """The largest difference as a share of the largest value nearby; NaN where something is."""
    off, size = _largest(found - truth), _largest(truth)
    return float((off / torch.where(size == 0, 1, size)).max())


def _largest(x: torch.Tensor) -> torch.Tensor:
    """The largest magnitude of each NEIGHBOURS tokens; x: (batch, heads, length, dim)."""
    by_token = x.abs().amax((0, 1, 3))
    return torch.stack([some.max() for some in by_token.split(NEIGHBOURS)])


class WrongResult(bslang.BslangError):
    """Ours computes something else than it should: there is nothing to measure."""


@cache
def check_ours(workload: Workload, phase: str) -> None:
    """Hold the last two blocks of queries, and the gradients that they give, against the torch target.

    It computes in fp64, from the same inputs. Raises WrongResult.
    """
    given = workload.inputs()
    rows = min(workload.length, 2 * workload.block)
    grad = torch.zeros_like(given.grad_out)
    grad[:, :, -rows:] = given.grad_out[:, :, -rows:]
    given = Inputs(*given.qkv, grad)
    found = result(ours(workload).attend, given, phase)
    exact = given.to(torch.float64)
    q = exact.q[:, :, -rows:].detach().requires_grad_()
    few = Inputs(q, exact.k, exact.v, exact.grad_out[:, :, -rows:])
    expected = result(workload.layout("torch"), few, phase)  # type: ignore[arg-type]  # one output
    parts = [part[:, :, -rows:] for part in found[:2]] + list(found[2:])
    try:
        check(OURS, tuple(parts), expected, workload.dtype)
    except NotRun as error:
        raise WrongResult(f"{workload.pattern.name} at {workload.length} tokens: {error}") from None


def progress(text: str) -> None:
    """Say on stderr what is being measured."""
    print(text, file=sys.stderr, flush=True)
