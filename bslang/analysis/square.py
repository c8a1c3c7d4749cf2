"""One sequence of blocks: a block graph whose rows and columns are the same nodes."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import numpy as np

from bslang.graph.blockgraph import BlockGraph
from bslang.ir.grid import Ints


@dataclass(frozen=True, eq=False)
class Square:
    """Nodes 0 .. `size` - 1, of `tokens` tokens each, and the runs of nodes that each sees.

    indptr: int64 (size + 1,), the runs of each node; start, stop: int64 (runs,), nodes [start, stop),
    of one node sorted and disjoint.
    """

    size: int
    tokens: int
    indptr: Ints
    start: Ints
    stop: Ints

    @classmethod
    def of(cls, graph: BlockGraph) -> Square:
        """The graph of a layout that attends over one sequence; full and partial blocks are alike.

        Where blocks have unequal sides, a node is the longest stretch of tokens that divides both.
        Raises ValueError where queries and keys are not the same positions.
        """
        q, k = graph.grid.q, graph.grid.k
        if (q.start, q.stop) != (k.start, k.stop):
            raise ValueError("paths need queries and keys to be the same tokens")
        tokens = gcd(q.block, k.block)
        size = -(-q.stop // tokens)
        tall, wide = q.block // tokens, k.block // tokens
        row = np.arange(size) // tall  # the block row of each node
        first, count = graph.indptr[row], np.diff(graph.indptr)[row]
        indptr = np.concatenate(([0], np.cumsum(count)))
        run = np.arange(indptr[-1]) + np.repeat(first - indptr[:-1], count)
        stop = np.minimum(graph.stop[run] * wide, size)
        return cls(size, tokens, indptr, graph.start[run] * wide, stop)

    @property
    def edges(self) -> int:
        """Pairs of nodes of which one sees the other."""
        return int((self.stop - self.start).sum())

    def sampled(self, most: int) -> tuple[Ints, Ints]:
        """(from, to) of every edge, in order; where there are more than `most`, of a sample.

        The sample gives each node its share, at least one edge, one of each of as many equal stretches of
        what it sees: the same for the same graph.
        """
        length = self.stop - self.start
        before = np.concatenate(([0], np.cumsum(length)))
        degree = np.diff(before[self.indptr])
        share = max(1, most // self.size) if self.edges > most else self.size
        kept = np.minimum(degree, share)
        node = np.repeat(np.arange(self.size), kept)
        place = np.arange(node.size) - np.repeat(np.cumsum(kept) - kept, kept)
        low, high = place * degree[node] // kept[node], (place + 1) * degree[node] // kept[node]
        jitter = np.random.default_rng(0).random(node.size)
        offset = low + (jitter * (high - low)).astype(np.int64)
        rank = before[self.indptr[node]] + offset
        run = np.searchsorted(before, rank, "right") - 1
        return node, self.start[run] + rank - before[run]
