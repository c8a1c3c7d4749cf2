"""A layout at one length as a page draws it: runs of blocks that look alike, or cells of many blocks.

Cells are counted from the runs of the rows that they lie in; no matrix of blocks is ever made, so that a
million tokens cost what their runs cost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bslang import compiler
from bslang.analysis.cells import Cells
from bslang.analysis.provenance import provenance
from bslang.errors import LimitError
from bslang.explorer.documents import Documents
from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.ir.grid import Ints
from bslang.limits import MAX_PAGE_ROWS, MAX_PAGE_RUNS
from bslang.picture.picture import MOST_TERMS, label
from bslang.resolve.program import Resolved

TILE = 256
"""Cells on a side of a tile."""

COARSE = 512
"""Cells on a side of the picture of a whole layout that has more blocks."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A block graph and its blocks by their look: twice the place of a term, plus 1 for partial blocks.

    resolved: the layout that was lowered, `documents` in place of its labels. terms: each with how many
    blocks it is the first to bring in. row, start, stop, look: int64 (runs,), block columns
    [start, stop) of a block row, by row and column.
    """

    resolved: Resolved
    documents: Documents
    graph: BlockGraph
    terms: list[tuple[str, int]]
    row: Ints
    start: Ints
    stop: Ints
    look: Ints

    @classmethod
    def of(
        cls, resolved: Resolved, documents: Documents, length: int, head: int, layer: int
    ) -> Drawn:
        """Lower a layout at a length, in tokens.

        Raises LimitError for more than MAX_PAGE_ROWS block rows; as `compiler.lower`.
        """
        bounded(length, resolved.block)
        packed = documents.packed(resolved, length)
        graph = compiler.lower(packed, length, length, head=head, layer=layer)
        full = graph.of_kind(FULL)
        partial = graph.visited - full
        terms: list[tuple[str, int]] = []
        parts = []
        for term, brought in provenance(packed.pattern, graph.grid, MOST_TERMS):
            for kind, blocks in enumerate((full, partial)):
                row, start, stop = (brought & blocks).rows()
                parts.append((row, start, stop, np.full_like(row, 2 * len(terms) + kind)))
            terms.append((label(documents.named(str(term))), brought.size))
        row, start, stop, look = (np.concatenate(part) for part in zip(*parts, strict=True))
        order = np.lexsort((start, row))
        runs = (column[order] for column in (row, start, stop, look))
        return cls(packed, documents, graph, terms, *runs)

    @property
    def exact(self) -> bool:
        """Whether the page gets every block; beyond MAX_PAGE_RUNS runs it gets cells."""
        return self.row.size <= MAX_PAGE_RUNS

    def runs(self) -> list[int]:
        """Every block, as `encoded` with the look of each run."""
        return encoded(self.graph.grid.n, self.row, self.start, self.stop, self.look)

    def coarse(self) -> tuple[int, list[int]] | None:
        """The whole layout in at most COARSE x COARSE cells: their level, and the cells as of `cells`.

        None where blocks are no more than that. Where cells would be more than MAX_PAGE_RUNS runs, they
        are made larger.
        """
        grid = self.graph.grid
        level = (-(-max(grid.n, grid.m) // COARSE) - 1).bit_length()
        if level == 0 and self.exact:
            return None
        while True:
            found = self._cells(level, 0, grid.n, 0, grid.m)
            if found[1].size <= MAX_PAGE_RUNS:
                return level, encoded(*found)
            level += 1

    def cells(self, level: int, down: int, across: int) -> list[int]:
        """A tile of cells of 2^level x 2^level blocks: TILE x TILE of them, fewer at the ends.

        down, across: the place of the tile among those of its level. `encoded` with, for each run of
        cells, the term that brings in most of their blocks, and how many of these are full and partial
        in each cell. Raises ValueError for a tile outside of the layout.
        """
        grid, side = self.graph.grid, TILE << level
        rows = down * side, min((down + 1) * side, grid.n)
        columns = across * side, min((across + 1) * side, grid.m)
        if rows[0] >= rows[1] or columns[0] >= columns[1]:
            raise ValueError(f"no tile {down}, {across} of level {level} is in this layout")
        return encoded(*self._cells(level, *rows, *columns))

    def _cells(
        self, level: int, top: int, bottom: int, left: int, right: int
    ) -> tuple[int, Ints, Ints, Ints, Ints, Ints, Ints]:
        """The arguments of `encoded` for the cells of some block rows and columns."""
        among = slice(*np.searchsorted(self.row, (top, bottom)))
        start = np.maximum(self.start[among], left) - left
        stop = np.minimum(self.stop[among], right) - left
        inside = start < stop
        row, look = self.row[among][inside], self.look[among][inside]
        start, stop = start[inside], stop[inside]
        cells = Cells((bottom - top, right - left), top, 1 << level, 1 << level)
        full, partial, most, term = (
            np.zeros((cells.down, cells.across), dtype=np.int64) for _ in range(4)
        )
        for place in np.unique(look // 2).tolist():
            own = look // 2 == place
            kinds = []
            for kind, total in enumerate((full, partial)):
                keep = own & (look % 2 == kind)
                kinds.append(cells.count(row[keep], start[keep], stop[keep]))
                total += kinds[-1]
            blocks = kinds[0] + kinds[1]
            term[blocks > most] = place
            most = np.maximum(most, blocks)
        return cells.down, *_stretches(term, full, partial)


def bounded(length: int, block: tuple[int, int]) -> None:
    """Raise LimitError for a layout with more block rows than a page draws, before it is lowered."""
    rows = -(-length // min(block))
    if rows > MAX_PAGE_ROWS:
        what = f"{rows:,} rows of blocks in a picture that a page draws"
        hint = "a shorter length or larger blocks have fewer; `bslang show` draws any number"
        raise LimitError("MAX_PAGE_ROWS", MAX_PAGE_ROWS, what, hint)


def _stretches(term: Ints, full: Ints, partial: Ints) -> tuple[Ints, Ints, Ints, Ints, Ints, Ints]:
    """Cells of a row side by side that hold the same: row, start, stop, and what they hold; no empty ones."""
    across = term.shape[1]
    values = np.stack([term.ravel(), full.ravel(), partial.ravel()])
    edge = np.any(np.diff(values, axis=1, prepend=-1) != 0, axis=0)
    edge[::across] = True
    first = np.flatnonzero(edge)
    after = np.append(first[1:], term.size)
    held = values[1:, first].sum(axis=0) > 0
    first, after = first[held], after[held]
    row, start = first // across, first % across
    return row, start, after - row * across, *values[:, first]


def encoded(height: int, row: Ints, start: Ints, stop: Ints, *values: Ints) -> list[int]:
    """Runs of all rows, one after another: the number of runs of the row, and for each run how many
    columns lie before it (after the run before), how many it has, and its values."""
    before = np.where(np.diff(row, prepend=-1) == 0, np.roll(stop, 1), 0)
    runs = np.stack([start - before, stop - start, *values], axis=1)
    count = np.bincount(row, minlength=height)
    places = runs.shape[1] * (np.cumsum(count) - count)
    found: list[int] = np.insert(runs.ravel(), places, count).tolist()
    return found
