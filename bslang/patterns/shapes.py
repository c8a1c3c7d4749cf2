"""Row runs that several primitives share: bands around the diagonal, one interval a row, sets of indices.

Each takes what a primitive knows about single indices, in its unit, and answers for blocks. In
tokens a block can be undecided; `must` and `may` are exact unless the answer says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bslang.errors import LimitError
from bslang.ir.grid import Axis, Grid, Ints
from bslang.ir.pattern import Decided
from bslang.ir.runs import Bools, Runs
from bslang.limits import MAX_RUNS

Bound = Callable[[Ints], Ints]


def interval(grid: Grid, tokens: bool, low: Bound, high: Bound) -> Decided:
    """Columns low(row)..high(row), both inclusive and never decreasing from one row to the next.

    The interval of a row must touch that of the row before or overlap it; one may be empty only
    if all are.
    """
    m, domain = grid.m, Runs.domain(grid)
    rows = np.arange(grid.q.first, grid.n, dtype=np.int64)
    if not tokens:
        runs = Runs.of_rows(m, rows, np.maximum(low(rows), 0), np.minimum(high(rows) + 1, m))
        return Decided(runs & domain, runs & domain)
    first, last = grid.q.spans()
    may = Runs.of_rows(m, rows, *grid.k.touched(low(first), high(last)))
    must = Runs.of_rows(m, rows, *grid.k.covered(low(last), high(first)))
    return Decided(must, may)


def bands(grid: Grid, tokens: bool, low: Ints, high: Ints) -> Decided:
    """Columns minus row inside one of the intervals low..high (inclusive): diagonals and bands."""
    low, high = _merged(low, high, gap=1)
    if tokens:
        return _token_bands(grid, low, high)
    domain, rows = Runs.domain(grid), np.arange(grid.q.first, grid.n, dtype=np.int64)[:, None]
    bounded(rows.size * low.size)
    start, stop = np.maximum(rows + low, 0), np.minimum(rows + high + 1, grid.m)
    runs = Runs.of_rows(grid.m, rows, start, stop) & domain
    return Decided(runs, runs)


def _token_bands(grid: Grid, low: Ints, high: Ints) -> Decided:
    rows = np.arange(grid.q.first, grid.n, dtype=np.int64)[:, None]
    first, last = (side[:, None] for side in grid.q.spans())
    # Differences in a whole block span q.block + k.block - 1 values: bands with a smaller gap
    # between them cannot leave one empty. A short block may fall into the gap; it is then called
    # undecided, which costs a mask that says no.
    wide_low, wide_high = _merged(low, high, gap=grid.q.block + grid.k.block - 1)
    exact = wide_low.size == low.size
    bounded(rows.size * wide_low.size)
    may = Runs.of_rows(grid.m, rows, *grid.k.touched(first + wide_low, last + wide_high))
    # Only a band at least as wide as the smallest block can cover one.
    smallest = _shortest(grid.q) + _shortest(grid.k) - 1
    full = high - low + 1 >= smallest
    low, high = low[full], high[full]
    bounded(rows.size * low.size)
    must = Runs.of_rows(grid.m, rows, *grid.k.covered(last + low, first + high))
    return Decided(must, may, exact)


def token_runs(grid: Grid, row: Ints, start: Ints, stop: Ints) -> Decided:
    """Blocks of tokens given as disjoint runs: the key positions [start, stop) of query position `row`.

    Costs O(runs): a block is full where what its runs cover adds up to its size.
    """
    m, q, k = grid.m, grid.q, grid.k
    bounded(row.size)
    start, stop = np.maximum(start, k.start), np.minimum(stop, k.stop)
    some = start < stop
    row, start, stop = row[some] // q.block, start[some], stop[some]
    (first, end), (a, b) = k.touched(start, stop - 1), k.covered(start, stop - 1)
    may = Runs.of_rows(m, row, first, end)
    low, high = q.spans()
    height = high - low + 1
    low, high = k.spans()
    # How many queries cover a block from end to end: a step function on the line of all cells.
    whole = a < b
    base = row[whole] * m
    edge, place = np.unique(np.append(base + a[whole], base + b[whole]), return_inverse=True)
    change = np.repeat([1, -1], base.size)
    level = np.cumsum(np.bincount(place, change, edge.size)).astype(np.int64)
    full = np.flatnonzero(level[:-1] == height[edge[:-1] // m - q.first])
    must = Runs.of_rows(m, np.zeros_like(full), edge[full], edge[full + 1])
    # The blocks at either end of a run that it covers in part, and how much of them.
    cells, parts = [], []
    for block, counted in ((first, first < end), (end - 1, first < end - 1)):
        partial = np.flatnonzero(counted & ((block < a) | (block >= b)))
        column = block[partial]
        cells.append(row[partial] * m + column)
        left = np.maximum(start[partial], low[column - k.first])
        parts.append(np.minimum(stop[partial], high[column - k.first] + 1) - left)
    cell, place = np.unique(np.concatenate(cells), return_inverse=True)
    held = np.bincount(place, np.concatenate(parts), cell.size)
    width = (high - low + 1)[cell % m - k.first]
    if edge.size:
        held += np.append(level, 0)[np.searchsorted(edge, cell, "right") - 1] * width
    cell = cell[held == height[cell // m - q.first] * width]
    return Decided(must | Runs.of_rows(m, np.zeros_like(cell), cell, cell + 1), may)


def indices(grid: Grid, tokens: bool, rows: Bools | None, cols: Bools | None) -> Decided:
    """Pairs whose row is marked in `rows` or whose column in `cols`: a flag for each of `axis.size`."""
    domain = Runs.domain(grid)
    must = may = Runs.empty(grid.m)
    if rows is not None:
        every, some = _by_block(grid.q, tokens, rows)
        must, may = _whole_rows(grid, every), _whole_rows(grid, some)
    if cols is not None:
        every, some = _by_block(grid.k, tokens, cols)
        must, may = must | _whole_columns(grid, every), may | _whole_columns(grid, some)
    # Rows and columns in tokens may cover a block between them, with neither covering it alone:
    # only if one of them has all of its indices there, since each leaves a cell the other must fill.
    return Decided(must & domain, may & domain)


def _by_block(axis: Axis, tokens: bool, marks: Bools) -> tuple[Bools, Bools]:
    """For each block of the axis, whether all and whether any of its indices are marked."""
    if not tokens:
        return marks, marks
    total = np.concatenate(([0], np.cumsum(marks)))
    edge = np.arange(axis.blocks + 1) * axis.block
    edge = np.clip(edge, axis.start, axis.stop)
    count = total[edge[1:]] - total[edge[:-1]]
    return (count == np.diff(edge)) & (np.diff(edge) > 0), count > 0


def _whole_rows(grid: Grid, marks: Bools) -> Runs:
    row = np.flatnonzero(marks)
    return Runs.of_rows(grid.m, row, np.zeros_like(row), np.full_like(row, grid.m))


def _whole_columns(grid: Grid, marks: Bools) -> Runs:
    edge = np.flatnonzero(np.diff(marks, prepend=False, append=False))
    rows = np.arange(grid.q.first, grid.n, dtype=np.int64)[:, None]
    bounded(rows.size * (edge.size // 2))
    return Runs.of_rows(grid.m, rows, edge[0::2], edge[1::2])


def _merged(low: Ints, high: Ints, gap: int) -> tuple[Ints, Ints]:
    """Sorted intervals, joined where fewer than `gap` values lie between them."""
    order = np.argsort(low, kind="stable")
    low, high = low[order], np.maximum.accumulate(high[order])
    first = np.concatenate(([True], low[1:] - high[:-1] - 1 >= gap))[: low.size]
    return low[first], high[np.concatenate((first[1:], [True]))[: low.size]]


def _shortest(axis: Axis) -> int:
    first, last = axis.spans()
    return int((last - first).min()) + 1


def bounded(runs: int) -> None:
    """Refuse more runs than lowering may hold, before they are made (LimitError)."""
    if runs > MAX_RUNS:
        raise LimitError("MAX_RUNS", MAX_RUNS, f"{runs} runs of blocks")
