"""What a spec may read: itself, and the files that it names below its own folder or in the library.

A spec is data from someone else. Nothing that it names leads out of its folder, through `..`, an
absolute path or a link; only regular files are opened, and no more is read than limits allow.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from bslang.limits import MAX_FILE_BYTES
from bslang.resolve.suggest import closest
from bslang.resources import resource
from bslang.syntax import tree
from bslang.syntax.diagnostics import Diagnostic, SpecError
from bslang.syntax.fix import Fix, meant, question
from bslang.syntax.source import Source, Span

SUFFIXES = (".bsl", ".bslang")
"""Suffixes of spec files."""

LIBRARY = "std/"
"""What paths into the library of published layouts begin with."""


class Unreadable(Exception):
    """A file that a spec names and may not, or cannot, read; near: the path that was probably meant."""

    def __init__(
        self, message: str, hint: str = "", limit: bool = False, *, near: str = ""
    ) -> None:
        super().__init__(message)
        self.message, self.hint, self.limit = message, question(near) if near else hint, limit
        self.near = near

    def fix(self, path: tree.Text) -> Fix | None:
        """The fix of the path as a spec has it, in quotes."""
        inside = Span(path.span.start + 1, path.span.stop - 1)
        return meant(path.value, self.near, inside)


def source_of(path: Path) -> Source:
    """Read a spec file; a path that begins with `std/` and is no file here is the library's.

    Raises SpecError where it is missing, no file, or no UTF-8 text.
    """
    name = str(path)

    def refuse(message: str, hint: str = "") -> SpecError:
        return SpecError([Diagnostic("E001", message, Source(name, ""), hint=hint)])

    if name.startswith(LIBRARY) and not is_file(path):
        try:
            return _library(name)
        except Unreadable as error:
            raise refuse(error.message, error.hint) from None
    try:
        with path.open("rb") as file:
            return source_from(name, file, path.resolve().parent)
    except FileNotFoundError:
        near = ", ".join(str(p) for p in specs_in(path.parent))
        hint = f"specs there: {near}" if near else "that folder has no spec file"
        if "(" in name:
            hint = (
                "`bslang.compile` takes an expression; commands read it from standard input (`-`)"
            )
        elif name.isidentifier() and (resource("std") / f"{name}.bsl").is_file():
            hint = f"the library has one: `{LIBRARY}{name}.bsl`"
        raise refuse("no such file", hint) from None
    except IsADirectoryError:
        near = ", ".join(str(p) for p in specs_in(path))
        hint = f"specs in it: {near}" if near else "it has no spec file"
        raise refuse("this is a folder, not a spec", hint) from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise refuse(f"this file cannot be read: {getattr(error, 'strerror', error)}") from None


def source_from(name: str, file: BinaryIO, folder: Path | None = None) -> Source:
    """Read a spec from an open file. Raises SpecError where it is no UTF-8 text, OSError."""
    # No more is read than shows that it is too much: the file may have no end.
    data = file.read(MAX_FILE_BYTES + 4)
    try:
        text = data.decode("utf-8-sig", "strict" if len(data) <= MAX_FILE_BYTES else "replace")
    except UnicodeDecodeError as error:
        message = f"this file is not UTF-8 text (byte {error.start})"
        raise SpecError([Diagnostic("E002", message, Source(name, ""))]) from None
    return Source(name, text.replace("\r\n", "\n").replace("\r", "\n"), folder)


def imported(importer: Source, name: str) -> Source:
    """The source of a file that another imports. Raises Unreadable, or SpecError for its encoding."""
    if name.startswith(LIBRARY):
        return _library(name)
    path = below(importer, name)
    if path.suffix not in SUFFIXES:
        raise Unreadable(
            "only spec files can be imported", f"their names end in {' or '.join(SUFFIXES)}"
        )
    shown = str(Path(importer.name).parent / name)
    with _opened(path) as file:
        return source_from(shown, file, path.parent)


def below(importer: Source, name: str) -> Path:
    """The real path of a file below the folder of the spec that names it. Raises Unreadable."""
    if importer.folder is None:
        raise Unreadable(
            "a spec that is not a file has no folder to read from",
            f"save it as a file; `{LIBRARY}...`, the library, can be imported anywhere",
        )
    written = Path(name)
    if not name or "\0" in name or "\\" in name:
        raise Unreadable("not a valid path", "write it as in `masks/local.npy`")
    if written.is_absolute() or ".." in written.parts:
        raise Unreadable(
            "a spec reads only files below its own folder",
            "put the file beside the spec, and write its path from there",
        )
    try:
        folder = importer.folder.resolve()
        path = (folder / written).resolve()
        if not path.is_relative_to(folder):
            raise Unreadable(
                "this leads out of the spec's folder",
                "copy the file there; links that lead out are not followed",
            )
        if path.is_file():
            return path
        if path.exists():
            raise Unreadable("not a regular file")
        names = (entry.name for entry in path.parent.iterdir())
        near = closest(written.name, filter(_writable, names))
    except (OSError, RuntimeError) as error:  # RuntimeError: circular links
        reason = error.strerror if isinstance(error, OSError) else "circular links"
        raise Unreadable(f"this file cannot be read: {reason}") from None
    raise Unreadable("no such file", near=str(written.with_name(near)) if near else "")


def _writable(name: str) -> bool:
    """Whether a spec can name a file: its name stands in quotes, on one line."""
    return name.isprintable() and '"' not in name


def _library(name: str) -> Source:
    folder = resource("std")
    known = {f"{LIBRARY}{path.name}": path for path in sorted(folder.glob("*.bsl"))}
    if name not in known:
        hint = "`bslang list` shows the library"
        raise Unreadable("no such file in the library", hint, near=closest(name, known))
    with known[name].open("rb") as file:
        return source_from(name, file, folder)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise Unreadable(f"this file cannot be read: {error.strerror}") from None


def specs_in(folder: Path) -> list[Path]:
    """The spec files of a folder; none where it cannot be looked at."""
    with suppress(OSError):
        return sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES)
    return []


def is_file(path: Path) -> bool:
    """Whether a file can be seen there; a path that nobody can look at is none."""
    with suppress(OSError, ValueError):
        return path.is_file()
    return False
