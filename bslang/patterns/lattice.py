"""Positions on an N-dimensional grid, as of images and video: `grid`."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bslang.errors import PatternError
from bslang.ir.expr import Number, joined, maximum, minimum
from bslang.ir.grid import At, Grid, Ints
from bslang.ir.pattern import Decided, Lower, Primitive
from bslang.ir.runs import Runs
from bslang.ir.signature import INFINITE, Count, Kind, argument
from bslang.patterns.shapes import bounded, token_runs

_BATCH = 2**21  # runs of tokens held at once


@dataclass(frozen=True)
class Lattice(Primitive):
    """Positions laid out row-major on a grid of the given sizes; coordinates differ by at most `radius`.

    The last size is that of the coordinate that runs fastest. `radius` counts steps of the grid; one
    number holds for every side, a tuple such as `(1, inf)` gives each its own. `clamp` shifts the
    window of 2 * `radius` + 1 steps inward at the edges of each side, so that every query sees
    equally many keys. The sequence must be as long as the grid is large.

    Sources: neighbourhood attention (Hassani 2023, 3.1) for `clamp`, axial attention (Ho 2019, 3) as
    `grid(h, w, radius=(0, inf)) | grid(h, w, radius=(inf, 0))`.

    Example: `grid(3, 4, radius=1)`
    """

    name = "grid"
    relational = True

    sizes: tuple[Count, ...] = argument("sides of the grid, slowest first", Kind.COUNTS, minimum=1)
    radius: Number | tuple[Number, ...] = argument(
        "how far a coordinate may differ", Kind.NUMBERS, minimum=0, keyword_only=True, infinite=True
    )
    clamp: bool = argument("shift inward at the edges", Kind.FLAG, default=False, keyword_only=True)

    def check(self) -> None:
        if isinstance(self.radius, tuple) and len(self.radius) != len(self.sizes):
            raise PatternError(
                f"`radius` has {len(self.radius)} numbers, and the grid {len(self.sizes)} sides",
                hint="give one number for all sides, as in `radius=1`, or one for each",
                subject=self,
                field="radius",
            )

    def fits(self, grid: Grid) -> None:
        size = math.prod(self._sides())
        shape = " x ".join(map(str, self._sides()))
        unit = "tokens" if self.tokens else "blocks"
        for axis, noun in ((grid.k, "key"), (grid.q, "query")):
            length = axis.length if self.tokens else axis.blocks
            if length != size:
                raise PatternError(
                    f"a grid of {shape} has {size} {unit}, and the {noun} sequence has {length}",
                    hint=f"the product of the sizes must be the number of {unit}",
                    subject=self,
                )

    def only_length(self) -> Count | None:
        known = all(isinstance(size.value, int) for size in self.sizes)
        return Count(math.prod(self._sides()), self.tokens) if known else None

    def depends_on_length(self) -> bool:
        return True  # a grid of given sides fits one length, and none that grows

    def _sides(self) -> tuple[int, ...]:
        return tuple(size.value for size in self.sizes)  # type: ignore[misc]  # bound

    def _radii(self) -> tuple[Number, ...]:
        radius = self.radius
        return radius if isinstance(radius, tuple) else (radius,) * len(self.sizes)

    def predicate(self, at: At) -> Any:
        side = at.unit(self.tokens)
        sizes = [size.value for size in self.sizes]
        near = []
        stride: Number = 1
        for axis in reversed(range(len(sizes))):
            size, radius = sizes[axis], self._radii()[axis]
            row, col = side.row // stride, side.col // stride
            stride = stride * size
            if axis > 0:
                row, col = row % size, col % size
            if radius == INFINITE:
                continue
            if self.clamp:
                first = minimum(maximum(row - radius, 0), maximum(size - 2 * radius - 1, 0))
                near.append((col >= first) & (col <= first + 2 * radius))
            else:
                near.append(abs(row - col) <= radius)
        return joined(operator.and_, near or [side.col >= 0])

    def blocks(self, grid: Grid, lower: Lower) -> Decided:
        q, total = grid.q, max(grid.q.size(self.tokens), grid.k.size(self.tokens))
        sides, radii, _ = self._seen_in_part()
        outer = zip(sides[:-1], radii[:-1], strict=True)
        each = math.prod(min(2 * radius + 1, side) for side, radius in outer)  # runs a row, at most
        if not self.tokens:
            bounded((grid.n - q.first) * each)
            rows = np.arange(q.first, grid.n, dtype=np.int64)
            runs = Runs.of_rows(grid.m, *self._runs(rows, total)) & Runs.domain(grid)
            return Decided(runs, runs)
        bounded((q.stop - q.start) * each)
        step = q.block * max(1, _BATCH // (q.block * each))
        parts = []
        for begin in range(q.first * q.block, q.stop, step):
            rows = np.arange(max(begin, q.start), min(begin + step, q.stop), dtype=np.int64)
            parts.append(token_runs(grid, *self._runs(rows, total)))
        must, may = ([getattr(part, name) for part in parts] for name in ("must", "may"))
        return Decided(joined(operator.or_, must), joined(operator.or_, may))

    def _seen_in_part(self) -> tuple[list[int], list[int], int]:
        """Sides and radii, without the fastest sides where every query sees all of them; their product."""
        sides, whole = list(self._sides()), 1
        radii: list[int] = list(self._radii())  # type: ignore[arg-type]  # bound
        while len(sides) > 1 and (
            radii[-1] >= sides[-1] - 1 or (self.clamp and 2 * radii[-1] + 1 >= sides[-1])
        ):
            whole *= sides.pop()
            radii.pop()
        return sides, radii, whole

    def _runs(self, rows: Ints, total: int) -> tuple[Ints, Ints, Ints]:
        """Runs (row, start, stop) of what each row sees, disjoint: one a choice of outer coordinates."""
        sides, radii, whole = self._seen_in_part()
        strides = [whole * math.prod(sides[axis + 1 :]) for axis in range(len(sides))]
        # Blocks are filled up at the end, so that the slowest coordinate may go past its side.
        ends = [-(-total // strides[0]), *sides[1:]]

        def window(row: Ints, axis: int) -> tuple[Ints, Ints]:
            place, radius = row // strides[axis] % ends[axis], radii[axis]
            first, last = np.maximum(place - radius, 0), place + radius
            if self.clamp and radius != INFINITE:
                first = np.minimum(first, max(sides[axis] - 2 * radius - 1, 0))
                last = first + 2 * radius
            return first, np.minimum(last, ends[axis] - 1) + 1

        row, start = rows, np.zeros_like(rows)
        for axis in range(len(sides) - 1):
            first, last = window(row, axis)
            count = last - first
            place = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count - first, count)
            start = np.repeat(start, count) + place * strides[axis]
            row = np.repeat(row, count)
        first, last = window(row, len(sides) - 1)
        return row, start + first * strides[-1], np.minimum(start + last * strides[-1], total)
