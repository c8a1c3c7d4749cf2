"""What a layout says to who decodes with it: whether a cache serves, and what can leave it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bslang.analysis.pairs import masks
from bslang.analysis.properties import YES, Answer, is_prefix_stable
from bslang.graph.settle import positions

if TYPE_CHECKING:
    from bslang.graph.blockgraph import BlockGraph
    from bslang.runtime.layout import Layout

Blocks = npt.NDArray[np.int64]


@lru_cache(maxsize=256)
def prefix_stable(layout: Layout, length: int, heads: int) -> Answer:
    """Whether no row depends on the length, in any of some heads; else the answer of the first."""
    pattern = layout.resolved.pattern
    for head in range(heads if layout.by_head else 1):
        answer = is_prefix_stable(pattern, layout.graph(length, head=head))
        if not answer.holds:
            return answer
    return YES


def require_prefix_stable(layout: Layout, length: int, heads: int = 1) -> None:
    """Raise ValueError with the reason, and a pair that shows it, where a layout cannot be decoded with
    a cache: some query sees a later key, or another one at another length."""
    answer = prefix_stable(layout, length, heads)
    if not answer.holds:
        later = answer.pair is not None and answer.pair[1] > answer.pair[0]
        raise ValueError(
            f"`{layout.spec}` cannot be decoded with a cache: {answer.because}"
            + "; intersect it with `causal`" * later
        )


@lru_cache(maxsize=64)
def _last_rows(layout: Layout, until: int, head: int) -> tuple[BlockGraph, Blocks]:
    """The graph at a length, and the last block row that visits each block column, -1 for none."""
    graph = layout.graph(until, head=head)
    column, _, stop = graph.held.transpose(graph.grid.n).rows()
    last = np.full(graph.grid.m, -1, dtype=np.int64)
    np.maximum.at(last, column, stop - 1)
    return graph, last


def reachable(layout: Layout, t: int, until: int, head: int) -> Blocks:
    """int64 (blocks,): see `Layout.reachable`."""
    graph, last = _last_rows(layout, until, head)
    grid = graph.grid
    row, columns = t // grid.q.block, -(-min(t, until) // grid.k.block)
    last = last[:columns]
    seen = last > row
    # Of the blocks that row t // block is the last to visit, some are not seen from query t on.
    j = np.flatnonzero(last == row)
    q, _, there = positions(row * grid.m + j, grid)
    seen[j] = (masks(graph, np.full_like(j, row), j) & there & (q >= t)).any(axis=(1, 2))
    return np.flatnonzero(seen)
