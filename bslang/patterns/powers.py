"""Distances that are powers: `logsparse` and `butterfly`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bslang.ir.expr import Number
from bslang.ir.grid import At, Grid
from bslang.ir.pattern import Decided, Lower, Primitive
from bslang.ir.runs import Runs, bounded
from bslang.ir.signature import Kind, argument
from bslang.patterns.shapes import bands

_BITS = 31  # positions, and so block indices and their differences, have no more


@dataclass(frozen=True)
class LogSparse(Primitive):
    """The query's own block and those 1, `base`, `base`^2, ... before it.

    Source: LogSparse Transformer (Li 2019, 4.2).

    Example: `logsparse`
    """

    name = "logsparse"
    relational = True
    drawn = True  # blocks settle it, so that no mask needs to list the powers

    base: Number = argument(
        "ratio of each distance to the one before", Kind.NUMBER, default=2, minimum=2
    )

    def predicate(self, at: At) -> Any:
        assert isinstance(self.base, int)
        back = at.blocks.row - at.blocks.col
        return np.isin(back, [0, *(self.base**exponent for exponent in range(_BITS))])

    def blocks(self, grid: Grid, lower: Lower) -> Decided:
        assert isinstance(self.base, int)
        offsets = [0]
        power = 1
        while power < grid.n:
            offsets.append(-power)
            power *= self.base
        offset = np.array(offsets, dtype=np.int64)
        return bands(grid, False, offset, offset)


@dataclass(frozen=True)
class Butterfly(Primitive):
    """Blocks whose index differs from the query's in one bit, or in none.

    With `k`, only in one of the `k` lowest bits.

    Source: flat block butterfly matrices of Pixelated Butterfly (Dao 2021, 3.2).

    Example: `butterfly`
    """

    name = "butterfly"
    relational = True
    drawn = True  # the bits of an index have no formula that masks can print, and blocks settle it

    k: Number | None = argument("how many of the lowest bits", Kind.NUMBER, default=None, minimum=0)

    def _bits(self) -> int:
        assert self.k is None or isinstance(self.k, int)
        return _BITS if self.k is None else min(self.k, _BITS)

    def predicate(self, at: At) -> Any:
        apart = at.blocks.row ^ at.blocks.col
        return np.isin(apart, [0, *(2**bit for bit in range(self._bits()))])

    def blocks(self, grid: Grid, lower: Lower) -> Decided:
        bits = min(self._bits(), (max(grid.n, grid.m) - 1).bit_length())
        rows = np.arange(grid.q.first, grid.n, dtype=np.int64)[:, None]
        bounded(rows.size * (bits + 1))
        columns = rows ^ np.concatenate(([0], 1 << np.arange(bits, dtype=np.int64)))
        runs = Runs.of_rows(grid.m, rows, columns, np.minimum(columns + 1, grid.m))
        runs = runs & Runs.domain(grid)
        return Decided(runs, runs)
