"""bslang import: a spec from a configuration of DeepSpeed or transformers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from bslang.configs import spec_of
from bslang.errors import BslangError, LimitError
from bslang.files import write_whole
from bslang.limits import MAX_CONFIG_BYTES
from bslang.resolve.sources import SUFFIXES

ConfigArgument = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG.json",
        help="A DeepSpeed configuration with `sparse_attention`, that section alone, or a config.json of "
        "transformers; `-` reads standard input.",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE.bsl",
        help="File to write. Default: standard output.",
        show_default=False,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that exists.")]


def import_(config: ConfigArgument, output: Output = None, force: Force = False) -> None:
    """Write the spec of a DeepSpeed or transformers configuration."""
    if output is not None and output.suffix not in SUFFIXES:
        raise BslangError(
            f"{output} is not a spec file: its name does not end in {' or '.join(SUFFIXES)}"
        )
    if output is not None and output.is_dir():
        raise BslangError(f"{output} is a folder; -o takes a file")
    if output is not None and output.exists() and not force:
        raise BslangError(f"{output} exists; --force replaces it")
    shown = "standard input" if config == "-" else config
    try:
        text = spec_of(_read(config), "standard input" if config == "-" else Path(config).name)
    except LimitError as error:
        raise LimitError(error.limit, error.allowed, f"{shown}: {error.what}") from None
    except BslangError as error:
        raise BslangError(f"{shown}: {error}") from None
    if output is None:
        typer.echo(text.encode(), nl=False)
        return
    try:
        write_whole(output.parent, {output.name: text})
    except OSError as error:
        raise BslangError(f"cannot write {output}: {error.strerror or error}") from None
    print(output)


def _read(config: str) -> object:
    """The value of a JSON file. Raises BslangError, LimitError."""
    if config == "-":
        return _parsed(sys.stdin.buffer)
    try:
        with Path(config).open("rb") as file:
            return _parsed(file)
    except FileNotFoundError:
        raise BslangError("no such file") from None
    except IsADirectoryError:
        raise BslangError("this is a folder; name the file, as in config.json") from None
    except OSError as error:
        raise BslangError(f"this file cannot be read: {error.strerror or error}") from None


def _parsed(file: BinaryIO) -> object:
    data = file.read(MAX_CONFIG_BYTES + 1)
    if len(data) > MAX_CONFIG_BYTES:
        raise LimitError("MAX_CONFIG_BYTES", MAX_CONFIG_BYTES, "the size of the file in bytes")
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BslangError(f"this file is not UTF-8 text (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise BslangError(f"this is not JSON: {error}") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, brackets in thousands
        raise BslangError(
            "this JSON is nested too deeply, or has a number that is too long"
        ) from None
