"""Token masks of partial blocks, for a page that draws blocks large enough to show their pairs.

Every mask is the residual of its block, asked pair by pair; blocks that are known to repeat one another are
asked once. Blocks that the call decides have none.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bslang.budget import MASKS, spend
from bslang.errors import LimitError
from bslang.explorer.drawn import Drawn
from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.graph.settle import ask, likeness
from bslang.ir.grid import Ints
from bslang.ir.runs import Bools

MOST_BLOCKS = 1024
"""Partial blocks that a page asks for at once."""

MOST_KINDS = 48
"""Different masks that a view has of its own."""

_UNDECIDED = -1
_MOST_PAIRS = 2**22  # asked at once
_MOST_PARTIAL = 2**17  # partial blocks of a view that has its masks
_MOST_NUMBERS = 12_000  # of the masks of such a view: some 30 kB

Masks = dict[str, Any]


def embedded(drawn: Drawn) -> Masks | None:
    """All masks of a layout, where they are few: None else, and where there is none.

    bits: each mask as the lengths of its stretches, row after row, by turns without and with its pairs;
    of: the place of its mask for each partial block, in order of rows and columns, as (place, how many
    blocks in a row); -1 where the call decides.
    """
    graph = drawn.graph
    partial = graph.kind != FULL
    if not 0 < int((graph.stop - graph.start)[partial].sum()) <= _MOST_PARTIAL:
        return None
    cells, kind = _blocks(graph, partial, graph.start, graph.stop)
    found = _asked(graph, cells, kind, MOST_KINDS)
    if found is None:
        return None
    places, bits = found
    if sum(map(len, bits)) > _MOST_NUMBERS:
        return None
    edge = np.flatnonzero(np.diff(places, prepend=_UNDECIDED - 1))
    of = np.stack([places[edge], np.diff(edge, append=places.size)], axis=1)
    return {"bits": bits, "of": of.ravel().tolist()} if 2 * edge.size <= _MOST_NUMBERS else None


def within(drawn: Drawn, rows: tuple[int, int], columns: tuple[int, int]) -> Masks:
    """The masks of the partial blocks in some block rows and columns, from the first up to the second.

    bits: as of `embedded`; at: row, column and place of the mask of each block. Raises LimitError for more
    than MOST_BLOCKS blocks, or more pairs than are asked at once.
    """
    graph = drawn.graph
    start, stop = np.maximum(graph.start, columns[0]), np.minimum(graph.stop, columns[1])
    among = (graph.kind != FULL) & (rows[0] <= graph.row) & (graph.row < rows[1]) & (start < stop)
    blocks = int((stop - start)[among].sum())
    if blocks <= MOST_BLOCKS:
        cells, kind = _blocks(graph, among, start, stop)
        found = _asked(graph, cells, kind, MOST_BLOCKS)
        if found is not None:
            at = np.stack([*divmod(cells, graph.grid.m), found[0]], axis=1)
            return {"bits": found[1], "at": at.ravel().tolist()}
    raise LimitError("MOST_BLOCKS", MOST_BLOCKS, f"the token masks of {blocks:,} blocks at once")


def _blocks(graph: BlockGraph, among: Bools, start: Ints, stop: Ints) -> tuple[Ints, Ints]:
    """Every block of some runs, cut to [start, stop), as `Runs` numbers cells; and its kind."""
    count = (stop - start)[among]
    run = np.repeat(np.flatnonzero(among), count)
    offset = np.arange(run.size) - np.repeat(np.cumsum(count) - count, count)
    return graph.row[run] * graph.grid.m + start[run] + offset, graph.kind[run]


def _asked(
    graph: BlockGraph, cells: Ints, kind: Ints, most: int
) -> tuple[Ints, list[list[int]]] | None:
    """The place of the mask of each block, and the masks; None for more than `most`, or too many pairs."""
    grid, known = graph.grid, dict[bytes, int]()
    places = np.full(cells.size, _UNDECIDED)
    bits: list[list[int]] = []
    area, left = grid.q.block * grid.k.block, _MOST_PAIRS
    for number, residual in enumerate(graph.residuals):
        own = np.flatnonzero(kind == number)
        if residual.awaits_call or not own.size:
            continue
        alike = likeness(residual, grid)
        unlike = cells[own] if alike is None else alike(cells[own])
        _, first, back = np.unique(unlike, return_index=True, return_inverse=True)
        left -= first.size * area
        if left < 0 or first.size > most:
            return None
        operations = sum(part.operations() for part in residual.primitives())
        spend((1 + operations) * first.size * area, MASKS)
        found = []
        for mask in ask(residual, cells[own][first], grid)[3]:
            place = known.setdefault(np.packbits(mask).tobytes(), len(known))
            found.append(place)
            if place == len(bits):
                bits.append(_stretches(mask))
        places[own] = np.array(found)[back]
    return (places, bits) if len(bits) <= most else None


def _stretches(mask: Bools) -> list[int]:
    flat = mask.ravel()
    edge = np.flatnonzero(np.diff(flat, prepend=False))
    found: list[int] = np.diff(edge, prepend=0, append=flat.size).tolist()
    return found
