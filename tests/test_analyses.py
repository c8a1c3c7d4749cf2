"""Figures of block graphs, against what is counted on dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from strategies import Case, cases, examples

from bslang import compiler
from bslang.analysis.cells import coverage
from bslang.analysis.stats import Stats
from bslang.graph.blockgraph import FULL
from bslang.syntax.source import Source


@examples(75)
@given(cases())
def test_stats_count_what_the_matrix_holds(case: Case) -> None:
    assume(case.has_meaning())
    graph = case.lowered()
    held = graph.visited.dense(graph.grid.n)[graph.grid.q.first :]
    found = Stats.of(graph, dim=8)
    assert found.blocks == held.sum() == found.full + found.partial
    assert found.full == graph.of_kind(FULL).size
    assert found.density == pytest.approx(held.mean()) and found.block == case.block
    for spread, counts in ((found.rows, held.sum(1)), (found.columns, held.sum(0))):
        assert (spread.least, spread.most) == (counts.min(), counts.max())
        assert spread.mean == pytest.approx(counts.mean()) and spread.empty == (counts == 0).sum()
        assert spread.with_least == (counts == counts.min()).sum()
        assert spread.with_most == (counts == counts.max()).sum()
    first = graph.grid.q.first  # rows are numbered from the first of the sequence, whoever asks
    for named, bound in ((found.rows.shortest, "min"), (found.rows.longest, "max")):
        numbers = np.flatnonzero(held.sum(1) == getattr(held.sum(1), bound)()) + first
        assert named == tuple(numbers[:3])
    assert found.pairs == case.mask().sum()
    visited = int(held.sum()) * case.block[0] * case.block[1]
    assert (found.flops_forward, found.flops_backward) == (4 * 8 * visited, 10 * 8 * visited)
    every = held.size * case.block[0] * case.block[1]
    assert (found.shape, found.flops_dense) == (held.shape, 4 * 8 * every)
    assert found.score_bytes == (2 * visited, 2 * every)
    # A key and a value of 8 numbers of 2 bytes, for each column of each visited block.
    assert found.kv_bytes == tuple(
        2 * 8 * 2 * blocks * case.block[1] for blocks in (held.sum(), held.size)
    )
    if visited:
        assert found.speedup is not None
        by_bytes, by_flops = found.speedup
        assert by_flops == pytest.approx(1 / found.density)
        assert 1 <= by_bytes <= by_flops
        own = 2 * 8 * 2 * held.shape[0] * case.block[0]  # queries and outputs
        read, read_all = found.kv_bytes
        assert by_bytes == pytest.approx((read_all + own) / (read + own))
    else:
        assert found.speedup is None


@pytest.mark.parametrize("tokens", [64, 100, 1, 640])
@pytest.mark.parametrize("block", [(16, 16), (32, 8), (8, 32)])
@pytest.mark.parametrize("queries", [0, 1, 37])
def test_a_causal_layout_is_compared_with_causal_dense_attention(
    tokens: int, block: tuple[int, int], queries: int
) -> None:
    """`causal` itself does what its baseline does; queries: how many, all for 0."""
    length = min(queries, tokens) or tokens
    resolved = compiler.resolve(Source("x", "causal"), block=block)
    found = Stats.of(compiler.lower(resolved, length, tokens), causal=True)
    assert found.baseline == "causal dense"
    assert found.flops_dense == found.flops_forward
    assert found.speedup == (1, 1)
    assert Stats.of(compiler.lower(resolved, length, tokens)).baseline == "dense"


@examples(50)
@given(cases())
def test_coverage_is_the_matrix_in_fewer_cells(case: Case) -> None:
    assume(case.has_meaning())
    graph = case.lowered()
    first = graph.grid.q.first
    value = graph.of_kind(FULL).dense(graph.grid.n) * 0.5 + graph.visited.dense(graph.grid.n) * 0.5
    value = value[first:]
    found = coverage(graph, 3, 4)
    assert found.shape[0] <= 3 and found.shape[1] <= 4
    down, across = -(-value.shape[0] // 3), -(-value.shape[1] // 4)
    for i, row in enumerate(found):
        for j, cell in enumerate(row):
            part = value[i * down : (i + 1) * down, j * across : (j + 1) * across]
            assert cell == pytest.approx(part.mean())
