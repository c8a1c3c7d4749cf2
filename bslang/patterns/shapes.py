"""Row runs that several primitives share: bands around the diagonal, one interval a row, sets of indices.

Each takes what a primitive knows about single indices, in its unit, and answers for blocks. In
tokens a block can be undecided; `must` and `may` are exact unless the answer says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bslang.ir.grid import Axis, Grid, Ints
from bslang.ir.pattern import Decided
from bslang.ir.runs import Runs, bounded, ranges

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


def bands(grid: Grid, tokens: bool, low: Ints, high: Ints, within: Runs | None = None) -> Decided:
    """Columns minus row inside one of the intervals low..high (inclusive): diagonals and bands.

    within: the blocks that count; all by default.
    """
    low, high = _merged(low, high, gap=1)
    row, first, end = _lines(grid, within)
    if not tokens:
        line, band = _met(first - row, end - 1 - row, low, high)
        row = row[line]
        start = np.maximum(row + low[band], 0)
        stop = np.minimum(row + (high + 1)[band], grid.m)
        runs = Runs.of_rows(grid.m, row, start, stop) & Runs.domain(grid)
        return Decided(runs, runs)
    top, bottom = (side[row - grid.q.first] for side in grid.q.spans())
    left, right = first * grid.k.block - bottom, end * grid.k.block - 1 - top
    # Differences in a whole block span q.block + k.block - 1 values: bands with a smaller gap
    # between them cannot leave one empty. A short block may fall into the gap; it is then called
    # undecided, which costs a mask that says no.
    wide_low, wide_high = _merged(low, high, gap=grid.q.block + grid.k.block - 1)
    exact = wide_low.size == low.size
    line, band = _met(left, right, wide_low, wide_high)
    ends = grid.k.touched(top[line] + wide_low[band], bottom[line] + wide_high[band])
    may = Runs.of_rows(grid.m, row[line], *ends)
    # Only a band at least as wide as the smallest block can cover one.
    smallest = _shortest(grid.q) + _shortest(grid.k) - 1
    full = high - low + 1 >= smallest
    low, high = low[full], high[full]
    line, band = _met(left, right, low, high)
    ends = grid.k.covered(bottom[line] + low[band], top[line] + high[band])
    must = Runs.of_rows(grid.m, row[line], *ends)
    return Decided(must, may, exact)


def _lines(grid: Grid, within: Runs | None) -> tuple[Ints, Ints, Ints]:
    """Row, first column and column after the last of what counts: of some blocks, or of every row."""
    if within is not None:
        return within.rows()
    rows = np.arange(grid.q.first, grid.n, dtype=np.int64)
    return rows, np.zeros_like(rows), np.full_like(rows, grid.m)


def _met(first: Ints, last: Ints, low: Ints, high: Ints) -> tuple[Ints, Ints]:
    """Every two that meet of some lines first..last and of sorted disjoint intervals low..high (all ends
    included): the numbers of the line and of the interval, line after line."""
    begin = np.searchsorted(high, first)
    count = np.maximum(np.searchsorted(low, last, "right") - begin, 0)
    bounded(int(count.sum()))
    return np.repeat(np.arange(count.size), count), ranges(begin, count)


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


Intervals = tuple[Ints, Ints]
"""Indices as [start, stop), in any order."""


def indices(
    grid: Grid,
    tokens: bool,
    rows: Intervals | None,
    cols: Intervals | None,
    within: Runs | None = None,
) -> Decided:
    """Pairs whose row is in one of the intervals `rows`, or whose column in one of `cols`.

    within: the blocks that count; all by default.
    """
    domain = Runs.domain(grid)
    must = may = Runs.empty(grid.m)
    if rows is not None:
        every, some = (_whole_rows(grid, *ends) for ends in _by_block(grid.q, tokens, *rows))
        must, may = every, some
    if cols is not None:
        lines = _lines(grid, within)
        every, some = (
            _whole_columns(grid, *ends, lines) for ends in _by_block(grid.k, tokens, *cols)
        )
        must, may = must | every, may | some
    # Rows and columns in tokens may cover a block between them, with neither covering it alone:
    # only if one of them has all of its indices there, since each leaves a cell the other must fill.
    return Decided(must & domain, may & domain)


def _by_block(axis: Axis, tokens: bool, start: Ints, stop: Ints) -> tuple[Intervals, Intervals]:
    """The blocks all of whose indices are in some intervals, and those with any: as intervals, sorted and
    disjoint."""
    some = start < stop
    if not some.any():
        return ((start[some], stop[some]),) * 2
    low, high = _merged(start[some], stop[some] - 1, gap=1)
    if not tokens:
        return ((low, high + 1),) * 2
    return tuple(_joined(*ends) for ends in (axis.covered(low, high), axis.touched(low, high)))  # type: ignore[return-value]  # two in, two out


def _joined(start: Ints, stop: Ints) -> Intervals:
    some = start < stop
    if not some.any():
        return start[some], stop[some]
    low, high = _merged(start[some], stop[some] - 1, gap=1)
    return low, high + 1


def _whole_rows(grid: Grid, start: Ints, stop: Ints) -> Runs:
    return Runs.of_rows(grid.m, np.zeros_like(start), start * grid.m, stop * grid.m)


def _whole_columns(grid: Grid, start: Ints, stop: Ints, lines: tuple[Ints, Ints, Ints]) -> Runs:
    row, first, end = lines
    line, run = _met(first, end - 1, start, stop - 1)
    return Runs.of_rows(grid.m, row[line], start[run], stop[run])


def _merged(low: Ints, high: Ints, gap: int) -> tuple[Ints, Ints]:
    """Sorted intervals, joined where fewer than `gap` values lie between them."""
    order = np.argsort(low, kind="stable")
    low, high = low[order], np.maximum.accumulate(high[order])
    first = np.concatenate(([True], low[1:] - high[:-1] - 1 >= gap))[: low.size]
    return low[first], high[np.concatenate((first[1:], [True]))[: low.size]]


def _shortest(axis: Axis) -> int:
    first, last = axis.spans()
    return int((last - first).min()) + 1
