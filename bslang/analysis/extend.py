"""What is counted of a long layout, from short ones: for layouts that are steady (steady.py).

Let B be the side of a block, s a multiple of B and of the period, and r the reach, in whole blocks. Two
lengths that differ by a multiple of s have the same kinds of block rows, columns and blocks, each as often
or more often. How often a kind of block occurs is a polynomial of degree 2 in the number of steps s, of a
kind of row or column one of degree 1, once everything between the ends and the diagonal has room. So is the
place of the first of a kind. The most and the least of rows, whose blocks grow by whole numbers with each
step, are those of one kind for good once steps outweigh the blocks within reach: `extension` counts no
length below that.

Four lengths are counted: three determine a polynomial, and the fourth has to agree with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from math import lcm
from typing import Any, TypeVar

import numpy as np

from bslang.analysis.reach import DEEPEST, Reach, reach
from bslang.analysis.square import Square
from bslang.analysis.steady import steady
from bslang.errors import BslangError
from bslang.ir.grid import Grid
from bslang.ir.pattern import Pattern
from bslang.limits import MAX_LENGTH

T = TypeVar("T")

COUNTED = 4
"""Lengths that are counted."""

WORTH = 8
"""A layout is counted at its own length where that is less than so many times the longest of the four."""


MOST_FOLLOWED = 4096
"""Blocks of a length at which all paths of a steady layout are followed."""


@dataclass(frozen=True)
class Extension:
    """lengths: the four that are counted, in tokens, `step` apart; steps: from the first to that of the grid;
    reach: of the layout, in tokens."""

    lengths: tuple[int, ...]
    steps: int
    step: int
    reach: int
    grid: Grid


class UnevenError(Exception):
    """What was counted at four lengths follows no polynomial."""


def extension(pattern: Pattern, grid: Grid, heads: Iterable[int]) -> Extension | None:
    """The short lengths that say all of some heads of a layout on a grid; None where there are none, or none
    much shorter."""
    length, side = grid.k.length, grid.k.block
    each = [steady(pattern, replace(grid, head=head)) for head in heads]
    known = [found for found in each if found is not None]
    if length > MAX_LENGTH or len(known) < len(each):
        return None
    step = lcm(*(found.period for found in known), side, 2)  # even: one property asks at half of it
    reach = (-(-max(found.reach for found in known) // side) + 1) * side
    least = step // side * (8 * reach + 4 * step) + 6 * reach
    steps = (length - least) // step
    first = length - steps * step
    lengths = tuple(first + place * step for place in range(COUNTED))
    if steps < COUNTED or length < WORTH * lengths[-1]:
        return None
    return Extension(lengths, steps, step, reach, grid)


def extended(extension: Extension | None, count: Callable[[int], T]) -> T | None:
    """What `count` would say of a layout at its own length, from what it says at four; None where that
    does not follow. Of numbers with fractions nothing is said: they become 0.0."""
    if extension is None:
        return None
    try:
        counted: T = polynomial([count(length) for length in extension.lengths], extension.steps)
    except (UnevenError, BslangError):  # an error would be one of the short lengths
        return None
    return counted


def followed(extension: Extension, square: Callable[[int], Square]) -> Reach | None:
    """What layers reach in a layout, exactly; None where no shorter length has room for its paths.

    square: its blocks at a length in tokens.

    What some layers reach is steady as well: each adds the reach and a period to the reach of the layers
    before. So lengths with room for them have the same answer. A sample of blocks shows what is not reached.
    """
    blocks = extension.grid.n
    if _one_way(square(extension.lengths[0])):
        return Reach(blocks, blocks, 0, (), None, True)
    layers = DEEPEST
    length = _with_room(extension, layers)
    if 2 * length > extension.grid.k.length:
        return None
    few = length <= MOST_FOLLOWED * extension.grid.k.block
    found = reach(square(length), exact=few)
    if not few and found.hops is not None:  # in the sample: are there longer ways?
        layers = found.hops
        length = _with_room(extension, layers)
        if length > MOST_FOLLOWED * extension.grid.k.block:
            return None
        found = reach(square(length), exact=True)
    if found.layers > layers:
        return None
    return replace(found, blocks=blocks, followed=blocks)


def _one_way(square: Square) -> bool:
    """Whether no block sees a later one, or none an earlier one."""
    node = np.repeat(np.arange(square.size), np.diff(square.indptr))
    return not ((square.stop > node + 1).any() and (square.start < node).any())


def _with_room(extension: Extension, layers: int) -> int:
    """The least length of the layout's kind at which so many layers reach what they do at longer ones."""
    step = extension.step
    room = 3 * layers * (extension.reach + step) + 3 * step
    return extension.grid.k.length - (extension.grid.k.length - room) // step * step


def polynomial(values: Sequence[Any], steps: int) -> Any:
    """The value after some steps, from those after 0, 1, 2 and 3: of whole numbers, or what holds some.

    Raises UnevenError where the values do not follow one polynomial of degree 2.
    """
    first = values[0]
    if any(type(value) is not type(first) for value in values):
        raise UnevenError
    if isinstance(first, float):
        return 0.0
    if isinstance(first, int) and not isinstance(first, bool):
        return _number(values, steps)
    if is_dataclass(first) and not isinstance(first, type):
        columns = ((each.name, [getattr(v, each.name) for v in values]) for each in fields(first))
        return replace(first, **{name: polynomial(column, steps) for name, column in columns})
    if isinstance(first, list | tuple):
        if any(len(value) != len(first) for value in values):
            raise UnevenError
        return type(first)(polynomial(column, steps) for column in zip(*values, strict=True))
    if isinstance(first, str):  # the numbers in a text
        if len({re.sub(r"\d+", "0", value) for value in values}) > 1:
            raise UnevenError
        found = polynomial([list(map(int, re.findall(r"\d+", value))) for value in values], steps)
        numbers = iter(found)
        return re.sub(r"\d+", lambda _: str(next(numbers)), first)
    if any(value != first for value in values):
        raise UnevenError
    return first


def _number(values: Sequence[int], steps: int) -> int:
    a, b, c, d = values
    slope, bend = b - a, c - 2 * b + a
    if d != a + 3 * slope + 3 * bend:
        raise UnevenError
    return a + steps * slope + steps * (steps - 1) // 2 * bend
