"""`import bslang.importer`, and spec files import like Python modules.

    import bslang.importer
    import patterns.bigbird            # the definition `bigbird` of patterns.bsl
    out = patterns.bigbird.attention(q, k, v)

A file `NAME.bsl` (or .bslang) on the path is the module NAME, with a module inside it for each
public definition. A file that is one layout has `attention` and `LAYOUT` itself. Python modules of
the same name come first.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from bslang import compiler
from bslang.missing import installed
from bslang.resolve.sources import SUFFIXES, is_file, source_of

with installed():
    from bslang import layouts


class SpecFinder(MetaPathFinder):
    """Finds spec files on the import path, and the definitions inside of them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        parent, _, name = fullname.rpartition(".")
        loader = getattr(getattr(sys.modules.get(parent), "__spec__", None), "loader", None)
        if isinstance(loader, _FileLoader):
            if name not in loader.names:
                return None
            inner = _DefinitionLoader(loader.path, name)
            return ModuleSpec(fullname, inner, origin=str(loader.path))
        for folder in sys.path if path is None else path:
            if not isinstance(folder, str):  # Python passes over what is no text, and so does this
                continue
            for suffix in SUFFIXES:
                file = Path(folder, name + suffix)
                if is_file(file):
                    return ModuleSpec(
                        fullname, _FileLoader(file), origin=str(file), is_package=True
                    )
        return None


class _FileLoader(Loader):
    """A spec file as a package of its definitions."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: tuple[str, ...] = ()

    def exec_module(self, module: ModuleType) -> None:
        program = compiler.program(source_of(self.path))
        self.names = program.names
        module.__doc__ = f"The layouts of {self.path.name}: {', '.join(program.names)}"
        module.__file__ = str(self.path)
        module.__dict__["__all__"] = list(program.names)
        if program.layout is not None:
            _fill(module, self.path, None)


class _DefinitionLoader(Loader):
    """One definition of a spec file as a module."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = str(self.path)
        _fill(module, self.path, self.name)


def _fill(module: ModuleType, path: Path, name: str | None) -> None:
    generated = layouts.module(compiler.resolve(source_of(path), name))
    module.__doc__ = generated.__doc__
    for public in ("attention", "LAYOUT", "SPEC", "BLOCK"):
        setattr(module, public, getattr(generated, public))


def install() -> None:
    """Put the finder after Python's own, once."""
    if not any(isinstance(finder, SpecFinder) for finder in sys.meta_path):
        sys.meta_path.append(SpecFinder())


install()
