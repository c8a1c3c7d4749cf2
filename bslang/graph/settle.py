"""Settling: blocks that the primitives leave undecided together, asked token by token.

`causal - last(1t)` is undecided on the diagonal by both its parts, and only a mask tells that the
block is neither full nor empty. Blocks that repeat one another along a diagonal are asked once.
"""

from __future__ import annotations

import numpy as np

from bslang.ir.grid import At, Grid, Ints
from bslang.ir.pattern import Pattern
from bslang.ir.predicate import holds
from bslang.ir.runs import Bools, Runs
from bslang.limits import MAX_MASK_WORK

_BATCH = 2**21  # token pairs evaluated at once


def settle(pattern: Pattern, runs: Runs, grid: Grid) -> tuple[Runs, Runs] | None:
    """Which blocks of `runs` are in truth full, and which empty; None where it costs too much."""
    if not runs:
        return runs, runs
    area = grid.q.block * grid.k.block
    invariant = all(p.shift_invariant for p in pattern.primitives())
    if runs.size > MAX_MASK_WORK or (not invariant and runs.size * area > MAX_MASK_WORK):
        return None
    cells = runs.cells()
    asked, back = cells, np.arange(cells.size)
    if invariant:
        _, first, back = np.unique(_shape_of(cells, grid), return_index=True, return_inverse=True)
        asked = cells[first]
    full, empty = (np.empty(asked.size, dtype=bool) for _ in range(2))
    batch = max(1, _BATCH // area)
    for begin in range(0, asked.size, batch):
        part = slice(begin, begin + batch)
        full[part], empty[part] = _ask(pattern, asked[part], grid)
    return _runs_of(cells[full[back]], grid.m), _runs_of(cells[empty[back]], grid.m)


def _shape_of(cells: Ints, grid: Grid) -> Ints:
    """A number that is equal for blocks with equal offsets of all their pairs."""
    i, j = cells // grid.m, cells % grid.m
    edges = [i == grid.q.first, i == grid.n - 1, j == grid.k.first, j == grid.m - 1]
    shape = j * grid.k.block - i * grid.q.block
    for edge in edges:
        shape = shape * 2 + edge
    return shape


def _ask(pattern: Pattern, cells: Ints, grid: Grid) -> tuple[Bools, Bools]:
    i, j = cells // grid.m, cells % grid.m
    q = (i[:, None] * grid.q.block + np.arange(grid.q.block))[:, :, None]
    k = (j[:, None] * grid.k.block + np.arange(grid.k.block))[:, None, :]
    there = (q >= grid.q.start) & (q < grid.q.stop) & (k >= grid.k.start) & (k < grid.k.stop)
    mask = np.broadcast_to(holds(pattern, At.positions(grid, q, k), grid.env()), there.shape)
    full = np.asarray((mask | ~there).all(axis=(1, 2)))
    some = np.asarray((mask & there).any(axis=(1, 2)))
    return full, ~some


def _runs_of(cells: Ints, width: int) -> Runs:
    return Runs.of_rows(width, np.zeros_like(cells), cells, cells + 1)
