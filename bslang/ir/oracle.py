"""The meaning of a pattern, evaluated densely: every predicate asked for every pair.

Slow and obvious. What the compiler derives is held against this; it shares no code with lowering.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import reduce
from typing import Any, TypeAlias

import numpy as np

from bslang.ir.fold import Fold
from bslang.ir.grid import At, Grid, Ints
from bslang.ir.heads import Heads
from bslang.ir.order import Order
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
from bslang.ir.ranges import Cells
from bslang.ir.runs import Bools

Labels: TypeAlias = Mapping[str, tuple[Ints, Ints]]
"""Labels of the queries and of the keys that are there, one integer each, by name."""

Selections: TypeAlias = Mapping[str, Bools]
"""Which cells a call lists, bool (rows, columns), by name."""


def dense(
    pattern: Pattern,
    grid: Grid,
    labels: Labels | None = None,
    selections: Selections | None = None,
    order: Order | None = None,
) -> Bools:
    """The mask of a pattern: bool (query positions that are there, key positions that are there).

    labels, selections: what a call gives. order: of the tokens, if they have one: the pattern is that of
    positions, and the mask, the labels and the selections are of places.
    """
    shape = (grid.q.stop - grid.q.start, grid.k.stop - grid.k.start)
    places = None if order is None else order.places
    if order is not None:
        labels = {name: _moved(pair, order) for name, pair in (labels or {}).items()}
    meaning = _Meaning(grid, labels or {}, selections or {}, places=places)
    mask: Bools = np.broadcast_to(meaning(pattern), shape).copy()
    return mask if order is None else mask[order.positions][:, order.positions]


def _moved(pair: tuple[Ints, Ints], order: Order) -> tuple[Ints, Ints]:
    """Labels of places as those of positions; the one number of a batch row stays."""
    of_q, of_k = (x[order.places] if np.ndim(x) and x.size == order.length else x for x in pair)
    return of_q, of_k


def expanded(
    grid: Grid, selections: Selections, places: Ints | None = None
) -> Callable[[Cells, At], Bools]:
    """What `At.cells` is for positions of a grid, or of its transpose. places: of the tokens at positions,
    where these differ: cells are of places."""

    def selected(cells: Cells, at: At) -> Bools:
        queries, keys = grid.q.start, grid.k.start
        own = cells.selection((grid.q.block, grid.k.block), at.turned)
        row_start, col_start = (keys, queries) if at.turned else (queries, keys)
        row, col = at.tokens.row, at.tokens.col
        if places is not None:
            row, col = places[row], places[col]
        line = row // own.rows - row_start // own.rows
        column = col // own.cols - col_start // own.cols
        found: Bools = selections[cells.name][line, column]
        return found

    return selected


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


class _Meaning(Fold[Any]):
    def __init__(
        self,
        grid: Grid,
        labels: Labels,
        selections: Selections,
        turned: bool = False,
        places: Ints | None = None,
    ) -> None:
        self.grid, self.labels, self.selections, self.turned = grid, labels, selections, turned
        self.places = places

    def primitive(self, pattern: Primitive) -> Any:
        meant = pattern.expand()
        if meant is not pattern:
            return self(meant)
        grid = self.grid
        bound = pattern.bind(grid.env())
        bound.fits(grid)
        q = np.arange(grid.q.start, grid.q.stop)[:, None]
        k = np.arange(grid.k.start, grid.k.stop)[None, :]
        pairs = {name: (of_q[:, None], of_k[None, :]) for name, (of_q, of_k) in self.labels.items()}
        cells = expanded(grid.transposed() if self.turned else grid, self.selections, self.places)
        at = At.positions(grid, q, k, _candidates(grid), pairs, cells)
        return bound.predicate(replace(at, turned=self.turned))

    def union(self, pattern: Union) -> Any:
        return reduce(np.logical_or, self.parts(pattern))

    def intersection(self, pattern: Intersection) -> Any:
        return reduce(np.logical_and, self.parts(pattern))

    def xor(self, pattern: Xor) -> Any:
        return reduce(np.logical_xor, self.parts(pattern))

    def difference(self, pattern: Difference) -> Any:
        return self(pattern.left) & ~self(pattern.right)

    def complement(self, pattern: Complement) -> Any:
        return ~self(pattern.part)

    def transpose(self, pattern: Transpose) -> Any:
        mirrored = {name: (k, q) for name, (q, k) in self.labels.items()}
        grid, turned = self.grid.transposed(), not self.turned
        found = _Meaning(grid, mirrored, self.selections, turned, self.places)(pattern.part)
        shape = (grid.q.stop - grid.q.start, grid.k.stop - grid.k.start)
        return np.broadcast_to(found, shape).T

    def heads(self, pattern: Heads) -> Any:
        return self(pattern.choose(self.grid.head))
