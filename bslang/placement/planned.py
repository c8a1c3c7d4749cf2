"""The exchange of a layout on a placement: which rows are spread, and whether it is a gather."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from bslang.graph.blockgraph import BlockGraph
from bslang.placement.exchange import Exchange, HeadGraph
from bslang.placement.placement import Placement
from bslang.placement.traffic import Sizes, traffic

HEAVY = (4, 16, 64)
"""A row may be spread if it visits more than so many times max(mean blocks of a row, ranks)."""


def planned(
    graphs: Sequence[BlockGraph],
    head_graph: HeadGraph,
    heads: int,
    key_heads: int,
    placement: Placement,
    sizes: Sizes | None = None,
) -> Exchange:
    """The exchange that moves least, of those with and without spread rows and shared items, and a gather;
    every rank must pass the same. sizes: of a call. Raises as `Exchange.of`.

    Compared are the bytes of the rank that moves most in each pass.
    """
    plain = Exchange.of(graphs, head_graph, heads, key_heads, placement)
    sizes = sizes or Sizes()
    best = min(_spread(plain), key=lambda exchange: most_moved(exchange, sizes))
    return settled(best, sizes)[0]


def settled(exchange: Exchange, sizes: Sizes) -> tuple[Exchange, int]:
    """An exchange with shared items or without, as moves less, or a gather if that comes to as much; and its
    `most_moved`."""
    moved = most_moved(exchange, sizes)
    if exchange.is_shared.any():
        apart = replace(exchange, sharing=False)
        if (less := most_moved(apart, sizes)) < moved:
            exchange, moved = apart, less
    gather = replace(exchange, kind="gather", spread=exchange.spread[:0])
    all_ = most_moved(gather, sizes)
    return (gather, all_) if moved >= all_ > 0 else (exchange, moved)


def _spread(plain: Exchange) -> Iterator[Exchange]:
    """The exchange with the rows of each threshold of HEAVY spread, fewest first, from none on."""
    yield plain
    work = plain.row_work
    least = max(work.mean(), plain.ranks * plain.heads)
    count = 0
    for times in reversed(HEAVY):
        rows = np.flatnonzero(work > times * least)
        if rows.size > count:
            count = rows.size
            order = np.argsort(plain.row_owner[rows], kind="stable")
            yield replace(plain, spread=rows[order])


def most_moved(exchange: Exchange, sizes: Sizes) -> int:
    """Bytes of the ranks that send or receive most in the forward and in the backward pass."""
    totals = [each.total for each in traffic(exchange, sizes)]
    return sum(int(max(total.sent.max(), total.received.max())) for total in totals)
