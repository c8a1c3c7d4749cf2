"""What only a call knows: `same`, for packed documents, and `select`, for blocks chosen at run time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bslang.errors import PatternError
from bslang.inputs import Label
from bslang.ir.expr import Op, Symbol, Var
from bslang.ir.grid import At, Grid
from bslang.ir.pattern import Decided, Lower, Primitive
from bslang.ir.ranges import ALL, NONE, Cells, Known, Ranges
from bslang.ir.signature import Count, Kind, argument


class _Awaited(Primitive):
    """What they share: lowering leaves every block open, and the call decides."""

    @property
    def tokens(self) -> bool:
        return True

    def blocks(self, grid: Grid, lower: Lower) -> Decided:
        return Decided.unknown(grid)


@dataclass(frozen=True)
class Same(_Awaited):
    """Queries and keys whose label `name` is equal: packed documents.

    Labels are passed at the call, one integer for each token of each batch row; lowering leaves
    them undecided, and kernels skip the blocks whose labels cannot meet.

    Source: block-diagonal masks of packed sequences (Krell 2021, 3.2).

    Example: `same(doc) & causal`
    """

    name = "same"

    label: str = argument("name of the label", Kind.NAME)

    def awaited(self) -> tuple[Label | Cells, ...]:
        return (Label(self.label),)

    def predicate(self, at: At) -> Any:
        of_query, of_key = at.labels[self.label]
        return of_query == of_key

    def known(self, ranges: Ranges) -> Known:
        of_query, of_key = ranges.labels[self.label]
        return ranges.compared(Op("==", (Var("q"), Var("k"))), {"q": of_query, "k": of_key})


@dataclass(frozen=True)
class Select(_Awaited):
    """The cells that a call lists under a name, as `select={"pick": value}`: blocks chosen at run time.

    A cell is a run of `rows` queries by a run of `cols` keys; by default, both are those of a block. A pair
    belongs if its cell is listed. The value is bool, or the column cells of each row of cells, as
    `bslang.call.Options` says; rules that make it are in `bslang.select`.

    Source: NSA (Yuan 2025, 3.3), MoBA (Lu 2025, 2.2), and others.

    Example: `(select(pick, rows=1t, cols=64t) | cols(0) | last(2)) & causal`
    """

    name = "select"

    value: str = argument("name of the selection", Kind.NAME)
    rows: Count = argument(
        "queries in a cell", default=Count(1), minimum=1, keyword_only=True, own_unit=True
    )
    cols: Count = argument(
        "keys in a cell", default=Count(1), minimum=1, keyword_only=True, own_unit=True
    )

    def check(self) -> None:
        for field in ("rows", "cols"):
            if isinstance(getattr(self, field).value, Symbol):
                raise PatternError(
                    f"`{field}` of `select` must be known from the spec alone",
                    hint="write a number, as in `rows=1t`",
                    field=field,
                )

    @property
    def _cells(self) -> Cells:
        return Cells(self.value, self.rows, self.cols)

    def awaited(self) -> tuple[Label | Cells, ...]:
        return (self._cells,)

    def predicate(self, at: At) -> Any:
        return at.selected(self._cells)

    def known(self, ranges: Ranges) -> Known:
        state = ranges.state(self._cells)
        return Op("==", (state, ALL)), Op("!=", (state, NONE))
