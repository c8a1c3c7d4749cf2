"""Tables against the graph that they are made of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from strategies import Case, cases

from bslang import compiler
from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.ir.expr import evaluate
from bslang.ir.mask import Masks
from bslang.schedule.schedule import EDGE, PARTIAL, WHOLE, Table, schedule


def classes_of(table: Table, count: int, shape: tuple[int, int]) -> np.ndarray:
    """The class of every block, -1 for none; checks the form of the table on the way."""
    found = np.full(shape, -1)
    assert len(set(table.order.tolist())) == table.order.size
    assert table.pointer.size == table.order.size * count + 1
    assert table.pointer[-1] == len(table.runs) and (np.diff(table.pointer) >= 0).all()
    for program, row in enumerate(table.order):
        for kind in range(count):
            slot = program * count + kind
            runs = table.runs[table.pointer[slot] : table.pointer[slot + 1]]
            assert (runs[1:, 0] >= runs[:-1, 1]).all(), "ascending within a class"
            for start, stop in runs:
                assert start < stop and (found[row, start:stop] == -1).all()
                found[row, start:stop] = kind
    return found


def expected_classes(graph: BlockGraph) -> np.ndarray:
    grid = graph.grid
    found = np.full((grid.n, grid.m), -1)
    for kind in (FULL, *range(len(graph.residuals))):
        found[graph.of_kind(kind).dense(grid.n)] = WHOLE if kind == FULL else PARTIAL + kind
    short = set()
    if grid.k.start % grid.k.block:
        short.add(grid.k.first)
    if grid.k.stop % grid.k.block:
        short.add(grid.m - 1)
    for column in short:
        found[found[:, column] == WHOLE, column] = EDGE
    return found


@settings(max_examples=250)
@given(cases())
def test_tables_hold_every_block_once_in_its_class(case: Case) -> None:
    if not case.has_meaning():
        return
    graph = compiler.lower(case.resolved, case.len_q, case.len_k, case.align)
    made = schedule(graph)
    grid, count = graph.grid, PARTIAL + len(graph.residuals)
    for table, of in [(made.rows, graph), (made.cols, graph.transpose())]:
        found = classes_of(table, count, (of.grid.n, of.grid.m))
        np.testing.assert_array_equal(found, expected_classes(of))
        work = (found >= 0).sum(1)[table.order]
        assert (work[1:] <= work[:-1]).all(), "heaviest first"
    assert sorted(made.rows.order) == list(range(grid.q.first, grid.n))
    assert sorted(made.cols.order) == list(range(grid.m))


def test_parameters_are_the_numbers_that_masks_take_from_the_length() -> None:
    resolved = Case("cols(-5t:) | rows(-n * 1t:)", (4, 4), 9, 9, "end").resolved
    masks = Masks.of(compiler.lower(resolved, 9, 9).residuals, (4, 4))
    for length in (9, 33, 64):
        graph = compiler.lower(resolved, length, length)
        values = [evaluate(number, graph.grid.env()) for number in masks.parameters]
        assert schedule(graph).parameters.tolist() == values
        assert length - 5 in values


@pytest.mark.parametrize("spec", ["none", "all", "causal"])
def test_rows_without_work_still_have_a_program(spec: str) -> None:
    """A kernel must write zeros for them."""
    made = schedule(compiler.lower(Case(spec, (4, 4), 10, 10, "end").resolved, 10, 10))
    assert sorted(made.rows.order) == [0, 1, 2] == sorted(made.cols.order)
