"""bslang explorer: layouts in a page to look at, as a file or from a server."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bslang import compiler
from bslang.cli.common import (
    BlockOption,
    ParameterOption,
    SpecArgument,
    block_option,
    parameter_options,
    read_spec,
    write_output,
)
from bslang.errors import BslangError
from bslang.limits import MAX_LENGTH

if TYPE_CHECKING:
    from bslang.explorer.subject import Subject

_MOST_LENGTHS = 12

Output = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", metavar="FILE", show_default=False,
        help="Where the page is written; NAME.html, if left out; `-` is standard output.",
    ),
]  # fmt: skip
Lengths = Annotated[
    str | None,
    typer.Option(
        "--seq-len", metavar="N,N,...", show_default=False,
        help="Lengths to choose among, in tokens; 8 to 128 blocks, if left out.",
    ),
]  # fmt: skip
Compare = Annotated[
    str | None,
    typer.Option(
        "--compare", metavar="FILE[:NAME]", show_default=False, help="A layout to compare it with."
    ),
]
Serve = Annotated[
    bool, typer.Option("--serve", help="Serve the page here, and reload it when a file changes.")
]
Port = Annotated[
    int | None,
    typer.Option(
        "--port", min=0, max=65535, show_default=False,
        help="Port to serve at; any that is free, if left out.",
    ),
]  # fmt: skip


def explorer(
    spec: SpecArgument,
    output: Output = None,
    seq_len: Lengths = None,
    define: ParameterOption = None,
    block: BlockOption = None,
    compare: Compare = None,
    serve: Serve = False,
    port: Port = None,
) -> None:
    """Write a page to look at a layout: one HTML file that needs no network, or a local server."""
    lengths, sides, given = _lengths(seq_len), block_option(block), parameter_options(define)
    specs = [spec] if compare is None else [spec, compare]
    if serve and output is not None:
        raise typer.BadParameter("a served page is written to no file", param_hint="--output")
    if port is not None and not serve:
        raise typer.BadParameter("there is a port with `--serve` only", param_hint="--port")
    if serve and "-" in (str(compiler.split_name(each)[0]) for each in specs):
        raise BslangError("standard input does not change; save the spec, and serve the file")
    if [str(compiler.split_name(each)[0]) for each in specs] == ["-", "-"]:
        raise BslangError("only one of two layouts can come from standard input")

    def subjects() -> list[Subject]:
        from bslang.explorer.subject import Subject

        read = [(each, *read_spec(each)) for each in specs]
        return [
            Subject(label, source, name, sides, {} if place else given, lengths)
            for place, (label, source, name) in enumerate(read)
        ]

    if serve:
        _serve(subjects, [compiler.split_name(each)[0] for each in specs], port or 0)
        return
    from bslang.explorer.data import data
    from bslang.explorer.page import page

    made = subjects()
    text = page(found := data(made))
    write_output(output or Path(f"{made[0].resolved.name}.html"), text)
    for missing in found["left_out"]:
        typer.echo(f"left out: {missing}; `--serve` has every setting", err=True)


def _lengths(text: str | None) -> list[int]:
    """`1024,4096` as numbers; typer.BadParameter for what is none."""
    parts = text.split(",") if text is not None else []
    for part in parts:
        if not re.fullmatch(r"\s*[0-9]{1,10}\s*", part) or not 1 <= int(part) <= MAX_LENGTH:
            message = f"{text!r} is no list of lengths in tokens, as in 1024,4096"
            raise typer.BadParameter(message, param_hint="--seq-len")
    if len(parts) > _MOST_LENGTHS:
        message = f"{len(parts)} lengths; a page has up to {_MOST_LENGTHS}"
        raise typer.BadParameter(message, param_hint="--seq-len")
    return list(map(int, parts))


def _serve(subjects: Callable[[], list[Subject]], paths: list[Path], port: int) -> None:
    from bslang.explorer.server import ADDRESS, Compiling, Server

    try:
        with Server(Compiling(subjects, paths), port) as server:
            print(f"http://{ADDRESS}:{server.server_port}/ until Ctrl-C", flush=True)
            server.serve_forever()
    except KeyboardInterrupt:
        print()
