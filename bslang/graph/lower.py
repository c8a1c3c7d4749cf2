"""Lowering: a pattern and a grid to a BlockGraph, in time and memory of the runs.

Each primitive says which blocks are true, which are false and which it cannot decide. The
operators combine these: a block that stays undecided keeps a *residual*, the part of the pattern
that its tokens must be asked. A pattern thus cuts the grid into classes of blocks,

    {True: runs, residual: runs, ...}     (false elsewhere)

and every operator is a table on classes. Which residuals there can be depends on the pattern
alone, never on the length, so that generated code has a mask for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import reduce
from typing import TypeAlias

from bslang.errors import LimitError, PatternError
from bslang.graph.blockgraph import BlockGraph
from bslang.graph.possible import is_sharp, residuals, shortest
from bslang.graph.residual import (
    Join,
    Residual,
    fold_difference,
    fold_intersection,
    fold_transpose,
    fold_union,
    fold_xor,
)
from bslang.graph.settle import settle
from bslang.ir.fold import Fold
from bslang.ir.grid import Grid
from bslang.ir.heads import Heads
from bslang.ir.mask import labels
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
from bslang.ir.runs import Runs
from bslang.limits import MAX_LENGTH, MAX_MASK_WORK

Classes: TypeAlias = dict[Residual, Runs]


def lower(pattern: Pattern, grid: Grid) -> BlockGraph:
    """Find the full and the partial blocks of a pattern.

    Raises PatternError where the pattern means nothing on this grid (an index outside of it),
    LimitError where a limit is passed.
    """
    return _graph(pattern, grid, _Known())


def lower_with_terms(pattern: Pattern, grid: Grid) -> tuple[BlockGraph, dict[str, Runs]]:
    """The graph of a pattern, and the full blocks of each term of a union by its text: primitives are lowered
    once for both.

    Raises as `lower`; a term that passes a limit by itself is left out.
    """
    known = _Known()
    graph, terms = _graph(pattern, grid, known), {}
    for term in pattern.parts if isinstance(pattern, Union) else ():
        with suppress(LimitError):
            terms[str(term)], *_ = _settled(term, grid, known)
    return graph, terms


def nonempty(pattern: Pattern, grid: Grid) -> Runs:
    """The blocks that hold some pair of a pattern, exactly.

    Raises as `lower`, and LimitError where only too many masks could tell.
    """
    return _Known().nonempty(pattern, grid)


def visited(pattern: Pattern, grid: Grid) -> Runs:
    """The blocks that `lower` finds, full and partial, of a pattern that may have any number of masks.

    Raises as `lower` otherwise.
    """
    full, partial, _ = _settled(pattern, grid, _Known())
    return reduce(Runs.__or__, partial.values(), full)


class _Known:
    """What one lowering has found of the primitives and arguments of its pattern, on each grid."""

    def __init__(self) -> None:
        self._decided: dict[tuple[Primitive, Grid], Decided] = {}
        self._nonempty: dict[tuple[Pattern, Grid], Runs] = {}

    def primitive(self, primitive: Primitive, grid: Grid) -> Decided:
        """What a primitive says of the blocks of a grid."""
        key = (primitive, grid)
        if key not in self._decided:
            bound = primitive.bind(grid.env())
            try:
                bound.fits(grid)
            except PatternError as error:
                error.subject = primitive
                raise
            self._decided[key] = bound.blocks(grid, self.nonempty)
        return self._decided[key]

    def nonempty(self, pattern: Pattern, grid: Grid) -> Runs:
        """As the function of this name."""
        key = (pattern, grid)
        if key not in self._nonempty:
            full, partial, exact = _settled(pattern, grid, self)
            if not exact:
                raise LimitError("MAX_MASK_WORK", MAX_MASK_WORK, f"the token masks of `{pattern}`")
            self._nonempty[key] = reduce(Runs.__or__, partial.values(), full)
        return self._nonempty[key]


def _graph(pattern: Pattern, grid: Grid, known: _Known) -> BlockGraph:
    full, partial, _ = _settled(pattern, grid, known)
    return BlockGraph.of_classes(grid, full, residuals(pattern, _sides(grid)), partial)


def _settled(pattern: Pattern, grid: Grid, known: _Known) -> tuple[Runs, dict[Pattern, Runs], bool]:
    """Full blocks, partial ones by residual, and whether each of these is known to be partial."""
    for axis in (grid.q, grid.k):
        if axis.length > MAX_LENGTH:
            raise LimitError("MAX_LENGTH", MAX_LENGTH, f"a sequence of {axis.length} tokens")
    if is_sharp(pattern, _sides(grid)):
        classes = _Classes(grid, known, True)(pattern)
    else:
        decided = _Decided(grid, known)(pattern)
        undecided = decided.may - decided.must
        coarse = _Classes(grid, known, False)(pattern)
        classes = {residual: runs & undecided for residual, runs in coarse.items()}
        classes[True] = decided.must | classes.get(True, Runs.empty(grid.m))
    classes, changed = _shortened(classes, shortest(pattern, _sides(grid)))
    full = classes.pop(True, Runs.empty(grid.m))
    partial: dict[Pattern, Runs] = {}
    exact = True
    for residual, runs in classes.items():
        assert isinstance(residual, Pattern)
        if labels(residual):
            exact = False  # the call decides, so that no block of these is surely partial
        elif _is_exact(residual, grid, known):
            if residual in changed:  # by one that is not exact, perhaps
                decided = _Decided(grid, known)(residual)
                full, runs = full | (runs & decided.must), runs & (decided.may - decided.must)
        else:
            found = settle(residual, runs, grid)
            if found is None:
                exact = False
            else:
                full, runs = full | found[0], runs - found[0] - found[1]
        if runs:
            partial[residual] = runs
    return full, partial, exact


def _sides(grid: Grid) -> tuple[int, int]:
    return grid.q.block, grid.k.block


def _shortened(classes: Classes, kept: Mapping[Pattern, Residual]) -> tuple[Classes, set[Residual]]:
    """The same blocks by the masks that their residuals are kept as, and which masks got others' blocks."""
    found: Classes = {}
    changed: set[Residual] = set()
    for residual, runs in classes.items():
        mask = kept[residual] if isinstance(residual, Pattern) else residual
        if mask != residual:
            changed.add(mask)
        if mask is not False:
            found[mask] = found[mask] | runs if mask in found else runs
    return found, changed


