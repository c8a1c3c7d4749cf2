"""Properties of a layout at a length, decided exactly, each with a pair that shows why not.

A question that only more masks than MAX_MASK_WORK could settle, or what a call gives, stays open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from bslang.analysis.pairs import Pair, asked, combined, corner, dense, first_pair, masks, sees
from bslang.analysis.worst import grows_with_call, most_of_call
from bslang.errors import LimitError, PatternError
from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.graph.lower import lower, nonempty
from bslang.graph.residual import fold_xor
from bslang.graph.settle import batches, mask_names, positions
from bslang.ir.awaited import said
from bslang.ir.fold import Fold
from bslang.ir.grid import Axis, Grid, Ints
from bslang.ir.heads import Heads
from bslang.ir.ordered import order_of, row_major
from bslang.ir.pattern import (
    Intersection,
    Pattern,
    Primitive,
    Union,
)
from bslang.ir.runs import Bools, Runs
from bslang.ir.units import OF_THE_LENGTH
from bslang.limits import MAX_MASK_WORK

MAX_COMPARED = 2**20
"""Runs of blocks in all the shorter layouts that one is compared with."""


@dataclass(frozen=True)
class Answer:
    """Whether a layout has a property; None where that stays open.

    pair: a query and a key that show that it has not; because: that, or why it stays open, in words.
    """

    holds: bool | None
    pair: Pair | None = None
    because: str = ""


YES = Answer(True)


@dataclass(frozen=True)
class Properties:
    """What decoding, training and theory ask of a layout at a length.

    causal: no key lies after its query. prefix_stable: causal, and no row depends on the total
    length. symmetric: each query is seen by the keys that it sees. star: some token sees every
    token and is seen by every token.
    """

    causal: Answer
    prefix_stable: Answer
    symmetric: Answer
    star: Answer

    @classmethod
    def of(cls, pattern: Pattern, graph: BlockGraph) -> Properties:
        """Decide them for a pattern; graph: what it was lowered to."""
        causal = decided(is_causal, pattern, graph)
        stable = decided(is_prefix_stable, pattern, graph) if causal.holds else causal
        square = decided(is_symmetric, pattern, graph)
        return cls(causal, stable, square, decided(has_star, pattern, graph))

    def as_dict(self) -> dict[str, Any]:
        """The answers as plain values, for JSON."""
        return asdict(self)


Question: TypeAlias = Callable[[Pattern, BlockGraph], Answer]


def decided(question: Question, pattern: Pattern, graph: BlockGraph) -> Answer:
    """The answer, which is None where it would take more token masks than limits allow."""
    try:
        return question(pattern, graph)
    except LimitError as error:
        return Answer(
            None, because=f"too many token masks would have to be evaluated ({error.limit})"
        )


_SQUARE = Answer(None, because="queries and keys are not the same tokens")


def is_causal(pattern: Pattern, graph: BlockGraph) -> Answer:
    """Whether no key lies after its query, whatever a call gives.

    Raises LimitError.
    """
    if order_of(pattern) is not None:  # of positions, then
        rows = row_major(pattern)
        return YES if _looks_back(rows) else is_causal(rows, lower(rows, graph.grid))
    awaited = _awaited(pattern, graph)
    if awaited and not grows_with_call(pattern, graph.grid.head):
        later = first_pair(most_of_call(graph), ahead=True)
        return YES if later is None else _depends(awaited)
    pair = first_pair(graph, ahead=True)
    if pair is None:
        return YES
    where = f", where the {awaited} of the call let it" if awaited else ""
    return Answer(False, pair, f"query {pair[0]} sees key {pair[1]}, which comes later{where}")


def _looks_back(pattern: Pattern) -> bool:
    """Whether a part of the pattern keeps all later keys out, as `causal` beside others."""
    if isinstance(pattern, Primitive):
        return all(slab.offset[0] >= 0 for slab in pattern.region().inside)
    parts = map(_looks_back, pattern.parts)
    return isinstance(pattern, Intersection | Union) and (
        any(parts) if isinstance(pattern, Intersection) else all(parts)
    )


def _awaited(pattern: Pattern, graph: BlockGraph) -> str:
    """What the graph's own head and layer await of a call, in words: others of the layout may await more."""
    if not pattern.awaits_call:
        return ""
    return said(pattern.at({"head": graph.grid.head, "layer": graph.grid.layer}))


def _depends(awaited: str) -> Answer:
    return Answer(None, because=f"it depends on the {awaited} of the call")


