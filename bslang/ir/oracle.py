"""The meaning of a pattern, evaluated densely: every predicate asked for every pair.

Slow and obvious. What the compiler derives is held against this; it shares no code with lowering.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from bslang.ir.grid import At, Grid
from bslang.ir.pattern import (
    Complement,
    Difference,
    Intersection,
    Pattern,
    Primitive,
    Transpose,
    Union,
    Xor,
)
from bslang.ir.runs import Bools


def dense(pattern: Pattern, grid: Grid) -> Bools:
    """The mask of a pattern: bool (query positions that are there, key positions that are there)."""
    shape = (grid.q.stop - grid.q.start, grid.k.stop - grid.k.start)
    mask: Bools = np.broadcast_to(_holds(pattern, grid), shape).copy()
    return mask


def dense_blocks(pattern: Pattern, grid: Grid) -> Bools:
    """Which blocks hold a pair of the pattern when every block is whole: bool (n, m)."""
    mask = dense(pattern, grid.whole())
    held = np.zeros((grid.n, grid.m), dtype=bool)
    held[grid.q.first :] = mask.reshape(-1, grid.q.block, grid.m, grid.k.block).any(axis=(1, 3))
    return held


def _holds(pattern: Pattern, grid: Grid) -> Any:
    if isinstance(pattern, Primitive):
        meant = pattern.expand()
        if meant is not pattern:
            return _holds(meant, grid)
        bound = pattern.bind(grid.env())
        bound.fits(grid)
        q = np.arange(grid.q.start, grid.q.stop)[:, None]
        k = np.arange(grid.k.start, grid.k.stop)[None, :]
        return bound.predicate(At.positions(grid, q, k, lambda p: dense_blocks(p, grid)))
    if isinstance(pattern, Transpose):
        return dense(pattern.part, grid.transposed()).T
    if isinstance(pattern, Complement):
        return ~_holds(pattern.part, grid)
    parts = [_holds(part, grid) for part in pattern.parts]
    if isinstance(pattern, Union):
        return reduce(np.logical_or, parts)
    if isinstance(pattern, Intersection):
        return reduce(np.logical_and, parts)
    if isinstance(pattern, Xor):
        return reduce(np.logical_xor, parts)
    assert isinstance(pattern, Difference)
    return parts[0] & ~parts[1]
