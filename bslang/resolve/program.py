"""Resolving: the syntax tree of a file to patterns.

Every definition of a file is checked, whether it is picked or not, and all errors are reported at
once. Only this package knows both the syntax tree and the patterns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from bslang.ir.pattern import Pattern
from bslang.limits import MAX_BLOCK
from bslang.patterns import BY_NAME
from bslang.resolve.evaluator import BOUND_WHEN_LOWERED, Evaluator, Origin
from bslang.resolve.suggest import closest
from bslang.resolve.values import FUNCTIONS, Value
from bslang.syntax import tree
from bslang.syntax.diagnostics import Diagnostic, Findings, SpecError
from bslang.syntax.source import Source

DEFAULT_BLOCK = (64, 64)
"""Sides of a block where a spec sets none, in tokens (query, key)."""

Parameters = Mapping[str, tuple[Source, tree.Expression]]
"""Values for parameters, as parsed expressions, each with the source that messages show."""

_RESERVED = {*BY_NAME, *FUNCTIONS, *BOUND_WHEN_LOWERED, "block", "import"}
_RESERVED |= {"heads", "as", "inf", "true", "false"}


@dataclass(frozen=True)
class Resolved:
    """A layout as it is meant: its name, pattern and block sides in tokens (query, key).

    origins: where each primitive, by its text, was first written; the pattern itself knows no source.
    """

    name: str
    pattern: Pattern
    block: tuple[int, int]
    origins: Mapping[str, Origin] = field(compare=False, hash=False, repr=False)


class Program:
    """A file's definitions, checked."""

    def __init__(self, file: tree.File, block: tuple[int, int] | None = None) -> None:
        """block: sides that take the place of the file's own setting, in tokens (query, key).

        Raises SpecError with every error of the file.
        """
        self.source = file.source
        self.layout: tree.Layout | None = None
        self._definitions: dict[str, tree.Definition] = {}
        self._setting: tree.BlockSetting | None = None
        self._findings = Findings(file.errors)
        broken = (s.name for s in file.statements if isinstance(s, tree.Broken) and s.name)
        self._evaluator = Evaluator(
            file.source, self._definitions, DEFAULT_BLOCK, self._findings, frozenset(broken)
        )
        for statement in file.statements:
            if isinstance(statement, tree.BlockSetting):
                self._set_block(statement)
            elif isinstance(statement, tree.Definition):
                self._define(statement)
            elif isinstance(statement, tree.Layout):
                self._set_layout(statement)
        if block is not None:
            self._evaluator.block = block
        self._check()

    @property
    def names(self) -> tuple[str, ...]:
        """The public definitions, in order."""
        return tuple(name for name in self._definitions if not name.startswith("_"))

    @property
    def block(self) -> tuple[int, int]:
        """Sides of a block, in tokens (query, key)."""
        return self._evaluator.block

    def pick(self, name: str | None, file_name: str, parameters: Parameters) -> Resolved:
        """The pattern of a definition, or of the file where it is one layout.

        name: which; None for the file's layout or only definition. file_name: the name of a layout
        that has none of its own. Raises SpecError.
        """
        definition = self._choose(name)
        findings = Findings()
        evaluator = Evaluator(self.source, self._definitions, self.block, findings)
        if definition is None:
            assert self.layout is not None
            self._values("this layout", (), parameters, findings)
            pattern = evaluator.layout(self.layout.body)
        else:
            owner = f"`{definition.name.text}`"
            values = self._values(owner, definition.parameters, parameters, findings)
            pattern = evaluator.definition(definition, values)
        findings.raise_any()
        assert isinstance(pattern, Pattern)
        label = file_name if definition is None else definition.name.text
        return Resolved(label, pattern, self.block, evaluator.origins)

    def _set_block(self, setting: tree.BlockSetting) -> None:
        if self._setting is not None:
            self._evaluator.report("E206", "the block is set twice", setting.span, hint="keep one")
        self._setting = setting
        if all(1 <= side <= MAX_BLOCK for side in setting.sides):
            self._evaluator.block = setting.sides
        else:
            message = f"a block has sides of 1 to {MAX_BLOCK} tokens (MAX_BLOCK)"
            past = max(setting.sides) > MAX_BLOCK
            self._findings.add(Diagnostic("E303", message, self.source, setting.span, limit=past))

    def _set_layout(self, layout: tree.Layout) -> None:
        if self.layout is None:
            self.layout = layout
            return
        self._evaluator.report(
            "E206",
            "a file has one layout without a name, and this is the second",
            layout.span,
            hint="give each a name: `name = pattern`",
        )

    def _define(self, definition: tree.Definition) -> None:
        name, report = definition.name, self._evaluator.report
        if name.text in _RESERVED:
            report(
                "E206", f"`{name.text}` is a name of the language", name.span, hint="choose another"
            )
        elif name.text in self._definitions:
            report("E206", f"`{name.text}` is defined twice", name.span, hint="rename one of them")
        else:
            self._definitions[name.text] = definition
        seen: set[str] = set()
        for parameter in definition.parameters:
            key = parameter.name.text
            if key in seen:
                report("E205", f"parameter `{key}` is declared twice", parameter.span)
            elif key in _RESERVED:
                message = f"`{key}` is a name of the language"
                report("E206", message, parameter.name.span, hint="choose another")
            seen.add(key)

    def _check(self) -> None:
        for definition in self._definitions.values():
            self._evaluator.definition(definition, {})
        if self.layout is not None:
            self._evaluator.layout(self.layout.body)
        self._findings.raise_any()

    def _choose(self, name: str | None) -> tree.Definition | None:
        """The definition to compile; None for the file's own layout."""
        names = self.names
        if name is None:
            if self.layout is not None:
                return None
            if len(names) == 1:
                return self._definitions[names[0]]
            if not names:
                private = ", and a name without `_` is public" if self._definitions else ""
                hint = f"write one: `name = window(3)`, or `window(3)` alone{private}"
                self._refuse("this file defines no layout", hint)
            choices = ", ".join(f"{self.source.name}:{name}" for name in names)
            self._refuse("this file defines several layouts", f"pick one: {choices}")
        if name not in self._definitions:
            close = closest(name, names)
            defined = (
                f"it defines: {', '.join(names)}"
                if names
                else "its layout has no name; leave the name out"
            )
            self._refuse(
                f"no definition `{name}` in this file",
                f"did you mean `{close}`?" if close else defined,
            )
        if name.startswith("_"):
            self._refuse(f"`{name}` is private to its file", "take the `_` off its name")
        return self._definitions[name]

    def _refuse(self, message: str, hint: str) -> NoReturn:
        raise SpecError([Diagnostic("E210", message, self.source, hint=hint)])

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
                outside = Evaluator(source, {}, self.block, findings)
                values[name] = outside.number(node)
                continue
            close = closest(name, names)
            hint = f"did you mean `{close}`?" if close else has
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
