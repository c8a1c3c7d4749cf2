"""What a layout looks like where Python shows it: in a prompt, and in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bslang.errors import BslangError
from bslang.picture.picture import Picture
from bslang.picture.svg import svg
from bslang.picture.text import Look, draw, plain

if TYPE_CHECKING:
    from bslang.graph.blockgraph import BlockGraph
    from bslang.runtime.layout import Layout

_SMALL, _LARGE = 12, 32
"""Blocks of the longer side, as text and as SVG: most patterns show what they are."""


def _graph(layout: Layout, blocks: int, head: int = 0) -> BlockGraph | None:
    """The graph at so many blocks; None where the layout means nothing there, as one with a table."""
    try:
        return layout.graph(blocks * max(layout.block), head=head)
    except (BslangError, MemoryError):
        return None


def text(layout: Layout) -> str:
    """The name, spec and block of a layout, its density at a small length, and a picture of that."""
    rows, columns = layout.block
    layer = f", layer {layout.layer}" if layout.layer else ""
    about = f"bslang.Layout {layout.name}: {layout.spec}; block {rows}x{columns}{layer}"
    graph = _graph(layout, _SMALL)
    if graph is None:
        return f"<{about}>"
    density = int(graph.blocks_by_row.sum()) / (graph.grid.n * graph.grid.m)
    of_head = " of head 0" if layout.by_head else ""
    lines = draw(Picture.of([graph], _SMALL, _SMALL), Look())
    picture = plain(lines).split("\n")[: graph.grid.n]
    return (
        f"<{about}; {density:.1%}{of_head} at {graph.grid.k.stop:,} tokens\n"
        + "\n".join(picture)
        + ">"
    )


def drawing(layout: Layout) -> str | None:
    """The layout as an SVG element, up to 4 heads beside each other where they differ; None where it means
    nothing at a small length."""
    graphs = [_graph(layout, _LARGE, head) for head in range(4 if layout.by_head else 1)]
    known = [graph for graph in graphs if graph is not None]
    return svg(layout.resolved.pattern, known, layout.name) if known else None
