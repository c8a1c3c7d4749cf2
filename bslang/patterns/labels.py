"""Run-time labels: `same`, for packed documents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bslang.ir.grid import At, Grid
from bslang.ir.pattern import Decided, Lower, Primitive
from bslang.ir.runs import Runs
from bslang.ir.signature import Kind, argument


@dataclass(frozen=True)
class Same(Primitive):
    """Queries and keys whose label `name` is equal: packed documents.

    Labels are passed at the call, one integer for each token of each batch row; lowering leaves
    them undecided, and kernels skip the blocks whose labels cannot meet.

    Source: block-diagonal masks of packed sequences (Krell 2021, 3.2).

    Example: `same(doc) & causal`
    """

    name = "same"

    label: str = argument("name of the label", Kind.NAME)

    def compared_label(self) -> str:
        return self.label

    @property
    def tokens(self) -> bool:
        return True

    def predicate(self, at: At) -> Any:
        of_query, of_key = at.labels[self.label]
        return of_query == of_key

    def blocks(self, grid: Grid, lower: Lower) -> Decided:
        return Decided(Runs.empty(grid.m), Runs.domain(grid), exact=False)
