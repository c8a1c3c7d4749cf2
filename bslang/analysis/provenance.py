"""Provenance: which term of a layout first brings in each block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from bslang.graph.lower import lower, visited
from bslang.ir.fold import Fold
from bslang.ir.grid import Grid
from bslang.ir.heads import Heads
from bslang.ir.pattern import Difference, Intersection, Pattern, Transpose, Union, Xor
from bslang.ir.runs import Runs


def provenance(pattern: Pattern, grid: Grid, most: int | None = None) -> list[tuple[Pattern, Runs]]:
    """The terms of a layout, as `terms` finds them, each with the visited blocks that it is first to hold.

    What awaits a call may hold any block, and gets those that no other term does.
    The blocks are disjoint, and all that the layout visits: one whose terms all turn out to be empty
    there, where only too many masks could have told, counts for the last. most: terms that are told
    apart; where there are more, the last of these is the union of those that are left. Raises as `lower`.
    """
    found = list(terms(pattern, grid.head))
    alone = len(found)
    if most is not None and len(found) > most:
        rest = Union.of(*(term for term, _ in found[most - 1 :]))
        found[most - 1 :] = [(rest, pattern)]  # the last term's contribution is never lowered
        alone = most - 1
    left = lower(pattern, grid).visited
    order = sorted(range(alone), key=lambda place: found[place][0].awaits_call)
    order += range(alone, len(found))
    brought: dict[int, Runs] = {}
    for place in order:
        contribution = found[place][1]
        brought[place] = left if place == order[-1] else visited(contribution, grid) & left
        left = left - brought[place]
    return [(term, brought[place]) for place, (term, _) in enumerate(found)]


def terms(pattern: Pattern, head: int = 0) -> Iterator[tuple[Pattern, Pattern]]:
    """The operands whose union a layout is, and what each contributes after the rest is applied.

    `(window(3) | cols(0)) & causal` has the terms `window(3)` and `cols(0)`, which contribute
    `window(3) & causal` and `cols(0) & causal`.
    """
    return _Terms(head)(pattern)


Terms: TypeAlias = Iterator[tuple[Pattern, Pattern]]


class _Terms(Fold[Terms]):
    def __init__(self, head: int) -> None:
        self.head = head

    def _itself(self, pattern: Pattern) -> Terms:
        yield pattern, pattern

    primitive = complement = _itself

    def union(self, pattern: Union) -> Terms:
        for part in pattern.parts:
            yield from self(part)

    def xor(self, pattern: Xor) -> Terms:
        for part in pattern.parts:
            yield part, Intersection.of(part, pattern)

    def transpose(self, pattern: Transpose) -> Terms:
        for term, contribution in self(pattern.part):
            yield term.T, contribution.T

    def difference(self, pattern: Difference) -> Terms:
        found = list(self(pattern.left))
        if len(found) == 1:
            found = [(pattern, pattern)]
        else:
            found = [(term, Difference.of(left, pattern.right)) for term, left in found]
        yield from found

    def intersection(self, pattern: Intersection) -> Terms:
        sums = [list(self(part)) for part in pattern.parts]
        place = next((i for i, found in enumerate(sums) if len(found) > 1), None)
        if place is None:
            yield pattern, pattern
            return
        before, after = pattern.parts[:place], pattern.parts[place + 1 :]
        for term, contribution in sums[place]:
            yield term, Intersection.of(*before, contribution, *after)

    def heads(self, pattern: Heads) -> Terms:
        return self(pattern.choose(self.head))
