"""Layouts as MagiAttention's ranges: a query range that sees a key range, whole or along a diagonal."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from bslang.errors import LimitError
from bslang.exchange.lines import Lines, rows_of
from bslang.graph.blockgraph import BlockGraph
from bslang.ir.grid import Ints
from bslang.limits import MAX_RANGES

FULL, CAUSAL, INVERSE_CAUSAL, BOTH_CAUSAL = range(4)
"""MagiAttention's numbers: does the end of a query's keys move with the query (1), does their start (2)?"""


class Ranges(NamedTuple):
    """The ranges of `flex_flash_attn_func` of MagiAttention, int32.

    q_ranges, k_ranges: (ranges, 2), a first token and the one after the last. attn_type_map: (ranges,). The
    queries a .. b - 1 of a range see of its keys c .. d - 1: all (0, full); c .. d - b + q (1, causal: the
    last query sees all); c - a + q .. d - 1 (2, inverse causal: the first query sees all); or both limits
    hold (3). No pair is in two ranges. A query with several intervals of keys is in several q_ranges, so
    leave `disable_fwd_atomic_reduction` False; a query that sees nothing is in none.
    """

    q_ranges: torch.Tensor
    k_ranges: torch.Tensor
    attn_type_map: torch.Tensor


def to_ranges(graph: BlockGraph, device: torch.device) -> Ranges:
    """The ranges of a graph's call; see `Layout.to_ranges`."""
    lines = rows_of(graph)
    chain, slope = _chained(lines)
    first, last, kind = _pieces(lines, chain, slope)
    if first.size > MAX_RANGES:
        raise LimitError("MAX_RANGES", MAX_RANGES, "the ranges of MagiAttention")
    order = np.lexsort((lines.start[first], lines.line[first]))
    first, last, kind = first[order], last[order], kind[order]
    q = np.stack((lines.line[first], lines.line[last] + 1), axis=-1)
    # The keys of the first query begin the range, and those of the last end it: an edge that stands still
    # is the same for both.
    k = np.stack((lines.start[first], lines.stop[last]), axis=-1)
    made = (torch.from_numpy(part.astype(np.int32)).to(device) for part in (q, k, kind))
    return Ranges(*made)


def _chained(lines: Lines) -> tuple[Ints, Ints]:
    """Intervals in chains from query to query: their numbers, chain after chain, and how each goes on.

    An interval goes on in that of the next query whose start and stop are the same, or one more; there is
    at most one, as intervals of a query do not touch. How: -1 where it ends, else 1 if its stop moves plus
    2 if its start does.
    """
    line, start, stop = lines
    size = line.size
    width = int(stop.max(initial=0)) + 2
    key = line * width + start
    slope = np.full(size, -1, dtype=np.int64)
    ahead = np.full(size, -1, dtype=np.int64)
    for moved in (0, 1):
        place = np.searchsorted(key, key + width + moved)
        near = np.minimum(place, size - 1)
        longer = stop[near] - stop
        goes = (place < size) & (key[near] == key + width + moved) & (longer >= 0) & (longer <= 1)
        slope[goes] = longer[goes] + 2 * moved
        ahead[goes] = near[goes]
    # The first interval of each chain, by doubling the way back.
    back = np.arange(size)
    back[ahead[ahead >= 0]] = (ahead >= 0).nonzero()[0]
    while True:
        further = back[back]
        if np.array_equal(further, back):
            break
        back = further
    order = np.lexsort((line, back))
    return order, slope[order]


def _pieces(lines: Lines, chain: Ints, slope: Ints) -> tuple[Ints, Ints, Ints]:
    """Chains cut where their direction changes: first and last interval of each piece, and its type.

    The longest piece from each start on is best: a piece that is cut short leaves more to the next.
    """
    size = chain.size
    turn = np.ones(size, dtype=bool)  # where a stretch of one direction begins
    turn[1:] = slope[1:] != slope[:-1]
    begins = np.append(turn.nonzero()[0], size).tolist()
    firsts: list[int] = []
    lasts: list[int] = []
    types: list[int] = []
    at = 0
    for begin, end in pairwise(begins):
        at = max(at, begin)
        way = int(slope[begin])
        if way < 0:  # chains that end: each is a piece by itself, unless the piece before has it
            ends = range(at, end)
            firsts.extend(ends)
            lasts.extend(ends)
            types.extend([FULL] * len(ends))
            at = max(at, end)
        elif at < end:
            firsts.append(at)
            lasts.append(end)  # the interval that the last step leads to
            types.append(way)
            at = end + 1
    return (
        chain[np.array(firsts, dtype=np.int64)],
        chain[np.array(lasts, dtype=np.int64)],
        np.array(types, dtype=np.int64),
    )
