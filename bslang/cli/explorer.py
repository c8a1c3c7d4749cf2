"""bslang explorer: layouts in a page to look at, as a file or from a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bslang import compiler
from bslang.budget import unlimited
from bslang.cli.common import (
    BlockOption,
    ParameterOption,
    block_option,
    length,
    parameter_options,
    write_output,
)
from bslang.cli.spec import SpecArgument, is_stdin, read_spec
from bslang.errors import BslangError
from bslang.resolve.sources import is_file

if TYPE_CHECKING:
    from bslang.explorer.subject import Subject

_MOST_LENGTHS = 12

Output = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", metavar="FILE", show_default=False,
        help="File to write; `-` is standard output. Default: NAME.html.",
    ),
]  # fmt: skip
Lengths = Annotated[
    str | None,
    typer.Option(
        "--seq-len", metavar="N,N,...", show_default=False,
        help="Lengths to offer, in tokens. Default: 8 to 128 blocks.",
    ),
]  # fmt: skip
Compare = Annotated[
    str | None,
    typer.Option(
        "--compare", metavar="SPEC", show_default=False, help="A layout to compare it with."
    ),
]
Packed = Annotated[
    list[str] | None,
    typer.Option(
        "--documents", metavar="N,N,...", show_default=False,
        help="Lengths of documents for `same`, in tokens; give it several times to offer a choice.",
    ),
]  # fmt: skip
Serve = Annotated[
    bool,
    typer.Option(
        "--serve", help="Serve the page on this machine, and reload it when a file changes."
    ),
]
Port = Annotated[
    int | None,
    typer.Option(
        "--port", min=0, max=65535, show_default=False,
        help="Port to serve on. Default: a free one.",
    ),
]  # fmt: skip


def explorer(
    spec: SpecArgument,
    output: Output = None,
    seq_len: Lengths = None,
    define: ParameterOption = None,
    block: BlockOption = None,
    compare: Compare = None,
    documents: Packed = None,
    serve: Serve = False,
    port: Port = None,
) -> None:
    """Write a page for exploring a layout: one HTML file that needs no network, or a local server."""
    lengths, sides, given = _lengths(seq_len), block_option(block), parameter_options(define)
    packed = _documents(documents or ())
    specs = [spec] if compare is None else [spec, compare]
    if serve and output is not None:
        raise typer.BadParameter("--serve writes no file", param_hint="--output")
    if port is not None and not serve:
        raise typer.BadParameter("needs `--serve`", param_hint="--port")
    if serve and any(is_stdin(compiler.split_name(each)[0]) for each in specs):
        raise BslangError("standard input cannot be served; save the spec in a file")
    if len(specs) == 2 and all(is_stdin(compiler.split_name(each)[0]) for each in specs):
        raise BslangError("only one of two layouts can come from standard input")

    def subjects() -> list[Subject]:
        from bslang.explorer.subject import Subject

        read = [(each, *read_spec(each)) for each in specs]
        return [
            Subject(label, source, name, sides, {} if place else given, lengths, packed)
            for place, (label, source, name) in enumerate(read)
        ]

    if serve:
        paths = [compiler.split_name(each)[0] for each in specs]
        _serve(subjects, [path for path in paths if is_file(path)], port or 0)
        return
    from bslang.reports.page import explore

    made = subjects()
    found = explore(made)
    write_output(output or Path(f"{made[0].resolved.name}.html"), found.html)
    for missing in found.left_out:
        typer.echo(f"left out: {missing}; `--serve` has every setting", err=True)


def _lengths(text: str | None) -> list[int]:
    """`1024,16k` as numbers; typer.BadParameter for the rest."""
    parts = text.split(",") if text is not None else []
    if len(parts) > _MOST_LENGTHS:
        message = f"{len(parts)} lengths; a page has up to {_MOST_LENGTHS}"
        raise typer.BadParameter(message, param_hint="--seq-len")
    return [length(part) for part in parts]


def _documents(given: Sequence[str]) -> list[str]:
    """Lengths of documents as they are typed, checked; typer.BadParameter for the rest."""
    from bslang.explorer.documents import lengths

    try:
        return [",".join(map(str, lengths(text))) for text in given]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--documents") from None


def _serve(subjects: Callable[[], list[Subject]], paths: list[Path], port: int) -> None:
    from bslang.explorer.compiling import Compiling
    from bslang.explorer.server import ADDRESS, Server

    try:
        with Server(Compiling(subjects, paths), port) as server:
            print(f"http://{ADDRESS}:{server.server_port}/ until Ctrl-C", flush=True)
            with unlimited():
                server.serve_forever()
    except KeyboardInterrupt:
        print()
