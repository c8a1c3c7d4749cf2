"""Times beside dense attention and FlexAttention, of tiles, and of the host."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import torch

from benchmarks import grid, workloads
from benchmarks.contest import WrongResult, contest
from benchmarks.device import DEVICES, Device, yardsticks
from benchmarks.figures import describe_workload
from benchmarks.first import carried, right
from benchmarks.first.carried import Carried
from benchmarks.first.right import SMALL_DIM, Shape, drawn
from benchmarks.first.steps import Record, Task
from benchmarks.first.where import CUDA, INTERPRETER, Where, task
from benchmarks.flexes import FLEXIBLE, Flexes, compile_for
from benchmarks.peers import CUDNN, FLASH, Peer
from benchmarks.suites import Contest
from benchmarks.timing import Spread, alternate
from benchmarks.workers import Workers
from benchmarks.workloads import BACKWARD, CAUSAL, FORWARD, Pattern, Workload
from bslang import api

ROUNDS = 5
RANDOM = Pattern("64 of 1,713 blocks", "random(64, seed=1)")
"""With 64 tokens a block: what hand-written kernels have published figures for."""


def _grid(layout: grid.Layout, length: int, density: float, dim: int = 128) -> Workload:
    pattern = layout(length, 128, density)
    assert pattern is not None, "a density that the layout can have"
    return Workload(pattern, length, 128, dim, 8, "bfloat16", "cuda")


TIMED = (
    Workload(CAUSAL, 16_384, 128, 128, 8, "bfloat16", "cuda"),
    Workload(RANDOM, 109_632, 64, 128, 7, "bfloat16", "cuda"),
    _grid(grid.window, 65_536, 0.1),
    _grid(grid.bigbird, 65_536, 0.1),
    _grid(grid.window, 65_536, 0.025),
    _grid(grid.window, 65_536, 0.2),
    _grid(grid.window, 65_536, 0.05),
    Workload(CAUSAL, 16_384, 128, 64, 8, "bfloat16", "cuda"),
)
"""The most wanted first: what does not fit into the time is left out."""

DENSE: tuple[Peer, ...] = (FLASH, CUDNN)


def contests(where: Where) -> list[Contest]:
    """Forward of each, then backward; FlexAttention takes blocks of 128 tokens."""
    works = TIMED if where.on == CUDA else [_small(where, TIMED[0])]
    dense = DENSE if where.on == CUDA else (FLASH,)
    return [
        Contest(work, phase, dense + (FLEXIBLE if work.block == 128 and where.on == CUDA else ()))
        for phase in (FORWARD, BACKWARD)
        for work in works
        if phase == FORWARD or work.pattern != RANDOM
    ]


def _small(where: Where, work: Workload) -> Workload:
    """As much as an interpreter does, or with a head dimension that kernels are carried for."""
    dim = SMALL_DIM if where.on == INTERPRETER else 64
    dtype = str(where.dtype).partition(".")[2]
    return replace(work, length=2 * work.block, dim=dim, heads=1, dtype=dtype, device="cpu")


def compiling(where: Where, pool: Workers, most: float) -> Flexes:
    """The tasks that compile FlexAttention; most: seconds that one may take."""
    return Flexes(
        {
            (number, peer.name): pool.submit(flex, where, number, peer.name, timeout=most)
            for number, each in enumerate(contests(where))
            for peer in each.peers
            if peer in FLEXIBLE
        }
    )


@task
def flex(where: Where, number: int, peer: str) -> Record:
    compile_for(contests(where)[number], peer)
    return {}


def tasks(where: Where, folder: str, flexes: Flexes) -> Iterator[Task]:
    layouts = carried.read(Path(folder))
    for number, each in enumerate(contests(where)):
        name = f"{describe_workload(each.workload)}, {each.phase}"
        why = {peer.name: flexes.why_not(number, peer) for peer in each.peers}
        left_out = {peer: text for peer, text in why.items() if text}
        yield Task(name, beside, (where, folder, layouts, number, left_out), seconds=40)


ALONE = 2
"""Workloads that each back end is timed on, forward and backward."""


def alone(where: Where, folder: str) -> Iterator[Task]:
    """Ours alone: what the back end computes, then its times."""
    layouts = carried.read(Path(folder))
    entries = list(enumerate(contests(where)))
    works = list(dict.fromkeys(each.workload for _, each in entries))[:ALONE]
    for layout in layouts:
        if any((x.pattern.spec, x.block) == (layout.spec, layout.block) for x in works):
            for dim in (64, 128):
                name = f"{layout.name}, dim {dim}"
                yield Task(name, right.check, (where, folder, layout, dim), seconds=10)
    for number, each in entries:
        if each.workload in works:
            name = f"{describe_workload(each.workload)}, {each.phase}"
            nobody = {peer.name: "the back end alone" for peer in each.peers}
            yield Task(name, beside, (where, folder, layouts, number, nobody), seconds=15)


@task
def beside(
    where: Where,
    folder: str,
    layouts: Sequence[Carried],
    number: int,
    left_out: dict[str, str],
) -> Record:
    """Times of ours and of its peers in a contest, in rounds."""
    entry, device = contests(where)[number], measured_on(where)
    carry(folder, layouts, entry.workload)
    peers = [each for each in entry.peers if each.name not in left_out]
    yards = yardsticks(device)
    try:
        rows = contest(entry.workload, entry.phase, peers, yards, ROUNDS, device.watch)
    except WrongResult as error:
        return {"wrong": str(error)}
    return {"rows": [asdict(row) for row in rows], "left_out": left_out, "clocks": device.clocks()}


def carry(folder: str, layouts: Iterable[Carried], work: Workload) -> None:
    """Have a workload take the layout that was carried."""
    for each in layouts:
        if (each.spec, each.block) == (work.pattern.spec, work.block):
            workloads.CARRIED[each.spec, each.block] = carried.layout(folder, each)


@cache
def measured_on(where: Where) -> Device:
    return DEVICES[where.device.type]()


# ---- the device ----------------------------------------------------------------------------------


@task
def about(where: Where) -> Record:
    """Versions, the device, and its rates: of torch.mm in bf16 and of a copy."""
    device = measured_on(where)
    (mm,) = yardsticks(device).values()
    size = 2**32 if where.on == CUDA else 2**24
    source, into = (torch.empty(size, dtype=torch.int8, device=where.device) for _ in range(2))
    times = alternate({"mm": mm.call, "copy": lambda: into.copy_(source)}, ROUNDS, device.watch)
    rates = Spread.of([mm.flops / 1e12 / x for x in times["mm"]])
    copied = Spread.of([2 * size / 1e12 / x for x in times["copy"]])  # read and written
    return {
        "machine": device.describe(),
        "mm_tflops": asdict(rates),
        "copy_tb": asdict(copied),
    }


# ---- tiles ---------------------------------------------------------------------------------------


def tunings(where: Where, folder: str) -> Iterator[Task]:
    layouts = {(x.spec, x.block): x for x in carried.read(Path(folder))}
    for work in TIMED[:4]:
        found = layouts.get((work.pattern.spec, work.block))
        if found:
            given = (where, folder, found, work.length, work.dim, work.heads)
            yield Task(f"{describe_workload(work)}", tuned, given, seconds=60)


@task
def tuned(where: Where, folder: str, of: Carried, length: int, dim: int, heads: int) -> Record:
    """The fastest tiles of a layout's kernels, as they lie beside its module afterwards."""
    path = Path(folder, of.folder, of.file)
    made = api.tune(path, length, (dim,), ("bf16",), heads)
    return {"tiles": made.read_text(encoding="utf-8")}


