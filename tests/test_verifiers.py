"""The verifiers between stages: a rule that is broken by hand is named; what the stages make keeps all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from strategies import Case, cases, examples
from test_cli import Run, run

from bslang import compiler
from bslang.errors import VerifierError
from bslang.graph import verify as graphs
from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.patterns.window import Causal, Last
from bslang.resolve import verify as patterns
from bslang.schedule import schedule as scheduling
from bslang.schedule import verify as tables
from bslang.schedule.programs import Programs
from bslang.schedule.schedule import EDGE, Schedule, Table, schedule
from bslang.schedule.strips import Edge, Rules, Strip, find
from bslang.syntax.source import Source

__all__ = ["run"]  # the fixture

GRAPH = Case("causal | rows(0) | random(2, seed=1)", (4, 4), 37, 37, "end")
WIDE = Case("last(3) | global(0)", (64, 64), 64 * 1200, 64 * 1200, "end")  # with rows in parts


def changed(array: np.ndarray, place: Any, value: Any) -> np.ndarray:
    made = array.copy()
    made[place] = value
    return made


@pytest.fixture(scope="module")
def graph() -> BlockGraph:
    return compiler.lower(GRAPH.resolved, 37, 37)


def test_what_stages_make_is_not_refused(graph: BlockGraph) -> None:
    graphs.verify(graph)
    patterns.verify(GRAPH.resolved)
    tables.verify(schedule(graph).rows, [graph], Rules())


@examples(150)
@given(cases())
def test_all_that_stages_make_keeps_the_rules(case: Case) -> None:
    assume(case.has_meaning())
    patterns.verify(case.resolved)
    graph = case.lowered()
    made = schedule(graph, verifier=tables.verify)
    assert made.rows and made.cols
    for of, table in ((graph, made.split_rows), (graph.transpose(), made.split_cols)):
        graphs.verify(of)
        strips = find([of], [FULL, *range(len(of.residuals))]) if of.grid.n > 2 else ()
        for listed in (False, True):
            assert table(Rules(strips, listed).lines("row", "column"))


# ---- graphs --------------------------------------------------------------------------------------

BROKEN_GRAPHS: dict[str, Callable[[BlockGraph], BlockGraph]] = {
    "indptr has an ascending entry": lambda g: replace(g, indptr=g.indptr[::-1]),
    "for each block row": lambda g: replace(g, indptr=g.indptr[:-1]),
    "indptr counts the runs": lambda g: replace(g, start=g.start[:-1]),
    "a run has blocks": lambda g: replace(g, stop=changed(g.stop, 2, g.start[2])),
    "a run lies inside the grid": lambda g: replace(g, stop=changed(g.stop, 0, g.grid.m + 1)),
    "one of the residuals": lambda g: replace(g, kind=changed(g.kind, 2, len(g.residuals))),
    "is full, or has one": lambda g: replace(g, kind=changed(g.kind, 2, -2)),
    "are sorted": lambda g: replace(g, start=changed(g.start, [1, 2], g.start[[2, 1]]),
                                    stop=changed(g.stop, [1, 2], g.stop[[2, 1]])),
    "disjoint": lambda g: replace(g, stop=changed(g.stop, 1, g.start[2] + 1)),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN_GRAPHS)
def test_a_broken_graph_is_refused(graph: BlockGraph, what: str) -> None:
    assert graph.row[1] == graph.row[2], "two runs of one row"
    with pytest.raises(VerifierError, match=what) as caught:
        graphs.verify(BROKEN_GRAPHS[what](graph))
    assert caught.value.stage == "graph"


def test_where_a_graph_is_broken_is_said(graph: BlockGraph) -> None:
    run = int(np.flatnonzero(graph.row == 5)[0])
    with pytest.raises(VerifierError, match=r"\(block row 5, columns \d:\d, kind 7\)"):
        graphs.verify(replace(graph, kind=changed(graph.kind, run, 7)))


def test_a_run_before_the_first_query_is_refused() -> None:
    graph = compiler.lower(GRAPH.resolved, 8, 37)
    early = replace(graph, indptr=changed(graph.indptr, slice(2, graph.grid.q.first + 1), 1))
    with pytest.raises(VerifierError, match="inside the grid"):
        graphs.verify(early)


# ---- tables --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Made:
    """Tables with split rows, and what they were made of."""

    graph: BlockGraph
    rules: Rules
    table: Table

    def programs(self, **columns: Any) -> Table:
        return replace(self.table, programs=replace(self.table.programs, **columns))

    def program(self, place: Any, value: Any) -> Table:
        return self.programs(program=changed(self.table.programs.program, place, value))


@pytest.fixture(scope="module")
def made() -> Made:
    graph = compiler.lower(WIDE.resolved, WIDE.len_q, WIDE.len_k)
    rules = Rules((Strip(FULL, Edge(-2, 1), Edge(1, 1)),))
    return Made(graph, rules, schedule(graph).split_rows(rules.lines("row", "column")))


def parts(made: Made) -> np.ndarray:
    """The programs of the split row, in the order of their blocks."""
    program = made.table.programs.program
    (row, _, _), *more = made.table.programs.merges
    assert not more
    mine = np.flatnonzero(program[:, 0] == row)
    assert mine.size > 2
    return mine[np.argsort(program[mine, 1])]


def kept(made: Made, keep: Any) -> Programs:
    return replace(made.table.programs, program=made.table.programs.program[keep])


BROKEN_TABLES: dict[str, Callable[[Made], Table]] = {
    "every block row has a program": lambda m: replace(m.table, programs=kept(m, slice(0, -1))),
    "and no other has": lambda m: m.program((-1, 0), m.graph.grid.n),
    "the parts of a row join up": lambda m: m.program((parts(m)[1], 1), 3 + parts_end(m)),
    "from its first block on": lambda m: m.program((parts(m)[0], 1), 1),
    "reach its last block": lambda m: m.program((parts(m)[-1], 2), m.graph.grid.m - 1),
    "one program handles has no slot": lambda m: m.program((-1, 3), 0),
    "slots of a row follow its blocks": lambda m: m.program((parts(m)[[0, 1]], 3), [1, 0]),
    "merges name the slots": lambda m: m.programs(merges=changed(m.table.programs.merges, (0, 2), 1)),
    "of every split row": lambda m: m.programs(merges=m.table.programs.merges[:0]),
    "a pointer for each class": lambda m: replace(m.table, pointer=m.table.pointer[:-1]),
    "pointers ascend": lambda m: replace(m.table, pointer=changed(m.table.pointer, 5, 10**6)),
    "to the last": lambda m: replace(m.table, runs=m.table.runs[:-1]),
    "inside the part of its program": lambda m: replace(m.table, runs=m.table.runs[::-1]),
    "strips and tables are the graph": lambda m: replace(m.table, ruled=~m.table.ruled),
}  # fmt: skip


def parts_end(made: Made) -> int:
    return int(made.table.programs.program[parts(made)[0], 2])


@pytest.mark.parametrize("what", BROKEN_TABLES)
def test_a_broken_table_is_refused(made: Made, what: str) -> None:
    tables.verify(made.table, [made.graph], made.rules)
    with pytest.raises(VerifierError, match=what) as caught:
        tables.verify(BROKEN_TABLES[what](made), [made.graph], made.rules)
    assert caught.value.stage == "schedule" and caught.value.where


def test_a_strip_that_the_graph_lacks_is_refused(made: Made) -> None:
    wider = Rules((Strip(FULL, Edge(-3, 1), Edge(1, 1)),))
    with pytest.raises(
        VerifierError, match=r"are the graph \(block row \d+, column \d+, kind -1\)"
    ):
        tables.verify(made.table, [made.graph], wider)


def test_a_block_that_is_visited_twice_is_refused(made: Made) -> None:
    """By a strip and by the table, so that its keys would count twice."""
    rules = Rules((Strip(FULL, Edge(0), Edge(1)), *made.rules.strips))
    with pytest.raises(VerifierError, match="no block is visited twice"):
        tables.verify(made.table, [made.graph], rules)


def test_a_full_block_that_ends_early_in_the_loop_without_bounds_is_refused() -> None:
    graph = compiler.lower(GRAPH.resolved, 37, 37)
    table = schedule(graph).rows
    classes = 2 + len(graph.residuals)
    edge = np.flatnonzero(np.diff(table.pointer).reshape(-1, classes)[:, EDGE])[0] * classes + EDGE
    with pytest.raises(VerifierError, match="full blocks that end early are a class"):
        tables.verify(
            replace(table, pointer=changed(table.pointer, edge, table.pointer[edge + 1])),
            [graph],
            Rules(),
        )


def test_the_runs_of_a_class_are_sorted(graph: BlockGraph) -> None:
    table = schedule(graph).rows
    two = int(np.flatnonzero(np.diff(table.pointer) > 1)[0])
    first = int(table.pointer[two])
    mixed = changed(table.runs, [first, first + 1], table.runs[[first + 1, first]])
    with pytest.raises(VerifierError, match="sorted and disjoint"):
        tables.verify(replace(table, runs=mixed), [graph], Rules())


# ---- patterns ------------------------------------------------------------------------------------


class Fickle(Causal):
    """A primitive whose text says something else."""

    def __str__(self) -> str:
        return "last(2)"


def test_a_text_that_means_another_pattern_is_refused() -> None:
    resolved = compiler.resolve(Source("<test>", "causal"))
    with pytest.raises(VerifierError, match=r"reads back as the pattern \(last\(2\)\)") as caught:
        patterns.verify(replace(resolved, pattern=Fickle()))
    assert caught.value.stage == "pattern"


def test_a_text_that_is_not_canonical_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = compiler.resolve(Source("<test>", "last(2)"))
    texts, plain = iter(["(last(2))"]), Last.__str__
    monkeypatch.setattr(Last, "__str__", lambda self: next(texts, plain(self)))
    with pytest.raises(VerifierError, match="is the text of what it reads as"):
        patterns.verify(resolved)


# ---- where stages meet ---------------------------------------------------------------------------


@pytest.fixture
def wrong_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    from bslang.graph import lower as lowering

    honest = lowering.lower

    def lower(*given: Any) -> BlockGraph:
        graph = honest(*given)
        return replace(graph, kind=graph.kind + 9)

    monkeypatch.setattr(lowering, "lower", lower)


@pytest.mark.usefixtures("wrong_kinds")
def test_the_compiler_verifies_graphs_when_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VerifierError, match="graph: violated: a run is full"):
        compiler.lower(GRAPH.resolved, 37, 37)
    for off in ("0", ""):
        monkeypatch.setenv("BSLANG_VERIFY", off)
        assert compiler.lower(GRAPH.resolved, 37, 37).kind.min() > FULL


def test_the_compiler_verifies_tables_when_it_is_asked_to(
    graph: BlockGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    def turned(*given: Any, **more: Any) -> Table:
        table = honest(*given, **more)
        return replace(table, runs=table.runs[::-1])

    honest = scheduling._table_of
    monkeypatch.setattr(scheduling, "_table_of", turned)

    def ask(made: Schedule) -> list[Table]:
        return [made.rows, made.cols, made.split_rows(), made.split_cols()]

    for name in ("rows", "cols"):
        with pytest.raises(VerifierError, match="schedule: "):
            getattr(compiler.schedule(graph), name)
    for name in ("split_rows", "split_cols"):
        with pytest.raises(VerifierError, match="schedule: "):
            getattr(compiler.schedule(graph), name)()
    monkeypatch.setenv("BSLANG_VERIFY", "0")
    assert len(ask(compiler.schedule(graph))) == 4


def test_the_compiler_verifies_patterns_when_it_is_asked_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolved = replace(compiler.resolve(Source("<test>", "causal")), pattern=Fickle())
    with pytest.raises(VerifierError, match="pattern: "):
        compiler.emit(resolved, ["torch"])
    monkeypatch.setenv("BSLANG_VERIFY", "0")
    assert compiler.emit(resolved, ["torch"])


@pytest.mark.usefixtures("wrong_kinds")
def test_a_broken_stage_is_a_bug_of_ours(run: Run) -> None:
    done = run("show", "spec.bsl:near")
    assert done.status == 70
    assert "VerifierError: graph: violated: a run is full" in done.err
