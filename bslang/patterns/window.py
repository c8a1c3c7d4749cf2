"""Bands around the diagonal: `window` in all its forms, `last`, and `causal`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bslang.errors import PatternError
from bslang.ir.expr import Number, Op, Term, Var, gcd, inverse, maximum, minimum
from bslang.ir.grid import At, Grid, Ints, Side
from bslang.ir.pattern import Decided, Lower, Primitive
from bslang.ir.region import Region, least
from bslang.ir.runs import Runs
from bslang.ir.signature import INFINITE, Count, Kind, argument
from bslang.patterns.shapes import bands, interval


@dataclass(frozen=True)
class Window(Primitive):
    """Keys near the query: `w` blocks centred on it, or `left` before it and `right` after it.

    `step` spreads the same number of blocks at that spacing (dilated). `wrap` counts on the ring of
    all blocks and goes round as often as the window is long. `clamp` shifts the window inward near
    the edges, so that every row keeps `w` columns; `w` may then be even (with `step`: among the
    columns of the row's residue).

    Sources: Longformer (Beltagy 2020, 3.1) for the window and its dilation, NATTEN
    (Hassani 2023, 3.1) for `clamp`.

    Example: `window(3)`
    """

    name = "window"
    relational = True

    w: Count | None = argument("width, odd", default=None, minimum=1)
    left: Count | None = argument(
        "how far before the query", default=None, keyword_only=True, infinite=True
    )
    right: Count | None = argument(
        "how far after the query", default=None, keyword_only=True, infinite=True
    )
    step: Count | None = argument("spacing", default=None, minimum=1, keyword_only=True)
    wrap: bool = argument("distance on a ring", Kind.FLAG, default=False, keyword_only=True)
    clamp: bool = argument("shift inward at the edges", Kind.FLAG, default=False, keyword_only=True)

    def check(self) -> None:
        def refuse(message: str, hint: str, field: str = "w") -> None:
            raise PatternError(message, hint=hint, subject=self, field=field)

        sides = self.left is not None or self.right is not None
        if self.w is None and not sides:
            refuse("`window` needs a width", "write `window(3)`, or `window(left=2, right=0)`")
        if self.w is not None and sides:
            refuse(
                "`window` takes a width or `left` and `right`, not both", "leave one of them out"
            )
        if self.clamp and sides:
            refuse("`clamp` goes with a width", "write `window(w, clamp=true)`", "clamp")
        if self.clamp and self.wrap:
            refuse("`clamp` and `wrap` exclude each other", "leave one of them out", "wrap")
        if self.w is not None and not self.clamp:
            w = self.w.value
            if isinstance(w, int) and w % 2 == 0:
                t = "t" if self.w.tokens else ""
                refuse(
                    f"a window of even width {w} has no middle",
                    f"write `window(left={w // 2}{t}, right={w // 2 - 1}{t})`, or `last({w}{t})` "
                    "for the blocks before the query only",
                )
        left, right = self._reach()
        if isinstance(left, int) and isinstance(right, int) and left + right < 0:
            refuse(
                f"this window is empty: it goes from {-left} to {right}, counted from the query",
                "`left` counts before the query, `right` after it",
                "left",
            )

    @property
    def wide(self) -> bool:  # type: ignore[override]  # depends on the arguments here
        return self.wrap and self.tokens and self._spacing() != 1  # see _on_ring

    @property
    def shift_invariant(self) -> bool:  # type: ignore[override]  # depends on the arguments here
        return not (self.wrap or self.clamp)

    def operations(self) -> int:
        return 10 if self.wrap or self.clamp else 2

    def depends_on_length(self) -> bool:
        return self.wrap or self.clamp or super().depends_on_length()

    def region(self) -> Region:
        left, right = self._reach()
        if self.wrap or self.clamp or not (isinstance(left, int) and isinstance(right, int)):
            return Region()
        band = [(-right, left)]
        if self._spacing() == 1:
            return Region.along("offset", band)
        # A short block can lie between two of its diagonals.
        return replace(Region.along("offset", [], band), exact=False)

    def _spacing(self) -> Number:
        return 1 if self.step is None else self.step.value

    def _steps(self) -> tuple[Number, Number]:
        """How many steps the window extends before and after the query."""
        if self.w is not None:
            half = (self.w.value - 1) // 2
            return half, half
        left = 0 if self.left is None else self.left.value
        return left, 0 if self.right is None else self.right.value

    def _reach(self) -> tuple[Number, Number]:
        """How far the window extends before and after the query, in single indices."""
        step = self._spacing()
        return tuple(  # type: ignore[return-value]  # two in, two out
            INFINITE if isinstance(side, int) and side >= INFINITE else side * step
            for side in self._steps()
        )

    def predicate(self, at: At) -> Any:
        side = at.unit(self.tokens)
        if self.clamp:
            return self._clamped(side)
        return self._on_ring(side) if self.wrap else self._near(side.col - side.row)

    def _on_ring(self, side: Side) -> Any:
        """Whether some number of steps, from -left to right, leads from the row to the column.

        The numbers that do differ by `ring`, so that the least of them from -left on decides.
        """
        left, right = self._steps()
        ring, steps, met = side.cols, side.col - side.row, None
        if self._spacing() != 1:
            shared = gcd(self._spacing(), side.cols)
            met = steps % shared == 0
            ring = side.cols // shared
            steps = steps // shared * inverse(self._plain(self._spacing()) // shared, ring)
        if INFINITE in (left, right):
            return side.col >= 0 if met is None else met
        near = (steps + self._plain(left) % ring) % ring <= left + right
        return near if met is None else met & near

    @staticmethod
    def _plain(number: Number) -> Any:
        """A number to compute with beside terms."""
        return number if isinstance(number, int) else Term(number)

    def _near(self, offset: Any) -> Any:
        left, right = self._reach()
        near = offset % self._spacing() == 0
        if left != INFINITE:
            near = near & (offset >= 0 - left)
        if right != INFINITE:
            near = near & (offset <= right)
        return near

    def _clamped(self, side: Side) -> Any:
        assert self.w is not None
        step, w = self._spacing(), self.w.value
        row, col = side.row // step, side.col // step
        size = (side.cols - side.row % step + step - 1) // step
        start = minimum(maximum(row - w // 2, 0), maximum(size - w, 0))
        return ((side.col - side.row) % step == 0) & (col >= start) & (col < start + w)

    def work(self, grid: Grid) -> int:
        return 0 if self.clamp or self._spacing() == 1 else grid.n * grid.m

    def blocks(self, grid: Grid, lower: Lower) -> Decided:
        return self.blocks_within(grid, lower, None)

    def blocks_within(self, grid: Grid, lower: Lower, within: Runs | None) -> Decided:
        if self.clamp:
            return self._clamped_blocks(grid)
        left, right, step = *self._reach(), self._spacing()
        assert isinstance(left, int) and isinstance(right, int) and isinstance(step, int)
        if not self.wrap:
            # Offsets beyond these meet no cell.
            left = min(left, grid.q.size(self.tokens))
            right = min(right, grid.k.size(self.tokens))
            return bands(grid, self.tokens, *_spaced(-left, right, step), within)
        return self._rings(grid, within)

    def _rings(self, grid: Grid, within: Runs | None) -> Decided:
        """With `wrap`: the places on the ring that some step meets, repeated for every turn."""
        (before, after), step = self._steps(), self._spacing()
        assert isinstance(before, int) and isinstance(after, int) and isinstance(step, int)
        ring = grid.k.length if self.tokens else grid.m
        rows, columns = grid.q.size(self.tokens), grid.k.size(self.tokens)
        count = min(before + after + 1, ring)  # after these, the same places follow again
        first = -before % ring
        if step == 1:
            low = np.array([first], dtype=np.int64)
            high = low + count - 1
        else:
            places = (first + np.arange(count, dtype=np.int64)) * (step % ring) % ring
            low = high = np.unique(places)
        turns = -(-max(rows, columns) // ring)
        shift = ring * np.arange(-turns - 1, turns + 1, dtype=np.int64)[:, None]
        low, high = (low + shift).ravel(), (high + shift).ravel()
        some = (high > -rows) & (low < columns)
        return bands(grid, self.tokens, low[some], high[some], within)

    def _clamped_blocks(self, grid: Grid) -> Decided:
        assert self.w is not None
        step, w = self._spacing(), self.w.value
        assert isinstance(step, int) and isinstance(w, int)
        cols = grid.k.length if self.tokens else grid.m

        def first(row: Ints) -> Ints:
            residue = row % step
            size = (cols - residue + step - 1) // step
            clipped: Ints = np.clip(row // step - w // 2, 0, np.maximum(size - w, 0))
            return clipped * step + residue

        if step == 1:
            return interval(grid, self.tokens, first, lambda row: first(row) + w - 1)
        if not self.tokens:
            rows = np.arange(grid.q.first, grid.n, dtype=np.int64)[:, None]
            col = first(rows) + step * np.arange(min(w, -(-cols // step)), dtype=np.int64)
            runs = Runs.of_rows(grid.m, rows, col, np.minimum(col + 1, grid.m)) & Runs.domain(grid)
            return Decided(runs, runs)
        # Token by token the residues interleave: settle it by masks inside the rows' reach.
        top, bottom = grid.q.spans()
        low, high = first(top) - step, first(bottom) + step * (w + 1)
        may = Runs.of_rows(grid.m, np.arange(grid.q.first, grid.n), *grid.k.touched(low, high))
        return Decided(Runs.empty(grid.m), may, exact=False)


def _spaced(low: int, high: int, step: int) -> tuple[Ints, Ints]:
    """The multiples of `step` in low..high as intervals; one interval where they are dense."""
    if step == 1:
        return np.array([low], dtype=np.int64), np.array([high], dtype=np.int64)
    offset = np.arange(-(-low // step), high // step + 1, dtype=np.int64) * step
    return offset, offset


@dataclass(frozen=True)
class Last(Primitive):
    """The query's own block and the `w` - 1 before it; in tokens, the `w` latest.

    Source: sliding window attention of Mistral 7B (Jiang 2023, 2). `last(inf)` is the lower
    triangle of blocks.

    Example: `last(3)`
    """

    name = "last"
    relational = True
    shift_invariant = True

    w: Count = argument("how many, the query's own included", minimum=1, infinite=True)

    def predicate(self, at: At) -> Any:
        side = at.unit(self.tokens)
        back = side.row - side.col
        return (back >= 0) & (back < self.w.value) if not self.w.infinite else back >= 0

    def blocks(self, grid: Grid, lower: Lower) -> Decided:
        assert isinstance(self.w.value, int)
        return bands(grid, self.tokens, np.array([1 - self.w.value]), np.array([0]))

    def region(self) -> Region:
        sure, most = least(self.w.value, 1), least(self.w.value, INFINITE)
        return Region.along("offset", [(0, sure - 1)], [(0, most - 1)])


@dataclass(frozen=True)
class Causal(Primitive):
    """Keys at or before the query, token by token.

    Example: `causal`
    """

    name = "causal"
    shift_invariant = True
    guards_future = True

    @property
    def tokens(self) -> bool:
        return True

    def predicate(self, at: At) -> Any:
        return at.tokens.col <= at.tokens.row

    def blocks(self, grid: Grid, lower: Lower) -> Decided:
        return bands(grid, True, np.array([-INFINITE]), np.array([0]))

    def by_numbers(self, boxes: bool) -> Number | None:
        return Op("<=", (Var("k"), Var("q")))

    def region(self) -> Region:
        return Region.along("offset", [(0, INFINITE)])
