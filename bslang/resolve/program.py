"""Resolving: the syntax tree of a file to patterns.

Every definition of a file is checked, whether it is picked or not, and all errors are reported at
once. Only this package knows both the syntax tree and the patterns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import NoReturn

from bslang.ir.pattern import Pattern, Primitive
from bslang.ir.signature import Range
from bslang.limits import MAX_BLOCK
from bslang.patterns import BY_NAME
from bslang.resolve.evaluator import BOUND_WHEN_LOWERED, Evaluator, Origin
from bslang.resolve.values import FUNCTIONS, UNKNOWN, Value, kind_of
from bslang.syntax import tree
from bslang.syntax.diagnostics import Diagnostic, SpecError
from bslang.syntax.source import Source

DEFAULT_BLOCK = (64, 64)
"""Sides of a block where a spec sets none, in tokens (query, key)."""

Parameters = Mapping[str, tuple[Source, tree.Expression]]
"""Values for parameters, as parsed expressions, each with the source that messages show."""

_RESERVED = {*BY_NAME, *FUNCTIONS, *BOUND_WHEN_LOWERED, "head", "layer", "block", "import"}
_RESERVED |= {"heads", "as", "inf", "true", "false"}


@dataclass(frozen=True)
class Resolved:
    """A layout as it is meant: its name, pattern and block sides in tokens (query, key).

    origins: where each primitive was first written; the pattern itself knows no source.
    """

    name: str
    pattern: Pattern
    block: tuple[int, int]
    origins: Mapping[Primitive, Origin] = field(compare=False, hash=False, repr=False)


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
        self._evaluator = Evaluator(file.source, self._definitions, DEFAULT_BLOCK)
        for statement in file.statements:
            if isinstance(statement, tree.BlockSetting):
                self._set_block(statement)
            elif isinstance(statement, tree.Definition):
                self._define(statement)
            else:
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
        if definition is None:
            assert self.layout is not None
            scope = self._scope("this layout", {}, parameters)
            pattern = self._evaluator.pattern(self.layout.body, scope)
        else:
            defaults = self._evaluator.defaults(definition)
            scope = self._scope(f"`{definition.name.text}`", defaults, parameters)
            pattern = self._evaluator.expand(definition, scope)
        self._raise_errors()
        assert isinstance(pattern, Pattern)
        label = file_name if definition is None else definition.name.text
        return Resolved(label, pattern, self.block, dict(self._evaluator.origins))

    def _set_block(self, setting: tree.BlockSetting) -> None:
        if self._setting is not None:
            self._evaluator.report("E206", "the block is set twice", setting.span, hint="keep one")
        self._setting = setting
        if all(1 <= side <= MAX_BLOCK for side in setting.sides):
            self._evaluator.block = setting.sides
        else:
            message = f"a block has sides of 1 to {MAX_BLOCK} tokens (MAX_BLOCK)"
            self._evaluator.report("E303", message, setting.span)

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
            if parameter.name.text in seen:
                message = f"parameter `{parameter.name.text}` stands twice"
                report("E205", message, parameter.span)
            seen.add(parameter.name.text)

    def _check(self) -> None:
        for definition in self._definitions.values():
            self._evaluator.expand(definition, self._evaluator.defaults(definition))
        if self.layout is not None:
            self._evaluator.pattern(self.layout.body, {})
        self._raise_errors()

    def _choose(self, name: str | None) -> tree.Definition | None:
        """The definition to compile; None for the file's own layout."""
        names = self.names
        if name is None:
            if self.layout is not None:
                return None
            if len(names) == 1:
                return self._definitions[names[0]]
            if not names:
                self._refuse("this file defines no layout", "write one, such as `window(3)`")
            choices = ", ".join(f"{self.source.name}:{name}" for name in names)
            self._refuse("this file defines several layouts", f"pick one: {choices}")
        if name not in self._definitions:
            close = get_close_matches(name, names, 1)
            defined = f"it defines: {', '.join(names) or 'nothing'}"
            hint = f"did you mean `{close[0]}`?" if close else defined
            self._refuse(f"no definition `{name}` in this file", hint)
        if name.startswith("_"):
            self._refuse(f"`{name}` is private to its file", "take the `_` off its name")
        return self._definitions[name]

    def _refuse(self, message: str, hint: str) -> NoReturn:
        raise SpecError([Diagnostic("E210", message, self.source, hint=hint)])

    def _scope(self, owner: str, defaults: dict[str, Value], given: Parameters) -> dict[str, Value]:
        """The values of a picked definition's parameters. Raises SpecError."""
        scope, errors = dict(defaults), self._evaluator.errors
        has = f"it has: {', '.join(defaults)}" if defaults else "it has none"
        for name, (source, node) in given.items():
            if name not in defaults:
                message = f"{owner} has no parameter `{name}`"
                errors.append(Diagnostic("E208", message, source, hint=has))
                continue
            outside = Evaluator(source, {}, self.block)
            scope[name] = value = outside.value(node, {})
            if isinstance(value, (Pattern, Range)):
                outside.report("E301", f"a parameter is a number, not {kind_of(value)}", node.span)
            errors.extend(outside.errors)
        self._raise_errors()
        for name, value in scope.items():
            if value is UNKNOWN:
                message = f"parameter `{name}` of {owner} has no default and was given no value"
                hint = f"give it one: `-D {name}=...`, or `{name}=...` in Python"
                errors.append(Diagnostic("E209", message, self.source, hint=hint))
        self._raise_errors()
        return scope

    def _raise_errors(self) -> None:
        if self._evaluator.errors:
            raise SpecError(self._evaluator.errors)
