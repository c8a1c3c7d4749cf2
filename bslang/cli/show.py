"""bslang show: a picture of a layout, in the terminal or in a file."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bslang import compiler
from bslang.cli.common import (
    BlockOption,
    LayerOption,
    LengthOption,
    ParameterOption,
    write_output,
)
from bslang.cli.lengths import drawn_length
from bslang.cli.spec import SpecArgument, resolve_spec
from bslang.errors import printable
from bslang.limits import MAX_HEADS

if TYPE_CHECKING:
    from bslang.graph.blockgraph import BlockGraph
    from bslang.picture.text import Line, Look
    from bslang.resolve.program import Resolved

_MOST_HEADS = 16
_PNG_CELLS = 512

Heads = Annotated[
    str,
    typer.Option(
        "--head", metavar="N,N,...", help="Which heads, side by side; a:b stands for a to b - 1."
    ),
]


def show(
    spec: SpecArgument,
    seq_len: LengthOption = None,
    define: ParameterOption = None,
    block: BlockOption = None,
    head: Heads = "0",
    layer: LayerOption = 0,
    terms: Annotated[
        bool, typer.Option("--terms", help="Letters for the term that brings in each block.")
    ] = False,
    plain: Annotated[
        bool, typer.Option("--ascii", help="Plain ASCII, also on a terminal.")
    ] = False,
    svg: Annotated[
        Path | None,
        typer.Option("--svg", metavar="FILE", help="Write an SVG file; `-` is standard output."),
    ] = None,
    png: Annotated[
        Path | None,
        typer.Option("--png", metavar="FILE", help="Write a PNG file; this needs matplotlib."),
    ] = None,
) -> None:
    """Draw a layout: rows are blocks of queries, columns blocks of keys."""
    heads = _heads(head)
    if str(svg) == str(png) == "-":
        message = "one picture goes to standard output; give the other a file"
        raise typer.BadParameter(message, param_hint="--png")
    resolved = resolve_spec(spec, define, block)
    length = seq_len or drawn_length(resolved)
    graphs = [compiler.lower(resolved, length, length, head=h, layer=layer) for h in heads]
    if svg is not None:
        from bslang.picture.svg import svg as drawn

        write_output(svg, drawn(resolved.pattern, graphs, resolved.name))
    if png is not None:
        write_output(png, _png(resolved, graphs, length))
    if svg is None and png is None:
        _print(resolved, graphs, length, terms, plain)


def _heads(text: str) -> list[int]:
    """`0,2,4:8` as the heads 0, 2, 4, 5, 6, 7; typer.BadParameter for what is none."""
    heads: dict[int, None] = {}
    for part in text.split(","):
        found = re.fullmatch(r"\s*([0-9]{1,9})(?::([0-9]{1,9}))?\s*", part)
        if found is None:
            message = f"{text!r} is no list of heads, as in 0,2,4:8"
            raise typer.BadParameter(message, param_hint="--head")
        start, stop = int(found[1]), int(found[2]) if found[2] else int(found[1]) + 1
        if stop > MAX_HEADS:
            message = f"heads go up to {MAX_HEADS - 1}"
            raise typer.BadParameter(message, param_hint="--head")
        heads |= dict.fromkeys(range(start, stop))
    if not 1 <= len(heads) <= _MOST_HEADS:
        message = f"{text!r} names {len(heads)} heads; 1 to {_MOST_HEADS} are drawn side by side"
        raise typer.BadParameter(message, param_hint="--head")
    return list(heads)


def _png(resolved: Resolved, graphs: list[BlockGraph], length: int) -> bytes:
    from bslang.picture.picture import Picture
    from bslang.picture.png import png

    picture = Picture.of(graphs, _PNG_CELLS, _PNG_CELLS, resolved.pattern)
    return png(picture, graphs[0].grid, f"{resolved.name}, {length:,} tokens")


def _print(
    resolved: Resolved, graphs: list[BlockGraph], length: int, letters: bool, plain: bool
) -> None:
    """The picture that fits the window, after the layout and its size."""
    from bslang.picture.picture import Picture
    from bslang.picture.text import Look, Room, draw

    look = Look(letters=letters) if plain or not sys.stdout.isatty() else _terminal_look(letters)
    grid = graphs[0].grid
    rows, columns = resolved.block
    print(f"{resolved.name}: {resolved.pattern}")
    names = resolved.pattern.names()
    which = f", head {grid.head}" if len(graphs) == 1 and "head" in names else ""
    which += f", layer {grid.layer}" if "layer" in names else ""
    print(
        f"{length:,} token{'s' * (length != 1)}, block {rows}x{columns}: {grid.n} x {grid.m} blocks{which}\n"
    )
    size = shutil.get_terminal_size((80, 40))
    around = 6 + (_entries(resolved, graphs) if look.terms else 0)
    room = Room.of(len(graphs), size.lines - around, size.columns)
    down, across = room.cells(halves=False)
    look = replace(look, halves=look.halves and (grid.n > down or grid.m > across))
    shown = resolved.pattern if look.terms else None
    picture = Picture.of(graphs, *room.cells(look.halves), shown)
    _write(draw(picture, look, room.per_line), look)


def _entries(resolved: Resolved, graphs: list[BlockGraph]) -> int:
    """Lines of the legend, at least: heads may have terms of their own."""
    from bslang.analysis.provenance import terms
    from bslang.picture.picture import MOST_TERMS

    counts = (len(list(terms(resolved.pattern, graph.grid.head))) for graph in graphs)
    return min(max(counts), MOST_TERMS)


def _terminal_look(letters: bool) -> Look:
    """What the terminal can show: Unicode where it takes UTF-8, colours where it has and wants them."""
    from rich.console import Console

    from bslang.picture.text import PLAIN, SHADED, Look

    console = Console()
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    colours = console.color_system is not None and not console.no_color
    inks = SHADED if unicode else PLAIN
    return Look(inks, letters, colours, halves=colours and unicode and not letters)


def _write(lines: list[Line], look: Look) -> None:
    from bslang.picture.text import plain

    if not look.colours:
        print(plain(lines))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for line in lines:
        safe = ((printable(part[0]), *part[1:]) for part in line)
        console.print(Text.assemble(*safe), no_wrap=True, overflow="ignore", crop=False)
