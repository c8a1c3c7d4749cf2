"""The meaning of a pattern, evaluated densely: every predicate asked for every pair.

Slow and obvious. What the compiler derives is held against this; it shares no code with lowering.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, TypeAlias

import numpy as np

from bslang.ir.grid import At, Grid, Ints
from bslang.ir.heads import Heads
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

Labels: TypeAlias = Mapping[str, tuple[Ints, Ints]]
"""Labels of the queries and of the keys that are there, one integer each, by name."""


def dense(pattern: Pattern, grid: Grid, labels: Labels | None = None) -> Bools:
    """The mask of a pattern: bool (query positions that are there, key positions that are there).

    labels: what `same` compares.
    """
    shape = (grid.q.stop - grid.q.start, grid.k.stop - grid.k.start)
    mask: Bools = np.broadcast_to(_holds(pattern, grid, labels or {}), shape).copy()
    return mask


def dense_blocks(pattern: Pattern, grid: Grid) -> Bools:
    """Which blocks hold a pair of the pattern when every block is whole: bool (n, m)."""
    mask = dense(pattern, grid.whole())
    held = np.zeros((grid.n, grid.m), dtype=bool)
    held[grid.q.first :] = mask.reshape(-1, grid.q.block, grid.m, grid.k.block).any(axis=(1, 3))
    return held


def _candidates(grid: Grid) -> Callable[..., Bools]:
    def of(pattern: Pattern, every_row: bool = False) -> Bools:
        return dense_blocks(pattern, grid.square() if every_row else grid)

    return of


def _holds(pattern: Pattern, grid: Grid, labels: Labels) -> Any:
    if isinstance(pattern, Primitive):
        meant = pattern.expand()
        if meant is not pattern:
            return _holds(meant, grid, labels)
        bound = pattern.bind(grid.env())
        bound.fits(grid)
        q = np.arange(grid.q.start, grid.q.stop)[:, None]
        k = np.arange(grid.k.start, grid.k.stop)[None, :]
        pairs = {name: (of_q[:, None], of_k[None, :]) for name, (of_q, of_k) in labels.items()}
        return bound.predicate(At.positions(grid, q, k, _candidates(grid), pairs))
    if isinstance(pattern, Heads):
        return _holds(pattern.choose(grid.head), grid, labels)
    if isinstance(pattern, Transpose):
        mirrored = {name: (k, q) for name, (q, k) in labels.items()}
        return dense(pattern.part, grid.transposed(), mirrored).T
    if isinstance(pattern, Complement):
        return ~_holds(pattern.part, grid, labels)
    parts = [_holds(part, grid, labels) for part in pattern.parts]
    if isinstance(pattern, Union):
        return reduce(np.logical_or, parts)
    if isinstance(pattern, Intersection):
        return reduce(np.logical_and, parts)
    if isinstance(pattern, Xor):
        return reduce(np.logical_xor, parts)
    assert isinstance(pattern, Difference)
    return parts[0] & ~parts[1]
