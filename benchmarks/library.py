"""Every published layout once, at one length, beside dense attention: what its sparsity is worth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from benchmarks.contest import Contestant, WrongResult, check_ours, ours, prepared
from benchmarks.markdown import spread, table
from benchmarks.peers import SDPA
from benchmarks.timing import Call, Spread, alternate, ratio
from benchmarks.workloads import BOTH, CAUSAL, DENSE, FORWARD, Pattern, Workload
from bslang import compiler
from bslang.analysis.properties import Properties
from bslang.resolve.library import Entry, library
from bslang.syntax.source import Source

BLOCKS = 64
"""Of a sequence: what SIZES are for."""

SIZES = {
    "axial": "(h=8, w=8)",
    "axial_heads": "(h=8, w=8)",
    "natten2d": "(h=8, w=8, k=3)",
    "natten3d": "(t=4, h=4, w=4, k=3)",
    "sliding_tile": "(t=4, h=4, w=4)",
    "nabla": "(t=4, h=4, w=4, rt=1)",
    "etc": "(g=2, w=3)",
    "hepos": "(s=4)",
    "llama4": "(c=4)",
    "longformer": "(w=3, g=1)",
    "dilated": "(w=5, gap=2)",
    "longnet_dilated": "(w=6, r=2)",
    "longnet": "(w1=4, r1=1, w2=12, r2=3)",
    "a_shape": "(sinks=1, recent=3)",
    "tri_shape": "(sinks=1, recent=2, tail=2)",
    "mistral": "(w=3)",
    "natten": "(k=3)",
    "natten_dilated": "(k=3, gap=2)",
    "phi3": "(local=4, vert=3, count=1)",
    "prefix_lm": "(p=3)",
    "strided_head": "(s=4)",
    "local_head": "(e=1)",
    "strided_pattern": "(s=4)",
    "streaming_llm": "(sinks=1, recent=3)",
}
"""Parameters that fit BLOCKS blocks; all other layouts have those of the library."""


_ON_THE_CALL = "which of its blocks are visited depends on the call"


@dataclass(frozen=True)
class Published:
    """A layout of the library, in one phase; not_run says why it was not measured.

    density: visited blocks of all; beside: which dense attention it is held against (causal ones
    against causal); seconds: of ours; faster: time of dense attention over ours; of_ideal: dense
    attention's time for as many pairs, at its rate, over ours. A Spread is over rounds.
    """

    layout: str
    phase: str
    density: float
    beside: str
    seconds: Spread | None = None
    faster: Spread | None = None
    of_ideal: Spread | None = None
    not_run: str = ""


def run(shape: Workload, rounds: int, entries: Sequence[Entry] | None = None) -> list[Published]:
    """Time layouts (all of the library) in the same rounds, each beside both dense attentions.

    shape: of BLOCKS blocks. A layout whose result is wrong is listed as not run.
    """
    layouts = [replace(shape, pattern=pattern(entry)) for entry in entries or library()]
    found = []
    timed = []
    for work in layouts:
        why = _ON_THE_CALL if work.layout().inputs else _wrong(work)
        if why:
            found.append(Published(work.pattern.name, FORWARD, 0.0, "", not_run=why))
        else:
            timed.append(work)
    return [row for phase in (FORWARD, BOTH) for row in _phase(timed, shape, phase, rounds)] + found


def _wrong(work: Workload) -> str:
    """What is wrong with the output or the gradients of a layout; "" where nothing is."""
    try:
        check_ours(work, BOTH)
    except WrongResult as error:
        return str(error)
    return ""


def pattern(entry: Entry) -> Pattern:
    """A layout of the library, named as on the command line."""
    name = entry.name + SIZES.get(entry.name, "")
    return Pattern(f"{entry.file}:{entry.name}", f'import "{entry.file}" as std\nstd.{name}')


def _phase(
    layouts: Sequence[Workload], shape: Workload, phase: str, rounds: int
) -> Iterator[Published]:
    dense = {
        name: Contestant(name, work, SDPA.build(work, phase))
        for name, work in ((p.name, replace(shape, pattern=p)) for p in (DENSE, CAUSAL))
    }
    entered = [ours(work, work.pattern.name) for work in layouts]
    given = shape.inputs()
    calls: dict[str, Call] = {
        one.name: prepared(one.attend, given, phase) for one in [*dense.values(), *entered]
    }
    times = alternate(calls, rounds)
    for one in entered:
        beside = dense[CAUSAL.name if is_causal(one.computes) else DENSE.name]
        faster = ratio(times, beside.name, one.name)
        share = one.computes.visited / beside.computes.visited
        ideal = Spread(*(share * value for value in (faster.median, faster.low, faster.high)))
        yield Published(
            one.name,
            phase,
            one.computes.density,
            beside.name,
            Spread.of(times[one.name]),
            faster,
            ideal,
        )


@cache
def is_causal(work: Workload) -> bool:
    """Whether no head of a layout sees a later token."""
    resolved = compiler.resolve(Source("<benchmark>", work.pattern.spec), block=work.block)
    return all(
        Properties.of(resolved.pattern, work.graph(head)).causal.holds is True
        for head in range(work.heads)
    )


def as_markdown(rows: Sequence[Published]) -> str:
    """A table with both phases of a layout on one line."""
    timed = [row for row in rows if not row.not_run]
    backward = {row.layout: row for row in timed if row.phase == BOTH}
    lines = []
    for row in timed:
        if row.phase == FORWARD and row.seconds:
            both = backward[row.layout]
            lines.append((
                f"`{row.layout}`", f"{row.density:.2%}", row.beside,
                f"{1000 * row.seconds.median:,.1f}", spread(row.faster, ".3g"), spread(row.of_ideal),
                f"{1000 * both.seconds.median:,.1f}" if both.seconds else "",
                spread(both.faster, ".3g"), spread(both.of_ideal),
            ))  # fmt: skip
    head = ("layout", "density", "compared with", "forward, ms", "times as fast", "of ideal",
            "forward and backward, ms", "times as fast", "of ideal")  # fmt: skip
    missed = [f"- `{row.layout}`: not run: {row.not_run}." for row in rows if row.not_run]
    return "\n".join([table(head, lines), *([""] if missed else []), *missed])
