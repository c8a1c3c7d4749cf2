"""What one layout has and another lacks, at one length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bslang.analysis.cells import coverage
from bslang.analysis.pairs import Pair, combined, count_pairs, first_pair, settled
from bslang.graph.blockgraph import BlockGraph
from bslang.graph.residual import fold_difference


@dataclass(frozen=True, eq=False)
class Side:
    """What one of two layouts has alone.

    graph: the blocks with such pairs; pairs: how many there are; pair: one of them; blocks: those
    that it alone visits.
    """

    graph: BlockGraph
    pairs: int
    pair: Pair | None
    blocks: int

    @classmethod
    def of(cls, mine: BlockGraph, other: BlockGraph) -> Side:
        """What `mine` has and `other` lacks; both stand on one grid. Raises LimitError."""
        graph = settled(combined(mine, other, fold_difference))
        visited = (mine.visited - other.visited).size
        return cls(graph, count_pairs(graph), first_pair(graph), visited)


def marks(
    a: BlockGraph, b: BlockGraph, plus: Side, minus: Side, height: int, width: int
) -> np.ndarray[Any, np.dtype[np.str_]]:
    """A picture of at most `height` x `width` cells of equal numbers of blocks.

    `+` where `a` alone has pairs, `-` where `b` has, `*` where each has some, `#` where both have the
    same, `.` where neither has any.
    """
    only_a, only_b, in_a, in_b = (
        coverage(graph, height, width) > 0 for graph in (plus.graph, minus.graph, a, b)
    )
    chosen = np.select([only_a & only_b, only_a, only_b, in_a | in_b], ["*", "+", "-", "#"], ".")
    return chosen
