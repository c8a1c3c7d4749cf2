"""The fold over patterns: every operator is known to it, and every walk has a method for each."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bslang
from bslang.graph.lower import lower
from bslang.ir import fold
from bslang.ir.fold import OPERATORS, Fold
from bslang.ir.grid import Grid
from bslang.ir.oracle import dense
from bslang.ir.pattern import Pattern, Primitive, Union
from bslang.patterns import BY_NAME

PACKAGE = Path(bslang.__file__).parent


def below(cls: type[Any]) -> Iterator[type[Any]]:
    """The classes of the package that derive from one."""
    for found in cls.__subclasses__():
        if found.__module__.startswith("bslang."):
            yield found
        yield from below(found)


def load(text: str) -> None:
    """Import every file of the package that has a text, so that its classes are known."""
    for path in PACKAGE.rglob("*.py"):
        if text in path.read_text(encoding="utf-8"):
            inside = path.relative_to(PACKAGE.parent).with_suffix("")
            importlib.import_module(".".join(inside.parts))


def missing(operators: dict[type[Pattern], str]) -> set[str]:
    """The walks that lack an operator, by name, each with what it lacks."""
    load("(Fold[")
    return {
        f"{walk.__module__}.{walk.__qualname__} lacks {method}"
        for walk in {Fold, *below(Fold)}
        for method in operators.values()
        if not callable(getattr(walk, method, None))
    }


class Nand(Union):
    """An operator that nothing knows."""


def test_the_fold_knows_every_operator() -> None:
    load("(Pattern)")
    operators = {
        cls
        for cls in below(Pattern)
        if not issubclass(cls, Primitive) and not cls.__name__.startswith("_")
    }
    assert operators == set(OPERATORS)
    assert Fold.__abstractmethods__ == {"primitive", *OPERATORS.values()}


def test_every_walk_knows_every_operator() -> None:
    assert not missing(OPERATORS)
    walks = list(below(Fold))
    assert len(walks) >= 12
    for walk in walks:
        # Bases of several walks may leave operators to them.
        assert not inspect.isabstract(walk) or walk.__subclasses__(), walk


def test_a_walk_that_lacks_a_new_operator_is_named() -> None:
    found = missing({**OPERATORS, Nand: "nand"})
    assert found >= {
        "bslang.ir.oracle._Meaning lacks nand",
        "bslang.graph.lower._Classes lacks nand",
        "bslang.graph.lower._Decided lacks nand",
    }
    assert len(found) == 1 + len(list(below(Fold)))


def test_an_unknown_operator_is_refused_by_name() -> None:
    pattern = Nand((BY_NAME["all"](), BY_NAME["none"]()))
    grid = Grid.of(8, 8, (4, 4))
    for walk in (lower, dense):
        with pytest.raises(TypeError, match="Nand: add it to OPERATORS"):
            walk(pattern, grid)


def test_a_walk_without_a_method_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def value(self: Fold[int], pattern: Pattern) -> int:
        return 1

    methods = dict.fromkeys(Fold.__abstractmethods__ - {"xor"}, value)
    with pytest.raises(TypeError, match="xor"):
        type("Short", (fold.Fold,), methods)()
