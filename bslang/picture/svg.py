"""Pictures as SVG: one self-contained element, for a file, a page or a notebook."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from xml.sax.saxutils import escape, quoteattr

from bslang.graph.blockgraph import BlockGraph
from bslang.ir.grid import Grid
from bslang.ir.pattern import Pattern
from bslang.picture.colours import colour
from bslang.picture.picture import (
    MOST_ENTRIES,
    NO_TERM,
    PANELS,
    Division,
    Panel,
    Picture,
    label,
    level,
)

MOST_CELLS = 96
"""Cells on a side of a panel; larger layouts are drawn by density."""

_SIDE = 360  # px of the longer side of a panel
_MARGIN = 16
_LINE = 20
_GRID_PX = 8  # cells of at least so many px have lines between them
_STEPS = 8  # shades of a colour
_CHARACTER = 7.3  # px of one in the legend: monospaced, 12 px high
_ABOUT = 2  # lines before them

# The ground is the picture's own, so that it is legible on any page; it follows what the reader's system
# asks for. Colours of terms are the same on either.
_STYLE = """\
.bsl-picture .ground{fill:#ffffff}.bsl-picture .panel{fill:#f1f3f5}
.bsl-picture .lines{stroke:#ffffff;stroke-opacity:.6}.bsl-picture text{fill:#24292f}
@media (prefers-color-scheme:dark){.bsl-picture .ground{fill:#16181d}
.bsl-picture .panel{fill:#24272e}.bsl-picture .lines{stroke:#16181d}.bsl-picture text{fill:#e6e8eb}}"""


def svg(
    pattern: Pattern,
    graphs: Sequence[BlockGraph],
    name: str = "",
    *,
    cells: int = MOST_CELLS,
    scale: float = 1,
    legend: bool = True,
    division: Division | None = None,
) -> str:
    """An `<svg>` element with the heads of a layout side by side.

    pattern: the layout; graphs: one for each head drawn, all at one length; name: what the picture is
    called; cells: the most on a side of a panel; scale: the size at which it is shown; legend: whether
    the lines below the panels are drawn. Every patch of cells has a `<title>` that says what it
    holds. The same arguments give the same text. Raises as `provenance`.
    """
    picture = Picture.of(graphs, cells, cells, pattern, division)
    grid = graphs[0].grid
    title = label(f"{name}: {pattern}" if name else str(pattern), 200)
    size = _size(grid)
    words = _words(picture, grid) if legend else []
    wide = max(
        _MARGIN + min(len(picture.panels), PANELS) * (size[0] + _gap(picture)),
        2 * _MARGIN + round(_CHARACTER * max((len(line) + 3 for line in words), default=0)),
    )
    drawn, bottom = _panels(picture, size)
    high = bottom + _LINE * len(words) + _MARGIN
    about = f"{_about(grid)}. {picture.scale.capitalize()}. " + "; ".join(
        map(str, picture.legend[:MOST_ENTRIES])
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="bsl-picture" role="img" '
        f"aria-label={quoteattr(f'{title}. {about}')} "
        f'width="{round(wide * scale)}" height="{round(high * scale)}" viewBox="0 0 {wide} {high}">'
    )
    parts = [
        head,
        f"<title>{escape(title)}</title>",
        f"<desc>{escape(about)}</desc>",
        f"<style>{_STYLE}</style>",
        f'<rect class="ground" width="{wide}" height="{high}" rx="6"/>',
        *drawn,
        *(_legend(picture, words, bottom) if legend else ()),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _about(grid: Grid) -> str:
    tokens, sides = grid.k.stop, f"{grid.q.block} x {grid.k.block}"
    return f"{tokens:,} tokens, {grid.n:,} x {grid.m:,} blocks of {sides}"


def _size(grid: Grid) -> tuple[int, int]:
    """Width and height of a panel in px: as tokens are, within reason."""
    tall = (grid.q.stop - grid.q.start) / (grid.k.stop - grid.k.start)
    if tall <= 1:
        return _SIDE, max(_SIDE // 6, round(_SIDE * tall))
    return max(_SIDE // 6, round(_SIDE / tall)), _SIDE


def _panels(picture: Picture, size: tuple[int, int]) -> tuple[list[str], int]:
    """The panels, and where they end."""
    several = len(picture.panels) > 1
    caption = _LINE if several else 0
    high = caption + size[1] + _MARGIN
    parts = []
    for place, panel in enumerate(picture.panels):
        left = _MARGIN + place % PANELS * (size[0] + _gap(picture))
        top = _MARGIN + place // PANELS * high
        if several:
            parts.append(_text(left, top + 10, f"head {panel.head}"))
        parts += _panel(picture, panel, left, top + caption, size)
        for row, text in enumerate(picture.beside):
            y = top + caption + (row + 0.5) * size[1] / panel.cells.down + 4
            parts += [_text(left + size[0] + 4, round(y), text)] * bool(text)
    return parts, _MARGIN + -(-len(picture.panels) // PANELS) * high


def _gap(picture: Picture) -> int:
    """After a panel, with what stands beside its rows."""
    return _MARGIN + (round(_CHARACTER * max(map(len, picture.beside))) if picture.beside else 0)


def _panel(
    picture: Picture, panel: Panel, left: int, top: int, size: tuple[int, int]
) -> Iterator[str]:
    """One head: an SVG of its own, whose unit is the cell."""
    down, across = panel.cells.down, panel.cells.across
    yield (
        f'<svg x="{left}" y="{top}" width="{size[0]}" height="{size[1]}" '
        f'viewBox="0 0 {across} {down}" preserveAspectRatio="none" shape-rendering="crispEdges">'
    )
    yield f'<rect class="panel" width="{across}" height="{down}"/>'
    yield from _patches(picture, panel)
    yield "</svg>"
    wide, high = size[0] / across, size[1] / down
    if min(wide, high) >= _GRID_PX:
        rows = "".join(f"M{left} {top + i * high:g}h{size[0]}" for i in range(1, down))
        columns = "".join(f"M{left + j * wide:g} {top}v{size[1]}" for j in range(1, across))
        yield f'<path class="lines" d="{rows}{columns}" fill="none" pointer-events="none"/>'


def _patches(picture: Picture, panel: Panel) -> Iterator[str]:
    """A rectangle for each stretch of a row whose cells look the same."""
    shades = level(picture.tone(panel), _STEPS).tolist()
    for i, row in enumerate(zip(panel.term.tolist(), shades, strict=True)):
        looks = enumerate(zip(*row, strict=True))
        for (term, shade), stretch in groupby(looks, key=lambda item: item[1]):
            columns = [j for j, _ in stretch]
            if term == NO_TERM:
                continue
            what = _what(panel, i, columns[0], columns[-1] + 1)
            opacity = "" if shade == _STEPS else f' fill-opacity="{0.15 + 0.75 * shade / _STEPS:g}"'
            yield (
                f'<rect x="{columns[0]}" y="{i}" width="{len(columns)}" height="1" '
                f'fill="{colour(term)}"{opacity}><title>'
                f"{escape(f'{what}; {picture.legend[term].text}')}</title></rect>"
            )


def _what(panel: Panel, i: int, start: int, stop: int) -> str:
    cells = panel.cells
    rows = (
        cells.first + i * cells.per_row,
        cells.first + min((i + 1) * cells.per_row, cells.shape[0]),
    )
    columns = start * cells.per_column, min(stop * cells.per_column, cells.shape[1])
    full, partial = (int(kind[i, start:stop].sum()) for kind in (panel.full, panel.partial))
    return (
        f"{_range('row', *rows)}, {_range('column', *columns)}: {full:,} full, {partial:,} partial, of "
        f"{int(cells.area[i, start:stop].sum()):,} blocks"
    )


def _range(noun: str, start: int, stop: int) -> str:
    return f"{noun} {start}" if stop == start + 1 else f"{noun}s {start} to {stop - 1}"


def _words(picture: Picture, grid: Grid) -> list[str]:
    """The lines below the panels."""
    words = [str(entry) for entry in picture.legend[:MOST_ENTRIES]]
    left = len(picture.legend) - len(words)
    if left:
        words.append(f"and {left} more")
    return [
        _about(grid),
        f"{picture.scale}; the paler, the emptier; partial blocks count half",
        *words,
        *picture.lines,
    ]


def _legend(picture: Picture, words: list[str], top: int) -> Iterator[str]:
    for place, line in enumerate(words):
        y, term = top + _LINE * place, place - _ABOUT
        if 0 <= term < len(picture.legend[:MOST_ENTRIES]):
            yield f'<rect x="{_MARGIN}" y="{y}" width="12" height="12" fill="{colour(term)}"/>'
            yield _text(_MARGIN + _LINE, y + 10, line)
        else:
            yield _text(_MARGIN, y + 10, line)


def _text(x: int, y: int, words: str) -> str:
    return f'<text x="{x}" y="{y}" font-family="monospace" font-size="12">{escape(words)}</text>'
