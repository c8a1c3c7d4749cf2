"""What a cache takes at a million tokens, and what a step costs there: one that keeps all, and one that keeps
what later queries read.

    python -m benchmarks.caches [--tokens 1048576] [--rounds 100]

Prints two Markdown tables for docs/caches.md. Bytes are those of the caches' own tensors and tables. A step
adds a token and attends to it, on the cpu target; contestants take turns, and a time is the median, with its
quartiles.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence

import torch

import bslang
from benchmarks.markdown import spec, table
from bslang.nn import KVCache

SPECS = (
    "last(4096t) & causal",
    "(last(4096t) | cols(0:4t)) & causal",
    "heads { 0:4 -> (last(4096t) | cols(0:4t)) & causal; 4: -> causal }",
    "causal",
)
HEADS, DIM = 8, 64  # of keys; each is read by one query head
SHORT, PART = 8192, 4096


def filled(cache: KVCache, tokens: int) -> int:
    """Add tokens in parts, as a prompt that is read in parts does; the most bytes after one."""
    most = 0
    for start in range(0, tokens, PART):
        k = torch.zeros(1, HEADS, min(PART, tokens - start), DIM, dtype=torch.bfloat16)
        cache.append(k, k)
        most = max(most, cache.nbytes)
    return most


def memory(tokens: int) -> str:
    """Bytes of a layer."""
    full = KVCache(max_length=tokens)
    filled(full, 1)  # its buffers are made for all tokens at once
    lines = []
    for text in SPECS:
        layout = bslang.compile(text, block=64, target="cpu")
        cache = KVCache(layout, max_length=tokens)
        most = filled(cache, tokens - 1)
        step = torch.zeros(1, HEADS, 1, DIM, dtype=torch.bfloat16)
        cache.append(step, step)  # drops what the last part has made superfluous
        assert cache.length == tokens
        ratio = full.nbytes / cache.nbytes
        bytes = [full.nbytes, cache.nbytes, most]
        lines.append(
            (spec(text), *map(_size, bytes), f"{ratio:.0f}" if ratio > 2 else f"{ratio:.2f}")
        )
    head = ("layout", "keeps all", "`KVCache(layout)`", "the most while reading", "ratio")
    return table(head, lines)


def steps(tokens: int, rounds: int) -> str:
    """Microseconds of a step after few tokens and after many."""
    layout = bslang.compile(SPECS[1], block=64, target="cpu")
    q, k = torch.randn(2, 1, HEADS, 1, DIM, dtype=torch.float32).bfloat16()
    caches = {length: KVCache(layout, max_length=length) for length in (SHORT, tokens)}
    times: dict[int, list[float]] = {length: [] for length in caches}
    for length, cache in caches.items():
        filled(cache, length - rounds - 1)
    for number in range(rounds + 1):
        for length, cache in caches.items():
            begin = time.perf_counter()
            keys, values = cache.append(k, k)
            layout(q, keys, values, **cache.options)
            if number:  # the first one makes tables
                times[length].append((time.perf_counter() - begin) * 1e6)
    lines = [(f"{length:,}", _spread(found)) for length, found in times.items()]
    return table(("tokens", "a step, us"), lines)


def _size(bytes: int) -> str:
    return f"{bytes / 2**20:,.1f} MiB"


def _spread(times: Sequence[float]) -> str:
    low, median, high = statistics.quantiles(times, n=4)
    return f"{median:.0f} ({low:.0f} to {high:.0f})"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--tokens", type=int, default=2**20)
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    with torch.no_grad():
        print(memory(options.tokens), steps(options.tokens, options.rounds), sep="\n\n")


if __name__ == "__main__":
    main()
