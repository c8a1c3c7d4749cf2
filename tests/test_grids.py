"""`grid` with room around it, with sides that go round and with sides that look back only."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from strategies import Bools, Case, mask_of

from bslang import compiler
from bslang.analysis.properties import Properties
from bslang.syntax.diagnostics import SpecError
from bslang.syntax.source import Source

WAYS = ("", "clamp", "wrap", "causal")


def sees(x: int, y: int, side: int, radius: float, way: str) -> bool:
    """Whether a coordinate sees another: the definition in plain Python."""
    if way == "wrap":
        return min((x - y) % side, (y - x) % side) <= radius
    if way == "causal":
        return 0 <= x - y <= radius
    if way == "clamp" and radius != math.inf:
        width = min(2 * radius + 1, side)
        first = min(max(x - radius, 0), side - width)
        return first <= y < first + width
    return abs(x - y) <= radius


def by_hand(
    sides: tuple[int, ...], radii: tuple[float, ...], ways: tuple[str, ...], first: int, length: int
) -> Bools:
    places = list(itertools.product(*map(range, sides)))
    found = np.zeros((length, length), dtype=bool)
    for q, k in itertools.product(range(length), repeat=2):
        if first <= min(q, k) and max(q, k) < first + len(places):
            found[q, k] = all(map(sees, places[q - first], places[k - first], sides, radii, ways))
    return found


def written(
    sides: tuple[int, ...], radii: tuple[float, ...], ways: tuple[str, ...], offset: str, unit: str
) -> str:
    several = len(sides) > 1

    def each(texts: list[str]) -> str:
        return f"({', '.join(texts)})" if several else texts[0]

    flags = [
        f", {way}={each([str(way == own).lower() for own in ways])}"
        for way in WAYS[1:]
        if way in ways
    ]
    sizes = ", ".join(f"{side}{unit}" for side in sides)
    end = f", offset={offset}" if offset else ""
    return f"grid({sizes}, radius={each([*map(str, radii)])}{''.join(flags)}{end})"


CASES = [
    (sides, tuple(radii), ways)
    for sides, radius in (
        ((7,), (2,)),
        ((4, 6), (1, 2)),
        ((3, 1, 4), (1, 0, math.inf)),
        ((2, 3), (0, 1)),
    )
    for radii in (radius, [math.inf] * len(sides))
    for ways in itertools.product(WAYS, repeat=len(sides))
    if len(sides) < 3 or ways[1] == ways[0]
]


@pytest.mark.parametrize("unit", ["t", ""])
def test_grids_by_hand(unit: str) -> None:
    """Every way of every side, beside every other: in the oracle and lowered, with and without an offset, for
    sequences that end inside of the grid, with it and behind it; and what is printed reads back."""
    for place, (sides, radii, ways) in enumerate(CASES):
        size = math.prod(sides)
        offset = ("", "0", "1", "3")[place % 4]
        first = int(offset or 0)
        length = size + (place % 7 - 2 + first if offset else 0)
        text = written(sides, radii, ways, f"{offset}{unit}" if offset else "", unit)
        side = (1, 2, 4, 5)[place % 3]
        expected = by_hand(sides, radii, ways, first, length)
        if not unit:
            expected = expected.repeat(side, 0).repeat(side, 1)
            expected = expected[
                : expected.shape[0] - place % side, : expected.shape[0] - place % side
            ]
        few = 1 + place % len(expected)
        case = Case(text, (side, side), few, len(expected), "end")
        np.testing.assert_array_equal(case.mask(), expected[-few:], err_msg=text)
        np.testing.assert_array_equal(mask_of(case.lowered()), expected[-few:], err_msg=text)
        printed = str(case.resolved.pattern)
        again = compiler.resolve(Source("<again>", printed), block=(side, side)).pattern
        assert again == case.resolved.pattern and str(again) == printed


def test_what_one_flag_says_of_all_sides() -> None:
    for way in WAYS[1:]:
        one = Case(f"grid(3t, 4t, radius=1, {way}=true)", (4, 4), 12, 12, "end")
        each = Case(f"grid(3t, 4t, radius=1, {way}=(true, true))", (4, 4), 12, 12, "end")
        np.testing.assert_array_equal(one.mask(), each.mask())
        np.testing.assert_array_equal(one.mask(), by_hand((3, 4), (1, 1), (way, way), 0, 12))


def test_a_zero_offset_counts_what_the_sides_count() -> None:
    for text in ("grid(3t, 4t, radius=1, offset=0)", "grid(3t, 4t, radius=1, offset=0t)"):
        assert str(compiler.resolve(Source("<s>", text)).pattern).endswith("offset=0t)")
    assert str(compiler.resolve(Source("<s>", "cols(0, 4t)")).pattern) == "cols(0t, 4t)"
    with pytest.raises(SpecError, match="`grid` mixes blocks and tokens"):
        compiler.resolve(Source("<s>", "grid(3t, 4t, radius=1, offset=1)"))


def test_an_image_after_a_text_is_written_token_by_token() -> None:
    """With an offset, rows do not depend on the length: a cache keeps what it has."""
    text = "(cols(0:8t) | grid(4t, 6t, radius=(1, inf), offset=8t)) & causal"
    resolved = compiler.resolve(Source("<s>", text), block=4)
    found = Properties.of(resolved.pattern, compiler.lower(resolved, 32, 32))
    assert found.causal.holds and found.prefix_stable.holds
    whole = Case(text, (4, 4), 32, 32, "end").mask()
    for length in (1, 9, 20, 31):
        row = Case(text, (4, 4), 1, length, "end").mask()[0]
        np.testing.assert_array_equal(row, whole[length - 1, :length])
