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
from bslang.ir.region import INDICES, OFFSETS, Region, Slab
from bslang.ir.runs import Runs, bounded, ranges
from bslang.ir.signature import INFINITE, Count, Kind, argument
from bslang.patterns.shapes import token_runs

_BATCH = 2**21  # runs of tokens held at once


@dataclass(frozen=True)
class Lattice(Primitive):
    """Positions laid out row-major on a grid of the given sizes; coordinates differ by at most `radius`.

    The last size is that of the coordinate that runs fastest. `radius` counts steps of the grid. It and
    the flags hold for every side, or have a value for each, as in `radius=(1, inf)`. `clamp` shifts the
    window of 2 * `radius` + 1 steps inward at the edges, so that every query sees equally many keys.
    `wrap` joins the ends of a side, as of longitudes. `causal` keeps the steps back only, as along time.

    The sequence must be as long as the grid is large. With `offset` it may have any length: the grid
    begins after that many positions (class tokens, a text), and those before and after it are in no
    cell: they see nothing and nothing sees them.

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
    clamp: bool | tuple[bool, ...] = argument(
        "shift inward at the edges", Kind.FLAGS, default=False, keyword_only=True
    )
    offset: Count | None = argument(
        "positions before the grid", default=None, minimum=0, keyword_only=True
    )
    wrap: bool | tuple[bool, ...] = argument(
        "go round", Kind.FLAGS, default=False, keyword_only=True
    )
    causal: bool | tuple[bool, ...] = argument(
        "look back only", Kind.FLAGS, default=False, keyword_only=True
    )

    def check(self) -> None:
        def refuse(message: str, hint: str, field: str) -> None:
            raise PatternError(message, hint=hint, subject=self, field=field)

        for field in ("radius", "clamp", "wrap", "causal"):
            value = getattr(self, field)
            if isinstance(value, tuple) and len(value) != len(self.sizes):
                noun, one = ("number", "1") if field == "radius" else ("value", "true")
                refuse(
                    f"`{field}` has {len(value)} {noun}s, but the grid has {len(self.sizes)} sides",
                    f"give one {noun} for all sides, as in `{field}={one}`, or one for each",
                    field,
                )
        for axis in range(len(self.sizes)):
            clamp, wrap, causal = (
                self._by_side(flags)[axis] for flags in (self.clamp, self.wrap, self.causal)
            )
            for field, other, both, why in (
                ("clamp", "wrap", clamp and wrap, "a ring has no edge"),
                (
                    "clamp",
                    "causal",
                    clamp and causal,
                    "a shifted window looks ahead at the first edge",
                ),
                ("wrap", "causal", wrap and causal, "a ring has no order to look back in"),
            ):
                if both:
                    hint = f"give each side one of them, as in `{field}=(true, false)`"
                    refuse(f"side {axis + 1} has `{field}` and `{other}`: {why}", hint, field)

    def fits(self, grid: Grid) -> None:
        if self.offset is not None:
            return
        size = math.prod(self._sides())
        shape = " x ".join(map(str, self._sides()))
        unit = "tokens" if self.tokens else "blocks"
        for axis, noun in ((grid.k, "key"), (grid.q, "query")):
            length = axis.length if self.tokens else axis.blocks
            if length != size:
                zero = "0t" if self.tokens else "0"
                raise PatternError(
                    f"a grid of {shape} has {size} {unit}, and the {noun} sequence has {length}",
                    hint=f"the product of the sizes must be the number of {unit}; with `offset={zero}` "
                    "others may follow the grid",
                    subject=self,
                )

    def only_length(self) -> Count | None:
        counts = [size.value for size in self.sizes]
        first = self._first()
        if not all(isinstance(count, int) for count in [*counts, first]):
            return None
        return Count(first + math.prod(self._sides()), self.tokens)

    def depends_on_length(self) -> bool:
        # Without an offset it fits one length, and none that grows.
        return self.offset is None or super().depends_on_length()

    def region(self) -> Region:
        """Queries and keys that have cells, and no later keys where all sides look back."""
        last = self.only_length()
        cells = INDICES
        if last and self._bounded():  # otherwise what fills up a block counts too
            cells = (self._first(), last.value - 1)  # type: ignore[assignment]  # known
        offsets = (0, INFINITE) if all(self._by_side(self.causal)) else OFFSETS
        return Region((Slab(cells, cells, offsets),))

    def _first(self) -> Number:
        """The position of the first cell."""
        return 0 if self.offset is None else self.offset.value

    def _sides(self) -> tuple[int, ...]:
        return tuple(size.value for size in self.sizes)  # type: ignore[misc]  # bound

    def _radii(self) -> tuple[Number, ...]:
        radius = self.radius
        return radius if isinstance(radius, tuple) else (radius,) * len(self.sizes)

    def _by_side(self, flags: bool | tuple[bool, ...]) -> tuple[bool, ...]:
        return flags if isinstance(flags, tuple) else (flags,) * len(self.sizes)

    def _bounded(self) -> bool:
        """Whether positions without a cell are told apart: those that an offset allows, and on a ring what
        fills up a block behind the last cell."""
        return self.offset is not None or self._by_side(self.wrap)[0]

    def predicate(self, at: At) -> Any:
        side, first = at.unit(self.tokens), self._first()
        row, col = side.row, side.col
        if first != 0:
            row, col = maximum(row - first, 0), maximum(col - first, 0)
        sizes = [size.value for size in self.sizes]
        near = []
        stride: Number = 1
        for axis in reversed(range(len(sizes))):
            x, y = row // stride, col // stride
            stride = stride * sizes[axis]
            if axis > 0:
                x, y = x % sizes[axis], y % sizes[axis]
            near += self._near(axis, x, y)
        if self._bounded():
            near += [side.row < first + stride, side.col < first + stride]
            near += [] if first == 0 else [side.row >= first, side.col >= first]
        return joined(operator.and_, near or [side.col >= 0])

    def _near(self, axis: int, x: Any, y: Any) -> list[Any]:
        """What has to hold on one side for the coordinates of query and key."""
        size, radius = self.sizes[axis].value, self._radii()[axis]
        causal = [x >= y] if self._by_side(self.causal)[axis] else []
        if radius == INFINITE:
            return causal
        if self._by_side(self.clamp)[axis]:
            first = minimum(maximum(x - radius, 0), maximum(size - 2 * radius - 1, 0))
            return [(y >= first) & (y <= first + 2 * radius)]
        if self._by_side(self.wrap)[axis]:
            return [(abs(x - y) <= radius) | (abs(x - y) >= size - radius)]
        return [*causal, x - y <= radius] if causal else [abs(x - y) <= radius]

    def by_numbers(self, boxes: bool) -> Number | None:
        if not boxes or not self.tokens or self.offset is not None or any(self._by_side(self.wrap)):
            return None
        condition: Number = self.predicate(At.symbolic((1, 1))).number
        return condition

    def blocks(self, grid: Grid, lower: Lower) -> Decided:
        q, total = grid.q, max(grid.q.size(self.tokens), grid.k.size(self.tokens))
        start, stop = (q.start, q.stop) if self.tokens else (q.first, grid.n)
        if self._bounded():
            origin: int = self._first()  # type: ignore[assignment]  # bound
            total = min(total, origin + math.prod(self._sides()))
            start, stop = max(start, origin), min(stop, total)
        sides, radii, whole = self._seen_in_part()
        outer = zip(sides[:-1], radii[:-1], strict=True)
        each = math.prod(min(2 * radius + 1, side) for side, radius in outer)  # runs a row, at most
        each *= 1 + self._by_side(self.wrap)[len(sides) - 1]
        bounded(max(stop - start, 0) * each)
        if not self.tokens:
            rows = np.arange(start, stop, dtype=np.int64)
            row, first, last = self._runs(rows, total)
            runs = Runs.of_rows(grid.m, row, first, np.minimum(last, grid.m)) & Runs.domain(grid)
            return Decided(runs, runs)
        line, fastest = sides[-1] * whole, len(sides) - 1
        if line % q.block == line % grid.k.block == 0 and not (
            self._bounded() or self._by_side(self.wrap)[fastest]
        ):
            return self._of_lines(grid, total)
        step = q.block * max(1, _BATCH // (q.block * each))
        none = Runs.empty(grid.m)
        must, may = [none], [none]
        for begin in range(start // q.block * q.block, stop, step):
            rows = np.arange(max(begin, start), min(begin + step, stop), dtype=np.int64)
            part = token_runs(grid, *self._runs(rows, total))
            must.append(part.must)
            may.append(part.may)
        return Decided(Runs.union(grid.m, must), Runs.union(grid.m, may))

    def _of_lines(self, grid: Grid, total: int) -> Decided:
        """`blocks` where each lies within one line of the fastest side that is not seen whole: the windows of
        its queries move along that line, from the first one's to the last one's."""
        of_first, of_last = (self._runs(rows, total) for rows in grid.q.spans())
        row = of_first[0] // grid.q.block
        may = grid.k.touched(of_first[1], of_last[2] - 1)
        must = grid.k.covered(of_last[1], of_first[2] - 1)
        return Decided(Runs.of_rows(grid.m, row, *must), Runs.of_rows(grid.m, row, *may))

    def _seen_in_part(self) -> tuple[list[int], list[int], int]:
        """Sides and radii, without the fastest sides where every query sees all of them; their product."""
        sides, whole = list(self._sides()), 1
        radii: list[int] = list(self._radii())  # type: ignore[arg-type]  # bound
        while len(sides) > 1:
            clamp, wrap, causal = (
                self._by_side(flags)[len(sides) - 1]
                for flags in (self.clamp, self.wrap, self.causal)
            )
            far = 2 * radii[-1] + 1 if clamp or wrap else radii[-1] + 1
            if far < sides[-1] or (causal and sides[-1] > 1):
                break
            whole *= sides.pop()
            radii.pop()
        return sides, radii, whole

    def _runs(self, rows: Ints, total: int) -> tuple[Ints, Ints, Ints]:
        """Runs (row, start, stop) of what each row sees, disjoint: one a choice of outer coordinates, or two
        where the fastest side goes round."""
        sides, radii, whole = self._seen_in_part()
        strides = [whole * math.prod(sides[axis + 1 :]) for axis in range(len(sides))]
        origin: int = self._first()  # type: ignore[assignment]  # bound
        # Blocks are filled up at the end, so that the slowest coordinate may go past its side.
        ends = [-(-(total - origin) // strides[0]), *sides[1:]]
        clamp, wrap, causal = map(self._by_side, (self.clamp, self.wrap, self.causal))

        def window(row: Ints, axis: int) -> tuple[Ints, Ints]:
            """First and last coordinate, plus one; on a ring the last may pass the side."""
            place, radius = (row - origin) // strides[axis] % ends[axis], radii[axis]
            if wrap[axis]:
                first = (place - radius) % sides[axis]
                return first, first + min(2 * radius + 1, sides[axis])
            first, last = np.maximum(place - radius, 0), place + radius
            if clamp[axis] and radius != INFINITE:
                first = np.minimum(first, max(sides[axis] - 2 * radius - 1, 0))
                last = first + 2 * radius
            return first, np.minimum(place if causal[axis] else last, ends[axis] - 1) + 1

        row, start = rows, np.full_like(rows, origin)
        for axis in range(len(sides) - 1):
            first, last = window(row, axis)
            count = last - first
            place = ranges(first, count)
            if wrap[axis]:
                place %= sides[axis]
            start = np.repeat(start, count) + place * strides[axis]
            row = np.repeat(row, count)
        axis = len(sides) - 1
        first, last = window(row, axis)
        if wrap[axis]:
            row, start = np.tile(row, 2), np.tile(start, 2)
            first, last = (
                np.concatenate((first, np.zeros_like(first))),
                np.concatenate((np.minimum(last, sides[axis]), last - sides[axis])),
            )
        return row, start + first * strides[-1], np.minimum(start + last * strides[-1], total)
