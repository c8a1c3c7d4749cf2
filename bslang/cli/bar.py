"""The progress bar of long commands: on a terminal's standard error only, and gone when the work is done."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from bslang.progress import reporting

QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress bar.")]


@contextmanager
def progress(doing: str, quiet: bool = False) -> Iterator[None]:
    """Show what is done and, once the work reports it, how far it is.

    doing: as in "verifying". Nothing is shown where standard error is no terminal.
    """
    if quiet or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(doing, total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        with reporting(show):
            yield
