"""Lowering: a pattern and a grid to a BlockGraph, in time and memory of the runs.

Each primitive says which blocks are true, which are false and which it cannot decide. The
operators combine these: a block that stays undecided keeps a *residual*, the part of the pattern
that its tokens must be asked. A pattern thus cuts the grid into classes of blocks,

    {True: runs, residual: runs, ...}     (false elsewhere)

and every operator is a table on classes. Which residuals there can be depends on the pattern
alone, never on the length, so that generated code has a mask for each.
"""

from __future__ import annotations

from functools import reduce
from typing import TypeAlias

from bslang.errors import LimitError, PatternError
from bslang.graph.blockgraph import BlockGraph
from bslang.graph.residual import (
    FOLDS,
    Fold,
    Residual,
    fold_difference,
    fold_transpose,
    is_sharp,
    residuals,
)
from bslang.graph.settle import settle
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
    full, partial, _ = _settled(pattern, grid, _Known())
    return BlockGraph.of_classes(grid, full, residuals(pattern), partial)


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
        self.decided: dict[tuple[Primitive, Grid], Decided] = {}
        self._nonempty: dict[tuple[Pattern, Grid], Runs] = {}

    def nonempty(self, pattern: Pattern, grid: Grid) -> Runs:
        """As the function of this name."""
        key = (pattern, grid)
        if key not in self._nonempty:
            full, partial, exact = _settled(pattern, grid, self)
            if not exact:
                raise LimitError("MAX_MASK_WORK", MAX_MASK_WORK, f"the token masks of `{pattern}`")
            self._nonempty[key] = reduce(Runs.__or__, partial.values(), full)
        return self._nonempty[key]


def _settled(pattern: Pattern, grid: Grid, known: _Known) -> tuple[Runs, dict[Pattern, Runs], bool]:
    """Full blocks, partial ones by residual, and whether each of these is known to be partial."""
    for axis in (grid.q, grid.k):
        if axis.length > MAX_LENGTH:
            raise LimitError("MAX_LENGTH", MAX_LENGTH, f"a sequence of {axis.length} tokens")
    lowering = _Lowering(grid, True, known)
    if is_sharp(pattern):
        classes = lowering.classes(pattern)
    else:
        decided = lowering.decided(pattern)
        undecided = decided.may - decided.must
        coarse = _Lowering(grid, False, known).classes(pattern)
        classes = {residual: runs & undecided for residual, runs in coarse.items()}
        classes[True] = decided.must | classes.get(True, Runs.empty(grid.m))
    full = classes.pop(True, Runs.empty(grid.m))
    partial: dict[Pattern, Runs] = {}
    exact = True
    for residual, runs in classes.items():
        assert isinstance(residual, Pattern)
        if labels(residual):
            exact = False  # the call decides, so that no block of these is surely partial
        elif not lowering.is_exact(residual):
            found = settle(residual, runs, grid)
            if found is None:
                exact = False
            else:
                full, runs = full | found[0], runs - found[0] - found[1]
        if runs:
            partial[residual] = runs
    return full, partial, exact


class _Lowering:
    """Lowers the parts of one pattern on one grid; `sharp` as `residual.is_sharp` means it."""

    def __init__(self, grid: Grid, sharp: bool, known: _Known) -> None:
        self.grid, self.sharp, self.known = grid, sharp, known
        self.domain, self.nothing = Runs.domain(grid), Runs.empty(grid.m)

    def primitive(self, primitive: Primitive) -> Decided:
        key = (primitive, self.grid)
        if key not in self.known.decided:
            bound = primitive.bind(self.grid.env())
            try:
                bound.fits(self.grid)
            except PatternError as error:
                error.subject = primitive
                raise
            self.known.decided[key] = bound.blocks(self.grid, self.known.nonempty)
        return self.known.decided[key]

    def is_exact(self, residual: Pattern) -> bool:
        """Whether blocks left with this residual are known to be neither full nor empty."""
        if isinstance(residual, Complement):
            return self.is_exact(residual.part)
        return isinstance(residual, Primitive) and self.sharp and self.primitive(residual).exact

    def classes(self, pattern: Pattern) -> Classes:
        """The blocks of a pattern, by what is left to ask of them."""
        if isinstance(pattern, Primitive):
            meant = pattern.expand()
            if meant is not pattern:
                return self.classes(meant)
            if not self.sharp and not pattern.drawn:
                return {pattern: self.domain}
            decided = self.primitive(pattern)
            classes: Classes = {True: decided.must, pattern: decided.may - decided.must}
            return {residual: runs for residual, runs in classes.items() if runs}
        if isinstance(pattern, Heads):
            return self.classes(pattern.choose(self.grid.head))
        if isinstance(pattern, Transpose):
            mirrored = _Lowering(self.grid.transposed(), self.sharp, self.known).classes(
                pattern.part
            )
            return {
                fold_transpose(residual): runs.transpose(self.grid.m)
                for residual, runs in mirrored.items()
            }
        if isinstance(pattern, Complement):
            return self._combine({True: self.domain}, self.classes(pattern.part), fold_difference)
        fold = FOLDS[type(pattern)]
        return reduce(lambda a, b: self._combine(a, b, fold), map(self.classes, pattern.parts))

    def _combine(self, left: Classes, right: Classes, fold: Fold) -> Classes:
        """Apply an operator to every two classes that meet; what is in none of a side is false there."""
        combined: Classes = {}

        def add(residual: Residual, runs: Runs) -> None:
            if residual is not False and runs:
                combined[residual] = combined.get(residual, self.nothing) | runs

        held_left = reduce(Runs.__or__, left.values(), self.nothing)
        held_right = reduce(Runs.__or__, right.values(), self.nothing)
        for a, runs in left.items():
            if (alone := fold(a, False)) is not False:
                add(alone, runs - held_right)
            for b, other in right.items():
                if (both := fold(a, b)) is not False:
                    add(both, runs & other)
        for b, runs in right.items():
            if (alone := fold(False, b)) is not False:
                add(alone, runs - held_left)
        return combined

    def decided(self, pattern: Pattern) -> Decided:
        """Which blocks are surely true and which possibly, with no account of what is left to ask."""
        if isinstance(pattern, Primitive):
            meant = pattern.expand()
            return self.primitive(pattern) if meant is pattern else self.decided(meant)
        if isinstance(pattern, Heads):
            return self.decided(pattern.choose(self.grid.head))
        if isinstance(pattern, Transpose):
            part = _Lowering(self.grid.transposed(), self.sharp, self.known).decided(pattern.part)
            height = self.grid.m
            return Decided(part.must.transpose(height), part.may.transpose(height))
        if isinstance(pattern, Complement):
            part = self.decided(pattern.part)
            return Decided(self.domain - part.may, self.domain - part.must)
        return reduce(_TABLES[type(pattern)], map(self.decided, pattern.parts))


_TABLES = {
    Union: lambda a, b: Decided(a.must | b.must, a.may | b.may),
    Intersection: lambda a, b: Decided(a.must & b.must, a.may & b.may),
    Difference: lambda a, b: Decided(a.must - b.may, a.may - b.must),
    Xor: lambda a, b: Decided(
        (a.must - b.may) | (b.must - a.may), (a.may | b.may) - (a.must & b.must)
    ),
}
