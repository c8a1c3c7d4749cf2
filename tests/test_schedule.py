"""Tables against the graph that they are made of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import Case, cases, examples

from bslang import compiler
from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.inputs import Inputs
from bslang.ir.expr import evaluate
from bslang.ir.mask import Masks
from bslang.schedule.schedule import EDGE, PARTIAL, WHOLE, Table, schedule


def classes_of(
    table: Table, count: int, shape: tuple[int, int], graph: int = 0, graphs: int = 1
) -> np.ndarray:
    """The class of every block of a graph, -1 for none; checks the form of the table on the way."""
    found = np.full(shape, -1)
    assert table.pointer.size == graphs * table.order.size * count + 1
    assert table.pointer[-1] == len(table.runs) and (np.diff(table.pointer) >= 0).all()
    for program, (row, first, last, _) in enumerate(table.programs.program):
        for kind in range(count):
            slot = (graph * table.order.size + program) * count + kind
            runs = table.runs[table.pointer[slot] : table.pointer[slot + 1]]
            assert (runs[1:, 0] >= runs[:-1, 1]).all(), "ascending within a class"
            for start, stop in runs:
                assert first <= start < stop <= last
                assert (found[row, start:stop] == -1).all()
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


@examples(250)
@given(cases())
def test_tables_hold_every_block_once_in_its_class(case: Case) -> None:
    assume(case.has_meaning())
    graph = case.lowered()
    made = schedule(graph)
    grid, count = graph.grid, PARTIAL + len(graph.residuals)
    for table, of in [(made.rows, graph), (made.cols, graph.transpose())]:
        found = classes_of(table, count, (of.grid.n, of.grid.m))
        np.testing.assert_array_equal(found, expected_classes(of))
        work = (found >= 0).sum(1)[table.order]
        assert (work[1:] <= work[:-1]).all(), "heaviest first"
    assert sorted(made.rows.order) == list(range(grid.q.first, grid.n))
    assert sorted(made.cols.order) == list(range(grid.m))


@examples(60)
@given(cases(), st.lists(st.integers(0, 2), min_size=1, max_size=4))
def test_tables_of_many_graphs_hold_each_of_them(case: Case, head_graph: list[int]) -> None:
    """The graphs of other heads are those of the same program without some of its blocks."""
    assume(case.has_meaning())
    whole = case.lowered()
    graphs = [whole, every_second(whole, 0), every_second(whole, 1)]
    made = schedule(*graphs, head_graph=head_graph)
    assert made.head_graph is not None and made.head_graph.tolist() == head_graph
    assert made.parameters.shape[0] == 3
    count = PARTIAL + len(whole.residuals)
    for table, of in [(made.rows, graphs), (made.cols, [graph.transpose() for graph in graphs])]:
        shape = (of[0].grid.n, of[0].grid.m)
        found = [classes_of(table, count, shape, number, 3) for number in range(3)]
        for classes, graph in zip(found, of, strict=True):
            np.testing.assert_array_equal(classes, expected_classes(graph))
        work = sum((found[graph] >= 0).sum(1) for graph in head_graph)[table.order]
        assert (work[1:] <= work[:-1]).all(), "heaviest first, over all heads"


def every_second(graph: BlockGraph, first: int) -> BlockGraph:
    keep = np.arange(graph.start.size) % 2 == first
    before = np.concatenate(([0], np.cumsum(keep)))
    return replace(
        graph,
        indptr=before[graph.indptr],
        start=graph.start[keep],
        stop=graph.stop[keep],
        kind=graph.kind[keep],
    )


def test_parameters_of_graphs() -> None:
    resolved = Case("cols(head * 5t:-1t)", (4, 4), 9, 9, "end").resolved
    graphs = [compiler.lower(resolved, 9, 9, head=head) for head in (1, 3)]
    found = schedule(*graphs, head_graph=[0, 1, 1]).parameters
    assert found.shape[0] == 2 and 5 in found[0] and 15 in found[1]


def test_parameters_are_the_numbers_that_masks_take_from_the_length() -> None:
    resolved = Case("cols(-5t:) | rows(-n * 1t:)", (4, 4), 9, 9, "end").resolved
    masks = Masks.of(compiler.lower(resolved, 9, 9).residuals, (4, 4), Inputs())
    for length in (9, 33, 64):
        graph = compiler.lower(resolved, length, length)
        values = [evaluate(number, graph.grid.env()) for number in masks.parameters]
        assert schedule(graph).parameters.tolist() == [values]
        assert length - 5 in values


def test_masks_of_64_bits_have_parameters_of_64_bits() -> None:
    spec = "{q, k : q * 2000000000 < n * 2000000000t} & causal"
    graph = compiler.lower(Case(spec, (4, 4), 9, 9, "end").resolved, 9, 9)
    assert schedule(graph).parameters.tolist() == [[3 * 2_000_000_000]]


@pytest.mark.parametrize("spec", ["none", "all", "causal"])
def test_rows_without_work_still_have_a_program(spec: str) -> None:
    """A kernel must write zeros for them."""
    made = schedule(compiler.lower(Case(spec, (4, 4), 10, 10, "end").resolved, 10, 10))
    assert sorted(made.rows.order) == [0, 1, 2] == sorted(made.cols.order)
