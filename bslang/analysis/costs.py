"""Below which length dense attention is faster, by what calls took where they were measured.

costs.json holds those times. `make bench` measures and writes them: benchmarks/crossover.py says how.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from bslang.errors import BslangError
from bslang.graph.blockgraph import BlockGraph
from bslang.ir.grid import Grid

FILE = Path(__file__).with_name("costs.json")

Blocks: TypeAlias = tuple[int, int]
"""How many are full, and partial."""

DTYPES = ("fp32", "bf16", "fp16")
"""What can be asked for; costs.json need not have all of them."""

LEAST_BLOCK = 64
"""Tokens: the blocks that were measured; smaller ones take longer for as many pairs."""


@dataclass(frozen=True)
class Costs:
    """Seconds of calls with `heads` heads of dimension `dim` in a dtype, batch 1, on one device.

    target: whose calls they are; phase: "forward", or "forward and backward"; call: what one costs
    whatever is in it; full, partial: a (query, key) pair of a full block, and of a partial one, in all
    heads; dense, dense_causal: of torch's scaled_dot_product_attention, without and with is_causal, by
    length in tokens (powers of two).
    """

    device: str
    target: str
    dtype: str
    phase: str
    heads: int
    dim: int
    call: float
    full: float
    partial: float
    dense: Mapping[int, float]
    dense_causal: Mapping[int, float]

    def sparse_seconds(self, graph: BlockGraph) -> float:
        """What a call of a layout takes, by its blocks."""
        return self.seconds(*graph.blocks_by_class, graph.grid.q.block * graph.grid.k.block)

    def seconds(self, full: int, partial: int, pairs: int) -> float:
        """What a call takes with so many full and partial blocks of some pairs each."""
        return self.call + self.full * (full * pairs) + self.partial * (partial * pairs)

    def dense_seconds(self, length: int, causal: bool) -> float:
        """What dense attention takes, by the square of the length from the next one that was measured."""
        times = self.dense_causal if causal else self.dense
        nearest = min((known for known in times if known >= length), default=max(times))
        return times[nearest] * (length / nearest) ** 2


@dataclass(frozen=True)
class Crossover:
    """From which length on a layout is expected to be faster than dense attention; see Costs.

    below: tokens, the least of the lengths looked at from which on it is, so that dense attention is
    faster below: `first` where it is faster nowhere, None where it still is at `last`. first, last: the
    shortest and the longest of those. causal: dense attention was causal, too.
    """

    below: int | None
    first: int
    last: int
    causal: bool
    phase: str
    heads: int
    dim: int
    dtype: str
    target: str
    device: str


def crossovers(
    grid: Grid,
    blocks: Blocks,
    lower: Callable[[int], BlockGraph],
    dim: int,
    causal: bool,
    dtype: str = DTYPES[0],
) -> list[Crossover]:
    """Of each phase, for heads of a dimension in a dtype; none where such heads or blocks were not measured.

    grid, blocks: of the layout at some length, with as many queries as keys: its full and partial blocks;
    lower: gives the block graph of another length in tokens, and raises BslangError where the layout is
    undefined. Only that one length and the powers of two that were measured are compared.
    """
    measured = [costs for costs in known() if (costs.dim, costs.dtype) == (dim, dtype)]
    sides = (grid.q.block, grid.k.block)
    if not measured or min(sides) < LEAST_BLOCK:
        return []
    found = {grid.k.stop: blocks}
    for length in measured[0].dense:
        if length >= max(sides) and length != grid.k.stop:
            with suppress(BslangError):
                found[length] = lower(length).blocks_by_class
    return [_crossover(costs, found, sides[0] * sides[1], causal) for costs in measured]


def _crossover(costs: Costs, found: Mapping[int, Blocks], pairs: int, causal: bool) -> Crossover:
    below = None
    for length in sorted(found, reverse=True):
        if costs.dense_seconds(length, causal) < costs.seconds(*found[length], pairs):
            break
        below = length
    return Crossover(
        below, min(found), max(found), causal,
        costs.phase, costs.heads, costs.dim, costs.dtype, costs.target, costs.device,
    )  # fmt: skip


@cache
def known() -> tuple[Costs, ...]:
    """What costs.json holds."""
    found: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
    for values in found:
        for name in ("dense", "dense_causal"):  # the keys of JSON are text
            values[name] = {int(length): seconds for length, seconds in values[name].items()}
    return tuple(Costs(**values) for values in found)
