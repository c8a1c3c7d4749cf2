"""What a layout looks like where Python shows it: in a prompt, and in a notebook."""

from __future__ import annotations

from collections.abc import Callable

from bslang.errors import BslangError
from bslang.graph.blockgraph import BlockGraph
from bslang.ir.pattern import Pattern
from bslang.picture.picture import Picture
from bslang.picture.svg import svg
from bslang.picture.text import Look, draw, plain

SMALL, LARGE = 12, 32
"""Blocks of the longer side, as text and as SVG: most patterns show what they are."""

Graph = Callable[[int], BlockGraph]
"""The graph of a head at a small length."""


def _known(graph: Graph, head: int) -> BlockGraph | None:
    """The graph of a head; None where the layout is undefined at the length, as one with a table."""
    try:
        return graph(head)
    except (BslangError, MemoryError):
        return None


def text(about: str, graph: Graph, by_head: bool) -> str:
    """What a layout is, its density at SMALL blocks, and a picture of that."""
    known = _known(graph, 0)
    if known is None:
        return f"<{about}>"
    density = int(known.blocks_by_row.sum()) / (known.grid.n * known.grid.m)
    of_head = " of head 0" if by_head else ""
    lines = draw(Picture.of([known], SMALL, SMALL), Look())
    picture = plain(lines).split("\n")[: known.grid.n]
    return (
        f"<{about}; {density:.1%}{of_head} at {known.grid.k.stop:,} tokens\n"
        + "\n".join(picture)
        + ">"
    )


def drawing(name: str, pattern: Pattern, graph: Graph, by_head: bool) -> str | None:
    """A layout at LARGE blocks as an SVG element, up to 4 heads side by side where they differ; None where
    it is undefined at that length."""
    graphs = [_known(graph, head) for head in range(4 if by_head else 1)]
    known = [graph for graph in graphs if graph is not None]
    return svg(pattern, known, name) if known else None
