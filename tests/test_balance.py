"""Rows in parts: each part is a piece of its row, parts are about equal, and processors end together."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import Case, cases, examples
from test_schedule import classes_of, every_second, expected_classes

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # benchmarks/ is not installed
from benchmarks import balance
from bslang import compiler
from bslang.graph.blockgraph import BlockGraph
from bslang.schedule.programs import programs
from bslang.schedule.schedule import PARTIAL, Table, schedule
from bslang.syntax.source import Source


@contextmanager
def parts_of(times_the_mean: int) -> Iterator[None]:
    """Rows are split where they have more than so many times the mean, however short they are."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("SHORTEST", 1),
            ("LIGHT", times_the_mean),
            ("HEAVY", times_the_mean),
        ):
            patch.setattr(f"bslang.schedule.programs.{name}", value)
        yield


def check(table: Table, graphs: list[BlockGraph], weights: list[int]) -> None:
    """Hold a table of split rows against the graphs that it is made of."""
    grid, heads = graphs[0].grid, sum(weights)
    shape, count = (grid.n, grid.m), PARTIAL + len(graphs[0].residuals)
    found = [classes_of(table, count, shape, g, len(graphs)) for g in range(len(graphs))]
    for classes, graph in zip(found, graphs, strict=True):
        np.testing.assert_array_equal(classes, expected_classes(graph))
    work = sum(w * (classes >= 0) for w, classes in zip(weights, found, strict=True))
    program = table.programs.program.tolist()
    weight = [int(work[row, first:last].sum()) for row, first, last, _ in program]
    order = [(-w, row, first) for w, (row, first, _, _) in zip(weight, program, strict=True)]
    assert order == sorted(order), "heaviest first, equal ones by place"

    by_row: dict[int, list[tuple[int, int, int, int]]] = {row: [] for row in range(shape[0])}
    for (row, first, last, slot), w in zip(program, weight, strict=True):
        by_row[row].append((first, last, slot, w))
    merges, slots = [], 0
    for row, parts in by_row.items():
        if row < grid.q.first:
            assert not parts
            continue
        parts.sort()
        assert parts[0][0] == 0 and parts[-1][1] == shape[1]
        assert all(one[1] == other[0] for one, other in pairwise(parts))
        assert all(first < last for first, last, _, _ in parts)
        if len(parts) == 1:
            assert parts[0][2] == -1
            continue
        assert [slot for _, _, slot, _ in parts] == list(range(slots, slots + len(parts)))
        merges.append([row, slots, slots + len(parts)])
        slots += len(parts)
        shares = [w for _, _, _, w in parts]
        if len(graphs) == 1:
            assert max(shares) - min(shares) <= heads, "a block apart"
        else:  # cuts in one column fall together
            assert max(shares) <= sum(shares) / len(shares) + 2 * heads
    assert table.programs.merges.tolist() == merges and table.programs.slots == slots


@examples(75)
@given(cases(), st.integers(1, 3))
def test_parts_are_pieces_of_their_rows(case: Case, times: int) -> None:
    assume(case.has_meaning())
    graph = case.lowered()
    with parts_of(times):
        made = schedule(graph)
        check(made.split_rows(), [graph], [1])
        check(made.split_cols(), [graph.transpose()], [1])


@examples(30)
@given(cases(), st.lists(st.integers(0, 2), min_size=1, max_size=4), st.integers(1, 2))
def test_parts_are_the_same_for_all_heads(case: Case, head_graph: list[int], times: int) -> None:
    assume(case.has_meaning())
    whole = case.lowered()
    graphs = [whole, every_second(whole, 0), every_second(whole, 1)]
    weights = [head_graph.count(number) for number in range(3)]
    with parts_of(times):
        made = schedule(*graphs, head_graph=head_graph)
        check(made.split_rows(), graphs, weights)
        check(made.split_cols(), [graph.transpose() for graph in graphs], weights)


def lowered(spec: str, block: int, len_q: int, len_k: int | None = None) -> BlockGraph:
    return compiler.lower(
        compiler.resolve(Source("<test>", spec), block=block), len_q, len_k or len_q
    )


