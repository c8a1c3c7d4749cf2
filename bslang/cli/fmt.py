"""bslang fmt: spec files in one style."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from bslang.cli.spec import read_spec, spec_files
from bslang.errors import BslangError
from bslang.files import rewrite
from bslang.resolve.sources import is_file, source_of
from bslang.syntax.diagnostics import Diagnostic, SpecError
from bslang.syntax.format import formatted
from bslang.syntax.source import Source

Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE...",
        help="Spec files, or folders of them; `-` formats standard input to standard output.",
        show_default=False,
    ),
]
Check = Annotated[
    bool, typer.Option("--check", help="Write nothing; exit with 1 if a file would change.")
]
Diff = Annotated[bool, typer.Option("--diff", help="Write nothing; print what would change.")]


def fmt(files: Files, check: Check = False, diff: Diff = False) -> None:
    """Format spec files in place; files with errors are not changed."""
    found: list[Diagnostic] = []
    changes = 0
    for file in spec_files(files):
        try:
            before, after = _formatted(file)
        except SpecError as error:
            found.extend(error.diagnostics)
            continue
        changes += before != after
        if diff:
            print("".join(_diff(file, before, after)), end="")
        elif file == "-" and not check:
            # Data for a program as it is; a terminal must not take orders from it.
            typer.echo(after if sys.stdout.isatty() else after.encode(), nl=False)
        elif before != after:
            if not check:
                _write(Path(file), after)
            print(f"{file}: {'would be formatted' if check else 'formatted'}")
    if found:
        raise SpecError(found)
    if check and changes:
        raise typer.Exit(1)


def _formatted(file: str) -> tuple[str, str]:
    """The text of a file as it is, with the line ends that it has, and formatted. Raises SpecError."""
    if file == "-":
        source, _ = read_spec(file)
        return source.text, formatted(source)
    path = Path(file)
    source = source_of(path)
    after = formatted(source)
    if not is_file(path):  # a device, or one of the library's
        message = "not a regular file, so it is not formatted"
        raise SpecError([Diagnostic("E001", message, Source(source.name, ""))])
    return path.read_bytes().decode(), after


def _write(path: Path, text: str) -> None:
    try:
        rewrite(path, text)
    except OSError as error:
        raise BslangError(f"cannot write {path}: {error.strerror or error}") from None


def _diff(file: str, before: str, after: str) -> Iterator[str]:
    """A unified diff; lines end at line feeds only, as `patch` takes them."""
    import difflib

    old, new = (re.findall(r"[^\n]*\n|[^\n]+", text) for text in (before, after))
    for line in difflib.unified_diff(old, new, file, f"{file} (formatted)"):
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
