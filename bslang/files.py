"""Files written whole or not at all, and the folder where bslang keeps what it can make again."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path


def cache_dir() -> Path:
    """The folder of generated modules and built kernels, made on first use, readable by its owner only.

    BSLANG_CACHE_DIR names another than the user's cache directory. Raises OSError where it cannot
    be made.
    """
    named = os.environ.get("BSLANG_CACHE_DIR")
    if named:
        folder = Path(named)
    else:
        from platformdirs import user_cache_path

        folder = user_cache_path("bslang")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def source_digest(text: str) -> str:
    """A name for the text of a generated file, by which the module beside it knows its own."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_whole(folder: Path, files: Mapping[str, str]) -> list[Path]:
    """Write texts into a folder, each appearing whole and the first one last.

    A reader who finds the first file finds the others. Files that already hold their text are left
    alone, so that what depends on them is not built again. Raises OSError, with nothing replaced
    that was not yet written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    staged: list[tuple[Path, Path]] = []
    try:
        for name, text in reversed(list(files.items())):
            path = folder / name
            if path.is_file() and path.read_bytes() == text.encode():
                continue
            handle, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
            staged.append((Path(temporary), path))
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            Path(temporary).chmod(0o666 & ~_umask())
        for source, path in staged:
            source.replace(path)
    finally:
        for source, _ in staged:
            source.unlink(missing_ok=True)
    return [folder / name for name in files]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
