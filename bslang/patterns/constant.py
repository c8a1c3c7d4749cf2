"""Every pair, and no pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bslang.ir.grid import At, Grid
from bslang.ir.pattern import Decided, Lower, Primitive
from bslang.ir.region import Region
from bslang.ir.runs import Runs


@dataclass(frozen=True)
class All(Primitive):
    """Every pair: dense attention.

    Example: `all`
    """

    name = "all"
    shift_invariant = True

    def predicate(self, at: At) -> Any:
        return at.blocks.col >= 0

    def blocks(self, grid: Grid, lower: Lower) -> Decided:
        return Decided(Runs.domain(grid), Runs.domain(grid))

    def region(self) -> Region:
        return Region(outside=())


@dataclass(frozen=True)
class Nothing(Primitive):
    """No pair: every output is 0.

    Example: `none`
    """

    name = "none"
    shift_invariant = True

    def predicate(self, at: At) -> Any:
        return at.blocks.col < 0

    def blocks(self, grid: Grid, lower: Lower) -> Decided:
        return Decided(Runs.empty(grid.m), Runs.empty(grid.m))

    def region(self) -> Region:
        return Region(inside=())
