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
from bslang.picture.picture import MOST_TERMS, Picture
from bslang.picture.svg import svg
from bslang.picture.text import Line, Look, Room, draw, plain
from bslang.reports.lengths import drawn_length
from bslang.resolve.program import Resolved

_PNG_CELLS = 512


@dataclass(frozen=True, repr=False)
class Drawing:
    """Heads of a layout side by side: rows are blocks of queries, columns blocks of keys.

    `str` and `repr` are the picture in characters, as wide as the terminal; notebooks show the SVG.
    letters: whether each block has the letter of the term of the spec that brings it in.
    """

    resolved: Resolved
    graphs: tuple[BlockGraph, ...]
    length: int
    letters: bool = False

    def __str__(self) -> str:
        return plain(self.lines(Look(letters=self.letters)))

    def __repr__(self) -> str:
        return str(self)

    def _repr_svg_(self) -> str:
        return self.svg()

    def svg(self) -> str:
        """The picture as an SVG element."""
        return svg(self.resolved.pattern, self.graphs, self.resolved.name)

    def png(self) -> bytes:
        """The picture as a PNG file. Raises BslangError without matplotlib."""
        from bslang.picture.png import png

        picture = Picture.of(self.graphs, _PNG_CELLS, _PNG_CELLS, self.resolved.pattern)
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
            f"{resolved.name}: {resolved.pattern}",
            f"{self.length:,} token{'s' * (self.length != 1)}, block {rows}x{columns}: "
            f"{grid.n} x {grid.m} blocks{which}",
            "",
        ]
        size = shutil.get_terminal_size((80, 40))
        around = 6 + (self._entries() if look.terms else 0)
        room = Room.of(len(self.graphs), size.lines - around, size.columns)
        down, across = room.cells(halves=False)
        look = replace(look, halves=look.halves and (grid.n > down or grid.m > across))
        shown = resolved.pattern if look.terms else None
        picture = Picture.of(self.graphs, *room.cells(look.halves), shown)
        return [*([(text, "")] for text in about), *draw(picture, look, room.per_line)]

    def _entries(self) -> int:
        """Lines of the legend, at least: heads may have terms of their own."""
        pattern = self.resolved.pattern
        return min(max(len(list(terms(pattern, g.grid.head))) for g in self.graphs), MOST_TERMS)


def show(
    resolved: Resolved,
    seq_len: int | None = None,
    *,
    heads: Sequence[int] = (0,),
    layer: int = 0,
    letters: bool = False,
) -> Drawing:
    """The picture of some heads at a length in tokens: 24 blocks, the size of the layout's grid, or more
    where its numbers are large, for None. Raises SpecError where the layout is undefined at the length."""
    length = seq_len or drawn_length(resolved)
    graphs = (compiler.lower(resolved, length, length, head=head, layer=layer) for head in heads)
    return Drawing(resolved, tuple(graphs), length, letters)
