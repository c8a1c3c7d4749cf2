"""Strips: what kernels compute and what tables hold are together the block graph, at every length."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import Case, cases, examples

from bslang import compiler
from bslang.codegen.shape import Shape, literal, shapes
from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.ir.runs import Runs
from bslang.schedule.schedule import EDGE, PARTIAL, schedule
from bslang.schedule.strips import Edge, Rules, Strip, intervals, whole
from bslang.syntax.source import Source

ALL_OF_ROW = Strip(FULL, Edge(0), Edge(0, end=True))


def found(spec: str, block: int | tuple[int, int] = 64) -> list[Shape]:
    pattern = compiler.resolve(Source("<spec>", spec), block=block).pattern
    return shapes(pattern, compiler.block_sides(block), frozenset())


def visited(graph: BlockGraph, rules: Rules) -> dict[int, Runs]:
    """The blocks that the programs of a kernel visit, by kind, walked as kernels walk them."""
    table = schedule(graph).split_rows(rules.lines("row", "column"))
    grid, classes = graph.grid, PARTIAL + len(graph.residuals)
    cells: dict[int, list[int]] = {kind: [] for kind in range(FULL, len(graph.residuals))}
    for place, (row, low, high, _) in enumerate(table.programs.program.tolist()):
        low, high = (low, high) if table.ruled[place] else (0, 0)
        for kind in cells:
            ends = whole(grid.k) if kind == FULL else (grid.k.first, grid.m)
            first, last = max(ends[0], low), min(ends[1], high)
            strips = [strip for strip in rules.strips if strip.kind == kind]
            one = np.array([row])
            for start, stop in intervals(strips, one, one * 0 + first, one * 0 + last, grid.m):
                cells[kind] += range(row * grid.m + int(start[0]), row * grid.m + int(stop[0]))
            numbers = (0, EDGE) if kind == FULL else (PARTIAL + kind,)
            for number in numbers:
                begin, end = table.pointer[place * classes + number :][:2]
                for start, stop in table.runs[begin:end].tolist():
                    cells[kind] += range(row * grid.m + start, row * grid.m + stop)
                    assert stop == start + 1 or number or not rules.listed
    made = {}
    for kind, numbers in cells.items():
        assert len(set(numbers)) == len(numbers), "a block is visited twice"
        at = np.array(sorted(numbers), dtype=np.int64)
        made[kind] = Runs.of_rows(grid.m, at // grid.m, at % grid.m, at % grid.m + 1)
    return made


@examples(75)
@given(cases(blocks=((4, 4), (5, 3), (2, 4), (1, 1))))
def test_every_block_is_visited_once(case: Case) -> None:
    assume(case.has_meaning())
    graph = case.lowered()
    made = shapes(case.resolved.pattern, case.block, frozenset())
    for shape, of in zip(made, (graph, graph.transpose()), strict=True):
        for kind, runs in visited(of, shape.rules).items():
            assert runs == of.of_kind(kind)


def test_a_spec_shows_in_its_strips() -> None:
    rows, columns = found("window(3) | global(0, -1) | random(2, seed=7)")
    assert rows.rules.listed and columns.rules.listed
    assert rows.rules.strips == (
        Strip(FULL, Edge(0), Edge(1)),
        Strip(FULL, Edge(-1, 1), Edge(2, 1)),
        Strip(FULL, Edge(-1, end=True), Edge(0, end=True)),
    )
    assert rows.texts == ("global(0, -1)", "window(3)", "global(0, -1)")


@pytest.mark.parametrize(
    ("spec", "block", "strips"),
    [
        ("all", 64, [(Edge(0), Edge(0, end=True))]),
        ("all", (64, 128), [(Edge(0), Edge(0, end=True))]),
        ("global(0, -1)", (128, 64), [(Edge(0), Edge(1)), (Edge(-1, end=True), Edge(0, end=True))]),
        ("causal", 64, [(Edge(0), Edge(0, 1))]),
        ("causal", (128, 64), [(Edge(0), Edge(0, 2))]),
        ("causal", (64, 128), [(Edge(0), Edge(0, 1, 2))]),
        ("causal.T", (64, 128), [(Edge(1, 1, 2), Edge(0, end=True))]),
        ("causal.T", 64, [(Edge(1, 1), Edge(0, end=True))]),
        ("last(512t)", 64, [(Edge(-7, 1), Edge(0, 1))]),
        ("last(512t)", (128, 64), [(Edge(-6, 2), Edge(0, 2))]),
        ("last(512t)", (64, 128), [(Edge(-3, 1, 2), Edge(0, 1, 2))]),
        ("chunks(4)", 64, [(Edge(0, 4, 4), Edge(4, 4, 4))]),
        ("~window(3)", 64, [(Edge(0), Edge(-1, 1)), (Edge(2, 1), Edge(0, end=True))]),
        ("last(8192t)", 64, [(Edge(-127, 1), Edge(0, 1))]),
        ("window(7, clamp=true)", 64, [(Edge(-3, 1), Edge(4, 1))]),
        ("random(2, seed=1)", 64, []),
        ("strided(16) & causal", 64, []),  # every column in its turn: better listed
    ],
)
def test_strips_of_full_blocks(
    spec: str, block: int | tuple[int, int], strips: list[tuple[Edge, Edge]]
) -> None:
    full = [strip for strip in found(spec, block)[0].rules.strips if strip.kind == FULL]
    assert full == [Strip(FULL, *ends) for ends in strips]


def test_rows_that_do_not_follow_are_left_to_the_table() -> None:
    rules = found("window(3)")[0].rules
    wrapped = compiler.resolve(Source("<spec>", "window(3) - cols(5)"), block=64)
    graph = compiler.lower(wrapped, 64 * 20, 64 * 20)
    assert np.flatnonzero(~rules.kept(graph)).tolist() == [4, 5, 6]
    assert visited(graph, rules)[FULL] == graph.of_kind(FULL)


def test_a_layout_that_means_nothing_at_the_lengths_looked_at_has_no_strips() -> None:
    assert [shape.rules for shape in found("cols(5000)")] == [Rules(), Rules()]


def test_rules_are_written_as_formulas() -> None:
    rows, columns = found("window(3) | global(0, -1) | random(2, seed=7)")
    assert literal("_ROWS", rows, "row", "column") == [
        "_ROWS = (",
        '    "full: 0 <= column < 1",  # global(0, -1)',
        '    "full: row - 1 <= column < row + 2",  # window(3)',
        '    "full: columns - 1 <= column < columns",  # global(0, -1)',
        '    "full: others one by one",',
        ")",
    ]
    assert columns.rules.lines("column", "row")[1] == "full: column - 1 <= row < column + 2"
    (chunk,) = found("chunks(4)")[0].rules.lines("row", "column")
    assert chunk == "full: row // 4 * 4 <= column < row // 4 * 4 + 4"
    (partial,) = found("(last(70t) | cols(:4t)) & causal")[0].rules.lines("row", "column")[:1]
    assert partial.startswith("mask ")
    assert literal("_ROWS", Shape(Rules(), ()), "row", "column") == ["_ROWS = ()"]


edges = st.one_of(
    st.builds(Edge, st.integers(0, 999)),
    st.builds(Edge, st.integers(-999, 999), by=st.integers(1, 9), every=st.integers(1, 9)),
    st.builds(Edge, st.integers(-999, 0), end=st.just(True)),
)


@given(st.lists(st.builds(Strip, st.integers(-1, 30), edges, edges)), st.booleans(), st.booleans())
def test_rules_are_read_as_they_were_written(
    strips: list[Strip], listed: bool, turned: bool
) -> None:
    rules, names = Rules(tuple(strips), listed), ["row", "column"]
    assert Rules.read(rules.lines(*(names[::-1] if turned else names))) == rules


@pytest.mark.parametrize(
    "line",
    ["", "full", "full: row", "full: 0 <= column", "mask: 0 <= column < 1", "full: x <= row < 3",
     "full: 0 <= column < row // 0x4", "full: 0 <= column < 1 ", "full: row * row <= column < 2"],
)  # fmt: skip
def test_what_is_no_rule_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="strip"):
        Rules.read([line])
