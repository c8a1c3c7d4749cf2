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

from bslang.budget import RUNS, spend
from bslang.errors import LimitError
from bslang.graph.blockgraph import BlockGraph
from bslang.graph.narrow import Known, Narrowed
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
from bslang.ir.expr import joined
from bslang.ir.grid import Grid
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

_PRIMITIVE = 2000  # steps of the budget for a primitive that is lowered, beside what its runs cost

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
    return Runs.union(grid.m, (full, *partial.values()))


class _Known(Known):
    """What one lowering has found of the primitives and arguments of its pattern, on each grid."""

    def __init__(self) -> None:
        super().__init__(self._nonempty, self._inside)
        self._found: dict[tuple[Pattern, Grid], Runs] = {}

    def _nonempty(self, pattern: Pattern, grid: Grid) -> Runs:
        """As the function `nonempty`."""
        key = (pattern, grid)
        if key not in self._found:
            full, partial, exact = _settled(pattern, grid, self)
            if not exact:
                raise LimitError("MAX_MASK_WORK", MAX_MASK_WORK, f"the token masks of `{pattern}`")
            self._found[key] = Runs.union(grid.m, (full, *partial.values()))
        return self._found[key]

    def _inside(self, pattern: Pattern, grid: Grid) -> Decided:
        """What is known of the blocks of a pattern."""
        meant = pattern.expand() if isinstance(pattern, Primitive) else pattern
        if isinstance(meant, Primitive):
            return self.primitive(meant, grid)
        full, partial, exact = _settled(pattern, grid, self)
        return Decided(full, Runs.union(grid.m, (full, *partial.values())), exact)


def _graph(pattern: Pattern, grid: Grid, known: _Known) -> BlockGraph:
    spend(_PRIMITIVE * sum(1 for _ in pattern.primitives()), RUNS)
    full, partial, _ = _settled(pattern, grid, known)
    return BlockGraph.of_classes(grid, full, residuals(pattern, _sides(grid)), partial)


def _settled(pattern: Pattern, grid: Grid, known: _Known) -> tuple[Runs, dict[Pattern, Runs], bool]:
    """Full blocks, partial ones by residual, and whether each of these is known to be partial."""
    for axis in (grid.q, grid.k):
        if axis.length > MAX_LENGTH:
            raise LimitError("MAX_LENGTH", MAX_LENGTH, f"a sequence of {axis.length} tokens")
    if is_sharp(pattern, _sides(grid)):
        classes = _Classes(grid, known)(pattern)
    else:
        decided = _Decided(grid, known)(pattern)
        undecided = decided.may - decided.must
        coarse = _Coarse(grid, known)(pattern)
        classes = {residual: runs & undecided for residual, runs in coarse.items()}
        classes[True] = decided.must | classes.get(True, Runs.empty(grid.m))
    classes, changed = _shortened(classes, shortest(pattern, _sides(grid)))
    full = classes.pop(True, Runs.empty(grid.m))
    partial: dict[Pattern, Runs] = {}
    exact = True
    for residual, runs in classes.items():
        assert isinstance(residual, Pattern)
        if residual.awaits_call:
            exact = False  # the call decides, so that no block of these is surely partial
        elif _is_exact(residual, grid, known):
            if residual in changed:  # by one that is not exact, perhaps
                decided = _Decided(grid, known, runs)(residual)
                full, runs = full | (runs & decided.must), runs & (decided.may - decided.must)
        else:
            found = settle(residual, runs, grid, known.primitive)
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
    return isinstance(primitive, Primitive) and known.exact(primitive, grid)