@pytest.mark.parametrize(
    "spec",
    ["all", "none", "causal", "window(3)", "chunks(4) & causal", "random(3, seed=1)", "~window(3)"],
)
@pytest.mark.parametrize("block", [16, 128])
def test_light_layouts_are_not_split(spec: str, block: int) -> None:
    made = schedule(lowered(spec, block, 16_384))
    for split, whole in ((made.split_rows(), made.rows), (made.split_cols(), made.cols)):
        assert split.programs.slots == 0 and split.programs.merges.shape == (0, 3)
        assert (split.programs.program[:, 3] == -1).all()
        np.testing.assert_array_equal(split.programs.program, whole.programs.program)
        np.testing.assert_array_equal(split.pointer, whole.pointer)
        np.testing.assert_array_equal(split.runs, whole.runs)


def test_heavy_rows_are_split() -> None:
    """The first and the last row of BigBird, into parts of 5 times the mean, 9 blocks."""
    made = schedule(lowered("window(3) | global(0, -1) | random(2, seed=7)", 64, 131_072))
    merges = made.split_rows().programs.merges
    assert merges[:, 0].tolist() == [0, 2047]
    work = balance.blocks(made.split_rows())
    assert work[: made.split_rows().programs.slots].min() >= 43 and work.max() <= 44
    assert balance.blocks(made.rows).sum() == work.sum()


def test_the_rows_of_a_call_that_decodes_are_split() -> None:
    """One query over all keys is its own mean: alone it would keep one processor busy."""
    weights = np.array([1])
    graph = lowered("causal", 64, 1, 8192)
    assert programs([graph], weights).slots == 8
    assert programs([graph], weights, split=False).slots == 0
    assert programs([graph], weights, most=64).slots == 2
    assert programs([lowered("causal", 64, 1, 512)], weights).slots == 0  # too short


def test_tables_are_the_same_in_every_run() -> None:
    def content() -> list[bytes]:
        made = schedule(lowered("window(3) | global(0, -1) | random(2, seed=7)", 64, 65_536))
        arrays = [
            array
            for table in (made.split_rows(), made.split_cols())
            for array in (
                table.programs.program,
                table.programs.merges,
                table.pointer,
                table.runs,
            )
        ]
        assert all(array.dtype == np.int32 and array.flags.c_contiguous for array in arrays)
        return [array.tobytes() for array in arrays]

    assert content() == content()


# ---- the simulation ------------------------------------------------------------------------------


def test_programs_go_to_who_is_free_first() -> None:
    assert balance.makespan([3, 3, 2, 2, 2], 2) == 7
    assert balance.makespan([2, 2, 2, 3, 3], 2) == 7
    assert balance.makespan([1, 1, 1, 1, 4], 2) == 6
    assert balance.makespan([4, 1, 1, 1, 1], 2) == 4
    assert balance.makespan([], 3) == 0


def test_work_is_that_of_the_tables() -> None:
    graph = lowered("window(3) | global(0, -1)", 16, 300)
    made = schedule(graph)
    for table, of in ((made.rows, graph), (made.cols, graph.transpose())):
        np.testing.assert_array_equal(balance.blocks(table), of.blocks_by_row[table.order])


def test_a_merge_reads_its_parts() -> None:
    graph = lowered("rows(0) | window(1)", 128, 131_072)
    made = schedule(graph)
    (_, first, last), *others = made.split_rows().programs.merges
    kernel = balance.Kernel(columns=False, block=128, streamed=64)
    costs = balance.merge_costs(made.split_rows(), kernel, start=0.0)
    assert not others and costs.size == 128 // balance.MERGED
    assert costs.sum() == (last - first) * 128 / 64


def test_processors_end_together() -> None:
    """BigBird at 131,072 tokens, from 1 to 32 heads, forward and backward, merges included."""
    found = list(balance.figures())
    assert len(found) == len(balance.KERNELS) * len(balance.HEADS) * len(balance.PROCESSORS)
    late = [figure for figure in found if figure.split > balance.GOAL]
    assert not late
    alone = [figure for figure in found if figure.heads == 1]
    assert all(figure.split < figure.heaviest < figure.in_order for figure in alone)
