"""Lowering against the oracle: two meanings of every program that share no code must agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from strategies import Case, cases, programs

from bslang import compiler
from bslang.errors import LimitError
from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.graph.lower import nonempty
from bslang.graph.residual import is_sharp, residuals
from bslang.ir.grid import At, Grid
from bslang.ir.oracle import dense, dense_blocks
from bslang.ir.predicate import holds
from bslang.ir.runs import Bools
from bslang.limits import MAX_LENGTH, MAX_RESIDUALS
from bslang.syntax.source import Source

PROGRAMS = 500


def mask_of(graph: BlockGraph) -> Bools:
    """The tokens that a graph says belong: full blocks whole, partial ones by their residual."""
    grid = graph.grid
    q = np.arange(grid.q.start, grid.q.stop)[:, None]
    k = np.arange(grid.k.start, grid.k.stop)[None, :]
    block = (q // grid.q.block, k // grid.k.block)
    mask = graph.of_kind(FULL).dense(grid.n)[block]
    for kind, residual in enumerate(graph.residuals):
        inside = graph.of_kind(kind).dense(grid.n)[block]
        belongs = holds(residual, At.positions(grid, q, k), grid.env())
        assert not (mask & inside).any(), "a block has two kinds"
        mask = mask | (inside & belongs)
    return mask


def lowered(case: Case) -> BlockGraph:
    return compiler.lower(case.resolved, case.len_q, case.len_k, case.align)


@settings(max_examples=PROGRAMS)
@given(cases())
def test_lowering_agrees_with_the_oracle_token_by_token(case: Case) -> None:
    if not case.has_meaning():
        return
    np.testing.assert_array_equal(mask_of(lowered(case)), case.mask())


@settings(max_examples=PROGRAMS)
@given(cases(terms=3))
def test_full_blocks_are_full_and_empty_blocks_are_not_visited(case: Case) -> None:
    if not case.has_meaning():
        return
    graph, mask, grid = lowered(case), case.mask(), case.grid
    held = graph.held.dense(grid.n)
    full = graph.of_kind(FULL).dense(grid.n)
    for i in range(grid.q.first, grid.n):
        rows = slice(max(i * grid.q.block - grid.q.start, 0), (i + 1) * grid.q.block - grid.q.start)
        for j in range(grid.m):
            block = mask[rows, j * grid.k.block : (j + 1) * grid.k.block]
            assert block.all() or not full[i, j]
            assert held[i, j] or not block.any()
            # Lowering settles what it can afford to, and here it always can.
            assert block.any() == held[i, j] and block.all() == full[i, j]


@settings(max_examples=PROGRAMS // 2)
@given(cases())
def test_transposed_graph_is_the_graph_of_the_transposed_mask(case: Case) -> None:
    if not case.has_meaning():
        return
    graph = lowered(case)
    mirrored = graph.transpose()
    np.testing.assert_array_equal(mask_of(mirrored), mask_of(graph).T)
    again = mirrored.transpose()
    assert again.held == graph.held and again.residuals == graph.residuals


@settings(max_examples=PROGRAMS // 2)
@given(cases(terms=3))
def test_candidates_of_random_are_the_blocks_that_hold_a_pair(case: Case) -> None:
    if not case.has_meaning():
        return
    found = nonempty(case.resolved.pattern, case.grid.whole()).dense(case.grid.n)
    np.testing.assert_array_equal(found, dense_blocks(case.resolved.pattern, case.grid))


@settings(max_examples=100)
@given(programs(terms=4))
def test_residuals_depend_on_the_pattern_alone(spec: str) -> None:
    resolved = compiler.resolve(Source("<case>", spec), block=4)
    possible = residuals(resolved.pattern)
    assert len(possible) <= MAX_RESIDUALS
    for length in (1, 3, 17, 33):
        case = Case(spec, (4, 4), length, length, "end")
        if case.has_meaning():
            assert lowered(case).residuals == possible


# Laws that hold of sets, asked of text.
LAWS = [
    ("~({a} | {b})", "~{a} & ~{b}"),
    ("~~{a}", "{a}"),
    ("{a} - {b}", "{a} & ~{b}"),
    ("{a} ^ {b}", "({a} - {b}) | ({b} - {a})"),
    ("({a} & {b}).T", "{a}.T & {b}.T"),
    ("{a}.T.T", "{a}"),
    ("{a} | {a}", "{a}"),
    ("{a} & none", "none"),
    ("{a} | all", "all"),
]


@pytest.mark.parametrize(("left", "right"), LAWS)
@settings(max_examples=30)
@given(a=programs(terms=2), b=programs(terms=2))
def test_algebra(left: str, right: str, a: str, b: str) -> None:
    one, two = (
        Case(s.format(a=f"({a})", b=f"({b})"), (4, 4), 22, 22, "end") for s in (left, right)
    )
    if one.has_meaning() and two.has_meaning():
        np.testing.assert_array_equal(mask_of(lowered(one)), mask_of(lowered(two)))


@pytest.mark.parametrize("spec", ["causal", "last(3)", "(last(2) | cols(0)) & causal",
                                  "random(2, seed=1, within=causal)",
                                  "random(2, within=causal - last(9t)) | last(9t)"])  # fmt: skip
def test_a_longer_sequence_keeps_the_rows_of_a_shorter_one(spec: str) -> None:
    """The prefix property that decoding needs, and `random` promises with a causal `within`."""
    long = Case(spec, (4, 4), 50, 50, "end").mask()
    for length in (1, 7, 8, 31, 49):
        np.testing.assert_array_equal(
            Case(spec, (4, 4), length, length, "end").mask(), long[:length, :length]
        )


@settings(max_examples=150)
@given(programs(terms=3))
def test_the_last_queries_see_what_they_see_in_the_whole(spec: str) -> None:
    """align="end": the rows of a few last queries are the last rows of the full mask."""
    whole = Case(spec, (4, 4), 27, 27, "end")
    if not whole.has_meaning():
        return
    for few in (1, 2, 5, 26):
        part = Case(spec, (4, 4), few, 27, "end")
        np.testing.assert_array_equal(mask_of(lowered(part)), whole.mask()[-few:])


def test_more_token_masks_than_kernels_take_are_merged() -> None:
    spec = " | ".join(f"diagonals({a}t:{a + 3}t)" for a in range(0, 60, 9))
    case = Case(spec, (8, 8), 61, 61, "end")
    pattern = case.resolved.pattern
    assert not is_sharp(pattern) and len(residuals(pattern)) == 1
    np.testing.assert_array_equal(mask_of(lowered(case)), case.mask())
    drawn = Case(f"({spec}) & random(3, seed=2) | random(1, seed=3)", (8, 8), 61, 61, "end")
    np.testing.assert_array_equal(mask_of(lowered(drawn)), drawn.mask())


def test_lowering_costs_runs_not_blocks() -> None:
    """2^24 tokens are 2^36 pairs of blocks; what lowering holds is a few runs a row."""
    length = 2**24
    for spec, most in [("causal", 2), ("~last(3)", 2), ("causal - last(512t)", 2), ("all", 1)]:
        graph = compiler.lower(compiler.resolve(Source("<case>", spec)), length, length)
        assert graph.start.size <= most * graph.grid.n


def test_a_dense_diagonal_block_is_asked_once_however_long_the_sequence() -> None:
    # causal ^ last(1t) leaves the diagonal to masks; each block of it repeats the first.
    graph = compiler.lower(compiler.resolve(Source("<case>", "causal ^ last(1t)")), 2**22, 2**22)
    assert graph.of_kind(FULL).size == graph.grid.n * (graph.grid.n - 1) // 2


def test_lengths_past_the_limit_are_refused() -> None:
    resolved = compiler.resolve(Source("<case>", "causal"))
    with pytest.raises(LimitError, match="MAX_LENGTH"):
        compiler.lower(resolved, MAX_LENGTH + 1, MAX_LENGTH + 1)


def test_grid_refuses_more_queries_than_keys_at_the_end() -> None:
    with pytest.raises(ValueError, match='align="start"'):
        Grid.of(5, 4, (2, 2))
    with pytest.raises(ValueError, match="sideways"):
        Grid.of(4, 4, (2, 2), "sideways")


def test_the_oracle_is_the_definition() -> None:
    """The oracle itself, against masks written out by hand."""
    pattern = compiler.resolve(Source("<case>", "(last(2) | cols(0)) & causal"), block=2).pattern
    expected = [
        "x.....",
        "xx....",
        "xxx...",
        "xxxx..",
        "xxxxx.",
        "xxxxxx",
    ]
    mask = dense(pattern, Grid.of(6, 6, (2, 2)))
    assert ["".join("x" if cell else "." for cell in row) for row in mask] == expected
    pattern = compiler.resolve(Source("<case>", "window(4, clamp=true)"), block=1).pattern
    mask = dense(pattern, Grid.of(6, 6, (1, 1)))
    assert ["".join("x" if cell else "." for cell in row) for row in mask] == [
        "xxxx..",
        "xxxx..",
        "xxxx..",
        ".xxxx.",
        "..xxxx",
        "..xxxx",
    ]
