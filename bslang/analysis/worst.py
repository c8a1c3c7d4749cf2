"""The worst case of what a call gives: every pair that some labels or cells let a layout have."""

from __future__ import annotations

from functools import reduce

from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.graph.residual import (
    Residual,
    fold_complement,
    fold_difference,
    fold_intersection,
    fold_transpose,
    fold_union,
    fold_xor,
)
from bslang.ir.fold import Fold, chosen_before
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
from bslang.ir.runs import Runs


def grows_with_call(pattern: Pattern, head: int) -> bool:
    """Whether what a call lets be never takes a pair of a head away, so that all of it is the worst case."""
    return _Grows(head, True)(pattern)


def most_of_call(graph: BlockGraph) -> BlockGraph:
    """A graph that awaits nothing, with every pair that some call lets be; it may have more."""
    if not any(residual.awaits_call for residual in graph.residuals):
        return graph
    full, partial = graph.of_kind(FULL), dict[Pattern, Runs]()
    for kind, residual in enumerate(graph.residuals):
        runs, most = graph.of_kind(kind), _Most(True)(residual)
        if isinstance(most, Pattern):
            partial[most] = partial[most] | runs if most in partial else runs
        elif most:
            full = full | runs
    return BlockGraph.of_classes(graph.grid, full, tuple(partial), partial)


class _Grows(Fold[bool]):
    """Whether what a call lets be never takes a pair away, so that all of it is the worst case.

    positive: whether a pair of the part is one of the whole; else it is taken away.
    """

    def __init__(self, head: int, positive: bool) -> None:
        self.head, self.positive = head, positive

    def _each(self, pattern: Pattern) -> bool:
        return all(map(self, pattern.parts))

    union = intersection = transpose = _each

    def primitive(self, pattern: Primitive) -> bool:
        return self.positive if pattern.awaits_call else not pattern.awaits_call

    def xor(self, pattern: Xor) -> bool:
        return not pattern.awaits_call

    def difference(self, pattern: Difference) -> bool:
        return self._opposite(pattern.right) and self(pattern.left)

    def complement(self, pattern: Complement) -> bool:
        return self._opposite(pattern.part)

    def heads(self, pattern: Heads) -> bool:
        return self(pattern.choose(self.head))

    def _opposite(self, part: Pattern) -> bool:
        return _Grows(self.head, not self.positive)(part)


class _Most(Fold[Residual]):
    """A residual that has every pair which some call may give one, and awaits nothing.

    positive: whether that is asked; else what has no pair that some call may leave out.
    """

    def __init__(self, positive: bool) -> None:
        self.positive = positive

    def primitive(self, pattern: Primitive) -> Residual:
        return self.positive if pattern.awaits_call else pattern

    def union(self, pattern: Union) -> Residual:
        return fold_union(*self.parts(pattern))

    def intersection(self, pattern: Intersection) -> Residual:
        return fold_intersection(*self.parts(pattern))

    def xor(self, pattern: Xor) -> Residual:
        if not pattern.awaits_call:
            return reduce(fold_xor, self.parts(pattern))
        return fold_union(*self.parts(pattern)) if self.positive else False

    def difference(self, pattern: Difference) -> Residual:
        return fold_difference(self(pattern.left), self._opposite(pattern.right))

    def complement(self, pattern: Complement) -> Residual:
        return fold_complement(self._opposite(pattern.part))

    def transpose(self, pattern: Transpose) -> Residual:
        return fold_transpose(self(pattern.part))

    heads = chosen_before

    def _opposite(self, part: Pattern) -> Residual:
        return _Most(not self.positive)(part)
