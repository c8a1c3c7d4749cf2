"""Tokens that all ranks compute, in slices: handed out to all, their parts collected, results taken home."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bslang.distributed.transport import Pending, Publish, Steps, Trade
from bslang.placement.traffic import Sliced


@dataclass(frozen=True, eq=False)
class Slices:
    """`bslang.placement.traffic.Sliced` as one rank sees it. Tensors are contiguous, (tokens, ...).

    owners: how many tokens each rank has; mine: of this rank's slice, how many each rank owns; given: of
    this rank's tokens, how many are in each slice; sizes: of the slices.
    """

    rank: int
    owners: Sequence[int]
    mine: Sequence[int]
    given: Sequence[int]
    sizes: Sequence[int]

    @classmethod
    def of(cls, sliced: Sliced, rank: int) -> Slices:
        own: list[int] = sliced.own.tolist()
        bounds: list[int] = sliced.bounds.tolist()
        ranks = range(len(own) - 1)

        def common(owner: int, part: int) -> int:
            start = max(own[owner], bounds[part])
            stop: int = min(own[owner + 1], bounds[part + 1])
            return max(stop - start, 0)

        return cls(
            rank,
            [own[r + 1] - own[r] for r in ranks],
            [common(r, rank) for r in ranks],
            [common(rank, r) for r in ranks],
            [bounds[r + 1] - bounds[r] for r in ranks],
        )

    @property
    def room(self) -> int:
        """How many tokens `hand_out` has room for, of which the first are those there are."""
        return len(self.sizes) * self.sizes[0]

    def hand_out(self, x: torch.Tensor, into: torch.Tensor) -> Steps[Pending]:
        """Those of all ranks, which are put into the first of `room` tokens. x: this rank's."""
        mine = x.new_empty((self.sizes[0], *x.shape[1:]))
        part = mine[: self.sizes[self.rank]]
        pending = yield Trade(x, self.given, self.mine, part)
        pending.wait()
        return (yield Publish(mine, into))

    def collect(self, x: torch.Tensor) -> Steps[Pending]:
        """The parts of this rank's slice, in the order of ranks, (ranks * tokens, ...). x: this rank's parts
        of all tokens."""
        size = self.sizes[self.rank]
        into = x.new_empty((len(self.sizes) * size, *x.shape[1:]))
        return (yield Trade(x, self.sizes, [size] * len(self.sizes), into))

    def by_rank(self, parts: torch.Tensor) -> torch.Tensor:
        """What `collect` gives as (ranks, tokens, ...)."""
        return parts.view(len(self.sizes), self.sizes[self.rank], *parts.shape[1:])

    def home(self, x: torch.Tensor) -> Steps[Pending]:
        """What becomes of this rank's tokens. x: what becomes of its slice."""
        into = x.new_empty((self.owners[self.rank], *x.shape[1:]))
        return (yield Trade(x, self.mine, self.given, into))
