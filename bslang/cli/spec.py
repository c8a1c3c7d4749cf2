"""What a command's FILE argument names: a file, standard input, an expression, or a published layout.

A file comes first, so that no name in the library changes what a folder's own specs mean.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from bslang import compiler
from bslang.cli.common import block_option, parameter_options
from bslang.errors import BslangError
from bslang.patterns import PRIMITIVES
from bslang.resolve.library import Entry, library
from bslang.resolve.program import Resolved
from bslang.resolve.sources import SUFFIXES, is_file, source_from, source_of
from bslang.resolve.suggest import closest
from bslang.syntax.diagnostics import Diagnostic, SpecError
from bslang.syntax.fix import question
from bslang.syntax.source import Source

SpecArgument = Annotated[
    str,
    typer.Argument(
        metavar="SPEC",
        help="A spec file, or FILE:NAME for a definition in it; an expression, as in 'window(3) | cols(0)'; "
        "a published layout, as in bigbird; `-` or -:NAME for standard input.",
        show_default=False,
    ),
]

EXPRESSION, STDIN = "<expression>", "<stdin>"
"""Names of sources that are no files."""

_OPERATORS = re.compile(r"[(){}|&~^@]|\s-\s")
"""What an expression has and a file's name hardly does; a file that has it is found before."""


def is_expression(text: str) -> bool:
    """Whether a FILE argument is an expression: no file, and with operators or the name of a primitive."""
    path, _ = compiler.split_name(text)
    if is_file(Path(text)) or is_file(path):
        return False
    return bool(_OPERATORS.search(text)) or text in {each.name for each in PRIMITIVES}


def read_spec(spec: str) -> tuple[Source, str | None]:
    """The source that a FILE[:NAME] argument names, and the definition in it; None for none.

    Says on standard error which published layout a bare name stands for. Raises SpecError.
    """
    path, name = compiler.split_name(spec)
    if is_stdin(path):
        return source_from(STDIN, sys.stdin.buffer, Path.cwd()), name
    if is_expression(spec):
        return Source(EXPRESSION, spec, Path.cwd()), None
    if spec.isidentifier() and not _exists(path):
        found = _published(spec)
        print(f"{spec}: {found.file}:{found.name}", file=sys.stderr)
        return source_of(Path(found.file)), found.name
    return source_of(path), name


def is_stdin(path: Path) -> bool:
    """Whether the file of a FILE[:NAME] argument is standard input."""
    return str(path) in ("-", STDIN)


def spec_files(names: Sequence[str]) -> list[str]:
    """Arguments of commands that take several files, with the spec files below a folder in its place.

    Hidden folders are left out. Raises BslangError for a folder without spec files.
    """
    found: list[str] = []
    for name in names:
        if not (folder := Path(name)).is_dir():
            found.append(name)
            continue
        below = sorted(
            str(path)
            for path in folder.rglob("*")
            if path.suffix in SUFFIXES
            and path.is_file()
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        )
        if not below:
            raise BslangError(f"no spec file ({' or '.join(SUFFIXES)}) in {name} or a folder of it")
        found += below
    return found


def _published(name: str) -> Entry:
    """The published layout of a name; of several files that have it, the one of that name."""
    known = library()
    found = [entry for entry in known if entry.name == name]
    own = [entry for entry in found if Path(entry.file).stem == name]
    if not found:
        near = closest(name, (entry.name for entry in known))
        hint = question(near) if near else "`bslang list` shows the published layouts"
        message = "no such file, and no published layout of this name"
        raise SpecError([Diagnostic("E001", message, Source(name, ""), hint=hint)])
    if len(own or found) > 1:
        places = ", ".join(f"{entry.file}:{entry.name}" for entry in found)
        message = "no such file, and several published layouts of this name"
        raise SpecError([Diagnostic("E001", message, Source(name, ""), hint=f"name one: {places}")])
    return next(iter(own or found))


def _exists(path: Path) -> bool:
    """Whether something lies there; not for a name that no file can have."""
    with suppress(OSError):
        return path.exists()
    return False


def resolve_spec(
    spec: str, define: list[str] | None, block: str | None, order: str | None = None
) -> Resolved:
    """The layout that a command's arguments name."""
    source, name = read_spec(spec)
    return compiler.resolve(
        source,
        name,
        block=block_option(block),
        order=order,
        parameters=parameter_options(define),
    )