def is_symmetric(pattern: Pattern, graph: BlockGraph) -> Answer:
    """Whether (q, k) belongs wherever (k, q) does. Raises LimitError."""
    grid = graph.grid
    if not _same_tokens(grid):
        return _SQUARE
    if awaited := _awaited(pattern, graph):
        return _depends(awaited)
    pair: Pair | None
    if grid.q.block == grid.k.block:
        pair = first_pair(combined(graph, graph.transpose(), fold_xor))
    else:  # blocks are not mirrored onto blocks
        mask = dense(graph)[: grid.q.length, : grid.k.length]
        pair = next(((int(q), int(k)) for q, k in np.argwhere(mask & ~mask.T)), None)
    if pair is None:
        return YES
    pair = (pair[0], pair[1]) if sees(graph, *pair) else (pair[1], pair[0])
    return Answer(False, pair, f"query {pair[0]} sees key {pair[1]}, but not the other way round")


def _same_tokens(grid: Grid) -> bool:
    def sides(axis: Axis) -> tuple[int, int, int]:
        return axis.length, axis.start, axis.stop

    return sides(grid.q) == sides(grid.k)


def has_star(pattern: Pattern, graph: BlockGraph) -> Answer:
    """Whether some token sees all tokens and all see it: BigBird's condition (Zaheer 2020, 3).

    Where none does, the pair is one that the token nearest to it misses. Raises LimitError.
    """
    grid = graph.grid
    if not _same_tokens(grid):
        return _SQUARE
    if awaited := _awaited(pattern, graph):
        return _depends(awaited)
    mirrored = graph.transpose()
    # A token of a star lies in blocks whose rows and columns have no gap; only these are asked. Where
    # blocks are not square, tokens are compared: rows and columns of blocks do not pair up.
    no_gap = [_by_token(g.blocks_by_row == g.grid.m, g.grid.q) for g in (graph, mirrored)]
    candidates = no_gap[0] & no_gap[1]
    unseen, unseeing = (_missing(g, candidates) for g in (graph, mirrored))
    whole = (unseen < 0).astype(np.int64) + (unseeing < 0)
    visited, by = (_by_token(g.blocks_by_row, g.grid.q) for g in (graph, mirrored))
    best = int(np.lexsort((-np.arange(whole.size), visited + by, whole))[-1])
    if whole[best] == 2:
        return Answer(True, because=f"token {best} sees all tokens, and all see it")
    near = f"token {best} comes closest"
    if unseen[best] >= 0:
        key = int(unseen[best])
        return Answer(False, (best, key), f"{near}, but it does not see token {key}")
    query = int(unseeing[best])
    return Answer(False, (query, best), f"{near}, but token {query} does not see it")


def _by_token(by_block: np.ndarray[Any, Any], axis: Axis) -> np.ndarray[Any, Any]:
    return np.repeat(by_block, axis.block)[: axis.length]


