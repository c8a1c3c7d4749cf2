"""Regions: where the pairs of a primitive lie at every length, as bounds.

    Slab   = query in [a, b] and key in [c, d] and query - key in [e, f]
    Region = (slabs that bound the pairs that belong, slabs that bound those that do not)

A region is what is known of a primitive without a length. Bounds may be wide, never too narrow: the widest,
`Region()`, is true of every primitive. `bslang.graph.place` compares them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from bslang.ir.expr import Number
from bslang.ir.signature import INFINITE

Interval = tuple[int, int]
"""Both ends included."""

INDICES: Interval = (0, INFINITE)
OFFSETS: Interval = (-INFINITE, INFINITE)

_MOST = 4  # intervals of one axis that a region tells apart


@dataclass(frozen=True, order=True)
class Slab:
    """Pairs whose query, key and offset (query minus key) each lie in an interval."""

    query: Interval = INDICES
    key: Interval = INDICES
    offset: Interval = OFFSETS

    def __and__(self, other: Slab) -> Slab | None:
        """The pairs of both, in bounds as tight as can be; None where there is no such pair."""
        (q0, q1), (k0, k1) = _common(self.query, other.query), _common(self.key, other.key)
        low, high = _common(self.offset, other.offset)
        low, high = max(low, q0 - k1), min(high, q1 - k0)
        if q0 > q1 or k0 > k1 or low > high:
            return None
        query, key = (
            (max(q0, k0 + low), min(q1, k1 + high)),
            (max(k0, q0 - high), min(k1, q1 - low)),
        )
        return Slab(query, key, (low, high))

    def transposed(self) -> Slab:
        low, high = self.offset
        return Slab(self.key, self.query, (-high, -low))


@dataclass(frozen=True)
class Region:
    """Bounds of a primitive's pairs, in its own unit.

    inside: every pair that belongs lies in one of these slabs; and a block (an interval of queries by an
        interval of keys) all of whose pairs belong lies in one of them whole.
    outside: the same of pairs that do not belong.
    exact: whether `Primitive.blocks` leaves no block undecided but those that have pairs of both kinds.
    """

    inside: tuple[Slab, ...] = (Slab(),)
    outside: tuple[Slab, ...] = (Slab(),)
    exact: bool = True

    @classmethod
    def along(
        cls, axis: str, sure: Iterable[Interval], possible: Iterable[Interval] | None = None
    ) -> Region:
        """Pairs whose coordinate on one axis (`query`, `key` or `offset`) lies in some intervals.

        sure: intervals of which every number belongs; possible: those outside of which none does, the
        same if left out.
        """
        sure = joined_up(sure)
        possible = sure if possible is None else joined_up(possible)
        line = OFFSETS if axis == "offset" else INDICES
        inside, outside = (
            tuple(replace(Slab(), **{axis: interval}) for interval in _few(_cut(intervals, line)))
            for intervals in (possible, gaps(sure, line))
        )
        return cls(inside, outside)


def least(number: Number, otherwise: int) -> int:
    """The number where it is known, or what it is at least."""
    return number if isinstance(number, int) else otherwise


def joined_up(intervals: Iterable[Interval]) -> list[Interval]:
    """The same numbers in intervals that are sorted and do not touch."""
    found: list[Interval] = []
    for low, high in sorted(interval for interval in intervals if interval[0] <= interval[1]):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return found


def gaps(intervals: list[Interval], line: Interval) -> list[Interval]:
    """What sorted intervals leave of a line."""
    low, found = line[0], []
    for first, last in intervals:
        found.append((low, first - 1))
        low = max(low, last + 1)
    return _cut([*found, (low, line[1])], line)


def _few(intervals: list[Interval]) -> list[Interval]:
    """The same intervals, or one around them where they are many: bounds are compared each with each."""
    return [(intervals[0][0], intervals[-1][1])] if len(intervals) > _MOST else intervals


def _cut(intervals: list[Interval], line: Interval) -> list[Interval]:
    return [
        both for both in (_common(interval, line) for interval in intervals) if both[0] <= both[1]
    ]


def _common(a: Interval, b: Interval) -> Interval:
    return max(a[0], b[0]), min(a[1], b[1])
