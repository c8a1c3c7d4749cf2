"""Analyses of a layout as a directed graph of blocks, with networkx."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bslang.graph.blockgraph import BlockGraph

if TYPE_CHECKING:
    import networkx as nx

MAX_ANALYSED = 512
"""Most blocks on a side for which paths are followed from every block to every other."""


def to_networkx(graph: BlockGraph) -> nx.DiGraph[int]:
    """The blocks that see one another: an edge i -> j where some query of block i sees a key of block j.

    Block rows and columns are the same nodes, so the layout must attend over one sequence. Costs
    O(visited blocks).
    """
    import networkx as nx

    made: nx.DiGraph[int] = nx.DiGraph()
    made.add_nodes_from(range(max(graph.grid.n, graph.grid.m)))
    cells = graph.held.cells()
    made.add_edges_from(
        zip((cells // graph.grid.m).tolist(), (cells % graph.grid.m).tolist(), strict=True)
    )
    return made


def hops(graph: BlockGraph) -> int | None:
    """In how many layers every block has received from every other; None where it never does.

    Raises ValueError for more than MAX_ANALYSED blocks.
    """
    import networkx as nx

    if graph.grid.n > MAX_ANALYSED:
        raise ValueError(f"{graph.grid.n} blocks; paths are followed among up to {MAX_ANALYSED}")
    blocks = to_networkx(graph)
    return int(nx.diameter(blocks)) if nx.is_strongly_connected(blocks) else None
