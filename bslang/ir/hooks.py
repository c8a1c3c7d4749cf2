"""Hooks: what a primitive may say of itself beside its set, with what holds of one that says nothing.

A primitive overrides those that it has an answer for. Nothing else asks which primitive it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from bslang.inputs import Label
from bslang.ir.expr import Number
from bslang.ir.grid import Grid
from bslang.ir.ranges import Cells, Ranges
from bslang.ir.region import Region
from bslang.ir.signature import Count
from bslang.ir.values import numbers

Self = TypeVar("Self", bound="Hooks")


class Hooks:
    """The flags of a primitive, and its methods that have an answer by default."""

    relational: ClassVar[bool] = False
    """Whether block row and block column are compared, which needs square blocks."""

    drawn: ClassVar[bool] = False
    """Whether the set is drawn or read from a file, so that no formula can be printed for it."""

    shift_invariant: ClassVar[bool] = False
    """Whether membership depends on key minus query position alone."""

    wide: ClassVar[bool] = False
    """Whether its mask passes 32 bits on the way."""

    guards_future: ClassVar[bool] = False
    """Whether it is written to keep later keys out, so that those which are left deserve a warning."""

    def work(self, grid: Grid) -> int:
        """About how many runs, or pairs of blocks, `blocks` goes through, where these may be far more than a
        few for each row; 0 otherwise. Parts with less are lowered first. All numbers are bound."""
        return 0

    def check(self) -> None:
        """Refuse arguments that mean nothing together (PatternError)."""

    def load(self: Self, read: Callable[[str], Any]) -> Self:
        """The primitive with the matrix of the file that it names, if it names one. read: reads a file."""
        return self

    def region(self) -> Region:
        """Bounds of its pairs that hold at every length and for every value of a name."""
        return Region()

    def operations(self) -> int:
        """How many steps of the budget its predicate takes for a pair, about."""
        return 1 + sum(1 for _ in numbers(vars(self).values())) // 3

    def by_pairs(self) -> bool:
        """Whether lowering asks it of every pair of blocks, as it has no faster form. Numbers are bound."""
        return False

    def by_numbers(self, boxes: bool) -> Number | None:
        """The same pairs as a condition on the positions `q` and `k`, if the least and the greatest number of
        tokens of a block, which need not be a run of positions, show well where it holds; else None. boxes:
        whether the tokens of every block are a box of a grid."""
        return None

    def fits(self, grid: Grid) -> None:
        """Refuse a grid that the arguments do not fit (PatternError). All numbers are bound."""

    def only_length(self) -> Count | None:
        """The one length of the sequence that it fits; None where others do, or where it is not known yet."""
        return None

    def awaited(self) -> tuple[Label | Cells, ...]:
        """What a call is to give for it: labels as it compares them, or cells. Lowering leaves its set open,
        wherever there is some."""
        return ()

    def known(self, ranges: Ranges) -> tuple[Number, Number]:
        """Whether surely every pair of a block belongs, and whether any may, by what is known of it at the
        call: truth values over the names of `ranges`. By default nothing is."""
        return False, True

    def drawn_per_row(self) -> Number | None:
        """How many blocks it is to draw in each block row; None for what draws none."""
        return None


FLAGS = ("relational", "drawn", "shift_invariant", "wide", "guards_future")
"""The flags of a primitive: class attributes, or properties where its arguments decide."""
