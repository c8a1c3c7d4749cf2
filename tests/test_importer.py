"""Spec files import like modules, and only where no Python module has the name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

import pytest
import torch

import bslang.importer
from bslang import SpecError

SPEC = """\
block 16
near(w = 3) = last(w) & causal
wide(w) = window(w)
_sink = cols(0)
streaming = near | _sink
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the import path; modules imported from it are forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "attns.bsl").write_text(SPEC, encoding="utf-8")
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def works(module: ModuleType) -> bool:
    """Whether its attention runs: with all values alike, their mean is the value."""
    q = torch.ones(1, 1, 50, 16)
    return torch.allclose(module.attention(q, q, q), q)


def test_a_definition_is_a_module_in_its_file(folder: Path) -> None:
    import attns.streaming

    assert works(attns.streaming)
    assert attns.streaming.SPEC == "last(3) & causal | cols(0)"
    assert attns.streaming.BLOCK == (16, 16)
    assert attns.streaming.LAYOUT.name == "streaming"
    assert attns.streaming.__file__ == str(folder / "attns.bsl")
    assert attns.streaming.__name__ == "attns.streaming"
    assert "streaming" in (attns.streaming.__doc__ or "")
    assert importlib.import_module("attns.streaming") is attns.streaming


def test_from_a_file_import_definitions(folder: Path) -> None:
    from attns import near, streaming

    assert near.SPEC == "last(3) & causal"
    assert works(near)
    assert works(streaming)


def test_a_file_names_its_definitions(folder: Path) -> None:
    attns = importlib.import_module("attns")
    assert attns.__all__ == ["near", "wide", "streaming"]
    assert "near, wide, streaming" in (attns.__doc__ or "")
    assert not hasattr(attns, "LAYOUT")


@pytest.mark.parametrize("name", ["_sink", "nothing", "causal"])
def test_what_is_not_public_there_is_not_found(folder: Path, name: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=rf"attns\.{name}"):
        importlib.import_module(f"attns.{name}")
    with pytest.raises(ImportError, match=name):
        exec(f"from attns import {name}")


@pytest.mark.parametrize("suffix", [".bsl", ".bslang"])
def test_a_layout_alone_is_its_file(folder: Path, suffix: str) -> None:
    (folder / f"alone{suffix}").write_text("last(2) & causal", encoding="utf-8")
    alone = importlib.import_module("alone")
    assert works(alone)
    assert alone.LAYOUT.name == "alone"


def test_python_modules_come_first(folder: Path) -> None:
    (folder / "both.bsl").write_text("near = causal", encoding="utf-8")
    (folder / "both.py").write_text("here = 'Python'", encoding="utf-8")
    assert importlib.import_module("both").here == "Python"
    (folder / "json.bsl").write_text("near = causal", encoding="utf-8")
    assert importlib.import_module("json").dumps


def test_spec_files_lie_in_packages_too(folder: Path) -> None:
    package = folder / "models"
    package.mkdir()
    (package / "__init__.py").write_text("from . import layouts", encoding="utf-8")
    (package / "layouts.bsl").write_text("near = last(2)", encoding="utf-8")
    assert importlib.import_module("models.layouts.near").SPEC == "last(2)"
    assert importlib.import_module("models").layouts.__all__ == ["near"]


def test_a_spec_with_an_error_shows_it(folder: Path) -> None:
    (folder / "bad.bsl").write_text("near = last(3)\nfar = windw(3)", encoding="utf-8")
    for name in ("bad", "bad.near"):
        with pytest.raises(SpecError) as caught:
            importlib.import_module(name)
        assert f"{folder / 'bad.bsl'}:2:7" in str(caught.value)
        assert "did you mean `window`?" in str(caught.value)
        assert name not in sys.modules
    (folder / "bad.bsl").write_text("near = last(3)", encoding="utf-8")
    assert importlib.import_module("bad.near").SPEC == "last(3)"


def test_a_parameter_without_a_value_is_an_error(folder: Path) -> None:
    with pytest.raises(SpecError, match="parameter `w` of `wide` has no default"):
        importlib.import_module("attns.wide")
    assert importlib.import_module("attns.near").SPEC == "last(3) & causal"


def test_a_missing_module_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with entries on the path that are no folder, do not exist, or cannot be looked at."""
    monkeypatch.setattr(
        sys, "path", [*sys.path, "", "/nowhere", str(folder / "attns.bsl"), "a" * 5000]
    )
    with pytest.raises(ModuleNotFoundError, match="no_such_spec"):
        importlib.import_module("no_such_spec")


def test_the_finder_is_put_in_once() -> None:
    bslang.importer.install()
    finders = [finder for finder in sys.meta_path if isinstance(finder, bslang.importer.SpecFinder)]
    assert len(finders) == 1
    assert sys.meta_path.index(finders[0]) > sys.meta_path.index(PathFinder)


@pytest.mark.parametrize("odd", [b"/tmp", None, 3])
def test_a_path_that_is_no_text_is_passed_over(
    odd: object, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Python does: it stands in sys.path, or in the path of a package."""
    monkeypatch.setattr(sys, "path", [odd, *sys.path])
    assert works(importlib.import_module("attns.streaming"))
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("no_such_layouts")
    finder = next(f for f in sys.meta_path if isinstance(f, bslang.importer.SpecFinder))
    assert finder.find_spec("package.attns", [odd, str(folder)]) is not None  # type: ignore[list-item]
