"""Expressions that may stand for a part of a matrix, found from what its diagonals, columns and rows hold.

A candidate is only a text: what it means is asked of the language itself. So a finder may guess, and says
nothing where it sees nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import gcd

import numpy as np

from bslang.ir.grid import Ints
from bslang.ir.runs import Bools

_SPACINGS = 4
"""Stripes that are tried, the closest together first."""


@dataclass(frozen=True, eq=False)
class Sight:
    """A matrix as the finders see it.

    allowed: bool (rows, m), what a candidate may hold; wanted: the same shape, what is to be held by one.
    first: the index of the first row, fewer queries than keys being the last of them.
    unit: suffix of numbers, "" or "t"; square: whether rows and columns count alike.
    """

    allowed: Bools
    wanted: Bools
    first: int
    unit: str
    square: bool

    def count(self, number: int) -> str:
        """A number in the unit; 0 needs none."""
        return f"{number}{self.unit}" if number else "0"


def candidates(sight: Sight) -> Iterator[str]:
    """Texts of expressions that may hold wanted cells and nothing that is not allowed."""
    if not sight.wanted.any():
        return
    yield "all"
    if sight.square:
        yield from _bands(sight)
        yield from _chunks(sight)
    yield from _lines(sight)


def _bands(sight: Sight) -> Iterator[str]:
    """What is a set of differences, query minus key."""
    rows, m = sight.allowed.shape
    # Cell (r, j) has the difference first + r - j: number r - j + m - 1, from `low` on.
    number = (np.arange(rows)[:, None] - np.arange(m)) + (m - 1)
    size, low = rows + m - 1, sight.first - (m - 1)
    whole = np.bincount(number[~sight.allowed], minlength=size) == 0
    useful = whole & (np.bincount(number[sight.wanted], minlength=size) > 0)
    high = low + size - 1
    offsets = np.flatnonzero(useful) + low
    if not offsets.size:
        return
    apart = []
    for start, stop in _runs(whole):
        inside = offsets[(offsets >= start + low) & (offsets < stop + low)]
        if inside.size:
            least, most = int(inside[0]), int(inside[-1])
            if start + low <= 0 < stop + low:
                yield from _near(sight, start + low, stop + low - 1, least, most, (low, high))
            else:
                apart.append((least, most + 1))
    if apart:
        yield f"diagonals({_listed(sight, apart)})"
    yield f"diagonals({_listed(sight, [(start + low, stop + low) for start, stop in _runs(useful)])})"
    yield from _stripes(sight, whole, useful, low)


def _near(
    sight: Sight, start: int, stop: int, least: int, most: int, ends: tuple[int, int]
) -> Iterator[str]:
    """A band around the diagonal: differences start..stop may be held, least..most are wanted."""
    after = "inf" if least == ends[0] < 0 else sight.count(max(-least, 0))
    before = "inf" if most == ends[1] > 0 else sight.count(max(most, 0))
    if least >= 0 or start == ends[0]:
        if before == "inf":
            yield "causal" if sight.unit else "last(inf)"
        yield f"last({'inf' if before == 'inf' else sight.count(most + 1)})"
    if sight.unit and after == "inf" and most == 0:
        yield "causal.T"  # `inf` alone has no unit
    reach = max(-least, most)
    if -reach >= start or start == ends[0]:
        yield f"window({sight.count(2 * reach + 1)})"
    sides = [f"left={before}"] * (before != "0") + [f"right={after}"] * (after != "0")
    yield f"window({', '.join(sides or ['left=0'])})"


def _stripes(sight: Sight, whole: Bools, useful: Bools, low: int) -> Iterator[str]:
    """Differences that repeat."""
    high = low + whole.size - 1
    for step in _steps(whole, useful):
        for offset in {(int(o) + low) % step for o in np.flatnonzero(useful)}:
            begin = (offset - low) % step
            if whole[begin::step].all() and useful[begin::step].any():
                at = f", offset={sight.count(offset)}" if offset else ""
                yield f"strided({sight.count(step)}{at})"
    offsets = np.flatnonzero(useful) + low
    steps = {abs(int(o)) for o in offsets if o} if offsets.size < 3 else set()
    steps |= {gcd(*(int(o) for o in offsets)), min((abs(int(o)) for o in offsets if o), default=0)}
    for step in sorted(steps - {0, 1}):
        back, ahead = (int(part.max(initial=0)) // step for part in (offsets, -offsets))
        most = max(back, ahead)
        unit = f", step={sight.count(step)}"
        yield f"window({sight.count(2 * most + 1)}{unit})"
        for left, right in ((back, ahead), ("inf", ahead), (back, "inf")):
            sides = [f"left={left if left == 'inf' else sight.count(int(left))}"] * (left != 0)
            sides += [f"right={right if right == 'inf' else sight.count(int(right))}"] * (
                right != 0
            )
            yield f"window({', '.join(sides)}{unit})"
    if not sight.unit and high > 2:
        yield from ("logsparse", "logsparse(3)", "butterfly")
        yield from (f"butterfly({bits})" for bits in range(1, 5))


def _chunks(sight: Sight) -> Iterator[str]:
    """Blocks on the diagonal: every width is held against the sums of what is not allowed."""
    rows, m = sight.allowed.shape
    sums = np.zeros((rows + 1, m + 1), dtype=np.int64)
    sums[1:, 1:] = (~sight.allowed).cumsum(0).cumsum(1)
    end = sight.first + rows
    found = []
    for width in range(2, max(end, m)):
        starts = np.arange(sight.first // width, -(-end // width)) * width
        top = np.maximum(starts, sight.first) - sight.first
        bottom = np.minimum(starts + width, end) - sight.first
        for back in (0, 1, 2):
            left, right = (np.clip(x, 0, m) for x in (starts - back * width, starts + width))
            bad = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
            if bad.any():
                break
            found.append((width, back))
    for back in (0, 1, 2):
        for width in [w for w, b in found if b == back][-3:]:
            yield f"chunks({sight.count(width)}{f', back={back}' if back else ''})"
    # Windows that lie along the ends, or around them, are as wide in the first row as in any.
    wide = int(sight.allowed[0].sum())
    if 1 < wide < m:
        yield f"window({sight.count(wide)}, clamp=true)"
        if wide % 2:
            yield f"window({sight.count(wide)}, wrap=true)"


def _lines(sight: Sight) -> Iterator[str]:
    """Whole columns and rows."""
    before = np.ones(sight.first, dtype=bool)  # rows that are not there may hold anything
    cols: Bools = np.logical_and.reduce(sight.allowed, axis=0)
    rows = np.concatenate((before, np.logical_and.reduce(sight.allowed, axis=1)))
    of_col = np.logical_and(cols, sight.wanted.any(axis=0))
    of_row = np.logical_and(rows, np.concatenate((~before, sight.wanted.any(axis=1))))
    if cols.size == rows.size:
        both = cols & rows & (of_col | of_row)
        if both.any():
            yield f"global({_indices(sight, both)})"
    for name, whole, useful, turned in (("cols", cols, of_col, ""), ("rows", rows, of_row, ".T")):
        if not useful.any():
            continue
        yield f"{name}({_indices(sight, useful)})"
        for step in _steps(whole, useful):
            for offset in {int(x) % step for x in np.flatnonzero(useful)}:
                if whole[offset::step].all():
                    at = f", offset={sight.count(offset)}" if offset else ""
                    yield f"every({sight.count(step)}{at}){turned}"


def _steps(whole: Bools, useful: Bools) -> list[int]:
    """Spacings at which something repeats all along a line, the closest few: those of the useful places."""
    places = np.flatnonzero(useful)
    gaps = np.unique(np.diff(places)).tolist() if places.size > 1 else []
    steps = {int(gap) for gap in gaps if gap > 1}
    # Neighbouring stripes have gaps of their own: the sum of two may be the spacing.
    steps |= {a + b for a in gaps for b in gaps} if len(gaps) <= _SPACINGS else set()
    return sorted(step for step in steps if step < whole.size // 2 + 1)[: 2 * _SPACINGS]


def _indices(sight: Sight, marks: Bools) -> str:
    """Marked indices as arguments; the last one is -1, and a range to the end has none."""
    items = []
    for start, stop in _runs(marks):
        to_end = stop == marks.size
        if stop - start == 1:
            items.append("-1" + sight.unit if to_end and start else sight.count(start))
        else:
            items.append(f"{sight.count(start)}:{'' if to_end else sight.count(stop)}")
    return ", ".join(items)


def _listed(sight: Sight, ranges: Iterable[tuple[int, int]]) -> str:
    """Ranges of numbers as arguments."""
    return ", ".join(
        sight.count(start) if stop - start == 1 else f"{sight.count(start)}:{sight.count(stop)}"
        for start, stop in ranges
    )


def _runs(marks: Bools) -> list[tuple[int, int]]:
    """Where marks stand in a row: [start, stop) of each."""
    edges: Ints = np.flatnonzero(np.diff(marks, prepend=False, append=False))
    return [(int(a), int(b)) for a, b in zip(edges[0::2], edges[1::2], strict=True)]
