"""What `show --ranks` tells apart: for each block where its keys come from, for each row its rank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from bslang.graph.blockgraph import BlockGraph
from bslang.ir.grid import Ints
from bslang.ir.runs import Runs
from bslang.picture.picture import Division
from bslang.placement.exchange import Exchange

_LISTED = 24  # ranks
_RANGES = 6  # of the blocks of a rank


def division(exchange: Exchange) -> Division:
    """The rows of the ranks of an exchange, and what each fetches."""

    def parts(graph: BlockGraph) -> Sequence[tuple[str, Runs]]:
        rows, width = np.arange(graph.grid.n), graph.grid.m
        column = np.flatnonzero(exchange.is_shared[_key_set(exchange, graph.grid.head)])
        shared = Runs.of_rows(
            width,
            np.repeat(rows, column.size),
            np.tile(column, rows.size),
            np.tile(column + 1, rows.size),
        )
        heavy = Runs.of_rows(width, np.sort(exchange.spread), np.array([0]), np.array([width]))
        kept = graph.visited - heavy
        others = kept - exchange.at_home(rows)
        found = [
            ("keys of the same rank", kept & exchange.at_home(rows)),
            ("keys of other ranks", others - shared),
            ("keys that all ranks get", others & shared),
            ("spread rows, computed where the keys are", graph.visited & heavy),
        ]
        return [each for each in found if each[1]]

    rows = tuple(f"rank {rank}" for rank in exchange.row_owner.tolist())
    return Division(parts, rows, tuple(_lines(exchange)))


def _key_set(exchange: Exchange, head: int) -> int:
    """The number, among `key_sets`, of the key head that a query head reads."""
    key_head = head * exchange.key_heads // exchange.heads
    return next(i for i, (_, heads) in enumerate(exchange.key_sets) if key_head in heads)


def _lines(exchange: Exchange) -> Iterator[str]:
    """A line for each rank: its rows, and what it fetches, of any key head."""
    if exchange.kind == "gather":
        yield "an exchange would come to as much as an all-gather: every rank gets all keys"
    wanted = Runs.union(exchange.column_owner.size, exchange.wants)
    row, start, stop = wanted.rows()
    shared = np.logical_and.reduce(exchange.is_shared)
    for rank in range(min(exchange.ranks, _LISTED)):
        rows = np.flatnonzero(exchange.row_owner == rank)
        runs = Runs(exchange.column_owner.size, start[row == rank], stop[row == rank])
        fetched = runs.cells()
        fetched = fetched[~shared[fetched]]
        text = f"rank {rank}: {_ranges(rows, 'row')}"
        if fetched.size and exchange.kind == "exchange":
            text += f"; fetches {_ranges(fetched, 'column')}"
        yield text
    if exchange.ranks > _LISTED:
        yield f"and {exchange.ranks - _LISTED:,} more ranks"


def _ranges(numbers: Ints, noun: str) -> str:
    """`columns 3, 8:12`, of ascending numbers."""
    if not numbers.size:
        return f"no {noun}s"
    edge = np.flatnonzero(np.diff(numbers) != 1)
    first, last = numbers[np.append(0, edge + 1)], numbers[np.append(edge, numbers.size - 1)]
    pairs = zip(first.tolist(), last.tolist(), strict=True)
    texts = [f"{a}" if a == b else f"{a}:{b + 1}" for a, b in pairs]
    more = f" and {len(texts) - _RANGES:,} more ranges" if len(texts) > _RANGES else ""
    return f"{noun}{'s' * (numbers.size > 1)} {', '.join(texts[:_RANGES])}{more}"
