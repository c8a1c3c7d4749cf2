"""Settling: blocks that the primitives leave undecided together, asked token by token.

`causal - last(1t)` is undecided on the diagonal by both its parts, and only a mask tells that the
block is neither full nor empty. Blocks that repeat one another along a diagonal are asked once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TypeAlias

import numpy as np

from bslang.budget import MASKS, spend
from bslang.graph.residual import allowed
from bslang.ir.expr import variables
from bslang.ir.fold import Fold, chosen_before
from bslang.ir.grid import At, Grid, Ints
from bslang.ir.pattern import (
    Complement,
    Decided,
    Difference,
    Intersection,
    Pattern,
    Primitive,
    Transpose,
    Union,
    Xor,
)
from bslang.ir.predicate import SYMBOLIC, holds
from bslang.ir.runs import Bools, Runs
from bslang.limits import MAX_MASK_WORK

_BATCH = 2**21  # token pairs evaluated at once
_EACH = 3000  # steps of the budget for a primitive that is asked of few pairs


def settle(
    pattern: Pattern, runs: Runs, grid: Grid, decided: Deciding | None = None
) -> tuple[Runs, Runs] | None:
    """Which blocks of `runs` are in truth full, and which empty; None where it costs too much.

    decided: what is known of a primitive's blocks, so that its tokens are asked in no others.
    """
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
    full, empty = (np.ones(asked.size, dtype=bool) for _ in range(2))
    # Most blocks have pairs of both kinds among a few of theirs.
    for sampled in (True, False):
        left = np.flatnonzero(full | empty)
        for batch in _batches(left.size, _SAMPLES**2 if sampled else area):
            part = left[batch]
            q, k, in_bounds = (_samples if sampled else positions)(asked[part], grid)
            mask = _Asked.of(asked[part], q, k, grid, decided)(pattern)
            full[part], empty[part] = mask.full(in_bounds), mask.empty(in_bounds)
    return Runs.of_cells(grid.m, cells[full[back]]), Runs.of_cells(grid.m, cells[empty[back]])


_SAMPLES = 8  # positions of each side of a block that are asked first


def _samples(cells: Ints, grid: Grid) -> tuple[Ints, Ints, Bools]:
    """As `positions`, of a few that are spread over each side of a block, its ends among them."""
    sides = []
    for axis, block in ((grid.q, cells // grid.m), (grid.k, cells % grid.m)):
        low, high = (side[block - axis.first][:, None] for side in axis.spans())
        sides.append(low + (high - low) * np.arange(_SAMPLES) // (_SAMPLES - 1))
    q, k = sides[0][:, :, None], sides[1][:, None, :]
    return q, k, np.ones((cells.size, _SAMPLES, _SAMPLES), dtype=bool)


Deciding: TypeAlias = Callable[[Primitive, Grid, Runs], Decided]
"""What a primitive says of some blocks of a grid."""


@dataclass(frozen=True)
class _Mask:
    """The pairs of some blocks: those of `true` ones all belong, those of `open` ones as `pairs` says.

    true: bool (blocks,); open: the numbers of the blocks that are neither true nor false, ascending;
    pairs: bool (open, queries, keys).
    """

    true: Bools
    open: Ints
    pairs: Bools

    def full(self, in_bounds: Bools) -> Bools:
        """Whether all pairs of each block that are in bounds belong."""
        full: Bools = self.true.copy()
        full[self.open] = (self.pairs | ~in_bounds[self.open]).all(axis=(1, 2))
        return full

    def empty(self, in_bounds: Bools) -> Bools:
        """Whether no pair of each block belongs that is in bounds."""
        empty = ~self.true
        empty[self.open] = ~(self.pairs & in_bounds[self.open]).any(axis=(1, 2))
        return empty

    def __invert__(self) -> _Mask:
        true = ~self.true
        true[self.open] = False
        return _Mask(true, self.open, ~self.pairs)

    @classmethod
    def union(cls, masks: Sequence[_Mask]) -> _Mask:
        """The pairs of any mask. Costs what is open in each, not all blocks for each of them."""
        true = np.logical_or.reduce([mask.true for mask in masks])
        some = np.zeros_like(true)
        for mask in masks:
            some[mask.open] = True
        left = np.flatnonzero(some & ~true)
        place = np.full(true.size, -1)
        place[left] = np.arange(left.size)
        pairs = np.zeros((left.size, *masks[0].pairs.shape[1:]), dtype=bool)
        for mask in masks:
            at = place[mask.open]
            pairs[at[at >= 0]] |= mask.pairs[at >= 0]
        return cls(true, left, pairs)


class _Asked(Fold[_Mask]):
    """The pairs of some blocks that may belong to a residual, whatever a call says."""

    def __init__(
        self, cells: Runs, block: Ints, q: Ints, k: Ints, grid: Grid, decided: Deciding | None
    ) -> None:
        self.cells, self.block, self.q, self.k = cells, block, q, k
        self.grid, self.decided = grid, decided

    @classmethod
    def of(cls, cells: Ints, q: Ints, k: Ints, grid: Grid, decided: Deciding | None) -> _Asked:
        return cls(Runs.of_cells(grid.m, np.sort(cells)), cells, q, k, grid, decided)

    def primitive(self, pattern: Primitive) -> _Mask:
        true = np.zeros(self.block.size, dtype=bool)
        left = np.arange(self.block.size)
        if pattern.awaits_call:
            shape = self.block.size, self.q.shape[1], self.k.shape[2]
            return _Mask(true, left, np.ones(shape, dtype=bool))
        if self.decided is not None:
            found = self.decided(pattern, self.grid, self.cells)
            true = _among(self.block, found.must)
            left = np.flatnonzero(_among(self.block, found.may) & ~true)
        asked = left.size * self.q.shape[1] * self.k.shape[2]
        spend(_EACH + (1 + pattern.operations()) * asked, MASKS)
        q, k, env = self.q[left], self.k[left], self.grid.env()
        pairs = pattern.bind(env).predicate(At.positions(self.grid, q, k))
        shape = left.size, q.shape[1], k.shape[2]
        return _Mask(true, left, np.broadcast_to(np.asarray(pairs, dtype=bool), shape))

    def union(self, pattern: Union) -> _Mask:
        return _Mask.union(self.parts(pattern))

    def intersection(self, pattern: Intersection) -> _Mask:
        return ~_Mask.union([~part for part in self.parts(pattern)])

    def xor(self, pattern: Xor) -> _Mask:
        def apart(a: _Mask, b: _Mask) -> _Mask:
            return _Mask.union((~_Mask.union((~a, b)), ~_Mask.union((a, ~b))))

        return reduce(apart, self.parts(pattern))

    def difference(self, pattern: Difference) -> _Mask:
        return ~_Mask.union((~self(pattern.left), self(pattern.right)))

    def complement(self, pattern: Complement) -> _Mask:
        return ~self(pattern.part)

    def transpose(self, pattern: Transpose) -> _Mask:
        grid = self.grid.transposed()
        block = self.block % self.grid.m * grid.m + self.block // self.grid.m
        cells = Runs.of_cells(grid.m, np.sort(block))
        q, k = self.k.transpose(0, 2, 1), self.q.transpose(0, 2, 1)
        found = _Asked(cells, block, q, k, grid, self.decided)(pattern.part)
        return _Mask(found.true, found.open, found.pairs.transpose(0, 2, 1))

    heads = chosen_before


def _among(cells: Ints, runs: Runs) -> Bools:
    """Whether each of some cells is in a set."""
    if not runs:
        return np.zeros(cells.size, dtype=bool)
    run = np.searchsorted(runs.start, cells, "right") - 1
    among: Bools = (run >= 0) & (cells < runs.stop[run])
    return among


def likeness(
    pattern: Pattern, grid: Grid, *, in_rows: bool = False
) -> Callable[[Ints], Ints] | None:
    """Numbers cells so that those with equal numbers have equal masks; None where nothing tells.

    A mask repeats along diagonals where it asks for offsets alone, down columns where it asks for
    keys alone, and along rows where it asks for queries alone. What awaits a call is taken to hold.
    in_rows: whether only cells of one row may have equal numbers.
    """
    by_row = by_column = False
    if in_rows or not all(p.shift_invariant or p.awaits_call for p in pattern.primitives()):
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
    at, meant = At.symbolic((grid.q.block, grid.k.block)), allowed(pattern)
    if isinstance(meant, bool):
        return frozenset()
    return variables(holds(meant, at, SYMBOLIC).number)


def positions(cells: Ints, grid: Grid) -> tuple[Ints, Ints, Bools]:
    """Positions q (blocks, side, 1) and k (blocks, 1, side) of some blocks, and which pairs are in bounds."""
    i, j = cells // grid.m, cells % grid.m
    q = (i[:, None] * grid.q.block + np.arange(grid.q.block))[:, :, None]
    k = (j[:, None] * grid.k.block + np.arange(grid.k.block))[:, None, :]
    in_bounds = (q >= grid.q.start) & (q < grid.q.stop) & (k >= grid.k.start) & (k < grid.k.stop)
    return q, k, in_bounds


def ask(pattern: Pattern, cells: Ints, grid: Grid) -> tuple[Ints, Ints, Bools, Bools]:
    """`positions` of some blocks, and which of their pairs belong to a residual where what awaits a call
    holds."""
    q, k, in_bounds = positions(cells, grid)
    meant = allowed(pattern)
    mask = meant if isinstance(meant, bool) else holds(meant, At.positions(grid, q, k), grid.env())
    return q, k, in_bounds, np.broadcast_to(mask, in_bounds.shape) & in_bounds


def batches(blocks: int, grid: Grid) -> Iterator[slice]:
    """Slices of so many blocks as are asked at once."""
    yield from _batches(blocks, grid.q.block * grid.k.block)


def _batches(blocks: int, pairs: int) -> Iterator[slice]:
    batch = max(1, _BATCH // pairs)
    for begin in range(0, blocks, batch):
        yield slice(begin, begin + batch)
