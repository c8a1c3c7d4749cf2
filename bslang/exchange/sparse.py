"""Layouts as sparse matrices of blocks: SciPy, and BSR as FlashInfer takes it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bslang.exchange.tiles import EMPTY, Tiles, belongs, kinds
from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.ir.runs import Bools
from bslang.missing import installed

PARTIAL_CELL, FULL_CELL = 1, 2
"""What `to_scipy` stores for a block."""


class Bsr(NamedTuple):
    """A block-sparse matrix in the arguments of FlashInfer's BlockSparseAttentionWrapper.plan.

    indptr: int32 (rows + 1,), the blocks of each row of blocks; indices: int32 (blocks,), their columns,
    ascending in a row; M, N: queries and keys, filled up to whole blocks; R, C: sides of a block.
    mask: bool (blocks, R, C), which pairs of each block belong; None where all do.
    """

    indptr: npt.NDArray[np.int32]
    indices: npt.NDArray[np.int32]
    M: int
    N: int
    R: int
    C: int
    mask: Bools | None


def to_bsr(graph: BlockGraph) -> Bsr:
    """The blocks of a call, its queries counted from the first."""
    grid, tiles = graph.grid, Tiles.of(graph)
    rows, columns = grid.q.block, grid.k.block
    row, column = tiles.visited.nonzero()
    indptr = np.concatenate(([0], np.cumsum(tiles.visited.sum(axis=1)))).astype(np.int32)
    partial = ~tiles.full[row, column]
    mask = None
    if partial.any():
        mask = np.ones((row.size, rows, columns), dtype=bool)
        q = grid.q.start + row[partial, None, None] * rows + np.arange(rows)[:, None]
        k = column[partial, None, None] * columns + np.arange(columns)
        in_bounds = (q < grid.q.stop) & (k < grid.k.stop)
        q, k = np.minimum(q, grid.q.stop - 1), np.minimum(k, grid.k.stop - 1)
        mask[partial] = belongs(graph, kinds(graph), q, k) & in_bounds
    sides = (tiles.visited.shape[0] * rows, tiles.visited.shape[1] * columns)
    return Bsr(indptr, column.astype(np.int32), *sides, rows, columns, mask)


def to_scipy(graph: BlockGraph) -> Any:
    """scipy.sparse.csr_array int8 (n, m): 1 for a partial block, 2 for a full one."""
    with installed():
        from scipy import sparse
    kind = kinds(graph)
    cells = np.where(kind == FULL, FULL_CELL, np.where(kind == EMPTY, 0, PARTIAL_CELL))
    return sparse.csr_array(cells.astype(np.int8))
