"""What commands share: their options, and how results are printed."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bslang import compiler
from bslang.budget import allow
from bslang.dims import Dims
from bslang.errors import BslangError, shortened
from bslang.files import write_whole
from bslang.limits import MAX_RANKS
from bslang.syntax.diagnostics import Diagnostic

if TYPE_CHECKING:
    from bslang.reports.ranks import Group
    from bslang.resolve.program import Resolved

_UNITS = {"": 1, "k": 1024, "M": 1024**2}


def length(text: str | int) -> int:
    """`16384` or `16k`, 1,024 tokens each, or `1M`, 1,024 times that; typer.BadParameter for the rest."""
    found = re.fullmatch(r"0*([1-9][0-9]{0,9})([kM]?)", str(text).strip(), re.ASCII)
    if found is None:
        message = (
            f"{text!r} is not a length of at least one token, such as 4096, 16k (16,384) or 1M"
        )
        raise typer.BadParameter(message)
    tokens = int(found[1]) * _UNITS[found[2]]
    allow(tokens)
    return tokens


ParameterOption = Annotated[
    list[str] | None,
    typer.Option(
        "-D",
        metavar="NAME=VALUE",
        help="Set a parameter of the definition; may be repeated.",
        show_default=False,
    ),
]
BlockOption = Annotated[
    str | None,
    typer.Option(
        "--block",
        metavar="N or NxM",
        help="Block size in tokens (query x key); replaces the spec's setting.",
        show_default=False,
    ),
]
OrderOption = Annotated[
    str | None,
    typer.Option(
        "--order",
        metavar="ORDER",
        help="Order of tokens, as in 'tiles(8, 32, 32; 4, 8, 8)'; replaces the spec's setting.",
        show_default=False,
    ),
]
LengthOption = Annotated[
    int | None,
    typer.Option(
        "--seq-len",
        metavar="LENGTH",
        parser=length,
        help="Length in tokens: 4096, 16k, 1M.",
        show_default=False,
    ),
]
LongOption = Annotated[
    int | None,
    typer.Option(
        "--seq-len",
        metavar="LENGTH",
        parser=length,
        help="Length in tokens: 4096, 16k, 1M. Default: 16384, or the size of the layout's grid.",
        show_default=False,
    ),
]
HeadOption = Annotated[int, typer.Option("--head", min=0, help="Head, counted from 0.")]
LayerOption = Annotated[int, typer.Option("--layer", min=0, help="Value of `layer` in the spec.")]
HeadDimsOption = Annotated[
    str | None,
    typer.Option(
        "--head-dim",
        metavar="D,D,...",
        help="Head dimensions to compile for; 192/128: of keys and of values. Default: 64,128.",
        show_default=False,
    ),
]
DtypesOption = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        metavar="NAME,...",
        help="Dtypes to compile for: bf16, fp16, fp32. Default: bf16.",
        show_default=False,
    ),
]
RanksOption = Annotated[
    int | None,
    typer.Option(
        "--ranks", metavar="N", min=1, max=MAX_RANKS, show_default=False,
        help="Share the sequence among N ranks.",
    ),
]  # fmt: skip
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


_NUMBER = "(0*[1-9][0-9]{0,8})"
"""A number of at least 1, as a regular expression."""


def parameter_options(define: list[str] | None) -> dict[str, str]:
    """`-D name=value` options as a mapping; typer.BadParameter for one that is none."""
    parameters = {}
    for option in define or []:
        name, equals, value = option.partition("=")
        if not equals or not name.strip().isidentifier():
            raise typer.BadParameter(f"{option!r} is not NAME=VALUE", param_hint="-D")
        parameters[name.strip()] = value.strip()
    return parameters


def block_option(block: str | None) -> tuple[int, int] | None:
    """`--block 64` or `--block 128x64` as sides; typer.BadParameter for one that is none."""
    if block is None:
        return None
    found = re.fullmatch(r"([0-9]{1,9})(?:x([0-9]{1,9}))?", block)
    if found is None:
        message = f"{block!r} is not a block size, such as 64 or 128x64"
        raise typer.BadParameter(message, param_hint="--block")
    try:
        return compiler.block_sides((int(found[1]), int(found[2] or found[1])))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--block") from None


def head_dims_option(dims: str | None) -> list[Dims]:
    """`--head-dim 64,192/128` as dimensions of keys and of values, in order; typer.BadParameter for one that
    is none."""
    found = []
    for part in ("64,128" if dims is None else dims).split(","):
        match = re.fullmatch(rf"\s*{_NUMBER}(?:/{_NUMBER})?\s*", part, re.ASCII)
        if match is None:
            message = (
                f"{dims!r} is not a list of numbers of at least 1, or of pairs of them (of keys and of "
                "values), such as 64,192/128"
            )
            raise typer.BadParameter(message, param_hint="--head-dim")
        found.append(Dims(int(match[1]), int(match[2] or match[1])))
    return list(dict.fromkeys(found))


def numbers_option(numbers: str, option: str, example: str) -> list[int]:
    """An option's `64,128` as numbers from 1 on, in order; typer.BadParameter for one that is none."""
    parts = numbers.split(",")
    for part in parts:
        if not re.fullmatch(rf"\s*{_NUMBER}\s*", part, re.ASCII):
            message = f"{numbers!r} is not a list of numbers of at least 1, such as {example}"
            raise typer.BadParameter(message, param_hint=option)
    return list(dict.fromkeys(map(int, parts)))


