"""Predicates of set-builders: their names, the labels among these, and what is in them."""

from __future__ import annotations

from collections.abc import Iterator

from bslang.ir.bounds import Interval
from bslang.ir.expr import COMPARISONS, Number, Op, variables
from bslang.ir.units import BLOCK_COUNTS, LENGTHS
from bslang.limits import MAX_HEADS, MAX_LENGTH

TOKENS, BLOCKS = ("q", "k"), ("i", "j")
"""What a predicate calls the query and the key."""

OF_LABELS = (-(2**31), 2**31 - 1)
"""Least and greatest value of a label that is a number."""

RANGES = dict.fromkeys((*TOKENS, *BLOCKS), (0, MAX_LENGTH - 1)) | {
    **dict.fromkeys((*BLOCK_COUNTS, *LENGTHS), (1, MAX_LENGTH)),
    "head": (0, MAX_HEADS),
    "layer": (0, MAX_HEADS),
}
"""Least and greatest value of every name in a predicate."""


def label(name: str, side: str) -> str:
    """What a label of one side is called in a predicate: `time[q]`."""
    return f"{name}[{side}]"


def split(name: str) -> tuple[str, str]:
    """The inverse of `label`."""
    stem, _, side = name.partition("[")
    return stem, side.rstrip("]")


def labelled(condition: Number) -> frozenset[str]:
    """The labels that a predicate reads, as `label` calls them."""
    return frozenset(name for name in variables(condition) if "[" in name)


def ranges_of(condition: Number) -> dict[str, Interval]:
    """Least and greatest value of every name in a predicate that may read labels."""
    return {**RANGES, **dict.fromkeys(labelled(condition), OF_LABELS)}


def size(number: Number) -> int:
    """The number of operations; twice that for a division, which takes longer."""
    if not isinstance(number, Op):
        return 0
    return (2 if number.op in ("//", "%") else 1) + sum(map(size, number.args))


def comparisons(number: Number) -> Iterator[Op]:
    if isinstance(number, Op):
        if number.op in COMPARISONS:
            yield number
        for arg in number.args:
            yield from comparisons(arg)
