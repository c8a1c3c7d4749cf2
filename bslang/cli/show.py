"""bslang show: a picture of a layout, in the terminal or in a file."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bslang.cli.common import (
    BlockOption,
    LayerOption,
    LengthOption,
    OrderOption,
    ParameterOption,
    RanksOption,
    check_group,
    write_output,
)
from bslang.cli.spec import SpecArgument, resolve_spec
from bslang.errors import printable
from bslang.limits import MAX_HEADS

if TYPE_CHECKING:
    from bslang.picture.text import Line, Look

_MOST_HEADS = 16

Heads = Annotated[
    str,
    typer.Option(
        "--head", metavar="N,N,...", help="Heads to draw side by side; a:b is a to b - 1."
    ),
]


def show(
    spec: SpecArgument,
    seq_len: LengthOption = None,
    define: ParameterOption = None,
    block: BlockOption = None,
    order: OrderOption = None,
    head: Heads = "0",
    layer: LayerOption = 0,
    terms: Annotated[
        bool,
        typer.Option("--terms", help="Show each block as the letter of the term that adds it."),
    ] = False,
    ranks: RanksOption = None,
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
    from bslang.picture.text import Look
    from bslang.reports.drawing import show as picture_of
    from bslang.reports.ranks import Group

    heads = _heads(head)
    if terms and ranks is not None:
        raise typer.BadParameter(
            "not with --ranks, which shows where keys come from", param_hint="--terms"
        )
    if str(svg) == str(png) == "-":
        message = "only one picture can go to standard output; write the other to a file"
        raise typer.BadParameter(message, param_hint="--png")
    resolved = resolve_spec(spec, define, block, order)
    group = None if ranks is None else Group(ranks)
    check_group(group, resolved)
    drawing = picture_of(resolved, seq_len, heads=heads, layer=layer, group=group)
    if svg is not None:
        write_output(svg, drawing.svg())
    if png is not None:
        write_output(png, drawing.png())
    if svg is None and png is None:
        uncoloured = plain or not sys.stdout.isatty()
        look = Look(letters=terms) if uncoloured else _terminal_look(terms)
        _write(drawing.lines(look), look)


def _heads(text: str) -> list[int]:
    """`0,2,4:8` as the heads 0, 2, 4, 5, 6, 7; typer.BadParameter for what is none."""
    heads: dict[int, None] = {}
    for part in text.split(","):
        found = re.fullmatch(r"\s*([0-9]{1,9})(?::([0-9]{1,9}))?\s*", part)
        if found is None:
            message = f"{text!r} is not a list of heads, such as 0,2,4:8"
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
