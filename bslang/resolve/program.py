"""Resolving: the syntax tree of a file to patterns.

Every definition of a file is checked, whether it is picked or not, and all errors are reported at
once. Only this package knows both the syntax tree and the patterns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NoReturn

from bslang.budget import limited
from bslang.errors import shortened
from bslang.ir.awaited import said
from bslang.ir.order import Order
from bslang.ir.ordered import counts_blocks, ordered, row_major
from bslang.ir.pattern import Pattern
from bslang.patterns.table import Matrix, tables
from bslang.resolve.evaluator import Evaluator
from bslang.resolve.module import DEFAULT_BLOCK, Module, load
from bslang.resolve.origins import Origins
from bslang.resolve.suggest import closest
from bslang.resolve.values import Value
from bslang.syntax import tree
from bslang.syntax.diagnostics import Diagnostic, Findings, SpecError
from bslang.syntax.fix import question
from bslang.syntax.source import Source

Parameters = Mapping[str, tuple[Source, tree.Expression]]
"""Values for parameters, as parsed expressions, each with the source that messages show."""


@dataclass(frozen=True)
class Resolved:
    """A layout as it is meant: its name, pattern and block sides in tokens (query, key).

    origins: where its parts were written; the pattern itself knows no source. order: of its tokens, if the
    file sets one; the pattern is then that of `bslang.ir.ordered`.
    """

    name: str
    pattern: Pattern
    block: tuple[int, int]
    origins: Origins = field(compare=False, hash=False, repr=False)
    order: Order | None = None

    @property
    def spec(self) -> str:
        """Its canonical text: that of the pattern, after that of the order."""
        return f"order {self.order}\n{self.pattern}" if self.order else str(self.pattern)

    @property
    def about(self) -> str:
        """The same in one line, for people."""
        return f"{self.pattern}, order {self.order}" if self.order else str(self.pattern)

    @property
    def row_major(self) -> Pattern:
        """The pattern of positions; `pattern` is that of places, where the tokens have an order."""
        return row_major(self.pattern) if self.order else self.pattern

    @property
    def awaits(self) -> str:
        """What its calls give beside tensors: "labels", "selections", "labels and selections", or empty."""
        return said(self.pattern)

    @property
    def tables(self) -> Mapping[str, Matrix]:
        """The matrices that it reads, by the names that its canonical text gives them."""
        return tables(self.pattern)


class Program:
    """A file's definitions, checked."""

    def __init__(
        self,
        file: tree.File,
        block: tuple[int, int] | None = None,
        tables: Mapping[str, Matrix] | None = None,
        order: Order | None = None,
    ) -> None:
        """block: sides that take the place of the file's own setting, in tokens (query, key). order: that of
        tokens in the place of the file's own.

        tables: those that are known already, by the names that canonical text gives them. Raises
        SpecError with every error of the file, and of those that it imports.
        """
        self.source, self._tables = file.source, tables
        with limited():
            self._read(file, block, order)

    def _read(self, file: tree.File, block: tuple[int, int] | None, order: Order | None) -> None:
        findings = Findings(file.errors)
        self._module = load(file, findings, block, order)
        setting = self._module.setting
        self.block = block or (setting.sides if setting else DEFAULT_BLOCK)
        self.order = order or self._module.order
        self._check(findings)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The public definitions, in order."""
        return tuple(name for name in self._module.definitions if not name.startswith("_"))

    @property
    def layout(self) -> tree.Layout | None:
        """The layout without a name, if the file has one."""
        return self._module.layout

    @property
    def definitions(self) -> Mapping[str, tree.Definition]:
        """Every definition of the file, by name, in order."""
        return self._module.definitions

    def pick(self, name: str | None, file_name: str, parameters: Parameters) -> Resolved:
        """The pattern of a definition, or of the file where it is one layout.

        name: which; None for the file's layout, its only definition, or the one called like the file.
        file_name: the name of a layout that has none of its own. Raises SpecError.
        """
        with limited():
            return self._picked(name, file_name, parameters)

    def _picked(self, name: str | None, file_name: str, parameters: Parameters) -> Resolved:
        definition = self._choose(name, file_name)
        findings = Findings()
        evaluator = Evaluator(self._module, self.block, findings, self._tables)
        if definition is None:
            assert self.layout is not None
            self._values("this layout", (), parameters, findings)
            pattern = evaluator.layout(self.layout.body)
        else:
            owner = f"`{definition.name.text}`"
            values = self._values(owner, definition.parameters, parameters, findings)
            pattern = evaluator.definition(self._module, definition, values)
        self._hold_tokens(pattern, evaluator, findings)
        findings.raise_any()
        assert isinstance(pattern, Pattern)
        if self.order is not None:
            pattern = ordered(pattern, self.order)
        label = file_name if definition is None else definition.name.text
        return Resolved(label, pattern, self.block, evaluator.origins, self.order)

    def _check(self, findings: Findings) -> None:
        evaluator = Evaluator(self._module, self.block, findings, self._tables)
        found = [
            evaluator.definition(self._module, definition, {})
            for definition in self._module.definitions.values()
        ]
        if self.layout is not None:
            found.append(evaluator.layout(self.layout.body))
        # An order from elsewhere is that of the layout that is picked, not of all in the file.
        for value in found if self._module.order else ():
            self._hold_tokens(value, evaluator, findings)
        findings.raise_any()

    def _hold_tokens(self, value: Value, evaluator: Evaluator, findings: Findings) -> None:
        """Note what counts blocks, in a file with an order of tokens."""
        if self.order is None or not isinstance(value, Pattern):
            return
        for part in filter(counts_blocks, dict.fromkeys(value.primitives())):
            origin = evaluator.origins.of(part)
            text = shortened(str(part))
            message = f"`{text}` goes by blocks, and with an order these are no runs of positions"
            source, span = (origin.source, origin.span) if origin else (self.source, None)
            hint = "count in tokens, with the suffix `t`, in row-major positions"
            findings.add(Diagnostic("E312", message, source, span, hint=hint))

    def _choose(self, name: str | None, file_name: str) -> tree.Definition | None:
        """The definition to compile; None for the file's own layout."""
        names = self.names
        if name is None:
            if self.layout is not None:
                return None
            if len(names) == 1 or file_name in names:
                return self._module.definitions[names[0] if len(names) == 1 else file_name]
            if not names:
                private = ", and a name without `_` is public" if self._module.definitions else ""
                hint = f"write one: `name = window(3)`, or `window(3)` alone{private}"
                self._refuse("this file defines no layout", hint)
            # Standard input is `-` in a command, and a text given in Python has no name.
            place = {"<stdin>": "-:", "<spec>": ""}.get(self.source.name, f"{self.source.name}:")
            choices = ", ".join(place + name for name in names)
            self._refuse("this file defines several layouts", f"pick one: {choices}")
        if name not in self._module.definitions:
            close = closest(name, names)
            defined = (
                f"it defines: {', '.join(names)}"
                if names
                else "its layout has no name; leave the name out"
            )
            self._refuse(
                f"no definition `{name}` in this file",
                question(close) if close else defined,
            )
        if name.startswith("_"):
            self._refuse(f"`{name}` is private to its file", "take the `_` off its name")
        return self._module.definitions[name]

    def _refuse(self, message: str, hint: str, code: str = "E210") -> NoReturn:
        raise SpecError([Diagnostic(code, message, self.source, hint=hint)])

    def _values(
        self,
        owner: str,
        declared: tuple[tree.Parameter, ...],
        given: Parameters,
        findings: Findings,
    ) -> dict[str, Value]:
        """The values given for a picked definition's parameters. Raises SpecError."""
        names = [parameter.name.text for parameter in declared]
        has = f"it has: {', '.join(names)}" if names else "it has none"
        values: dict[str, Value] = {}
        for name, (source, node) in given.items():
            if name in names:
                outside = Evaluator(Module(source), self.block, findings)
                values[name] = outside.number(node)
                continue
            close = closest(name, names)
            hint = question(close) if close else has
            message = f"{owner} has no parameter `{name}`"
            findings.add(Diagnostic("E208", message, source, hint=hint))
        for parameter in declared:
            name = parameter.name.text
            if parameter.default is None and name not in values:
                message = f"parameter `{name}` of {owner} has no default and was given no value"
                hint = f"give it one: `-D {name}=...`, or `{name}=...` in Python"
                findings.add(Diagnostic("E209", message, self.source, parameter.span, hint=hint))
        findings.raise_any()
        return values
