"""A subject: a layout that a page shows, and what a reader may set of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bslang import compiler
from bslang.budget import share
from bslang.errors import LimitError, shortened
from bslang.explorer import axes
from bslang.explorer.axes import Axis
from bslang.explorer.view import View, bounded, diagnostic, message, view
from bslang.limits import MAX_HEADS, MAX_LENGTH
from bslang.lint.warnings import warnings
from bslang.resolve.program import Program, Resolved
from bslang.syntax.diagnostics import SpecError
from bslang.syntax.source import Source

_PART = 0.2
"""The part of a budget that the search for the values of parameters may take."""

Setting = Mapping[str, str]
"""A value for each axis, by its name: as a spec writes it."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A definition of a source.

    label: how the caller named it; block: sides in place of the spec's own; given: values of parameters;
    lengths: in tokens, to choose among; for none, some that suit the block.
    """

    label: str
    source: Source
    name: str | None = None
    block: tuple[int, int] | None = None
    given: Mapping[str, str] = field(default_factory=dict)
    lengths: Sequence[int] = ()
    _known: dict[tuple[tuple[str, str], ...], Resolved] = field(default_factory=dict)

    @cached_property
    def program(self) -> Program:
        """The source, checked; SpecError with every error of it."""
        return compiler.program(self.source, self.block)

    @cached_property
    def resolved(self) -> Resolved:
        """The layout with the parameters given; raises as `compiler.resolve`."""
        return self._resolve(self.given)

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """What a reader may set; raises as `compiler.resolve`, and LimitError for too long a first length."""
        side = max(self.resolved.block)
        tokens = axes.lengths(self.lengths or [side * 2**power for power in range(3, 8)])
        length = int(tokens.values[tokens.start])
        bounded(length // side)

        def means(name: str, value: str) -> bool:
            try:
                resolved = self._resolve({**self.given, name: value})
                compiler.lower(resolved, length, length)
            except (SpecError, LimitError):
                return False
            return True

        with share(_PART).opened():
            varied = axes.parameters(self._written(), means)
        return (tokens, *axes.heads_and_layers(self.resolved.pattern), *varied)

    def view(self, setting: Setting) -> View:
        """What the page shows for a setting, which may leave axes out.

        Raises as `compiler.resolve` and `view.view`, and ValueError for a length, head or layer that is none.
        """
        own = {axis.name: axis for axis in self.axes if axis.kind != axes.PARAMETER}
        given = {name: value for name, value in setting.items() if name not in own}
        length, head, layer = (
            _natural(name, setting.get(name, first), least, most)
            for name, first, least, most in (
                (axes.LENGTH, self.axes[0].values[self.axes[0].start], 1, MAX_LENGTH),
                (axes.HEAD, "0", 0, MAX_HEADS - 1),
                (axes.LAYER, "0", 0, MAX_HEADS - 1),
            )
        )
        return view(self._resolve({**self.given, **given}), length, head, layer)

    def view_or_errors(self, setting: Setting) -> View:
        """`view`, or under `errors` why there is none."""
        try:
            return self.view(setting)
        except SpecError as error:
            return {"errors": [diagnostic(found) for found in error.diagnostics]}
        except (LimitError, ValueError) as error:
            return {"errors": [message(str(error))]}

    def diagnostics(self) -> list[dict[str, Any]]:
        """The warnings of the source as plain values; raises as `program`."""
        return [diagnostic(found) for found in warnings(self.source, self.program)]

    def _resolve(self, parameters: Mapping[str, str]) -> Resolved:
        key = tuple(sorted(parameters.items()))
        if key not in self._known:
            self._known[key] = compiler.pick(self.program, self.name, parameters)
        return self._known[key]

    def _written(self) -> dict[str, str]:
        """The values of the definition's parameters as they are written, those given in place of defaults."""
        definition = self.program.definitions.get(self.name or self.resolved.name)
        if definition is None or (self.name is None and self.program.layout is not None):
            return {}
        found = {}
        for parameter in definition.parameters:
            name, default = parameter.name.text, parameter.default
            if name in self.given:
                found[name] = self.given[name]
            elif default is not None:
                found[name] = self.source.text[default.span.start : default.span.stop]
        return found


def _natural(name: str, text: str, least: int, most: int) -> int:
    """A number that the page asks for; ValueError with what is wrong."""
    if re.fullmatch("[0-9]{1,10}", text) and least <= int(text) <= most:
        return int(text)
    raise ValueError(f"{name} is a number from {least} to {most}, not {shortened(text, 100)!r}")
