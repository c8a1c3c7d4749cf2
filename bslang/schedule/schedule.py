"""Scheduling: a block graph to the tables that kernels walk.

A kernel program handles one block row (or, in the backward pass, one block column). Its runs come
in classes, and each class has a loop of its own in the kernel:

    class 0      full blocks; the loop has no mask at all
    class 1      full blocks at a ragged end of the axis that the loop walks; bounds are checked
    class 2 + r  partial blocks of residual r; bounds are checked and the residual's mask applies
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.ir.expr import evaluate
from bslang.ir.grid import Axis, Ints
from bslang.ir.mask import Masks
from bslang.limits import MAX_NUMBER

Ints32 = npt.NDArray[np.int32]

WHOLE, EDGE, PARTIAL = 0, 1, 2
"""Classes of blocks; residual r is class PARTIAL + r."""


@dataclass(frozen=True, eq=False)
class Table:
    """The runs of every block row (or column), in the order in which programs take them.

    order: int32 (programs,), the block row that each program handles, heaviest first.
    pointer: int32 (programs * classes + 1,); program p finds its runs of class c at
        pointer[p * classes + c] .. pointer[p * classes + c + 1].
    runs: int32 (runs, 2), [start, stop) in blocks of the other axis, ascending in each class.
    """

    order: Ints32
    pointer: Ints32
    runs: Ints32


@dataclass(frozen=True, eq=False)
class Schedule:
    """What kernels need of a layout at one length.

    rows: for the forward pass and dQ; cols: for dK and dV, over the transposed graph.
    parameters: int32, the values of the masks' `p0`, `p1`, ... at this length.
    """

    graph: BlockGraph
    rows: Table
    cols: Table
    parameters: Ints32


def schedule(graph: BlockGraph) -> Schedule:
    """Order the rows and columns of a graph and lay out their runs."""
    grid = graph.grid
    masks = Masks.of(graph.residuals, (grid.q.block, grid.k.block))
    env = grid.env()
    exact = np.array([evaluate(parameter, env) for parameter in masks.parameters], dtype=object)
    return Schedule(
        graph,
        _table(graph, grid.q, grid.k),
        _table(graph.transpose(), grid.k, grid.q),
        # What lies beyond 32 bits lies beyond every position, and so does the largest number of them.
        exact.clip(-MAX_NUMBER, MAX_NUMBER).astype(np.int32),
    )


def _table(graph: BlockGraph, down: Axis, across: Axis) -> Table:
    classes = PARTIAL + len(graph.residuals)
    kind = np.where(graph.kind == FULL, WHOLE, graph.kind + PARTIAL)
    row, start, stop, kind = _cut_edges(graph.row, graph.start, graph.stop, kind, across)
    rows = np.arange(down.first, down.blocks)
    work = np.bincount(row, weights=stop - start, minlength=down.blocks)[down.first :]
    order = rows[np.argsort(-work, kind="stable")]
    rank = np.empty(down.blocks, dtype=np.int64)
    rank[order] = np.arange(order.size)
    slot = rank[row] * classes + kind
    by_slot = np.lexsort((start, slot))
    pointer = np.searchsorted(slot[by_slot], np.arange(order.size * classes + 1))
    runs = np.stack((start[by_slot], stop[by_slot]), axis=1)
    return Table(*(np.ascontiguousarray(part, dtype=np.int32) for part in (order, pointer, runs)))


def _cut_edges(
    row: Ints, start: Ints, stop: Ints, kind: Ints, across: Axis
) -> tuple[Ints, Ints, Ints, Ints]:
    """Cut the short blocks at the ends of an axis off the full runs that hold them."""
    short = []
    if across.start % across.block:
        short.append(across.first)
    if across.stop % across.block:
        short.append(across.blocks - 1)
    for block in dict.fromkeys(short):
        cut = np.flatnonzero((kind == WHOLE) & (start <= block) & (block < stop))
        edge = np.full_like(cut, block)
        # before the short block, the short block, after it; empty pieces are dropped below
        row = np.concatenate((row, row[cut], row[cut]))
        kind = np.concatenate((kind, np.full_like(cut, EDGE), kind[cut]))
        after = stop[cut]
        start = np.concatenate((start, edge, edge + 1))
        stop = np.concatenate((stop, edge + 1, after))
        stop[cut] = block
        keep = start < stop
        row, start, stop, kind = row[keep], start[keep], stop[keep], kind[keep]
    return row, start, stop, kind
