"""Scheduling: the block graphs of a layout's heads to the tables that kernels walk.

A kernel program handles one block row (or, in the backward pass, one block column). Its runs come
in classes, and each class has a loop of its own in the kernel:

    class 0      full blocks; the loop has no mask at all
    class 1      full blocks at a ragged end of the axis that the loop walks; bounds are checked
    class 2 + r  partial blocks of residual r; bounds are checked and the residual's mask applies

Heads with other sets have other graphs. Program p handles the same row in all of them, since a
program of dK and dV meets every query head that reads its key head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.ir.bounds import LARGEST
from bslang.ir.expr import evaluate
from bslang.ir.grid import Axis, Ints
from bslang.ir.mask import Masks, labels
from bslang.limits import MAX_NUMBER

Ints32 = npt.NDArray[np.int32]

WHOLE, EDGE, PARTIAL = 0, 1, 2
"""Classes of blocks; residual r is class PARTIAL + r."""


@dataclass(frozen=True, eq=False)
class Table:
    """The runs of every block row (or column), in the order in which programs take them.

    order: int32 (programs,), the block row that each program handles, heaviest first by the work of
        all heads together.
    pointer: int32 (graphs * programs * classes + 1,); in graph g, program p finds its runs of class c at
        pointer[s * classes + c] .. pointer[s * classes + c + 1], where s = g * programs + p.
    runs: int32 (runs, 2), [start, stop) in blocks of the other axis, ascending in each class.
    """

    order: Ints32
    pointer: Ints32
    runs: Ints32


@dataclass(frozen=True, eq=False)
class Schedule:
    """What kernels need of a layout at one length.

    graphs: the distinct ones of the heads, on grids that differ in the head alone.
    weights: int64 (graphs,), how many heads have each.
    head_graph: int32 (heads,), the graph of each query head; None where the layout is one for all heads.
    rows: for the forward pass and dQ; cols: for dK and dV, over the transposed graphs.
    parameters: int64 (graphs, parameters), the values of the masks' `p0`, `p1`, ... at this length.
    """

    graphs: tuple[BlockGraph, ...]
    weights: Ints
    head_graph: Ints32 | None
    rows: Table
    cols: Table
    parameters: Ints


def schedule(*graphs: BlockGraph, head_graph: Sequence[int] | None = None) -> Schedule:
    """Order the rows and columns of graphs and lay out their runs; head_graph as in `Schedule`."""
    grid, residuals = graphs[0].grid, graphs[0].residuals
    weights = np.bincount([0] if head_graph is None else head_graph, minlength=len(graphs))
    masks = Masks.of(residuals, (grid.q.block, grid.k.block), labels(*residuals))
    wide = any(p.wide for residual in residuals for p in residual.primitives())
    largest = LARGEST if wide else MAX_NUMBER
    exact = [[evaluate(p, graph.grid.env()) for p in masks.parameters] for graph in graphs]
    return Schedule(
        graphs,
        weights,
        None if head_graph is None else np.array(head_graph, dtype=np.int32),
        _table(graphs, weights, grid.q, grid.k),
        _table([graph.transpose() for graph in graphs], weights, grid.k, grid.q),
        # What lies beyond 32 bits lies beyond every position, and so does the largest number of them;
        # masks that compute beyond them have numbers that 64 bits hold.
        np.array(exact, dtype=object).clip(-largest, largest).astype(np.int64),
    )


def _table(graphs: Sequence[BlockGraph], weights: Ints, down: Axis, across: Axis) -> Table:
    classes = PARTIAL + len(graphs[0].residuals)
    parts = []
    for graph in graphs:
        kind = np.where(graph.kind == FULL, WHOLE, graph.kind + PARTIAL)
        parts.append(cut_edges(graph.row, graph.start, graph.stop, kind, across))
    rows = np.arange(down.first, down.blocks)
    work = np.zeros(down.blocks)
    for weight, (row, start, stop, _) in zip(weights, parts, strict=True):
        work += weight * np.bincount(row, weights=stop - start, minlength=down.blocks)
    order = rows[np.argsort(-work[down.first :], kind="stable")]
    rank = np.empty(down.blocks, dtype=np.int64)
    rank[order] = np.arange(order.size)
    slots = [
        (number * order.size + rank[row]) * classes + kind
        for number, (row, _, _, kind) in enumerate(parts)
    ]
    _, starts, stops, _ = zip(*parts, strict=True)
    slot, start, stop = (np.concatenate(part) for part in (slots, starts, stops))
    by_slot = np.lexsort((start, slot))
    pointer = np.searchsorted(slot[by_slot], np.arange(len(graphs) * order.size * classes + 1))
    runs = np.stack((start[by_slot], stop[by_slot]), axis=1)
    return Table(*(np.ascontiguousarray(part, dtype=np.int32) for part in (order, pointer, runs)))


def cut_edges(
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
