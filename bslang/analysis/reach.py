"""The receptive field: which blocks have received from which others, layer after layer.

A block keeps what it has (the residual connection), so each layer reaches one hop further.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

import numpy as np

from bslang.analysis.square import Square
from bslang.ir.grid import Ints
from bslang.limits import MAX_FOLLOWED

Bits: TypeAlias = "np.ndarray[Any, np.dtype[np.uint64]]"

SAMPLE = 256
"""Blocks whose way is followed where there are more than MAX_FOLLOWED."""

DEEPEST = 64
"""Layers that are followed in search of the last one, among more than MAX_FOLLOWED blocks."""

_ONES = np.array([bin(byte).count("1") for byte in range(256)])
_BATCH = 2**20  # words of 64 bits that are joined at a time


@dataclass(frozen=True)
class Reach:
    """What layers reach.

    blocks: on a side; followed: those whose way was followed, all or a sample; layers: how many were
    followed; coverage: the share of
    pairs (any block, one followed) of which the first has received from the second, after 1, 2, ...
    layers; hops: layers until all have, None where they never do or where that stays open; ended:
    whether nothing more is reached.
    """

    blocks: int
    followed: int
    layers: int
    coverage: tuple[float, ...]
    hops: int | None
    ended: bool

    @property
    def sampled(self) -> bool:
        """Whether only some blocks were followed."""
        return self.followed < self.blocks


def reach(square: Square, layers: int = 0, *, exact: bool = False) -> Reach:
    """Follow what every block receives; layers: how many to give the coverage of.

    Exact among up to MAX_FOLLOWED blocks. Beyond, the way of SAMPLE of them is followed, drawn evenly
    (exact: that of all, up to here, too), no further than DEEPEST layers. Costs layers x (runs + blocks) x
    followed / 64.
    """
    size = square.size
    few = size <= MAX_FOLLOWED
    targets = np.arange(size) if few or exact else _sample(size)
    most = None if few and not exact else max(DEEPEST, layers)
    shares = islice(_shares(square, targets), most)
    coverage: list[float] = []
    share, hops = 1 / size, 0 if size == 1 else None
    ended = size == 1
    while not ended:
        before, share = share, next(shares, -1.0)
        if share < 0:
            break
        coverage.append(share)
        if share == 1:
            hops = len(coverage)
        ended = share in (before, 1)
    followed = len(coverage)
    coverage += [share] * (layers - len(coverage))
    return Reach(size, targets.size, followed, tuple(coverage[:layers]), hops, ended)


def _sample(size: int) -> Ints:
    """One block, the same at every call, of each of SAMPLE equal stretches."""
    place = np.arange(SAMPLE) + np.random.default_rng(0).random(SAMPLE)
    targets: Ints = (place * size / SAMPLE).astype(np.int64)
    return targets


def _shares(square: Square, targets: Ints) -> Iterator[float]:
    """After each layer, the share of pairs reached; without end."""
    words = -(-targets.size // 64)
    reached = np.zeros((square.size, words), dtype=np.uint64)
    bit = np.arange(targets.size)
    own = np.uint64(1) << (bit % 64).astype(np.uint64)
    np.bitwise_or.at(reached, (targets, bit // 64), own)  # a sample may have a block twice
    pairs = square.size * targets.size
    while True:
        reached = reached | _seen(square, reached)
        yield int(_ONES[reached.view(np.uint8)].sum()) / pairs


def _seen(square: Square, held: Bits) -> Bits:
    """What the blocks that each one sees hold together.

    A run is covered by two stretches whose length is a power of two; the table of these holds what
    each stretch has together.
    """
    length = square.stop - square.start
    power = np.frexp(length.astype(np.float64))[1].astype(np.int64) - 1
    table = [held]
    for p in range(int(power.max(initial=0))):
        half = table[-1]
        table.append(half[: -(2**p)] | half[2**p :] if len(half) > 2**p else half)
    joined = np.zeros_like(held)
    node = np.repeat(np.arange(square.size), np.diff(square.indptr))
    step = max(1, _BATCH // held.shape[1])
    for p, stretches in enumerate(table):
        runs = np.flatnonzero(power == p)
        for begin in range(0, runs.size, step):
            part = runs[begin : begin + step]
            found = stretches[square.start[part]] | stretches[square.stop[part] - 2**p]
            # Runs of one node are neighbours: join them, then put the result to what is there.
            first = np.flatnonzero(np.diff(node[part], prepend=-1))
            joined[node[part][first]] |= np.bitwise_or.reduceat(found, first, axis=0)
    return joined
