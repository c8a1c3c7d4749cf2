"""Emission: a pattern to the text of its generated module, and of the files beside it."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from bslang.codegen.plan import Plan
from bslang.codegen.targets import target_names
from bslang.errors import TargetError
from bslang.inputs import BOTH, Inputs, Label, Selection
from bslang.ir.pattern import Pattern


@dataclass(frozen=True)
class Section:
    """What one target adds to a generated module.

    code: Python that stands in the module, "" for none; constructor: a Python expression for the
    runtime's target; imports: lines of Python; files: texts of further files, by name.
    """

    constructor: str
    code: str = ""
    imports: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Module:
    """What templates/module.py.jinja sees as `target`: all targets' sections together."""

    sections: dict[str, Section]
    spec_literal: str
    inputs: Inputs
    reads_tables: bool

    @property
    def standard_imports(self) -> list[str]:
        return [line for line in self._imports if not line.startswith("from bslang")]

    @property
    def imports(self) -> list[str]:
        return [line for line in self._imports if line.startswith("from bslang")]

    @property
    def given(self) -> list[str]:
        """What the layout's calls give, as lines of a Python tuple for each kind."""
        lines = []
        for name, items in (
            ("labels", [_label(label) for label in self.inputs.labels]),
            ("selections", [_selection(each) for each in self.inputs.selections]),
        ):
            if len(items) == 1:
                lines.append(f"{name}=({items[0]},),")
            elif items:
                lines += [f"{name}=(", *(f"    {item}," for item in items), "),"]
        return lines

    @property
    def _imports(self) -> list[str]:
        lines = ["from pathlib import Path"] if self.reads_tables else []
        lines += [
            "from typing import TYPE_CHECKING, Literal, overload",
            "from bslang.layouts import Layout",
        ]
        if self.inputs:
            names = ["Inputs"]
            names += ["Label"] * bool(self.inputs.labels)
            names += ["Selection"] * bool(self.inputs.selections)
            lines.append(f"from bslang.inputs import {', '.join(names)}")
        return sorted({*lines, *(line for s in self.sections.values() for line in s.imports)})


def _label(label: Label) -> str:
    parts = [json.dumps(label.name)]
    parts += [f'sides="{label.sides}"'] * (label.sides != BOTH) + ["ordered=True"] * label.ordered
    return f"Label({', '.join(parts)})"


def _selection(each: Selection) -> str:
    turned = ", turned=True" if each.turned else ""
    return f"Selection({json.dumps(each.name)}, rows={each.rows}, cols={each.cols}{turned})"


def emit(
    name: str,
    pattern: Pattern,
    block: tuple[int, int],
    spec: str,
    digest: str,
    targets: Iterable[str] | None,
    reads_tables: bool,
    march: str,
) -> dict[str, str]:
    """File names and their texts; spec, digest: as in `Plan`; reads_tables: whether the module has tables
    beside it; march: the processor of a library beside it, "" for none.

    Raises TargetError for an unknown target, and for a processor where no target is built for one.
    """
    from bslang.codegen.environment import render  # jinja2 is loaded only to generate

    names = target_names(targets)
    if march and "cpu" not in names:
        raise TargetError(
            f"only the cpu target is built for a processor ({march}); the targets are {', '.join(names)}"
        )
    plan = Plan.of(name, pattern, block, digest, names, march, spec)
    sections = {
        target: importlib.import_module(f"bslang.codegen.{target}").section(plan)
        for target in plan.targets
    }
    files = {
        f"{name}.py": render(
            "module.py.jinja",
            plan,
            _Module(sections, json.dumps(plan.spec), plan.inputs, reads_tables),
        )
    }
    for section in sections.values():
        files |= section.files
    return files
