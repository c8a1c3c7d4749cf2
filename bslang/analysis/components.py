"""Analyses of a layout as a directed graph of blocks, with networkx."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bslang.analysis.square import Square
from bslang.limits import MAX_EDGES

if TYPE_CHECKING:
    import networkx as nx

_NAMED = 16  # articulation blocks that are named


@dataclass(frozen=True)
class Parts:
    """Strongly connected components and articulation points of the blocks of a layout.

    edges, sampled: pairs of blocks of which one sees the other, and how many of them were looked at: all,
    or a sample; components: strongly connected ones, in which every block reaches every other (of a
    sample, at most so many); largest: blocks of the largest one; articulation: blocks without which
    others fall apart, whichever sees which; named: the first of these.
    """

    edges: int
    sampled: int
    components: int
    largest: int
    articulation: int
    named: tuple[int, ...]


def to_networkx(square: Square, most: int = MAX_EDGES) -> nx.DiGraph[int]:
    """The blocks that see one another: an edge i -> j where some query of block i sees a key of block j.

    With more than `most` edges, a sample of them.
    """
    import networkx as nx

    made: nx.DiGraph[int] = nx.DiGraph()
    made.add_nodes_from(range(square.size))
    made.add_edges_from(zip(*(ends.tolist() for ends in square.sampled(most)), strict=True))
    return made


def parts(square: Square, most: int = MAX_EDGES) -> Parts:
    """Strongly connected components and articulation blocks; exact on up to `most` edges."""
    import networkx as nx

    blocks = to_networkx(square, most)
    either: nx.Graph[int] = nx.Graph(
        blocks.edges
    )  # to_undirected would copy the data of every edge
    either.add_nodes_from(blocks)
    components = [len(part) for part in nx.strongly_connected_components(blocks)]
    sampled = blocks.number_of_edges()
    cut = sorted(nx.articulation_points(either))
    return Parts(
        square.edges, sampled, len(components), max(components), len(cut), tuple(cut[:_NAMED])
    )
