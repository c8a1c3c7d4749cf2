"""Segments of a sequence with dilated positions inside: `segments`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bslang.ir.expr import Number, Var, fold
from bslang.ir.grid import At, Axis, Grid, Ints
from bslang.ir.pattern import Decided, Lower, Primitive
from bslang.ir.region import Region, least
from bslang.ir.runs import Bools, Runs, bounded, ranges
from bslang.ir.signature import INFINITE, Count, Kind, argument


@dataclass(frozen=True)
class Segments(Primitive):
    """Pairs inside one segment of `w`, both of whose offsets in it are `offset` modulo `rate`.

    `offset` is the head by default, so that the heads share the positions of a segment out among
    them; heads that are equal modulo `rate` have one pattern.

    Source: dilated attention of LongNet (Ding 2023, 2.2 and 2.3 for the offset by head).

    Example: `segments(6, rate=2)`
    """

    name = "segments"
    relational = True

    w: Count = argument("length of a segment", minimum=1)
    rate: Number = argument(
        "spacing inside a segment", Kind.NUMBER, default=1, minimum=1, keyword_only=True
    )
    offset: Number = argument(
        "first position of a segment; the head by default", Kind.NUMBER, default=Var("head"),
        keyword_only=True,
    )  # fmt: skip

    def bind(self, env: Mapping[str, Number]) -> Segments:
        bound = super().bind(env)
        if bound.rate == 1 or (isinstance(bound.rate, int) and isinstance(bound.offset, int)):
            return replace(bound, offset=fold("%", bound.offset, bound.rate))
        return bound

    def names(self) -> frozenset[str]:
        # With rate 1 every offset is the same.
        return super(Segments, replace(self, offset=0) if self.rate == 1 else self).names()

    def predicate(self, at: At) -> Any:
        side, w = at.unit(self.tokens), self.w.value
        offset = fold("%", self.offset, self.rate)
        same = side.row // w == side.col // w
        return same & (side.row % w % self.rate == offset) & (side.col % w % self.rate == offset)

    def operations(self) -> int:
        return 5

    def blocks(self, grid: Grid, lower: Lower) -> Decided:
        q, k = (_Pieces.of(axis, self) for axis in (grid.q, grid.k))
        return Decided(_joined(q.whole(), k.whole(), grid), _joined(q, k, grid))

    def region(self) -> Region:
        farthest = least(self.w.value, INFINITE) - 1
        # Without gaps, every position sees itself.
        return Region.along("offset", [(0, 0)] * (self.rate == 1), [(-farthest, farthest)])


@dataclass(frozen=True)
class _Pieces:
    """What segments cut the blocks of an axis into, where they hold a position of the pattern.

    Sorted by segment and block; full: whether the piece is its block, and all of it belongs.
    """

    segment: Ints
    block: Ints
    full: Bools

    @classmethod
    def of(cls, axis: Axis, pattern: Segments) -> _Pieces:
        w, rate, offset = pattern.w.value, pattern.rate, pattern.offset
        assert isinstance(w, int) and isinstance(rate, int) and isinstance(offset, int)
        # Counted in blocks, a block is one position.
        block, start, stop = (
            (axis.block, axis.start, axis.stop) if pattern.tokens else (1, axis.first, axis.blocks)
        )
        bounded(stop // w + stop // block)
        edges = (np.arange(start // side + 1, -(-stop // side)) * side for side in (w, block))
        cut = np.unique(np.concatenate(([start, stop], *edges)))
        low, high = cut[:-1], cut[1:]
        segment, held = low // w, low // block
        first = low + (offset - low % w) % rate
        kept = first < high
        whole = (low == np.maximum(held * block, start)) & (
            high == np.minimum((held + 1) * block, stop)
        )
        every = kept & ((high - low == 1) | (rate == 1))
        return cls(segment[kept], held[kept], (whole & every)[kept])

    def whole(self) -> _Pieces:
        """Only the pieces that fill their blocks."""
        return _Pieces(self.segment[self.full], self.block[self.full], self.full[self.full])


def _joined(q: _Pieces, k: _Pieces, grid: Grid) -> Runs:
    """Every block that a piece of a segment's queries makes with one of its keys."""
    if not k.block.size:
        return Runs.empty(grid.m)
    apart = (np.diff(k.segment) > 0) | (np.diff(k.block) > 1)
    first = np.flatnonzero(np.concatenate(([True], apart)))
    last = np.append(first[1:], k.block.size) - 1
    segment, start, stop = k.segment[first], k.block[first], k.block[last] + 1
    begin, end = (np.searchsorted(segment, q.segment, side) for side in ("left", "right"))
    count = end - begin
    bounded(int(count.sum()))
    piece, run = np.repeat(np.arange(count.size), count), ranges(begin, count)
    return Runs.of_rows(grid.m, q.block[piece], start[run], stop[run])
