"""A step of decoding: one query, at a length that is new, known, one of several in a batch, or in pages.

    python -m benchmarks.decoding [--rounds 200]

Prints two Markdown tables for docs/performance.md, the second of one query over many cached keys. In the
first the contestants take turns, a step each; a time is the median, with its quartiles. Host time is that of
a call whose kernel returns at once, on one thread's clock.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import torch

import bslang
from benchmarks.markdown import spread, table
from benchmarks.timing import Spread, alternate, rate_ratio, ratio

SPEC = "(last(512t) | cols(0:4t)) & causal"
HEADS, DIM, FIRST, PAGE = 8, 64, 4096, 64


def contestants(
    layout: bslang.Layout, most: int, peers: bool
) -> dict[str, Iterator[Callable[[], object]]]:
    """The steps of each, one after the other."""
    q = torch.randn(1, HEADS, 1, DIM)
    k, v = torch.randn(2, 1, HEADS, most, DIM)
    rows = torch.randn(4, HEADS, 1, DIM)
    cache_k, cache_v = torch.randn(2, 4, HEADS, most, DIM)

    def step(length: int) -> Callable[[], object]:
        keys, values = k[:, :, :length], v[:, :, :length]
        return lambda: layout(q, keys, values)

    def dense(length: int) -> Callable[[], object]:
        keys, values = k[:, :, :length], v[:, :, :length]
        return lambda: torch.nn.functional.scaled_dot_product_attention(q, keys, values)

    def batch(length: int) -> Callable[[], object]:
        lengths = torch.tensor([length, length - 1000, length - 2000, length - 3000])
        return lambda: layout(rows, cache_k, cache_v, lengths=lengths)

    def paged(length: int) -> Callable[[], object]:
        return lambda: layout(q, *pools, pages=pages, lengths=length)

    pages = torch.randperm(-(-most // PAGE), dtype=torch.int32)[None]
    short = (0, 0, 0, pages.shape[1] * PAGE - most)
    pools = [x.new_empty((pages.shape[1], HEADS, PAGE, DIM)) for x in (k, v)]
    for pool, x in zip(pools, (k, v), strict=True):
        whole = torch.nn.functional.pad(x[0], short).unflatten(1, (-1, PAGE))
        pool[pages[0].long()] = whole.transpose(0, 1)
    lengths = range(FIRST, most)
    steps: dict[str, Iterator[Callable[[], object]]] = {
        "a new length": (step(length) for length in lengths),
        "a known length": (step(FIRST) for _ in lengths),
        "a new length, keys in pages": (paged(length) for length in lengths),
        "four rows, new `lengths`": (batch(length) for length in lengths),
    }
    if peers:
        steps["dense attention (SDPA), a new length"] = (dense(length) for length in lengths)
    return steps


def timed(
    layout: bslang.Layout, rounds: int, now: Callable[[], float], peers: bool = True
) -> dict[str, list[float]]:
    """Microseconds of the steps of each contestant, which take turns: in random order, since
    what comes after dense attention finds its caches full of other numbers."""
    steps = contestants(layout, FIRST + rounds, peers)
    found: dict[str, list[float]] = {name: [] for name in steps}
    order = random.Random(0)
    for number in range(rounds):
        calls = [(name, next(each)) for name, each in steps.items()]
        if number == 0:
            for _, call in calls:
                call()  # makes the tables of the capacity
        for name, call in order.sample(calls, len(calls)):
            begin = now()
            call()
            found[name].append((now() - begin) * 1e6)
    return found


def hosted(layout: bslang.Layout, rounds: int) -> dict[str, list[float]]:
    """The same of the host alone: the kernel returns at once."""
    target = vars(layout.targets["cpu"])
    kernels = target["_loaded"]
    target["_loaded"] = SimpleNamespace(bslang_forward=lambda arguments: 0)
    try:
        return timed(layout, rounds, time.thread_time, peers=False)
    finally:
        target["_loaded"] = kernels


def _spread(times: list[float] | None) -> str:
    if times is None:
        return ""
    low, median, high = statistics.quantiles(times, n=4)
    return f"{median:.0f} ({low:.0f} to {high:.0f})"


# ---- many keys: at the speed of memory -----------------------------------------------------------

OVER_MANY = "(last(32768t) | cols(0:4t)) & causal"
KEYS = 32_768
COPIED = 2**27
"""Bytes of the tensor that is copied, and least bytes of the caches that calls go through."""


@dataclass(frozen=True)
class Cache:
    """Keys and values of one row of a batch."""

    heads: int
    kv_heads: int
    dim: int
    dtype: str

    @property
    def about(self) -> str:
        keys = f"{self.kv_heads} key head{'s' if self.kv_heads > 1 else ''}"
        return f"{self.heads} query heads on {keys} of {self.dim}, {self.dtype}"

    @property
    def bytes(self) -> int:
        """That a step reads: every key and every value once."""
        return 2 * self.kv_heads * KEYS * self.dim * getattr(torch, self.dtype).itemsize


CACHES = tuple(
    Cache(*shape, dtype)
    for shape in ((8, 8, 64), (8, 2, 128), (8, 1, 128))
    for dtype in ("float32", "bfloat16")
)


@dataclass(frozen=True)
class Step:
    """seconds: of a step; of_copy: bytes of keys and values that it reads per second, over those that
    torch's copy_ of COPIED bytes reads and writes per second; sdpa: its time over ours."""

    cache: Cache
    seconds: Spread
    of_copy: Spread
    sdpa: Spread


