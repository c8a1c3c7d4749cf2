"""BlockGraph: a layout at one length, as runs of blocks, each full or with the mask that settles it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bslang.graph.residual import fold_transpose
from bslang.ir.grid import Grid, Ints
from bslang.ir.pattern import Pattern
from bslang.ir.runs import Runs

FULL = -1
"""The kind of a run whose blocks belong whole; other kinds are indices into `residuals`."""


@dataclass(frozen=True, eq=False)
class BlockGraph:
    """Rows of sorted disjoint runs, run-length CSR.

    indptr: int64 (n + 1,), the runs of each block row.
    start, stop: int64 (runs,), block columns [start, stop).
    kind: int64 (runs,), FULL or the index of the residual: the part of the pattern that the
        block does not settle, to be asked token by token.
    """

    grid: Grid
    residuals: tuple[Pattern, ...]
    indptr: Ints
    start: Ints
    stop: Ints
    kind: Ints

    @classmethod
    def of_classes(
        cls, grid: Grid, full: Runs, residuals: tuple[Pattern, ...], partial: dict[Pattern, Runs]
    ) -> BlockGraph:
        """Build from the full blocks and those of each residual, all disjoint."""
        parts = [(FULL, full)] + [(residuals.index(r), runs) for r, runs in partial.items()]
        rows = [runs.rows() for _, runs in parts]
        row, start, stop = (np.concatenate(column) for column in zip(*rows, strict=True))
        kind = np.repeat([kind for kind, _ in parts], [part[0].size for part in rows])
        order = np.argsort(
            row * grid.m + start, kind="stable"
        )  # parts are sorted: this merges them
        indptr = np.searchsorted(row[order], np.arange(grid.n + 1))
        return cls(grid, residuals, indptr, start[order], stop[order], kind[order])

    @cached_property
    def row(self) -> Ints:
        """int64 (runs,): the block row of each run."""
        return np.repeat(np.arange(self.grid.n), np.diff(self.indptr))

    def of_kind(self, kind: int) -> Runs:
        """The blocks of one kind."""
        keep = self.kind == kind
        return Runs.of_rows(self.grid.m, self.row[keep], self.start[keep], self.stop[keep])

    @cached_property
    def visited(self) -> Runs:
        """Every block that is not empty."""
        return Runs.of_rows(self.grid.m, self.row, self.start, self.stop)

    @property
    def blocks_by_class(self) -> tuple[int, int]:
        """How many blocks are full, and partial."""
        size = self.stop - self.start
        full = int(size[self.kind == FULL].sum())
        return full, int(size.sum()) - full

    @cached_property
    def blocks_by_row(self) -> Ints:
        """int64 (n,): blocks that each block row visits."""
        total = np.concatenate(([0], np.cumsum(self.stop - self.start)))
        return total[self.indptr[1:]] - total[self.indptr[:-1]]

    def within(self, cells: Runs) -> BlockGraph:
        """The same graph without what lies outside of some cells, (block row, block column)."""
        partial = {
            residual: self.of_kind(kind) & cells for kind, residual in enumerate(self.residuals)
        }
        return BlockGraph.of_classes(self.grid, self.of_kind(FULL) & cells, self.residuals, partial)

    def in_rows(self, rows: Ints) -> BlockGraph:
        """The same graph without what lies outside of some block rows."""
        kept = np.zeros(self.grid.n, dtype=bool)
        kept[rows] = True
        runs = kept[self.row]
        many = np.where(kept, np.diff(self.indptr), 0)
        indptr = np.concatenate(([0], np.cumsum(many)))
        parts = self.start[runs], self.stop[runs], self.kind[runs]
        return BlockGraph(self.grid, self.residuals, indptr, *parts)

    def transpose(self) -> BlockGraph:
        """The graph of keys by queries: what each block column is seen by."""
        mirrored = tuple(fold_transpose(residual) for residual in self.residuals)
        partial = {
            mirrored[kind]: self.of_kind(kind).transpose(self.grid.n)
            for kind in range(len(self.residuals))
        }
        full = self.of_kind(FULL).transpose(self.grid.n)
        return BlockGraph.of_classes(self.grid.transposed(), full, mirrored, partial)  # type: ignore[arg-type]  # a pattern's transpose is no bool
