"""bslang list: which layouts are there, in the library or in a file?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from bslang import compiler
from bslang.cli.common import (
    JsonOption,
    print_json,
)
from bslang.cli.spec import read_spec
from bslang.errors import printable
from bslang.resolve.library import Entry, entries, library

FileArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[FILE]",
        help="A spec file; without one, the library of published layouts.",
        show_default=False,
    ),
]


def list(file: FileArgument = None, json: JsonOption = False) -> None:
    """List the layouts of the library, or of a file, with their parameters and comments."""
    if file is None:
        found: Sequence[Entry] = library()
    else:
        source, _ = read_spec(file)
        compiler.program(source)  # reports what is wrong
        found = entries(source)
    if json:
        print_json([_as_dict(entry) for entry in found])
    elif sys.stdout.isatty():
        _print_table(found)
    else:
        pairs = [(f"{entry.file}:{entry.form}", entry.summary) for entry in found]
        width = max((len(name) for name, _ in pairs), default=0)
        for name, summary in pairs:
            print(f"{name:<{width}}  {summary}".rstrip())


def _as_dict(entry: Entry) -> dict[str, object]:
    return {
        "file": entry.file,
        "name": entry.name,
        "parameters": [*entry.parameters],
        "comment": entry.comment,
        "text": entry.text,
    }


def _print_table(found: Sequence[Entry]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("layout", no_wrap=True)
    table.add_column("parameters")
    table.add_column("what it is")
    for entry in found:
        # As text, so that brackets in a comment are no markup.
        cells = (f"{entry.file}:{entry.name}", ", ".join(entry.parameters), entry.summary)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    Console().print(table)
