"""Chunks: placements of runs of blocks, by work alone."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace

import numpy as np

from bslang.ir.grid import Ints
from bslang.placement.placement import Placement


@dataclass(frozen=True, eq=False)
class Chunks:
    """Equal runs of blocks, `of_rank` on each rank.

    A rank's `per` places, of all ranks one after another, are cut into `of_rank` chunks. If these cannot
    be equal, they are of two sizes, and each rank has as many of either. Chunks at the end of the sequence
    may hold fewer blocks than they have places, or none.

    size: int64 (chunks,), places of each. start: int64 (chunks + 1,), the blocks of chunk c are start[c]
    to start[c + 1]. owner: int64 (chunks,), the rank of each.
    """

    size: Ints
    start: Ints
    owner: Ints

    @classmethod
    def contiguous(cls, blocks: int, ranks: int, of_rank: int) -> Chunks:
        """Each rank has adjacent ones; of_rank is at most ceil(blocks / ranks)."""
        per = -(-blocks // ranks)
        size = np.tile(np.diff(np.arange(of_rank + 1) * per // of_rank), ranks)
        start = np.minimum(np.append(0, np.cumsum(size)), blocks)
        return cls(size, start, np.repeat(np.arange(ranks), of_rank))

    @property
    def count(self) -> int:
        return self.size.size

    def work(self, of_block: Ints) -> Ints:
        """int64 (chunks,), the sum of the work of the blocks of each."""
        before = np.append(0, np.cumsum(of_block))
        return np.diff(before[self.start])

    def heaviest_first(self, work: Ints) -> Chunks:
        """Each chunk, the heaviest first, on the rank with the least work among those with room for it.

        work: int64 (chunks,). With two chunks a rank, this pairs heavy with light.
        """
        ranks, owner = int(self.owner.max()) + 1, np.empty_like(self.owner)
        sizes = {
            size: [[0, rank] for rank in range(ranks)] for size in np.unique(self.size).tolist()
        }
        room = {size: np.bincount(self.owner[self.size == size]) for size in sizes}
        load = [0] * ranks
        for chunk in np.argsort(-work, kind="stable").tolist():
            size = int(self.size[chunk])
            heap = sizes[size]
            while heap[0][0] != load[heap[0][1]]:  # it got chunks of the other size meanwhile
                heapq.heapreplace(heap, [load[heap[0][1]], heap[0][1]])
            rank = heap[0][1]
            owner[chunk], load[rank] = rank, load[rank] + int(work[chunk])
            room[size][rank] -= 1
            if room[size][rank]:
                heapq.heapreplace(heap, [load[rank], rank])
            else:
                heapq.heappop(heap)
        return replace(self, owner=owner)

    def placement(self, ranks: int, block: int, length: int) -> Placement:
        """The blocks, of `block` tokens, where their chunks are."""
        return Placement(np.repeat(self.owner, np.diff(self.start)), ranks, block, length)
