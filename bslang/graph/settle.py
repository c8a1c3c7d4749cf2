"""Settling: blocks that the primitives leave undecided together, asked token by token.

`causal - last(1t)` is undecided on the diagonal by both its parts, and only a mask tells that the
block is neither full nor empty. Blocks that repeat one another along a diagonal are asked once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from bslang.ir.expr import variables
from bslang.ir.grid import At, Grid, Ints
from bslang.ir.mask import labels
from bslang.ir.pattern import Pattern
from bslang.ir.predicate import SYMBOLIC, holds
from bslang.ir.runs import Bools, Runs
from bslang.limits import MAX_MASK_WORK

_BATCH = 2**21  # token pairs evaluated at once


def settle(pattern: Pattern, runs: Runs, grid: Grid) -> tuple[Runs, Runs] | None:
    """Which blocks of `runs` are in truth full, and which empty; None where it costs too much."""
    if not runs:
        return runs, runs
    area = grid.q.block * grid.k.block
    alike = likeness(pattern, grid)
    if runs.size > MAX_MASK_WORK or (alike is None and runs.size * area > MAX_MASK_WORK):
        return None
    cells = runs.cells()
    asked, back = cells, np.arange(cells.size)
    if alike is not None:
        _, first, back = np.unique(alike(cells), return_index=True, return_inverse=True)
        asked = cells[first]
        if asked.size * area > MAX_MASK_WORK:
            return None
    full, empty = (np.empty(asked.size, dtype=bool) for _ in range(2))
    for part in batches(asked.size, grid):
        _, _, in_bounds, mask = ask(pattern, asked[part], grid)
        full[part] = (mask | ~in_bounds).all(axis=(1, 2))
        empty[part] = ~mask.any(axis=(1, 2))
    return _runs_of(cells[full[back]], grid.m), _runs_of(cells[empty[back]], grid.m)


def likeness(
    pattern: Pattern, grid: Grid, *, in_rows: bool = False
) -> Callable[[Ints], Ints] | None:
    """Numbers cells so that those with equal numbers have equal masks; None where nothing tells.

    A mask repeats along diagonals where it asks for offsets alone, down columns where it asks for
    keys alone, and along rows where it asks for queries alone. Labels are taken to be equal.
    in_rows: whether only cells of one row may have equal numbers.
    """
    by_row = by_column = False
    if in_rows or not all(p.shift_invariant or p.labelled for p in pattern.primitives()):
        names = mask_names(pattern, grid)
        by_row, by_column = "k" not in names, "q" not in names and not in_rows
        if not by_row and not by_column:
            return None

    def number(cells: Ints) -> Ints:
        i, j = cells // grid.m, cells % grid.m
        edges = [i == grid.q.first, i == grid.n - 1, j == grid.k.first, j == grid.m - 1]
        # Every block that the diagonal crosses in its own way is another to whom it concerns.
        crossed = np.clip(j * grid.k.block - i * grid.q.block, -grid.k.block, grid.q.block)
        if by_row or by_column:
            shape = (i if by_row else j) * (grid.q.block + grid.k.block + 1) + crossed
        else:
            shape = j * grid.k.block - i * grid.q.block
        for edge in edges:
            shape = shape * 2 + edge
        return np.asarray(shape)

    return number


def mask_names(pattern: Pattern, grid: Grid) -> frozenset[str]:
    """What the mask of a residual asks for: `q`, `k`, `n`, `len_k`, ..."""
    at = At.symbolic((grid.q.block, grid.k.block), labels(pattern))
    return variables(holds(pattern, at, SYMBOLIC).number)


def positions(cells: Ints, grid: Grid) -> tuple[Ints, Ints, Bools]:
    """Positions q (blocks, side, 1) and k (blocks, 1, side) of some blocks, and which pairs are in bounds."""
    i, j = cells // grid.m, cells % grid.m
    q = (i[:, None] * grid.q.block + np.arange(grid.q.block))[:, :, None]
    k = (j[:, None] * grid.k.block + np.arange(grid.k.block))[:, None, :]
    in_bounds = (q >= grid.q.start) & (q < grid.q.stop) & (k >= grid.k.start) & (k < grid.k.stop)
    return q, k, in_bounds


def ask(pattern: Pattern, cells: Ints, grid: Grid) -> tuple[Ints, Ints, Bools, Bools]:
    """`positions` of some blocks, and which of their pairs belong to a residual, labels being equal."""
    q, k, in_bounds = positions(cells, grid)
    equal = dict.fromkeys(labels(pattern), (q * 0, k * 0))
    mask = holds(pattern, At.positions(grid, q, k, labels=equal), grid.env())
    return q, k, in_bounds, np.broadcast_to(mask, in_bounds.shape) & in_bounds


def batches(blocks: int, grid: Grid) -> Iterator[slice]:
    """Slices of so many blocks as are asked at once."""
    batch = max(1, _BATCH // (grid.q.block * grid.k.block))
    for begin in range(0, blocks, batch):
        yield slice(begin, begin + batch)


def _runs_of(cells: Ints, width: int) -> Runs:
    return Runs.of_rows(width, np.zeros_like(cells), cells, cells + 1)
