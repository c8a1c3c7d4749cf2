"""Generated modules as files: checked before they are used, and imported."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import linecache
import sys
from collections.abc import Mapping
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from bslang import cache

SUMS = "sums"
"""The file beside a module that has the digest of each of its files. It is written last."""


def sums(files: Mapping[str, str | bytes]) -> bytes:
    """The content of SUMS for files by name: their digests, sealed."""

    def digest(content: str | bytes) -> str:
        data = content.encode() if isinstance(content, str) else content
        return hashlib.sha256(data).hexdigest()

    return cache.sealed(json.dumps({name: digest(files[name]) for name in files}).encode())


def are_whole(folder: Path) -> bool:
    """Whether the files of a module are all there, as they were written."""
    sealed = cache.unsealed(folder / SUMS)
    if sealed is None:
        return False
    files = {name: cache.read(folder / name) for name in json.loads(sealed)}
    held = {name: data for name, data in files.items() if data is not None}
    return len(held) == len(files) and cache.sealed(sealed) == sums(held)


class _Loader(SourceFileLoader):
    """Reads no compiled code: Python believes it by the time of the source, not by its bytes."""

    def path_stats(self, path: object) -> Mapping[str, Any]:
        raise OSError  # as for a source whose time is not known


def import_file(path: Path, name: str) -> ModuleType:
    """Import a Python file under a name of its own. Nothing keeps the module but those who use it."""
    spec = importlib.util.spec_from_file_location(name, path, loader=_Loader(name, str(path)))
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made  # while Triton reads the source of its kernels
    try:
        spec.loader.exec_module(made)
    finally:
        sys.modules.pop(name, None)
        linecache.cache.pop(str(path), None)
    return made
