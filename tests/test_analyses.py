"""Figures and paths of block graphs, against what is counted on dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from strategies import Case, cases

from bslang import compiler
from bslang.graph.analyses import MAX_ANALYSED, hops, to_networkx
from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.graph.stats import Stats, coverage


def graph_of(spec: str, length: int, block: int = 4) -> BlockGraph:
    return compiler.lower(
        Case(spec, (block, block), length, length, "end").resolved, length, length
    )


@settings(max_examples=150)
@given(cases())
def test_stats_count_what_the_matrix_holds(case: Case) -> None:
    if not case.has_meaning():
        return
    graph = compiler.lower(case.resolved, case.len_q, case.len_k, case.align)
    held = graph.held.dense(graph.grid.n)[graph.grid.q.first :]
    found = Stats.of(graph, dim=8)
    assert found.blocks == held.sum() == found.full + found.partial
    assert found.full == graph.of_kind(FULL).size
    assert found.density == pytest.approx(held.mean())
    for spread, counts in ((found.rows, held.sum(1)), (found.columns, held.sum(0))):
        assert (spread.least, spread.most) == (counts.min(), counts.max())
        assert spread.mean == pytest.approx(counts.mean()) and spread.empty == (counts == 0).sum()
    assert found.pairs == case.mask().sum()
    visited = int(held.sum()) * case.block[0] * case.block[1]
    assert (found.flops_forward, found.flops_backward) == (4 * 8 * visited, 10 * 8 * visited)


@settings(max_examples=100)
@given(cases())
def test_coverage_is_the_matrix_in_fewer_cells(case: Case) -> None:
    if not case.has_meaning():
        return
    graph = compiler.lower(case.resolved, case.len_q, case.len_k, case.align)
    first = graph.grid.q.first
    value = graph.of_kind(FULL).dense(graph.grid.n) * 0.5 + graph.held.dense(graph.grid.n) * 0.5
    value = value[first:]
    found = coverage(graph, 3, 4)
    assert found.shape[0] <= 3 and found.shape[1] <= 4
    down, across = -(-value.shape[0] // 3), -(-value.shape[1] // 4)
    for i, row in enumerate(found):
        for j, cell in enumerate(row):
            part = value[i * down : (i + 1) * down, j * across : (j + 1) * across]
            assert cell == pytest.approx(part.mean())


@settings(max_examples=60)
@given(cases(blocks=((4, 4), (1, 1)), longest=24))
def test_hops_are_the_power_at_which_the_matrix_is_full(case: Case) -> None:
    square = Case(case.spec, case.block, case.len_k, case.len_k, "end")
    if not square.has_meaning():
        return
    graph = graph_of(square.spec, square.len_k, square.block[0])
    held = graph.held.dense(graph.grid.n)
    assert set(zip(*map(np.ndarray.tolist, np.nonzero(held)), strict=True)) == set(
        to_networkx(graph).edges
    )
    # A block keeps what it has (the residual connection), so each layer reaches one hop further.
    reach, layers = np.eye(graph.grid.n, dtype=bool), 0
    while not reach.all() and layers < graph.grid.n:
        reach, layers = reach | (reach.astype(int) @ held > 0), layers + 1
    assert hops(graph) == (layers if reach.all() else None)


def test_hops_of_known_layouts() -> None:
    assert hops(graph_of("all", 40)) == 1
    assert hops(graph_of("window(3) | global(0)", 40)) == 2
    assert hops(graph_of("window(3)", 40)) == 9
    assert hops(graph_of("causal", 40)) is None
    with pytest.raises(ValueError, match=f"up to {MAX_ANALYSED}"):
        hops(graph_of("all", 4 * MAX_ANALYSED + 1))
