"""Random blocks, drawn by a counter-based generator that docs/random.md writes down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bslang.budget import DRAWS, spend
from bslang.errors import LimitError, PatternError
from bslang.ir.expr import Number
from bslang.ir.grid import At, Grid, Ints
from bslang.ir.pattern import Decided, Intersection, Lower, Pattern, Primitive
from bslang.ir.runs import Runs
from bslang.ir.signature import Kind, argument
from bslang.limits import MAX_RUNS
from bslang.patterns.philox import philox, word

Words = npt.NDArray[np.uint64]
_BATCH = 2**22  # draws held at once
_EACH = 40_000  # steps of drawing few blocks


@dataclass(frozen=True)
class Random(Primitive):
    """`k` distinct blocks of each block row, drawn from those where `within` is not empty.

    All of them where there are no more than `k`. The result is the drawn blocks intersected with
    `within`. The draw depends on the seed, the row and the number of candidates alone, so with
    `within=causal` a longer sequence keeps the rows of a shorter one.

    Source: BigBird (Zaheer 2020, 2).

    Example: `random(2, seed=7)`
    """

    name = "random"
    drawn = True

    k: Number = argument("blocks per row", Kind.NUMBER, minimum=0)
    seed: Number = argument(
        "seed of the draw", Kind.NUMBER, default=0, keyword_only=True, seed=True
    )
    within: Pattern | None = argument(
        "where to draw from", Kind.PATTERN, default=None, keyword_only=True
    )

    def check(self) -> None:
        parts = () if self.within is None else self.within.primitives()
        awaited = next((part for part in parts if part.awaits_call), None)
        if awaited is not None:
            raise PatternError(
                f"blocks cannot be drawn within `{awaited}`, which is known at the call only",
                hint=f"draw first, and intersect then: `random(...) & {awaited}`",
                field="within",
            )

    def drawn_per_row(self) -> Number:
        return self.k

    def depends_on_length(self) -> bool:
        return True  # there are as many candidates as columns

    def expand(self) -> Pattern:
        if self.within is None:
            return self
        return Intersection((Drawn(self.k, self.seed, self.within), self.within))

    def predicate(self, at: At) -> Any:
        return _among_drawn(at, self)

    def blocks(self, grid: Grid, lower: Lower) -> Decided:
        drawn = _draw_runs(self, grid, Runs.domain(grid.whole()))
        return Decided(drawn, drawn)


@dataclass(frozen=True)
class Drawn(Random):
    """The drawn blocks of `random` as whole blocks, before they meet `within`."""

    def expand(self) -> Pattern:
        return self

    def blocks(self, grid: Grid, lower: Lower) -> Decided:
        assert self.within is not None
        drawn = _draw_runs(self, grid, lower(self.within, grid.whole()))
        return Decided(drawn, drawn)


def _among_drawn(at: At, draw: Random) -> Any:
    """The definition, row by row: the first distinct draws of the row's own sequence."""
    side, k, seed = at.blocks, draw.k, draw.seed
    assert isinstance(k, int) and isinstance(seed, int)
    table = np.zeros((side.rows, side.cols), dtype=bool)
    held = np.ones_like(table) if draw.within is None else at.candidates(draw.within)
    for row in np.unique(side.row):
        columns = np.flatnonzero(held[row]).tolist()
        wanted = min(k, len(columns))
        fewer = min(wanted, len(columns) - wanted)
        ranks: set[int] = set()
        step = 0
        while len(ranks) < fewer:
            ranks.add(word(seed, int(row), step) * len(columns) >> 64)
            step += 1
        for rank, column in enumerate(columns):
            table[row, column] = (rank in ranks) == (fewer == wanted)
    return table[side.row, side.col]


def _draw_runs(draw: Random, grid: Grid, candidates: Runs) -> Runs:
    """The drawn blocks as runs. Costs O(k) a row beside the candidates' runs."""
    assert isinstance(draw.k, int) and isinstance(draw.seed, int)
    n, m = grid.n, grid.m
    run_row, run_start, run_stop = candidates.rows()
    before = np.concatenate(([0], np.cumsum(run_stop - run_start)))
    rows = np.arange(grid.q.first, n, dtype=np.int64)
    first = before[np.searchsorted(run_row, rows)]
    count = before[np.searchsorted(run_row, rows, "right")] - first
    wanted = np.minimum(draw.k, count)
    fewer = np.minimum(wanted, count - wanted)  # drawing what to leave out is the same draw
    total = int(fewer.sum())
    if total > MAX_RUNS:
        raise LimitError("MAX_RUNS", MAX_RUNS, f"{total} random blocks")
    spend(_EACH + 40 * total + 16 * rows.size, DRAWS)
    row, rank = _distinct_ranks(draw.seed, rows, count, fewer)
    cell = first[row] + rank
    run = np.searchsorted(before, cell, "right") - 1
    column = run_start[run] + cell - before[run]
    chosen = Runs.of_rows(m, rows[row], column, column + 1)
    # Rows where the draw says what to leave out keep the rest of their candidates.
    outer = np.flatnonzero(fewer < wanted)
    inverted = Runs.of_rows(m, rows[outer], np.zeros_like(outer), np.full_like(outer, m))
    return ((chosen - inverted) | ((candidates & inverted) - chosen)) & Runs.domain(grid)


def _distinct_ranks(seed: int, rows: Ints, count: Ints, wanted: Ints) -> tuple[Ints, Ints]:
    """For each row the first `wanted` distinct of its ranks below `count`: (index into rows, rank)."""
    row_of, rank_of = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    # Twice as many draws as are wanted nearly always suffice; a row without luck tries again.
    todo = [(np.flatnonzero(wanted), 2)]
    while todo:
        part, factor = todo.pop()
        if not part.size:
            continue
        steps = factor * int(wanted[part].max()) + 2
        if part.size * steps > _BATCH and part.size > 1:
            half = part.size // 2
            todo += [(part[half:], factor), (part[:half], factor)]
            continue
        ranks = _scaled(
            philox(seed, rows[part][:, None], np.arange(steps)[None, :]), count[part][:, None]
        )
        order = np.argsort(ranks, axis=1, kind="stable")
        ordered = np.take_along_axis(ranks, order, axis=1)
        fresh = np.ones_like(ranks, dtype=bool)
        np.put_along_axis(fresh, order[:, 1:], ordered[:, 1:] != ordered[:, :-1], axis=1)
        nth = np.cumsum(fresh, axis=1)
        enough = nth[:, -1] >= wanted[part]
        index, step = np.nonzero(fresh & (nth <= wanted[part][:, None]) & enough[:, None])
        row_of.append(part[index])
        rank_of.append(ranks[index, step])
        todo.append((part[~enough], 2 * factor))
    return np.concatenate(row_of), np.concatenate(rank_of)


def _scaled(words: Words, count: Ints) -> Ints:
    """floor(word * count / 2^64) for counts below 2^31, in 64-bit halves."""
    c = count.astype(np.uint64)
    low, high = words & np.uint64(0xFFFFFFFF), words >> np.uint64(32)
    scaled: Ints = ((high * c + (low * c >> np.uint64(32))) >> np.uint64(32)).astype(np.int64)
    return scaled
