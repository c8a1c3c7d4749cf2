"""Generated modules of this process: written to the cache folder once, imported from there."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bslang import compiler
from bslang.errors import BslangError
from bslang.files import private_dir, sealed, unsealed, write_whole
from bslang.patterns.table import Matrix
from bslang.resolve.program import Program, Resolved
from bslang.syntax.reader import read
from bslang.syntax.source import Source

if TYPE_CHECKING:
    from bslang.runtime.layout import Layout


@lru_cache(maxsize=256)
def module(resolved: Resolved, targets: tuple[str, ...] | None = None) -> ModuleType:
    """The generated module of a layout, written to the cache folder and imported.

    Triton reads the source of its kernels, so the module must lie in a file. Raises BslangError where
    the folder cannot be written.
    """
    key = compiler.emission(resolved, targets)
    try:
        folder = private_dir("modules") / key
        path = folder / f"{resolved.name}.py"
        if not _are_whole(folder):
            files = compiler.emit(resolved, targets)
            write_whole(folder, {_SUMS: _sums(files)} | files)
    except OSError as error:
        message = (
            "the folder of generated modules cannot be written; BSLANG_CACHE_DIR names another"
        )
        raise BslangError(f"{message} ({error})") from None
    return import_file(path, f"bslang_generated.{resolved.name}_{key[:16]}")


_SUMS = "sums"
"""The file beside a module that has the digest of each of its files. It is written last."""


def _sums(files: Mapping[str, str | bytes]) -> bytes:
    def digest(content: str | bytes) -> str:
        data = content.encode() if isinstance(content, str) else content
        return hashlib.sha256(data).hexdigest()

    return sealed(json.dumps({name: digest(files[name]) for name in files}).encode())


def _are_whole(folder: Path) -> bool:
    """Whether the files of a module are all there, as they were written."""
    sums = unsealed(folder / _SUMS)
    if sums is None:
        return False
    try:
        return sealed(sums) == _sums(
            {name: (folder / name).read_bytes() for name in json.loads(sums)}
        )
    except OSError:
        return False


class _Loader(SourceFileLoader):
    """Reads no compiled code: Python believes it by the time of the source, not by its bytes."""

    def path_stats(self, path: object) -> Mapping[str, Any]:
        raise OSError  # as for a source whose time is not known


def import_file(path: Path, name: str) -> ModuleType:
    """Import a Python file under a name of its own."""
    spec = importlib.util.spec_from_file_location(name, path, loader=_Loader(name, str(path)))
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made  # Triton and pickle look modules up by name
    try:
        spec.loader.exec_module(made)
    except BaseException:
        del sys.modules[name]
        raise
    return made


def layout_of(resolved: Resolved, targets: tuple[str, ...] | None = None, layer: int = 0) -> Layout:
    """The layout of a pattern, for a layer."""
    found: Layout = module(resolved, targets).LAYOUT
    return found.at_layer(layer) if layer else found


# ---- layouts by what they say of themselves ---------------------------------------------------


def key(spec: str, block: tuple[int, int], targets: tuple[str, ...], layer: int) -> str:
    """How operators name a layout: all that another process needs to make it again."""
    number = f"; layer {layer}" if layer else ""
    return f"block {block[0]}x{block[1]}; {spec}; {', '.join(targets)}{number}"


_KEY = re.compile(
    r"block (\d+)x(\d+); (?P<spec>.*); (?P<targets>[a-z]+(?:, [a-z]+)*)(?:; layer (?P<layer>\d+))?",
    re.DOTALL,
)


def of_key(text: str) -> Layout:
    """The layout that a key names. Raises ValueError for what is no key, SpecError."""
    found = _KEY.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} names no layout")
    block = (int(found[1]), int(found[2]))
    layer = int(found["layer"] or 0)
    return rebuilt("layout", found["spec"], block, tuple(found["targets"].split(", ")), layer)


def rebuilt(
    name: str,
    spec: str,
    block: tuple[int, int],
    targets: tuple[str, ...],
    layer: int = 0,
    tables: Iterable[bytes] = (),
) -> Layout:
    """A layout made of its canonical text, as pickles and exported programs hold it.

    tables: the .npy files that the text names, by their content. Raises SpecError.
    """
    matrices = {matrix.name: matrix for matrix in map(Matrix.of_file, tables)}
    program = Program(read(Source("<canonical>", spec)), block, matrices)
    return layout_of(program.pick(None, name, {}), targets, layer)