def _missing(graph: BlockGraph, candidates: Bools) -> Ints:
    """A key that each query does not see: int64 (queries,), -1 where there is none.

    Partial blocks are asked in the rows of candidates alone: bool (queries,).
    """
    grid = graph.grid
    missing = np.full((grid.n, grid.q.block), -1, dtype=np.int64)
    row, start, _ = (Runs.domain(grid) - graph.visited).rows()
    missing[row[::-1]] = start[::-1, None] * grid.k.block  # the first gap of each row comes last
    rows = np.unique(np.flatnonzero(candidates) // grid.q.block)
    among = Runs.of_rows(grid.m, rows, np.zeros_like(rows), np.full_like(rows, grid.m))
    for part in asked(graph, among, in_rows=True):
        lacks = part.there & ~part.mask
        key = np.take_along_axis(part.k[:, 0, :], lacks.argmax(axis=2), axis=1)
        key[~lacks.any(axis=2)] = -1
        np.maximum.at(missing, part.cells // grid.m, key)
    return missing.ravel()[: grid.q.length]


def is_prefix_stable(pattern: Pattern, graph: BlockGraph) -> Answer:
    """Whether the layout is causal, and no row depends on the total length.

    Where its parts do not settle that, the layout is compared with what it is at shorter lengths, as
    far as MAX_COMPARED goes. Raises LimitError.
    """
    causal = is_causal(pattern, graph)
    if not causal.holds:
        return causal
    if order_of(pattern) is not None:
        return Answer(False, because="its tokens have an order, which is of one length")
    grid = graph.grid
    if not _same_tokens(grid):
        return _SQUARE
    meant = pattern.at({"head": grid.head, "layer": grid.layer})
    if _KeepsRows(grid)(meant):
        return YES
    if awaited := _awaited(pattern, graph):
        return _depends(awaited)
    compared = 0
    for length in _shorter(meant, grid):
        try:
            other = lower(pattern, _cut(grid, length))
        except PatternError:  # it is undefined at that length, so that no row changes
            continue
        if (pair := _difference(graph, other)) is not None:
            here, there = grid.k.length, length
            if sees(other, *pair):
                here, there = there, here
            why = f"query {pair[0]} sees key {pair[1]} with {here} tokens, but not with {there}"
            return Answer(False, pair, why)
        compared += other.start.size
        if compared > MAX_COMPARED:
            return Answer(None, because="too many shorter lengths would have to be compared")
    return YES


class _KeepsRows(Fold[bool]):
    """Whether no pair comes or goes with the length, as far as the parts of the pattern can tell."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid

    def _each(self, pattern: Pattern) -> bool:
        return all(map(self, pattern.parts))

    intersection = xor = difference = complement = transpose = _each

    def union(self, pattern: Union) -> bool:
        # A part that holds every pair at any length, as `layer < 2` may, leaves nothing to the others.
        return self._each(pattern) or any(map(self._holds_all, pattern.parts))

    def _holds_all(self, part: Pattern) -> bool:
        return self(part) and lower(part, self.grid).of_kind(FULL) == Runs.domain(self.grid)

    def primitive(self, pattern: Primitive) -> bool:
        meant = pattern.expand()
        if meant is not pattern:
            return self(meant)
        read = [value for value in vars(pattern).values() if isinstance(value, Pattern)]
        if not read:
            return not pattern.depends_on_length()
        # The numbers of what it reads count among its names, and have to be without a length as well.
        return not pattern.names() & OF_THE_LENGTH and all(map(self._read, read))

    def heads(self, pattern: Heads) -> bool:
        return all(map(self._read, pattern.parts))

    def _read(self, part: Pattern) -> bool:
        """Whether what reads whole rows of a pattern, as draws do, reads the same at any length."""
        grid = self.grid
        rows = np.arange(grid.n, dtype=np.int64)
        later = Runs.of_rows(grid.m, rows, rows + 1, np.full_like(rows, grid.m))
        return grid.q == grid.k and self(part) and not nonempty(part, grid.whole()) & later


def _cut(grid: Grid, length: int) -> Grid:
    q, k = (replace(axis, length=length, stop=length) for axis in (grid.q, grid.k))
    return replace(grid, q=q, k=k)


def _shorter(pattern: Pattern, grid: Grid) -> Iterator[int]:
    """The shorter lengths that can matter, those first where most layouts differ."""
    length, sides = grid.k.length, {grid.q.block, grid.k.block}
    moving = [p for p in pattern.primitives() if p.depends_on_length()]
    # What counts blocks changes with their number alone.
    steps = {1} if any(p.tokens for p in moving) else sides
    every = sorted({n for step in steps for n in range(step, length, step)})
    likely = [n for n in (length - 1, length - max(sides), length // 2) if 0 < n < length]
    yield from dict.fromkeys([*likely, *every])


def _difference(graph: BlockGraph, shorter: BlockGraph) -> Pair | None:
    """A pair that is in one of two layouts of one pattern and not in the other, where both have it."""
    grid = shorter.grid

    def cut(runs: Runs) -> Runs:
        row, start, stop = runs.rows()
        keep = row < grid.n
        return Runs.of_rows(grid.m, row[keep], start[keep], np.minimum(stop, grid.m)[keep])

    full, held = cut(graph.of_kind(FULL)), cut(graph.visited)
    alone = (full - shorter.visited) | (shorter.of_kind(FULL) - held)
    if alone:
        return corner(grid, int(alone.start[0]))
    open_ = (held | shorter.visited) - (full & shorter.of_kind(FULL))
    for kind, residual in enumerate(graph.residuals):
        if not mask_names(residual, grid) & OF_THE_LENGTH:
            open_ = open_ - (cut(graph.of_kind(kind)) & shorter.of_kind(kind))
    if open_.size > MAX_MASK_WORK // (grid.q.block * grid.k.block):
        raise LimitError("MAX_MASK_WORK", MAX_MASK_WORK, f"the token masks of {open_.size} blocks")
    cells = open_.cells()
    for part in batches(cells.size, grid):
        i, j = cells[part] // grid.m, cells[part] % grid.m
        q, k, there = positions(cells[part], grid)
        found = np.argwhere((masks(graph, i, j) ^ masks(shorter, i, j)) & there)
        if found.size:
            block, query, key = found[0]
            return int(q[block, query, 0]), int(k[block, 0, key])
    return None
