"""What a layout's calls give beside their tensors, as its spec names it: labels and selections."""

from __future__ import annotations

from dataclasses import dataclass

BOTH, QUERIES, KEYS, ROW = "qk", "q", "k", "b"
"""What a label belongs to: queries and keys, one of them alone, or a row of the batch."""


@dataclass(frozen=True)
class Label:
    """A run-time label. sides: what it belongs to; ordered: whether more is asked of its values than which
    are equal, so that they must be numbers of 32 bits."""

    name: str
    sides: str = BOTH
    ordered: bool = False


@dataclass(frozen=True)
class Selection:
    """Cells that a call lists: runs of `rows` queries by runs of `cols` keys, in tokens. turned: whether the
    layout reads it with queries and keys exchanged, as `select(pick).T`."""

    name: str
    rows: int
    cols: int
    turned: bool = False


@dataclass(frozen=True)
class Inputs:
    """All that the calls of a layout give, in the order in which its spec names them."""

    labels: tuple[Label, ...] = ()
    selections: tuple[Selection, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.labels or self.selections)

    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)

    @property
    def selection_names(self) -> tuple[str, ...]:
        """Each once, though a layout may read one both ways round."""
        return tuple(dict.fromkeys(selection.name for selection in self.selections))
