"""What a layout's calls give beside their tensors, as its spec names it: labels and selections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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


def by_name(given: Any, names: Sequence[str], kind: str, option: str) -> Mapping[str, Any]:
    """What a call gives of a kind ("label", "selection") under an option, by the layout's names.

    Raises TypeError or ValueError where it has other names; one alone needs none.
    """
    if not names:
        if given is not None:
            raise TypeError(f"this layout has no {kind}s; leave `{option}` out")
        return {}
    known = ", ".join(names)
    if given is None:
        example = ", ".join(f"{name!r}: tensor" for name in names)
        raise TypeError(f"this layout needs {kind}s: pass {option}={{{example}}}")
    if not isinstance(given, Mapping):
        if len(names) > 1:
            raise TypeError(f"this layout has several {kind}s; pass a mapping with {known}")
        given = {names[0]: given}
    if unknown := [name for name in given if name not in names]:
        raise ValueError(f"this layout has no {kind} {unknown[0]!r}; its {kind}s: {known}")
    if missing := [name for name in names if name not in given]:
        raise ValueError(f"{kind} {missing[0]!r} is missing; the layout's {kind}s: {known}")
    found: Mapping[str, Any] = given
    return found