def _is_exact(residual: Pattern, grid: Grid, known: _Known) -> bool:
    """Whether blocks left with this residual are known to be neither full nor empty."""
    primitive = residual.part if isinstance(residual, Complement) else residual
    return isinstance(primitive, Primitive) and known.primitive(primitive, grid).exact


class _Classes(Fold[Classes]):
    """The blocks of a pattern, by what is left to ask of them; `sharp` as `possible.is_sharp` means it."""

    def __init__(self, grid: Grid, known: _Known, sharp: bool) -> None:
        self.grid, self.known, self.sharp = grid, known, sharp
        self.domain, self.nothing = Runs.domain(grid), Runs.empty(grid.m)

    def primitive(self, pattern: Primitive) -> Classes:
        meant = pattern.expand()
        if meant is not pattern:
            return self(meant)
        if not self.sharp and not pattern.drawn:
            return {pattern: self.domain}
        decided = self.known.primitive(pattern, self.grid)
        classes: Classes = {True: decided.must, pattern: decided.may - decided.must}
        return {residual: runs for residual, runs in classes.items() if runs}

    def union(self, pattern: Union) -> Classes:
        return self._joined(fold_union, pattern)

    def intersection(self, pattern: Intersection) -> Classes:
        return self._joined(fold_intersection, pattern)

    def xor(self, pattern: Xor) -> Classes:
        return self._joined(fold_xor, pattern)

    def difference(self, pattern: Difference) -> Classes:
        return self._joined(fold_difference, pattern)

    def complement(self, pattern: Complement) -> Classes:
        return self._combine({True: self.domain}, self(pattern.part), fold_difference)

    def transpose(self, pattern: Transpose) -> Classes:
        mirrored = _Classes(self.grid.transposed(), self.known, self.sharp)(pattern.part)
        height = self.grid.m
        return {fold_transpose(left): runs.transpose(height) for left, runs in mirrored.items()}

    def heads(self, pattern: Heads) -> Classes:
        return self(pattern.choose(self.grid.head))

    def _joined(self, join: Join, pattern: Pattern) -> Classes:
        return reduce(lambda a, b: self._combine(a, b, join), self.parts(pattern))

    def _combine(self, left: Classes, right: Classes, join: Join) -> Classes:
        """Apply an operator to every two classes that meet; what is in none of a side is false there."""
        combined: Classes = {}

        def add(residual: Residual, runs: Runs) -> None:
            if residual is not False and runs:
                combined[residual] = combined.get(residual, self.nothing) | runs

        held_left = reduce(Runs.__or__, left.values(), self.nothing)
        held_right = reduce(Runs.__or__, right.values(), self.nothing)
        for a, runs in left.items():
            if (alone := join(a, False)) is not False:
                add(alone, runs - held_right)
            for b, other in right.items():
                if (both := join(a, b)) is not False:
                    add(both, runs & other)
        for b, runs in right.items():
            if (alone := join(False, b)) is not False:
                add(alone, runs - held_left)
        return combined


class _Decided(Fold[Decided]):
    """Which blocks are surely true and which possibly, with no account of what is left to ask."""

    def __init__(self, grid: Grid, known: _Known) -> None:
        self.grid, self.known, self.domain = grid, known, Runs.domain(grid)

    def primitive(self, pattern: Primitive) -> Decided:
        meant = pattern.expand()
        return self(meant) if meant is not pattern else self.known.primitive(pattern, self.grid)

    def union(self, pattern: Union) -> Decided:
        parts = self.parts(pattern)
        return reduce(lambda a, b: Decided(a.must | b.must, a.may | b.may), parts)

    def intersection(self, pattern: Intersection) -> Decided:
        parts = self.parts(pattern)
        return reduce(lambda a, b: Decided(a.must & b.must, a.may & b.may), parts)

    def xor(self, pattern: Xor) -> Decided:
        def joined(a: Decided, b: Decided) -> Decided:
            must = (a.must - b.may) | (b.must - a.may)
            return Decided(must, (a.may | b.may) - (a.must & b.must))

        return reduce(joined, self.parts(pattern))

    def difference(self, pattern: Difference) -> Decided:
        left, right = self.parts(pattern)
        return Decided(left.must - right.may, left.may - right.must)

    def complement(self, pattern: Complement) -> Decided:
        part = self(pattern.part)
        return Decided(self.domain - part.may, self.domain - part.must)

    def transpose(self, pattern: Transpose) -> Decided:
        part = _Decided(self.grid.transposed(), self.known)(pattern.part)
        height = self.grid.m
        return Decided(part.must.transpose(height), part.may.transpose(height))

    def heads(self, pattern: Heads) -> Decided:
        return self(pattern.choose(self.grid.head))
