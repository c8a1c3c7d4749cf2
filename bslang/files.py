"""Files written whole or not at all, and names for what they hold."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

HEADER = "bslang.h"
"""The file beside generated C++ that has what all of it has in common."""

_INCLUDE = re.compile(r'#include "(.+)".*\n')  # with `^`, each of 130,000 letters would be tried


def inlined(text: str, files: Mapping[str, str]) -> str:
    """C++ with files in the place of the lines that include them: each once, where it is first asked for.

    So all that a library is built from is one text, with one digest, and is what was checked.
    """
    left = dict(files)

    def content(line: re.Match[str]) -> str:
        if line[1] not in files:
            return line[0]
        return _INCLUDE.sub(content, left.pop(line[1], ""))

    return _INCLUDE.sub(content, text)


def text_of(file: Path) -> str:
    """The text of a file, which may lie in a zip archive, as modules do that Python imports from there.

    Raises OSError, UnicodeDecodeError.
    """
    archive = next((part for part in file.parents if part.is_file()), None)
    if archive is None:
        return file.read_text(encoding="utf-8")
    from zipfile import BadZipFile, ZipFile

    try:
        with ZipFile(archive) as opened:
            return opened.read(file.relative_to(archive).as_posix()).decode()
    except (BadZipFile, KeyError) as error:
        raise FileNotFoundError(errno.ENOENT, str(error), str(file)) from None


def source_digest(text: str) -> str:
    """A name for the text of a generated file, by which the module beside it knows its own."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_whole(folder: Path, files: Mapping[str, str | bytes], mode: int = 0o666) -> list[Path]:
    """Write texts and data into a folder, each appearing whole and the first one last.

    A reader who finds the first file finds the others. Files that already hold their text are left
    alone, so that what depends on them is not built again. mode: of the files, less the umask. Raises
    OSError, with nothing replaced that was not yet written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    staged: list[tuple[Path, Path]] = []
    try:
        for name, content in reversed(list(files.items())):
            path, data = folder / name, content.encode() if isinstance(content, str) else content
            if path.is_file() and path.read_bytes() == data:
                continue
            handle, temporary = tempfile.mkstemp(prefix=f".{name[:32]}.", dir=folder)
            staged.append((Path(temporary), path))
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(temporary).chmod(mode & ~_umask())
        for source, path in staged:
            source.replace(path)
            _forget_compiled(path)
    finally:
        for source, _ in staged:
            source.unlink(missing_ok=True)
    return [folder / name for name in files]


def _forget_compiled(path: Path) -> None:
    """Remove what Python compiled of a module that has been replaced.

    It knows the old one by its size and by the second of its time, which may be those of the new one.
    """
    if path.suffix == ".py":
        for compiled in path.parent.glob(f"__pycache__/{glob.escape(path.stem)}.*.pyc"):
            with suppress(OSError):
                compiled.unlink()


def rewrite(path: Path, text: str) -> None:
    """Put a text in the place of a file's, whole or not at all.

    Its permissions stay, and so does a link to it. Raises OSError, with the file as it was.
    """
    path = path.resolve(strict=True)
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    handle, temporary = tempfile.mkstemp(prefix=".bslang.", dir=path.parent)
    staged = Path(temporary)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        staged.chmod(stat.S_IMODE(path.stat().st_mode))
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
