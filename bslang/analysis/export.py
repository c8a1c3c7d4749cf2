"""The graph of blocks for other programs: DOT, GraphML and node-link JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from bslang.analysis.provenance import provenance
from bslang.errors import LimitError
from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.ir.grid import Axis, Ints
from bslang.ir.pattern import Pattern
from bslang.limits import MAX_EDGES

if TYPE_CHECKING:
    import networkx as nx


def export(pattern: Pattern, graph: BlockGraph, name: str, form: str) -> str:
    """The text of a layout's block graph; form: a key of FORMATS.

    Nodes are blocks with their first and last token; where the sides of blocks differ, those of queries
    (q0, q1, ...) and those of keys (k0, k1, ...). An edge goes from a block of queries to a block of keys
    that it visits: kind is "full" or "partial", term the first term of the layout that brings it in. The
    same layout gives the same text. Raises LimitError for more than MAX_EDGES edges, and as `provenance`.
    """
    return FORMATS[form](attributed(pattern, graph, name))


def attributed(pattern: Pattern, graph: BlockGraph, name: str) -> nx.DiGraph[Any]:
    """The graph that `export` writes. Raises as it does."""
    import networkx as nx

    grid = graph.grid
    edges = int(graph.blocks_by_row.sum())
    if edges > MAX_EDGES:
        what = f"a graph of {edges} visited blocks"
        raise LimitError(
            "MAX_EDGES", MAX_EDGES, what, "a shorter length or larger blocks have fewer"
        )
    made: nx.DiGraph[Any] = nx.DiGraph(
        name=name, spec=str(pattern), tokens=grid.k.stop, head=grid.head, layer=grid.layer,
        block=f"{grid.q.block}x{grid.k.block}",
    )  # fmt: skip
    one = grid.q == grid.k
    for letter, axis in (("", grid.q),) if one else (("q", grid.q), ("k", grid.k)):
        made.add_nodes_from(_nodes(letter, axis))
    kinds = _cells(graph, (FULL,)), _cells(graph, range(len(graph.residuals)))
    cells = np.concatenate(kinds)
    kind = np.repeat(["full", "partial"], [part.size for part in kinds])
    order = np.argsort(cells)
    found = provenance(pattern, grid)
    term = np.repeat(np.arange(len(found)), [runs.size for _, runs in found])
    of_term = np.argsort(np.concatenate([runs.cells() for _, runs in found]))
    names = [str(part) for part, _ in found]
    ends = zip(*(end.tolist() for end in np.divmod(cells[order], grid.m)), strict=True)
    about = zip(ends, kind[order].tolist(), term[of_term].tolist(), strict=True)
    for (i, j), what, which in about:
        ends_of = (i, j) if one else (f"q{i}", f"k{j}")
        made.add_edge(*ends_of, kind=what, term=names[which])
    return made


def _cells(graph: BlockGraph, kinds: range | tuple[int, ...]) -> Ints:
    return np.concatenate([np.zeros(0, np.int64), *(graph.of_kind(kind).cells() for kind in kinds)])


def _nodes(letter: str, axis: Axis) -> list[tuple[int | str, dict[str, int]]]:
    first, last = axis.spans()
    numbers = range(axis.first, axis.blocks)
    return [
        (f"{letter}{number}" if letter else number, {"first": start, "last": stop})
        for number, start, stop in zip(numbers, first.tolist(), last.tolist(), strict=True)
    ]


def _dot(graph: nx.DiGraph[Any]) -> str:
    import graphviz

    def text(value: object) -> str:
        escaped: str = graphviz.escape(str(value))
        return escaped

    about = {key: text(value) for key, value in graph.graph.items() if key != "name"}
    dot = graphviz.Digraph(text(graph.graph["name"]), graph_attr=about)
    for node, tokens in graph.nodes(data=True):
        dot.node(str(node), **{key: text(value) for key, value in tokens.items()})
    for start, stop, what in graph.edges(data=True):
        dot.edge(str(start), str(stop), **{key: text(value) for key, value in what.items()})
    source: str = dot.source
    return source


def _graphml(graph: nx.DiGraph[Any]) -> str:
    import networkx as nx

    return "\n".join(nx.generate_graphml(graph)) + "\n"


def _json(graph: nx.DiGraph[Any]) -> str:
    import networkx as nx

    return json.dumps(nx.node_link_data(graph, edges="edges"), indent=1) + "\n"


FORMATS: dict[str, Callable[[nx.DiGraph[Any]], str]] = {
    "dot": _dot,
    "graphml": _graphml,
    "json": _json,
}
"""The formats, by name."""
