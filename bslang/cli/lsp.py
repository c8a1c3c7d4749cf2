"""bslang lsp: the language server that editors start."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from typing import Annotated

import typer

from bslang.budget import unlimited

Stdio = Annotated[
    bool,
    typer.Option("--stdio", help="Use stdin and stdout. This is the default; editors may pass it."),
]


def lsp(stdio: Stdio = False) -> None:
    """Run the language server on stdin and stdout: diagnostics, pictures, completion, rename, format."""
    from bslang.editors.server import server

    # The server closes its stream, and nothing else may write to it.
    with (
        os.fdopen(os.dup(sys.stdout.fileno()), "wb") as stream,
        redirect_stdout(sys.stderr),
        unlimited(),
    ):
        server.start_io(stdout=stream)
    if not server.asked_to_stop:  # the client went away, or ended us before that
        raise typer.Exit(1)
