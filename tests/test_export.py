"""bslang graph: what other programs read is what the layout visits."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given
from strategies import Case, cases, examples
from test_cli import Run, run

from bslang.analysis.export import FORMATS, export
from bslang.analysis.provenance import provenance
from bslang.graph.blockgraph import FULL
from bslang.limits import MAX_EDGES

__all__ = ["run"]  # the fixture


def text(case: Case, form: str) -> str:
    graph = case.lowered()
    return export(case.resolved.pattern, graph, "layout", form)


@examples(30)
@given(cases())
def test_edges_are_the_visited_blocks(case: Case) -> None:
    assume(case.has_meaning())
    graph = case.lowered()
    full = graph.of_kind(FULL).dense(graph.grid.n)
    term = np.full(full.shape, "", dtype=object)
    for part, runs in provenance(case.resolved.pattern, graph.grid):
        term[runs.dense(graph.grid.n)] = str(part)
    one = graph.grid.q == graph.grid.k
    expected = {
        (i, j) if one else (f"q{i}", f"k{j}"): {
            "kind": "full" if full[i, j] else "partial",
            "term": term[i, j],
        }
        for i, j in zip(*(ends.tolist() for ends in np.nonzero(term != "")), strict=True)
    }
    found = nx.node_link_graph(json.loads(text(case, "json")), edges="edges")
    assert {(i, j): what for i, j, what in found.edges(data=True)} == expected
    assert found.graph["spec"] == str(case.resolved.pattern)
    of_q, of_k = range(graph.grid.q.first, graph.grid.n), range(graph.grid.k.first, graph.grid.m)
    assert list(found.nodes) == (
        list(of_q) if one else [*(f"q{i}" for i in of_q), *(f"k{j}" for j in of_k)]
    )
    again = nx.read_graphml(io.BytesIO(text(case, "graphml").encode()))
    assert {(i, j): what for i, j, what in again.edges(data=True)} == {
        (str(i), str(j)): what for (i, j), what in expected.items()
    }
    arrows = re.findall(r"^\t(\w+) -> (\w+) \[", text(case, "dot"), re.MULTILINE)
    assert arrows == [(str(i), str(j)) for i, j in expected]  # in order


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_layout_gives_the_same_text(form: str) -> None:
    case = Case("window(3) | cols(0) | random(2, seed=7)", (4, 4), 80, 80, "end")
    assert text(case, form) == text(case, form)


def test_graph_on_the_command_line(run: Run) -> None:
    done = run("graph", "spec.bsl:near", "--seq-len", "64", "-D", "w=2")
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == [
        "digraph near {",
        '\tgraph [block="32x32" head=0 layer=0 spec="last(2)" tokens=64]',
        "\t0 [first=0 last=31]",
        "\t1 [first=32 last=63]",
        '\t0 -> 0 [kind=full term="last(2)"]',
        '\t1 -> 0 [kind=full term="last(2)"]',
        '\t1 -> 1 [kind=full term="last(2)"]',
        "}",
    ]
    written = run("graph", "spec.bsl:near", "--format", "json", "-o", "near.json")
    assert (written.status, written.out) == (0, "near.json\n")
    assert json.loads(Path("near.json").read_text())["graph"]["name"] == "near"


def test_graph_refuses_what_it_cannot_do(run: Run) -> None:
    assert "did you mean graphml?" in run("graph", "spec.bsl:near", "--format", "graphm").err
    Path("folder").mkdir()
    done = run("graph", "spec.bsl:near", "-o", "folder")
    assert (done.status, done.err) == (1, "error: cannot write to folder: not a file\n")
    done = run("graph", "spec.bsl:near", "-o", "n" * 3000)
    assert (done.status, len(done.err) < 500) == (1, True)
    assert re.match("error: cannot write to nnn.* ... n+: File name too long", done.err)
    done = run("graph", "-", "--seq-len", "65536", stdin=b"all")
    assert (done.status, done.out) == (3, "")
    assert done.err == (
        "error: a graph of 1048576 visited blocks: more than bslang allows "
        f"(MAX_EDGES = {MAX_EDGES}); a shorter length or larger blocks have fewer\n"
    )
