"""A subject: a layout that a page shows, and what a reader may set of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from bslang import compiler
from bslang.budget import share
from bslang.errors import BslangError, LimitError, shortened
from bslang.explorer import axes, documents
from bslang.explorer.axes import Axis
from bslang.explorer.documents import Documents
from bslang.explorer.drawn import Drawn, bounded
from bslang.explorer.said import diagnostic, message
from bslang.explorer.view import WHOLE, View, view
from bslang.ir.awaited import equal_names
from bslang.limits import MAX_FILE_BYTES, MAX_HEADS, MAX_LENGTH
from bslang.lint.warnings import warnings
from bslang.resolve.program import Program, Resolved
from bslang.syntax.diagnostics import SpecError
from bslang.syntax.source import Source

_PART = 0.2
"""The part of a budget that the search for the values of parameters may take."""

_DRAWN = 6  # settings whose graphs are kept, for the tiles and masks that a page asks for next

Setting = Mapping[str, str]
"""A value for each axis, by its name: as a spec writes it."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A definition of a source.

    label: how the caller named it; block: sides in place of the spec's own; given: values of parameters;
    lengths: in tokens, to choose among; for none, some that suit the block; documents: lengths of
    documents, as `100,200,300`, to choose among where the layout compares labels for equality.
    """

    label: str
    source: Source
    name: str | None = None
    block: tuple[int, int] | None = None
    given: Mapping[str, str] = field(default_factory=dict)
    lengths: Sequence[int] = ()
    documents: Sequence[str] = ()
    _known: dict[tuple[tuple[str, str], ...], Resolved] = field(default_factory=dict)
    _drawn: dict[tuple[tuple[str, str], ...], Drawn] = field(default_factory=dict)

    def with_text(self, text: str) -> Subject:
        """The same definition of another text in place of the file's. Raises LimitError for a long one."""
        size = len(text.encode())
        if size > MAX_FILE_BYTES:
            raise LimitError("MAX_FILE_BYTES", MAX_FILE_BYTES, f"a spec of {size:,} bytes")
        source = replace(self.source, text=text)
        return replace(self, source=source, _known={}, _drawn={})

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
        order = self.resolved.order
        usual = [order.length] if order else [side * 2**power for power in range(3, 8)]
        tokens = axes.lengths(self.lengths or usual)
        length = int(tokens.values[tokens.start])
        bounded(length, self.resolved.block)

        def means(name: str, value: str) -> bool:
            try:
                resolved = self._resolve({**self.given, name: value})
                compiler.lower(resolved, length, length)
            except (SpecError, LimitError):
                return False
            return True

        with share(_PART).opened():
            varied = axes.parameters(self._written(), means)
        pattern = self.resolved.pattern
        labelled = map(documents.written, equal_names(pattern))
        packed = axes.documents(list(labelled), self.documents, length)
        return (tokens, *axes.heads_and_layers(pattern), *packed, *varied)

    def view(self, setting: Setting, effort: float = WHOLE) -> View:
        """What the page shows for a setting, which may leave axes out; effort: as of `view.view`.

        Raises as `compiler.resolve` and `drawn`, and ValueError for an invalid length, head, layer or
        documents.
        """
        return view(self._resolve(self._parameters(setting)), self.drawn(setting), effort)

    def drawn(self, setting: Setting) -> Drawn:
        """What is drawn for a setting; the last ones are kept. Raises as `view`."""
        key = tuple(sorted(setting.items()))
        found = self._drawn.pop(key, None)
        if found is None:
            found = self._draw(setting)
        self._drawn[key] = found
        if len(self._drawn) > _DRAWN:
            del self._drawn[next(iter(self._drawn))]
        return found

    def _draw(self, setting: Setting) -> Drawn:
        length, head, layer = (
            natural(name, setting.get(name, first), least, most)
            for name, first, least, most in (
                (axes.LENGTH, self.axes[0].values[self.axes[0].start], 1, MAX_LENGTH),
                (axes.HEAD, "0", 0, MAX_HEADS - 1),
                (axes.LAYER, "0", 0, MAX_HEADS - 1),
            )
        )
        resolved = self._resolve(self._parameters(setting))
        known = {}
        for name in equal_names(resolved.pattern):
            text = setting.get(documents.written(name), "").strip()
            if text:
                known[name] = documents.lengths(text)
        return Drawn.of(resolved, Documents(known), length, head, layer)

    def _parameters(self, setting: Setting) -> dict[str, str]:
        """The values of the definition's parameters: those given, and those of a setting."""
        own = {axis.name for axis in self.axes if axis.kind != axes.PARAMETER}
        return {**self.given, **{name: text for name, text in setting.items() if name not in own}}

    def view_or_errors(self, setting: Setting, effort: float = WHOLE) -> View:
        """`view`, or under `errors` why there is none."""
        return or_errors(lambda: self.view(setting, effort))

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


def or_errors(answer: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """An answer to a page, or under `errors` why there is none."""
    try:
        return answer()
    except SpecError as error:
        return {"errors": [diagnostic(found) for found in error.diagnostics]}
    except (BslangError, ValueError) as error:
        return {"errors": [message(str(error))]}


def natural(name: str, text: str, least: int, most: int) -> int:
    """A number that the page asks for; ValueError with what is wrong."""
    if re.fullmatch("[0-9]{1,10}", text) and least <= int(text) <= most:
        return int(text)
    raise ValueError(f"{name} is a number from {least} to {most}, not {shortened(text, 100)!r}")
