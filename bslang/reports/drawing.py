"""A picture of a layout at a length: `bslang show` and `Layout.show`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bslang import compiler
from bslang.analysis.provenance import terms
from bslang.files import write_whole
from bslang.graph.blockgraph import BlockGraph
from bslang.picture.picture import MOST_TERMS, Division, Picture
from bslang.picture.svg import svg
from bslang.picture.text import Line, Look, Room, draw, plain
from bslang.reports.division import division
from bslang.reports.lengths import drawn_length
from bslang.reports.ranks import Group
from bslang.resolve.program import Resolved

_PNG_CELLS = 512


@dataclass(frozen=True, repr=False)
class Drawing:
    """Heads of a layout side by side: rows are blocks of queries, columns blocks of keys.

    `str` and `repr` are the picture in characters, as wide as the terminal; notebooks show the SVG.
    letters: whether each block has the letter of the term of the spec that brings it in. division: what is
    told apart in place of terms, as the ranks that share the layout.
    """

    resolved: Resolved
    graphs: tuple[BlockGraph, ...]
    length: int
    letters: bool = False
    division: Division | None = None

    def __str__(self) -> str:
        return plain(self.lines(Look(letters=self.letters)))

    def __repr__(self) -> str:
        return str(self)

    def _repr_svg_(self) -> str:
        return self.svg()

    def svg(self) -> str:
        """The picture as an SVG element."""
        return svg(self.resolved.pattern, self.graphs, self.resolved.name, division=self.division)

    def png(self) -> bytes:
        """The picture as a PNG file. Raises BslangError without matplotlib."""
        from bslang.picture.png import png

        cells = _PNG_CELLS, _PNG_CELLS
        picture = Picture.of(self.graphs, *cells, self.resolved.pattern, self.division)
        return png(picture, self.graphs[0].grid, f"{self.resolved.name}, {self.length:,} tokens")

    def save(self, path: str | Path) -> Path:
        """Write the picture to a file whose ending says what it is: .svg, .png or .txt. Returns the path.

        Raises ValueError for another ending, OSError.
        """
        path = Path(path)
        content: str | bytes
        if path.suffix == ".svg":
            content = self.svg()
        elif path.suffix == ".png":
            content = self.png()
        elif path.suffix == ".txt":
            content = f"{self}\n"
        else:
            raise ValueError(f"a picture is written to a .svg, .png or .txt file, not {path.name}")
        write_whole(path.parent, {path.name: content})
        return path

    def lines(self, look: Look) -> list[Line]:
        """The picture that fits the terminal, after the layout and its size."""
        resolved, grid = self.resolved, self.graphs[0].grid
        rows, columns = resolved.block
        names = resolved.pattern.names()
        which = f", head {grid.head}" if len(self.graphs) == 1 and "head" in names else ""
        which += f", layer {grid.layer}" if "layer" in names else ""
        about = [
            f"{resolved.name}: {resolved.about}",
            f"{self.length:,} token{'s' * (self.length != 1)}, block {rows}x{columns}: "
            f"{grid.n} x {grid.m} blocks{which}",
            "",
        ]
        if self.division is not None and not look.terms:
            look = replace(look, letters=True)
        size = shutil.get_terminal_size((80, 40))
        around = 6 + (self._entries() if look.terms else 0)
        beside = 0 if self.division is None else 1 + max(map(len, self.division.rows))
        room = Room.of(len(self.graphs), size.lines - around, size.columns - beside)
        down, across = room.cells(halves=False)
        look = replace(look, halves=look.halves and (grid.n > down or grid.m > across))
        shown = resolved.pattern if look.terms else None
        picture = Picture.of(self.graphs, *room.cells(look.halves), shown, self.division)
        return [*([(text, "")] for text in about), *draw(picture, look, room.per_line)]

    def _entries(self) -> int:
        """Lines of the legend, at least: heads may have terms of their own."""
        if self.division is not None:
            return len(self.division.lines)
        pattern = self.resolved.pattern
        return min(max(len(list(terms(pattern, g.grid.head))) for g in self.graphs), MOST_TERMS)


def show(
    resolved: Resolved,
    seq_len: int | None = None,
    *,
    heads: Sequence[int] = (0,),
    layer: int = 0,
    letters: bool = False,
    group: Group | None = None,
) -> Drawing:
    """The picture of some heads at a length in tokens: 24 blocks, the size of the layout's grid, or more
    where its numbers are large, for None. group: ranks that share the layout, whose rows and exchange it
    shows in place of terms; it has the heads drawn at least. Raises SpecError where the layout is undefined
    at the length, ValueError as `Group.exchange`."""
    length = seq_len or drawn_length(resolved)
    graphs = (compiler.lower(resolved, length, length, head=head, layer=layer) for head in heads)
    drawn = Drawing(resolved, tuple(graphs), length, letters)
    if group is None:
        return drawn
    most = max(compiler.heads(resolved), *(head + 1 for head in heads))
    exchange = replace(group, heads=group.heads or most).exchange(resolved, length, layer)
    return replace(drawn, division=division(exchange))