def over_many_keys(cache: Cache, rounds: int) -> Step:
    """Time one query over KEYS cached keys beside a copy and SDPA, in the same rounds.

    Calls go in turn through as many caches as are COPIED bytes: as in a model with many layers, a call does
    not find its keys in the processor's cache.
    """
    layout = bslang.compile(OVER_MANY, block=64, target="cpu")
    dtype = getattr(torch, cache.dtype)
    q = torch.randn(1, cache.heads, 1, cache.dim).to(dtype)
    of_each = (2, 1, cache.kv_heads, KEYS, cache.dim)
    held = [torch.randn(of_each).to(dtype) for _ in range(-(-COPIED // cache.bytes))]
    source = torch.zeros(COPIED // 4)
    copied = torch.empty_like(source)
    grouped = cache.heads != cache.kv_heads

    def dense(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=grouped)

    def step(attend: Callable[..., object]) -> Callable[[], object]:
        turns = itertools.cycle(held)
        return lambda: attend(q, *next(turns))

    mine, other, copy = "bslang", "SDPA", "copy"
    calls = {mine: step(layout), other: step(dense), copy: lambda: copied.copy_(source)}
    with torch.no_grad():
        # All keys are within the window: the layout is dense attention here.
        torch.testing.assert_close(layout(q, *held[0]), dense(q, *held[0]), rtol=2e-2, atol=2e-3)
        times = alternate(calls, rounds)
    return Step(
        cache,
        Spread.of(times[mine]),
        rate_ratio(times, mine, cache.bytes, copy, 2 * COPIED),
        ratio(times, other, mine),
    )


def as_markdown(steps: list[Step]) -> str:
    return table(
        ("one query over 32,768 keys", "ms", "GB/s", "of a copy's rate", "SDPA's time / bslang"),
        (
            (
                step.cache.about,
                f"{1000 * step.seconds.median:.2f}",
                f"{step.cache.bytes / step.seconds.median / 1e9:.1f}",
                spread(step.of_copy),
                spread(step.sdpa),
            )
            for step in steps
        ),
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    layout = bslang.compile(SPEC, block=64, target="cpu")
    with torch.no_grad():
        times, host = timed(layout, rounds, time.perf_counter), hosted(layout, rounds)
    known = times["a known length"]
    lines = [
        (
            name,
            _spread(each),
            f"{statistics.median(a / b for a, b in zip(each, known, strict=True)):.2f}",
            _spread(host.get(name)),
        )
        for name, each in times.items()
    ]
    print(table(("step", "time, us", "of a known length", "host time, us"), lines), end="\n\n")
    print(as_markdown([over_many_keys(cache, 9) for cache in CACHES]))


if __name__ == "__main__":
    main()
