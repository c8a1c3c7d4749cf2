"""Graphs at a call: without the blocks that the call's labels leave empty, as those between documents.

Kernels skip these blocks anyway. A placement that knows them balances what is left, and an exchange does not
fetch their keys. Blocks are asked by the ranges of labels that they hold, as kernels ask
(`bslang.ir.awaited`): first large squares of blocks, then the parts of those that are neither surely full nor
surely empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import numpy as np

from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.ir.awaited import inputs, known
from bslang.ir.expr import Number, over, variables
from bslang.ir.grid import Grid, Ints
from bslang.ir.pattern import Pattern
from bslang.ir.ranges import SOME, Ranges
from bslang.ir.runs import Bools, Runs

Labels: TypeAlias = Mapping[str, tuple[Ints, Ints]]
"""Labels of the queries and of the keys by name: int (rows, len_q) and (rows, len_k). Rows are those of a
batch, or of a batch and its heads; all labels have as many."""

Names: TypeAlias = Mapping[str, Ints]
"""Ranges of the blocks of one side, by their names in `bslang.ir.ranges.Ranges`."""

_PARTS = 4  # of a square, along each side
_FEW = 2**17  # blocks that are asked one by one
_DENSE = 256  # squares along a side, where those that no run meets are left out
_MOST = 2**21  # squares that are asked at once; where more are undecided, all blocks are kept


def at_call(graph: BlockGraph, labels: Labels) -> BlockGraph:
    """A graph without the blocks of which the labels of a call say in every row that no pair belongs.

    Blocks stay where nothing is known: of selections, and where labels are in no order. The grid, the
    residuals and their order stay too. Raises KeyError for a label of the layout that is missing.
    """
    levels = _Levels(graph.grid, labels)
    partial = {
        residual: _possible(residual, graph.of_kind(kind), levels)
        if residual.awaits_call
        else graph.of_kind(kind)
        for kind, residual in enumerate(graph.residuals)
    }
    return BlockGraph.of_classes(graph.grid, graph.of_kind(FULL), graph.residuals, partial)


def _possible(residual: Pattern, runs: Runs, levels: _Levels) -> Runs:
    """The blocks of some runs in which a pair of a residual may belong, in some row."""
    grid = levels.grid
    block = (grid.q.block, grid.k.block)
    given = inputs(block, residual)
    surely, maybe = known(residual, Ranges.of(given, block), grid.env())
    names = given.label_names
    rows = len(levels.labels[names[0]][0]) if names else 0
    if not runs or not any("least" in name or "most" in name for name in variables(maybe)):
        return runs
    found = []
    for row in range(rows):
        of_q, of_k = (levels.of(names, row, side) for side in range(2))
        if runs.size <= _FEW:
            cells = runs.cells()
            square = Squares(cells // grid.m, cells % grid.m)
            found.append(Runs.of_cells(grid.m, cells[square.told(maybe, of_q[0], of_k[0])]))
        else:
            found.append(_descend(surely, maybe, of_q, of_k, runs, grid) & runs)
    return Runs.union(grid.m, found)


class _Levels:
    """Ranges of the blocks of each side, then of runs of _PARTS of these, and so on up to a few."""

    def __init__(self, grid: Grid, labels: Labels) -> None:
        self.grid, self.labels = grid, labels
        self.known: dict[tuple[tuple[str, ...], int, int], list[Names]] = {}

    def of(self, names: tuple[str, ...], row: int, side: int) -> list[Names]:
        """names: of the labels of a residual, in its order; side: 0 for queries, 1 for keys."""
        key = names, row, side
        if key not in self.known:
            self.known[key] = self._made([self.labels[name][side][row] for name in names], side)
        return self.known[key]

    def _made(self, labels: list[Ints], side: int) -> list[Names]:
        axis, name = ((self.grid.q, "q"), (self.grid.k, "k"))[side]
        first, last = axis.spans()
        start = np.arange(axis.blocks) * axis.block
        low, high = {f"{name}_first": first}, {f"{name}_last": last}
        for i, label in enumerate(labels):
            low[f"{name}_least{i}"] = np.minimum.reduceat(label, start)
            high[f"{name}_most{i}"] = np.maximum.reduceat(label, start)
        levels: list[Names] = [{**low, **high}]
        size = max(self.grid.n, self.grid.m)
        while size > _PARTS:
            size = -(-size // _PARTS)
            start = np.arange(0, low[f"{name}_first"].size, _PARTS)
            low = {key: np.minimum.reduceat(least, start) for key, least in low.items()}
            high = {key: np.maximum.reduceat(most, start) for key, most in high.items()}
            levels.append({**low, **high})
        return levels


class Squares(NamedTuple):
    """Squares of blocks of one size. row, column: int64 (squares,), their numbers."""

    row: Ints
    column: Ints

    def told(self, truth: Number, of_q: Names, of_k: Names) -> Bools:
        """bool (squares,): a truth over the names of ranges."""
        used = variables(truth)
        names = {name: np.array(SOME) for name in used if name.startswith("state")}
        for side, ranges in ((self.row, of_q), (self.column, of_k)):
            names |= {name: ranges[name][side] for name in used if name in ranges}
        told = np.asarray(over(truth, names), dtype=bool)
        return np.broadcast_to(told, self.row.shape)

    def chosen(self, which: Bools) -> Squares:
        return Squares(self.row[which], self.column[which])

    def parts(self, rows: int, columns: int) -> Squares:
        """Their parts, of those that there are: _PARTS rows by _PARTS columns of each."""
        row, column = (side[:, None, None] * _PARTS for side in self)
        part = np.arange(_PARTS)
        row, column = np.broadcast_arrays(row + part[:, None], column + part)
        here = (row < rows) & (column < columns)
        return Squares(row[here], column[here])


def _descend(
    surely: Number, maybe: Number, of_q: list[Names], of_k: list[Names], runs: Runs, grid: Grid
) -> Runs:
    """The blocks that may have pairs, and more that are not in `runs`: from the largest squares down.

    surely, maybe: of a block.
    """
    first, found = np.zeros(1, dtype=np.int64), []
    squares = Squares(first, first)
    for level in range(len(of_q) - 1, -1, -1):
        sides = of_q[level], of_k[level]
        rows, columns = (next(iter(names.values())).size for names in sides)
        squares = squares.parts(rows, columns)
        if squares.row.size > _MOST:
            return runs
        if _DENSE // _PARTS < max(rows, columns) <= _DENSE:
            row, start, stop = runs.rows()
            span = _PARTS**level
            met = Runs.of_rows(columns, row // span, start // span, (stop - 1) // span + 1)
            squares = squares.chosen(met.dense(rows)[squares.row, squares.column])
        squares = squares.chosen(squares.told(maybe, *sides))
        taken = np.ones(squares.row.size, dtype=bool)
        if level:
            taken = squares.told(surely, *sides)
        span = _PARTS**level
        row = (squares.row[taken, None] * span + np.arange(span)).reshape(-1)
        start = np.repeat(squares.column[taken] * span, span)
        found.append(np.stack((row, start, np.minimum(start + span, grid.m))))
        squares = squares.chosen(~taken)
    row, start, stop = np.concatenate(found, axis=1)
    inside = row < grid.n
    return Runs.of_rows(grid.m, row[inside], start[inside], stop[inside])