# ---- the host ------------------------------------------------------------------------------------

CALLS, REPEATS = 50, 10


def hosts(where: Where, folder: str) -> Iterator[Task]:
    layouts = {each.name: each for each in carried.read(Path(folder))}
    for kind in HOST:
        if where.on == CUDA or kind != "captured graph":
            yield Task(kind, host, (where, folder, layouts[carried.SPECIAL[0].name], kind))


@task
def host(where: Where, folder: str, of: Carried, kind: str) -> Record:
    """Microseconds of the host in a call of known length: the least over some repeats."""
    layout = carried.layout(folder, of)
    given = drawn(where, Shape(128, SMALL_DIM * 4, 2, 2, where.dtype))
    q, k, v = (given[name] for name in ("q", "k", "v"))

    def forward() -> object:
        with torch.no_grad():
            return layout(q, k, v)

    def both() -> object:
        return torch.autograd.grad(layout(q, k, v), (q, k, v), given["do"])

    call = HOST[kind](forward, both)
    calls, repeats = (CALLS, REPEATS) if where.on == CUDA else (2, 2)
    for _ in range(3):
        call()
    found = []
    for _ in range(repeats):
        where.synchronize()
        begin = time.perf_counter()
        for _ in range(calls):
            call()
        found.append((time.perf_counter() - begin) / calls * 1e6)
    return {"us": round(min(found), 1)}


Call = Callable[[], object]


def _captured(forward: Call, both: Call) -> Call:
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        forward()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        forward()
    return graph.replay


HOST: dict[str, Callable[[Call, Call], Call]] = {
    "forward": lambda forward, both: forward,
    "forward and backward": lambda forward, both: both,
    "captured graph": _captured,
}
