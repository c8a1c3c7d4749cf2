"""The run algebra against plain sets of cells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bslang.errors import LimitError
from bslang.ir.grid import Axis, Grid
from bslang.ir.runs import Runs
from bslang.limits import MAX_RUNS

HEIGHT, WIDTH = 5, 7
matrices = st.lists(st.booleans(), min_size=HEIGHT * WIDTH, max_size=HEIGHT * WIDTH).map(
    lambda cells: np.array(cells).reshape(HEIGHT, WIDTH)
)


def runs_of(matrix: np.ndarray) -> Runs:
    row, column = np.nonzero(matrix)
    return Runs.of_rows(matrix.shape[1], row, column, column + 1)


def is_normal(runs: Runs) -> bool:
    """Sorted, disjoint, not empty, not adjacent: one form for each set."""
    return bool((runs.start < runs.stop).all() and (runs.start[1:] > runs.stop[:-1]).all())


@given(matrices, matrices)
def test_operators_are_those_of_sets(a: np.ndarray, b: np.ndarray) -> None:
    one, two = runs_of(a), runs_of(b)
    for found, expected in [
        (one | two, a | b),
        (one & two, a & b),
        (one - two, a & ~b),
        (one ^ two, a ^ b),
        (one, a),
    ]:
        assert is_normal(found)
        assert found == runs_of(expected)
        np.testing.assert_array_equal(found.dense(HEIGHT), expected)
        assert found.size == expected.sum() and bool(found) == expected.any()


@given(matrices)
def test_transpose(a: np.ndarray) -> None:
    mirrored = runs_of(a).transpose(HEIGHT)
    assert is_normal(mirrored) and mirrored == runs_of(a.T)
    assert mirrored.transpose(WIDTH) == runs_of(a)


@given(matrices)
def test_rows_and_cells(a: np.ndarray) -> None:
    runs = runs_of(a)
    again = np.zeros_like(a)
    for row, start, stop in zip(*runs.rows(), strict=True):
        assert 0 <= start < stop <= WIDTH and not again[row, start:stop].any()
        again[row, start:stop] = True
    np.testing.assert_array_equal(again, a)
    np.testing.assert_array_equal(runs.cells(), np.flatnonzero(a))


def test_overlapping_and_empty_ranges_are_joined_and_dropped() -> None:
    found = Runs.of_rows(
        9, *(np.array(x) for x in ([1, 0, 1, 1, 2], [3, 2, 0, 4, 5], [6, 2, 3, 5, 4]))
    )
    assert found.start.tolist() == [9] and found.stop.tolist() == [15]


def test_a_full_matrix_is_one_run() -> None:
    everything = Runs.domain(Grid.of(2**20, 2**20, (1, 1)))
    assert everything.start.size == 1 and everything.size == 2**40
    assert not (everything - everything)


def test_too_many_runs_are_refused_before_they_are_made() -> None:
    huge = Runs.domain(Grid.of(2**28, 2**28, (1, 1)))
    with pytest.raises(LimitError, match="MAX_RUNS"):
        huge.cells()
    with pytest.raises(LimitError, match="MAX_RUNS"):
        huge.rows()
    many = np.broadcast_to(np.int64(0), (MAX_RUNS + 1,))
    with pytest.raises(LimitError, match=f"runs of blocks.*MAX_RUNS = {MAX_RUNS}"):
        Runs.of_rows(1, many, many, many + 1)


@given(
    st.integers(1, 9),
    st.integers(0, 30),
    st.integers(1, 30),
    st.integers(-5, 40),
    st.integers(-5, 40),
)
def test_blocks_touched_and_covered(block: int, start: int, size: int, low: int, high: int) -> None:
    axis = Axis(start + size, block, start, start + size)
    there = range(axis.start, axis.stop)
    inside = {x for x in there if low <= x <= high}
    touched, covered = set(), set()
    for b in range(axis.first, axis.blocks):
        tokens = {x for x in there if x // block == b}
        if tokens & inside:
            touched.add(b)
        if tokens <= inside:
            covered.add(b)
    for found, expected in [
        (axis.touched(np.array([low]), np.array([high])), touched),
        (axis.covered(np.array([low]), np.array([high])), covered),
    ]:
        assert set(range(int(found[0][0]), int(found[1][0]))) == expected


@pytest.mark.parametrize("align", ["end", "start"])
def test_a_grid_knows_its_head_and_layer(align: str) -> None:
    grid = Grid.of(5, 9, (2, 3), align, head=2, layer=7)
    assert (grid.head, grid.layer) == (2, 7) == (grid.env()["head"], grid.env()["layer"])
    assert (grid.n, grid.m) == ((5, 3) if align == "end" else (3, 3))
