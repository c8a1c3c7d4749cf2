"""`bslang compile --emit`: every stage as text."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from strategies import Case, cases, examples
from test_cli import Run, names, run

from bslang import compiler, stages
from bslang.graph.blockgraph import FULL
from bslang.schedule.schedule import PARTIAL, Table

__all__ = ["run"]  # the fixture

Golden = Callable[[str, str], None]

SPEC = """\
bsl 1
block 1024
near(w = 3) = last(w) | cols(0:4t)
far = {i, j : (i - j) % 4 == 0} - near(2).T
mixed = heads {
  0:2 -> near;
  2: -> random(1, seed=head, within=last(2) ** 2) | ~same(doc)
}
split = last(1) | global(0)
"""


@pytest.fixture
def emit(run: Run) -> Callable[..., str]:
    """emit(stage, definition, *more): what the program prints."""
    Path("spec.bsl").write_text(SPEC, encoding="utf-8")

    def emit(stage: str, name: str, *more: str) -> str:
        done = run("compile", f"spec.bsl{name}", "--emit", stage, *more)
        assert (done.status, done.err) == (0, "")
        assert names() == ["spec.bsl"], "nothing is written"
        return done.out

    return emit


def test_the_syntax_tree(emit: Callable[..., str], golden: Golden) -> None:
    golden("tree.txt", emit("tree", ""))
    assert emit("tree", ":split").startswith("9:1-9:28")


def test_the_pattern(emit: Callable[..., str], golden: Golden) -> None:
    golden("pattern.txt", emit("pattern", ":mixed") + emit("pattern", ":far", "--block", "32x32"))


def test_the_block_graph(emit: Callable[..., str], golden: Golden) -> None:
    golden("graph.txt", emit("graph", ":mixed", "--seq-len", "5000", "--head", "2"))


def test_the_tables(emit: Callable[..., str], golden: Golden) -> None:
    golden("tables.txt", emit("tables", ":near", "--seq-len", "3000", "-D", "w=2"))


def test_the_tables_of_rows_in_parts(emit: Callable[..., str], golden: Golden) -> None:
    golden("split.txt", emit("tables", ":split", "--seq-len", "12288"))


def test_the_head_and_the_layer_are_those_that_are_named(emit: Callable[..., str]) -> None:
    first, second = (emit("graph", ":mixed", "--seq-len", "9000", "--head", h) for h in "02")
    assert first != second
    assert ", head 2" in second


def test_the_tree_of_a_text_with_errors_is_refused(run: Run) -> None:
    done = run("compile", "-", "--emit", "tree", stdin=b"near = last(")
    assert (done.status, done.out) == (1, "")
    assert "error[E1" in done.err


def test_the_tree_is_that_of_the_text_alone(run: Run) -> None:
    """Names that mean nothing are no concern of the parser's."""
    done = run("compile", "-", "--emit", "tree", stdin=b"a = nothing_like_that")
    assert done.out.splitlines()[-1] == "1:5-1:22    body: Name 'nothing_like_that'"


def test_a_name_that_is_not_defined_has_no_tree(run: Run) -> None:
    done = run("compile", "spec.bsl:nea", "--emit", "tree")
    assert (done.status, done.out) == (1, "")
    assert "did you mean `near`?" in done.err


def runs(text: str) -> list[tuple[int, int]]:
    return [(int(start), int(stop)) for start, stop in re.findall(r"(\d+):(\d+)", text)]


@examples(60)
@given(cases())
def test_the_text_of_a_graph_has_all_its_runs(case: Case) -> None:
    assume(case.has_meaning())
    graph = case.lowered()
    _, _, table = stages.graph_text(case.resolved, graph).partition("\nrow  runs\n")
    lines = [line.split(maxsplit=1) for line in table.splitlines()]
    assert [int(row) for row, *_ in lines] == list(range(graph.grid.n))
    found = [
        (int(row), int(start), int(stop), FULL if kind == "full" else int(kind.split()[1]))
        for row, *rest in lines
        for start, stop, kind in re.findall(r"(\d+):(\d+) (full|residual \d+)", "".join(rest))
    ]
    columns = (graph.row, graph.start, graph.stop, graph.kind)
    assert found == [tuple(map(int, run)) for run in zip(*columns, strict=True)]


@examples(60)
@given(cases())
def test_the_text_of_tables_has_all_their_runs(case: Case) -> None:
    assume(case.has_meaning())
    graph = case.lowered()
    made = compiler.schedule(graph)
    text = stages.tables_text(case.resolved, made)
    count = PARTIAL + len(graph.residuals)
    parts = re.findall(r"^(\w+): (?:a|the) .*\nprogram(.*)\n((?:\d.*\n)*)", text, re.MULTILINE)
    tables: dict[str, Table] = {
        "rows": made.rows,
        "cols": made.cols,
        "split_rows": made.split_rows(),
        "split_cols": made.split_cols(),
    }
    assert [name for name, _, _ in parts] == list(tables)
    for name, head, lines in parts:
        table = tables[name]
        starts = [match.start() + len("program") for match in re.finditer(r"\S+(?: \S+)*", head)]
        assert len(starts) == 5 + count
        for number, line in enumerate(lines.splitlines()):
            cells = [line[a:b] for a, b in zip(starts, [*starts[1:], None], strict=True)]
            program = [int(cell) for cell in cells[:4]]
            assert program == table.programs.program[number].tolist()
            first = number * count
            assert int(cells[4]) == table.pointer[first]
            for kind in range(count):
                mine = slice(*table.pointer[first + kind : first + kind + 2])
                np.testing.assert_array_equal(
                    np.array(runs(cells[5 + kind])).reshape(-1, 2), table.runs[mine]
                )
        assert len(lines.splitlines()) == len(table.programs.program)