def dtypes_option(dtypes: str | None) -> list[str]:
    """`--dtype bf16,fp16` as names, in order."""
    parts = ("bf16" if dtypes is None else dtypes).split(",")
    return list(dict.fromkeys(part.strip() for part in parts))


def write_output(path: Path, content: str | bytes) -> None:
    """Write what a command makes to the file that the user named, whole or not at all, and print its
    name; `-` is standard output. Raises BslangError where it cannot be written."""
    if str(path) == "-":
        if isinstance(content, str):
            sys.stdout.write(content)
        else:
            sys.stdout.buffer.write(content)
        return
    try:
        if path.exists() and not path.is_file():
            raise BslangError(f"cannot write to {path}: not a file")
        write_whole(path.parent, {path.name: content})
    except OSError as error:
        named = shortened(str(path))
        raise BslangError(f"cannot write to {named}: {error.strerror or error}") from None
    print(path)


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout."""
    print(json.dumps(value, indent=2))


def as_dict(diagnostic: Diagnostic) -> dict[str, object]:
    """A diagnostic as JSON has it; lines and columns count from 1, and are null for a whole file.

    The fix, if there is one, has a title and edits: each text takes the place of what stands from its
    start up to its end.
    """
    source, span, fix = diagnostic.source, diagnostic.span, diagnostic.fix

    def place(offset: int) -> dict[str, int | None]:
        row, column = source.position(offset)
        return {"line": row, "column": column}

    edits = [
        {"start": place(edit.span.start), "end": place(edit.span.stop), "text": edit.text}
        for edit in (fix.edits if fix else ())
    ]
    return {
        "file": source.name,
        **(place(span.start) if span else {"line": None, "column": None}),
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        "message": diagnostic.message,
        "hint": diagnostic.hint,
        "fix": {"title": fix.title, "edits": edits} if fix else None,
    }


def print_diagnostic(diagnostic: Diagnostic) -> None:
    """A diagnostic on stderr, its first line in colour on a terminal."""
    if not sys.stderr.isatty():
        print(diagnostic.render(), file=sys.stderr)
        return
    from rich.console import Console
    from rich.text import Text

    head, _, rest = diagnostic.render().partition("\n")
    kind, _, message = head.partition(": ")
    colour = "bold yellow" if diagnostic.severity == "warning" else "bold red"
    text = Text.assemble((kind, colour), (f": {message}", "bold"), f"\n{rest}")
    Console(stderr=True, soft_wrap=True).print(text)


def check_group(group: Group | None, resolved: Resolved) -> None:
    """Refuse a layout that is not called over several ranks."""
    if group is None:
        return
    try:
        group.check(resolved)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--ranks") from None