class _Classes(Narrowed[Classes]):
    """The blocks of a pattern, by what is left to ask of them."""

    def must(self, found: Classes) -> Runs:
        return found.get(True, Runs.empty(self.grid.m))

    def may(self, found: Classes) -> Runs:
        return Runs.union(self.grid.m, found.values())

    def on(self, grid: Grid, within: Runs | None) -> _Classes:
        return type(self)(grid, self.known, within)

    def leaf(self, pattern: Primitive) -> Classes:
        decided = self.known.primitive(pattern, self.grid, self.within)
        classes: Classes = {True: decided.must, pattern: decided.may - decided.must}
        return {residual: runs for residual, runs in classes.items() if runs}

    def union(self, pattern: Union) -> Classes:
        parts = self.of_any(pattern)
        left = {residual for part in parts for residual in part} - {True}
        if len(left) > 1:
            return self._joined(fold_union, parts)
        # One class beside what is true: all of it at once.
        runs = [[part[key] for part in parts if key in part] for key in (True, *left)]
        full, *others = (Runs.union(self.grid.m, some) for some in runs)
        classes: Classes = {True: full}
        classes |= {key: some - full for key, some in zip(left, others, strict=True)}
        return {residual: runs for residual, runs in classes.items() if runs}

    def intersection(self, pattern: Intersection) -> Classes:
        return self._joined(fold_intersection, self.of_all(pattern))

    def xor(self, pattern: Xor) -> Classes:
        return reduce(lambda a, b: self._combine(a, b, fold_xor), self.parts(pattern))

    def difference(self, pattern: Difference) -> Classes:
        left, right = self.of_difference(pattern)
        return self._combine(left, right, fold_difference)

    def complement(self, pattern: Complement) -> Classes:
        return self._combine({True: self.domain}, self(pattern.part), fold_difference)

    def transpose(self, pattern: Transpose) -> Classes:
        height = self.grid.m
        mirrored = self.mirrored(pattern)
        return {fold_transpose(left): runs.transpose(height) for left, runs in mirrored.items()}

    def _joined(self, join: Join, parts: list[Classes]) -> Classes:
        found: Classes = joined(lambda a, b: self._combine(a, b, join), parts)
        return found

    def _combine(self, left: Classes, right: Classes, join: Join) -> Classes:
        """Apply an operator to every two classes that meet; what is in none of a side is false there."""
        combined: dict[Residual, list[Runs]] = {}

        def add(residual: Residual, runs: Runs) -> None:
            if residual is not False and runs:
                combined.setdefault(residual, []).append(runs)

        held_left, held_right = self.may(left), self.may(right)
        for a, runs in left.items():
            if (alone := join(a, False)) is not False:
                add(alone, runs - held_right)
            for b, other in right.items():
                if (both := join(a, b)) is not False:
                    add(both, runs & other)
        for b, runs in right.items():
            if (alone := join(False, b)) is not False:
                add(alone, runs - held_left)
        return {residual: Runs.union(self.grid.m, runs) for residual, runs in combined.items()}


class _Coarse(_Classes):
    """As `possible.is_sharp` means it: only drawn primitives are decided, and masks ask all the rest."""

    def leaf(self, pattern: Primitive) -> Classes:
        return super().leaf(pattern) if pattern.drawn else {pattern: self.domain}

    def union(self, pattern: Union) -> Classes:
        return self._all(fold_union, self.parts(pattern))

    def intersection(self, pattern: Intersection) -> Classes:
        return self._all(fold_intersection, self.parts(pattern))

    def _all(self, join: Join, parts: list[Classes]) -> Classes:
        if all(len(part) == 1 and self.domain in part.values() for part in parts):
            return {join(*(residual for part in parts for residual in part)): self.domain}
        return self._joined(join, parts)


class _Decided(Narrowed[Decided]):
    """Which blocks are surely true and which possibly, with no account of what is left to ask."""

    def must(self, found: Decided) -> Runs:
        return found.must

    def may(self, found: Decided) -> Runs:
        return found.may

    def on(self, grid: Grid, within: Runs | None) -> _Decided:
        return _Decided(grid, self.known, within)

    def leaf(self, pattern: Primitive) -> Decided:
        return self.known.primitive(pattern, self.grid, self.within)

    def union(self, pattern: Union) -> Decided:
        parts = self.of_any(pattern)
        must, may = ([getattr(part, name) for part in parts] for name in ("must", "may"))
        return Decided(Runs.union(self.grid.m, must), Runs.union(self.grid.m, may))

    def intersection(self, pattern: Intersection) -> Decided:
        met: Decided = joined(
            lambda a, b: Decided(a.must & b.must, a.may & b.may), self.of_all(pattern)
        )
        return met

    def xor(self, pattern: Xor) -> Decided:
        def both(a: Decided, b: Decided) -> Decided:
            must = (a.must - b.may) | (b.must - a.may)
            return Decided(must, (a.may | b.may) - (a.must & b.must))

        apart: Decided = joined(both, self.parts(pattern))
        return apart

    def difference(self, pattern: Difference) -> Decided:
        left, right = self.of_difference(pattern)
        return Decided(left.must - right.may, left.may - right.must)

    def complement(self, pattern: Complement) -> Decided:
        part = self(pattern.part)
        return Decided(self.domain - part.may, self.domain - part.must)

    def transpose(self, pattern: Transpose) -> Decided:
        part, height = self.mirrored(pattern), self.grid.m
        return Decided(part.must.transpose(height), part.may.transpose(height))
