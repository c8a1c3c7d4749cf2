"""Steps of decoding: one query over the keys of a cache, by the tables of a capacity."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmarks.first import carried
from benchmarks.first.carried import SPECIAL, Carried
from benchmarks.first.right import BATCH, SMALL_DIM, judge
from benchmarks.first.steps import Record, Task
from benchmarks.first.timed import ROUNDS, measured_on
from benchmarks.first.where import CUDA, NOTHING, Where, task
from benchmarks.timing import Spread, alternate
from bslang.layouts import Layout

CAUSAL, WINDOW = SPECIAL[0].name, "decoding"
HEADS, KEY_HEADS = 32, 8

Tensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def tasks(where: Where, folder: str) -> Iterator[Task]:
    layouts = {each.name: each for each in carried.read(Path(folder))}
    for name in (CAUSAL, WINDOW):
        for case in CASES:
            if where.on == CUDA or case != GRAPH:
                yield Task(f"{name}, {case}", run, (where, folder, layouts[name], case), seconds=20)


@task
def run(where: Where, folder: str, which: Carried, case: str) -> Record:
    return CASES[case](where, carried.layout(folder, which))


def drawn(where: Where, keys: int, batch: int = BATCH) -> Tensors:
    """A query of each head, and keys and values: four query heads share a key head."""
    generator = torch.Generator(where.device).manual_seed(keys)
    dim = {CUDA: 128, NOTHING: 64}.get(where.on, SMALL_DIM)
    heads, key_heads = (HEADS, KEY_HEADS) if where.on == CUDA else (4, 1)

    def some(heads: int, length: int) -> torch.Tensor:
        shape = batch, heads, length, dim
        return torch.randn(shape, generator=generator, device=where.device).to(where.dtype)

    return some(heads, 1), some(key_heads, keys), some(key_heads, keys)


@torch.no_grad()
def compare(
    where: Where, layout: Layout, given: Tensors, lengths: torch.Tensor | None = None
) -> Record:
    """A step against the torch target in fp64."""
    options = {} if lengths is None else {"lengths": lengths}
    found = dict(zip(("out", "lse"), layout(*given, return_lse=True, **options), strict=True))
    exact = layout._for_target("torch")(*(x.double() for x in given), return_lse=True, **options)
    if where.on == NOTHING:  # nothing was computed
        return {"shapes": {name: list(x.shape) for name, x in found.items()}}
    return judge(found, dict(zip(found, exact, strict=True)), where.dtype)


def steps(where: Where, layout: Layout) -> Record:
    """Steps one after another, then a longer one: of few keys, and of rows that are split."""
    lengths = (1, 64, 65, 1000, 1001, 32_768) if where.on == CUDA else (1, 65, 200)
    found = {n: compare(where, layout, drawn(where, n)) for n in lengths}
    wrong = [f"{n} keys: {each['wrong']}" for n, each in found.items() if each.get("wrong")]
    return {"steps": found, "wrong": "; ".join(wrong)}


def rows(where: Where, layout: Layout) -> Record:
    """Rows of a batch that have as many keys each as `lengths` says: none, too."""
    keys = 5000 if where.on == CUDA else 200
    lengths = torch.tensor([0, keys // 3, keys - 1, keys], device=where.device)
    return compare(where, layout, drawn(where, keys, len(lengths)), lengths)


def timed(where: Where, layout: Layout) -> Record:
    """A step over a cache, in turn with dense attention, which reads all keys: seconds, from events of the
    device, with what the host takes where that is longer; and as a captured graph."""
    keys = 32_768 if where.on == CUDA else 200
    q, k, v = drawn(where, keys)
    lengths = torch.full((BATCH,), keys, device=where.device)
    calls: dict[str, Callable[[], object]] = {
        "step": lambda: layout(q, k, v),
        "rows": lambda: layout(q, k, v, lengths=lengths),
        "dense": lambda: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
    }
    if where.on == CUDA:
        calls |= {f"captured {name}": captured(calls[name]).replay for name in ("step", "rows")}
    with torch.no_grad():
        times = alternate(calls, ROUNDS, measured_on(where).watch)
    us = {name: asdict(Spread.of([1e6 * x for x in each])) for name, each in times.items()}
    return {"keys": keys, "key_bytes": k.nbytes + v.nbytes, "us": us}


@torch.no_grad()
def captured(call: Callable[[], object]) -> torch.cuda.CUDAGraph:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph


@torch.no_grad()
def graph(where: Where, layout: Layout) -> Record:
    """One captured graph for all lengths: replays are what calls with those lengths are."""
    q, k, v = drawn(where, 5000)
    lengths, found = torch.full((BATCH,), 5000, device=where.device), {}

    def call() -> None:
        found["out"] = layout(q, k, v, lengths=lengths)

    replayed, wrong = captured(call), []
    out = found["out"]
    for each in ([5000, 1], [17, 4097], [2500, 2500]):
        lengths.copy_(torch.tensor(each))
        q.normal_()
        replayed.replay()
        if not torch.equal(out, layout(q, k, v, lengths=lengths)):
            wrong.append(f"a replay with lengths {each} differs from a call")
    return {"wrong": "; ".join(wrong)}


Case = Callable[[Where, Layout], Record]
GRAPH = "captured graph"
CASES: dict[str, Case] = {"steps": steps, "rows with lengths": rows, GRAPH: graph, "timed": timed}
