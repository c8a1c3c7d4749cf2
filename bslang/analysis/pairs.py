"""Token pairs of a block graph, exactly: how many there are, and one of a kind.

Full blocks answer by their sides alone. Partial ones are asked token by token, those that repeat one
another once. Where masks read run-time labels, all labels are taken to be equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bslang.errors import LimitError
from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.graph.residual import Join, Residual
from bslang.graph.settle import ask, batches, likeness, positions, settle
from bslang.ir.grid import Axis, Grid, Ints
from bslang.ir.pattern import Pattern
from bslang.ir.runs import Bools, Runs
from bslang.limits import MAX_MASK_WORK

Pair = tuple[int, int]
"""A query position and a key position."""


@dataclass(frozen=True)
class Asked:
    """Partial blocks of one residual, and what its mask says of their pairs.

    cells: int64 (blocks,), as `Runs` numbers them; count: int64 (blocks,), how many blocks of the
    graph are like each; q (blocks, side, 1), k (blocks, 1, side): int64, positions; mask: bool
    (blocks, side, side), the pairs that belong; there: the same shape, those that exist.
    """

    cells: Ints
    count: Ints
    q: Ints
    k: Ints
    there: Bools
    mask: Bools


def asked(
    graph: BlockGraph, among: Runs | None = None, *, in_rows: bool = False
) -> Iterator[Asked]:
    """Ask the partial blocks, in batches.

    among: the blocks to ask, if not all; in_rows: whether only blocks of one row may stand for one
    another. Raises LimitError where more than MAX_MASK_WORK pairs would be asked.
    """
    grid, left = graph.grid, MAX_MASK_WORK // (graph.grid.q.block * graph.grid.k.block)
    for kind, residual in enumerate(graph.residuals):
        runs = graph.of_kind(kind)
        runs = runs if among is None else runs & among
        alike = likeness(residual, grid, in_rows=in_rows)
        _within(left if alike is None else MAX_MASK_WORK, runs.size)
        cells = runs.cells()
        count = np.ones_like(cells)
        if alike is not None:
            _, first, count = np.unique(alike(cells), return_index=True, return_counts=True)
            order = np.argsort(first)
            cells, count = cells[first[order]], count[order]
        _within(left, cells.size)
        left -= cells.size
        for part in batches(cells.size, grid):
            yield Asked(cells[part], count[part], *ask(residual, cells[part], grid))


def _within(allowed: int, blocks: int) -> None:
    if blocks > allowed:
        raise LimitError("MAX_MASK_WORK", MAX_MASK_WORK, f"the token masks of {blocks} blocks")


def combined(left: BlockGraph, right: BlockGraph, join: Join) -> BlockGraph:
    """The graph of an operator on two layouts that stand on one grid.

    Unlike that of a pattern, its partial blocks may be full or empty in truth.
    """
    grid, none = left.grid, Runs.empty(left.grid.m)
    full, partial = none, dict[Pattern, Runs]()
    for a, among in _classes(left):
        for b, also in _classes(right):
            residual = join(a, b)
            if residual is True:
                full = full | (among & also)
            elif residual is not False and (runs := among & also):
                partial[residual] = partial.get(residual, none) | runs
    return BlockGraph.of_classes(grid, full, tuple(partial), partial)


def settled(graph: BlockGraph) -> BlockGraph:
    """The graph with its partial blocks asked, so that none of them is full or empty in truth.

    Raises LimitError where only too many masks could tell.
    """
    grid, full, partial = graph.grid, graph.of_kind(FULL), dict[Pattern, Runs]()
    for kind, residual in enumerate(graph.residuals):
        runs = graph.of_kind(kind)
        found = settle(residual, runs, grid)
        if found is None:
            raise LimitError("MAX_MASK_WORK", MAX_MASK_WORK, f"the token masks of `{residual}`")
        full, partial[residual] = full | found[0], runs - found[0] - found[1]
    return BlockGraph.of_classes(grid, full, graph.residuals, partial)


def _classes(graph: BlockGraph) -> list[tuple[Residual, Runs]]:
    """The blocks by what is left to ask of them; False for those that are empty."""
    partial = [(residual, graph.of_kind(kind)) for kind, residual in enumerate(graph.residuals)]
    empty = Runs.domain(graph.grid) - graph.visited
    return [(True, graph.of_kind(FULL)), (False, empty), *partial]


def count_pairs(graph: BlockGraph) -> int:
    """How many token pairs belong. Raises LimitError where only too many masks could tell."""
    grid = graph.grid
    full = graph.kind == FULL
    tall = np.diff(_edges(grid.q))[graph.row[full]]
    edge = _edges(grid.k)
    wide = edge[graph.stop[full]] - edge[graph.start[full]]
    counted = (int((part.mask.sum(axis=(1, 2)) * part.count).sum()) for part in asked(graph))
    return int((tall * wide).sum()) + sum(counted)


def _edges(axis: Axis) -> Ints:
    """Where each block begins, and where the last one ends, among the positions that are there."""
    return np.clip(np.arange(axis.blocks + 1) * axis.block, axis.start, axis.stop)


def first_pair(graph: BlockGraph, *, ahead: bool = False) -> Pair | None:
    """A pair that belongs: of the first full block, or else of the first partial one; None for none.

    ahead: look among the pairs whose key comes after the query. Raises LimitError as `count_pairs`.
    """
    among = ahead_of(graph.grid) if ahead else Runs.domain(graph.grid)
    full = graph.of_kind(FULL) & among
    if full:
        return corner(graph.grid, int(full.start[0]), ahead=ahead)
    for part in asked(graph, among):
        mask = part.mask & (part.k > part.q) if ahead else part.mask
        found = np.flatnonzero(mask)
        if found.size:
            block, query, key = np.unravel_index(found[0], mask.shape)
            return int(part.q[block, query, 0]), int(part.k[block, 0, key])
    return None


def masks(graph: BlockGraph, i: Ints, j: Ints) -> Bools:
    """Which pairs of some blocks belong: bool (blocks, side, side); False where no position is."""
    grid, cells = graph.grid, i * graph.grid.m + j
    mask = np.zeros((cells.size, grid.q.block, grid.k.block), dtype=bool)
    for kind in range(FULL, len(graph.residuals)):
        runs = graph.of_kind(kind)
        begun, ended = (np.searchsorted(side, cells, "right") for side in (runs.start, runs.stop))
        here = begun > ended
        if kind == FULL:
            mask[here] = positions(cells[here], grid)[2]
        elif here.any():
            mask[here] = ask(graph.residuals[kind], cells[here], grid)[3]
    return mask


def dense(graph: BlockGraph) -> Bools:
    """The mask of all positions, from the first block row on: bool (rows, columns), sides of blocks.

    Raises LimitError for a square that is not small.
    """
    grid = graph.grid
    if grid.pairs > MAX_MASK_WORK // 4:
        raise LimitError("MAX_MASK_WORK", MAX_MASK_WORK, f"{grid.pairs} pairs one by one")
    rows = [
        masks(graph, np.full(grid.m, i), np.arange(grid.m)).swapaxes(0, 1).reshape(grid.q.block, -1)
        for i in range(grid.q.first, grid.n)
    ]
    return np.concatenate(rows)


def sees(graph: BlockGraph, query: int, key: int) -> bool:
    """Whether a pair of positions belongs."""
    sides = graph.grid.q.block, graph.grid.k.block
    (i, query), (j, key) = divmod(query, sides[0]), divmod(key, sides[1])
    return bool(masks(graph, np.array([i]), np.array([j]))[0, query, key])


def ahead_of(grid: Grid) -> Runs:
    """The blocks with a key after one of their queries."""
    rows = np.arange(grid.q.first, grid.n, dtype=np.int64)
    first, _ = grid.q.spans()
    _, last = grid.k.spans()
    column = grid.k.first + np.searchsorted(last, first, "right")
    return Runs.of_rows(grid.m, rows, column, np.full_like(rows, grid.m))


def corner(grid: Grid, cell: int, *, ahead: bool = False) -> Pair:
    """The first query of a block with its first key, or with its last one."""
    i, j = divmod(cell, grid.m)
    query = max(i * grid.q.block, grid.q.start)
    last = min((j + 1) * grid.k.block, grid.k.stop) - 1
    return query, last if ahead else max(j * grid.k.block, grid.k.start)
