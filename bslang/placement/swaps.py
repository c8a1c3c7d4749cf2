"""Swaps: chunks that ranks exchange until they fetch no less by it, within the balance.

After B. W. Kernighan and S. Lin, "An efficient heuristic procedure for partitioning graphs" (1970): pairs
are swapped, so that every rank keeps as many blocks.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bslang.ir.grid import Ints
from bslang.ir.runs import Runs

Floats = npt.NDArray[np.float64]

MOST_CHUNKS = 256
"""Chunks whose columns are compared with one another."""

_LEAST = 1e-6  # of a gain: less is rounding


def ties(wanted: Runs, start: Ints) -> Floats:
    """float64 (chunks, chunks): how many columns of chunk b the rows of chunk a want.

    wanted: the columns (across) that each chunk (down) wants; start: int64 (chunks + 1,), the first column
    of each chunk, and the number of columns.
    """
    chunks = start.size - 1
    row, first, stop = wanted.rows()
    before = np.zeros((chunks, chunks + 1))
    # Columns of row a's runs that lie before a boundary, summed run by run at the boundaries it crosses.
    low, high = np.searchsorted(start, first, "right"), np.searchsorted(start, stop, "left")
    run = np.repeat(np.arange(row.size), high - low)
    edge = np.arange(run.size) - np.repeat(np.cumsum(high - low) - (high - low), high - low)
    edge += low[run]
    np.add.at(before, (row[run], edge), start[edge] - first[run])
    # From the boundary at its end on, a run counts whole.
    whole = np.zeros((chunks, chunks + 1))
    np.add.at(whole, (row, high), stop - first)
    found: Floats = np.diff(before + np.cumsum(whole, axis=1), axis=1)
    return found


def swapped(
    tied: Floats,
    work: Ints,
    size: Ints,
    owner: Ints,
    unit: Ints,
    group: Ints,
    limit: float,
    sweeps: int,
) -> Ints:
    """int64 (chunks,), the rank of each chunk after swaps.

    tied: as `ties`. work, size: int64 (chunks,), of each chunk; those of one size are swapped. owner: int64
    (chunks,), the rank of each before. unit: int64 (ranks,), a rank or a node of ranks, between which ties
    cost. group: int64 (ranks,); swaps are between ranks of one group. limit: work of a rank beyond which
    less work is worth any ties. sweeps: how often all pairs are looked at, at most.
    """
    return _Swaps(tied, work, size, owner, unit, group, limit).run(sweeps)


class _Swaps:
    def __init__(
        self,
        tied: Floats,
        work: Ints,
        size: Ints,
        owner: Ints,
        unit: Ints,
        group: Ints,
        limit: float,
    ) -> None:
        self.both = tied + tied.T
        np.fill_diagonal(self.both, 0)
        self.work, self.unit, self.limit, self.owner = work, unit, limit, owner.copy()
        self.load = np.bincount(owner, weights=work, minlength=unit.size)
        self.to = np.zeros((owner.size, int(unit.max()) + 1))  # ties of a chunk to each unit
        np.add.at(self.to.T, unit[owner], self.both)
        self.may = np.triu((size[:, None] == size) & (group[owner][:, None] == group[owner]))
        self.relief = 1e3 * owner.size / max(limit, 1)

    def run(self, sweeps: int) -> Ints:
        for _ in range(sweeps):
            a, b = np.nonzero(self.may & (self.owner[:, None] != self.owner))
            gain = self._gain(a, b)
            best = np.flatnonzero(gain > _LEAST)
            best = best[np.argsort(-gain[best], kind="stable")]
            # The best of each chunk: the others are looked at again in the next sweep.
            _, first = np.unique(a[best], return_index=True)
            pairs = best[np.sort(first)]
            done = [self._swap(x, y) for x, y in zip(a[pairs], b[pairs], strict=True)]
            if not any(done):
                break
        owner: Ints = self.owner
        return owner

    def _gain(self, a: Ints, b: Ints) -> Floats:
        """Ties that are no longer cut if chunks swap, and work above the limit that is gone."""
        here, there = self.owner[a], self.owner[b]
        of_a, of_b = self.unit[here], self.unit[there]
        to = self.to
        ties = to[a, of_b] - to[a, of_a] + to[b, of_a] - to[b, of_b]
        ties -= np.where(of_a == of_b, 0, 2 * self.both[a, b])
        moved = self.work[b] - self.work[a]
        loads = self.load[here], self.load[there]
        before, after = np.maximum(*loads), np.maximum(loads[0] + moved, loads[1] - moved)
        over = np.maximum(before - self.limit, 0) - np.maximum(after - self.limit, 0)
        fits = after <= np.maximum(self.limit, before)
        gain: Floats = np.where(fits, ties, 0) + self.relief * over
        return gain

    def _swap(self, x: Ints, y: Ints) -> bool:
        """Swaps two chunks if it still gains, after other swaps."""
        here, there = self.owner[x], self.owner[y]
        if here == there or self._gain(x, y) <= _LEAST:
            return False
        self.load[here] += self.work[y] - self.work[x]
        self.load[there] += self.work[x] - self.work[y]
        change = self.both[:, y] - self.both[:, x]
        self.to[:, self.unit[here]] += change
        self.to[:, self.unit[there]] -= change
        self.owner[x], self.owner[y] = there, here
        return True


def refined(
    tied: Floats,
    work: Ints,
    size: Ints,
    owner: Ints,
    ranks: int,
    node: int,
    limit: float,
    sweeps: int,
) -> Ints:
    """As `swapped`, in two rounds: ranks of a node are `node` adjacent ones, and ties between nodes are cut
    first, then those between the ranks of each node."""
    rank, nodes = np.arange(ranks), np.arange(ranks) // node
    if ranks > node:
        owner = swapped(tied, work, size, owner, nodes, np.zeros_like(rank), limit, sweeps)
    return swapped(tied, work, size, owner, rank, nodes, limit, sweeps)
