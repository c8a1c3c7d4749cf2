"""Placement: which rank of a group holds which part of a sequence."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import lcm

import numpy as np

from bslang.ir.grid import Ints
from bslang.limits import MAX_RANKS


@dataclass(frozen=True, eq=False)
class Placement:
    """The rank that holds each block of a sequence.

    A sequence is cut into blocks of `block` tokens; the last may be short. `block` is a multiple of both
    sides of every layout that is called on it, so a rank holds whole block rows and block columns of each.

    owner: int64 (blocks,), the rank of each block. A rank has at most `per` of them.
    ranks: size of the group. block: tokens. length: tokens of the sequence.
    """

    owner: Ints
    ranks: int
    block: int
    length: int

    @classmethod
    def contiguous(cls, length: int, block: int, ranks: int) -> Placement:
        """Every rank holds one run of blocks, and as many as any other or one less.

        Raises ValueError for a number of ranks that is not from 1 to MAX_RANKS, and no tokens.
        """
        blocks = checked(length, block, ranks)
        return cls(np.arange(blocks, dtype=np.int64) * ranks // blocks, ranks, block, length)

    @property
    def blocks(self) -> int:
        """Number of blocks of the sequence."""
        return self.owner.size

    @property
    def per(self) -> int:
        """Places for a block on each rank: ceil(blocks / ranks). All shards have per * block tokens."""
        return -(-self.blocks // self.ranks)

    @cached_property
    def place(self) -> Ints:
        """int64 (blocks,), the place of each block in the shard of its rank: blocks ascend in a shard."""
        order = np.argsort(self.owner, kind="stable")
        count = np.bincount(self.owner, minlength=self.ranks)
        place = np.empty_like(order)
        place[order] = np.arange(order.size) - np.repeat(np.cumsum(count) - count, count)
        return place

    @cached_property
    def places(self) -> Ints:
        """int64 (ranks, per), the blocks of each rank, ascending; -1 for places left over, at the end."""
        places = np.full((self.ranks, self.per), -1, dtype=np.int64)
        places[self.owner, self.place] = np.arange(self.blocks)
        return places

    def owners(self, side: int) -> Ints:
        """int64 (ceil(length / side),), the rank of each block of `side` tokens, which divides `block`."""
        parts = self.block // side
        return np.repeat(self.owner, parts)[: -(-self.length // side)] if parts > 1 else self.owner

    def pages(self, side: int) -> Ints:
        """int64 (ceil(length / side),), the number of each block of `side` tokens in the shard of its rank.

        A shard of per * block tokens is per * (block / side) such blocks; side divides `block`.
        """
        parts = self.block // side
        number = np.arange(-(-self.length // side))
        pages: Ints = self.place[number // parts] * parts + number % parts
        return pages

    def positions(self, rank: int) -> Ints:
        """int64 (per * block,), the position in the sequence of each token of a rank's shard; -1 where there
        is none: in places left over, and after the end of the sequence in its last block."""
        start = self.places[rank][:, None] * self.block
        position = np.where(start < 0, -1, start + np.arange(self.block)).reshape(-1)
        return np.where(position < self.length, position, -1)


def checked(length: int, block: int, ranks: int) -> int:
    """The blocks of a sequence; raises ValueError as `Placement.contiguous`."""
    if not 1 <= ranks <= MAX_RANKS:
        raise ValueError(f"ranks are from 1 to {MAX_RANKS} (MAX_RANKS); got {ranks}")
    if length < 1:
        raise ValueError(f"a sequence has at least one token; got {length}")
    return -(-length // block)


def common_block(*sides: tuple[int, int]) -> int:
    """The smallest `block` of a placement for layouts whose blocks have these sides (query, key)."""
    return lcm(*(side for both in sides for side in both))
