"""What each name of a file stands for: the resolver's rules, followed without evaluating anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path

from bslang.editors.tokens import tokens
from bslang.ir.signature import Kind as ArgumentKind
from bslang.ir.signature import arguments
from bslang.patterns import BY_NAME
from bslang.resolve.module import BOUND_WHEN_LOWERED, Module
from bslang.resolve.sources import Unreadable, imported
from bslang.resolve.values import FUNCTIONS
from bslang.syntax import tree
from bslang.syntax.diagnostics import SpecError
from bslang.syntax.source import Source, Span


class Kind(Enum):
    """What a name is; the value is how a message says it."""

    PRIMITIVE = "a primitive of the language"
    ARGUMENT = "an argument of a primitive"
    FUNCTION = "a function of the language"
    NUMBER = "a number of the language"
    VARIABLE = "a variable of the language"
    LABEL = "a label or a selection, which callers know by this name"
    DEFINITION = "a definition"
    PARAMETER = "a parameter"
    ALIAS = "an imported file"
    PATH = "the path of a file"


@dataclass(frozen=True)
class Symbol:
    """What is named. owner: the primitive or definition that an argument or parameter belongs to.

    place, span: where it is declared, for what is; place: a path, or the name of a text that is no
    file. source: the text there. node: its declaration.
    """

    kind: Kind
    name: str
    owner: str = ""
    place: str = ""
    span: Span | None = None
    source: Source | None = field(default=None, compare=False, repr=False)
    node: tree.Node | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Occurrence:
    """A place of a file that names a symbol; keyword: as `name=` in a call."""

    span: Span
    symbol: Symbol
    keyword: bool = False


Scope = Mapping[str, Symbol]


def place_of(source: Source) -> str:
    """Where a source lies: its path, or its name where it is no file."""
    return source.name if source.folder is None else str(source.folder / Path(source.name).name)


def definition_symbol(source: Source, definition: tree.Definition) -> Symbol:
    """The symbol of a definition of a file."""
    name = definition.name
    return Symbol(Kind.DEFINITION, name.text, "", place_of(source), name.span, source, definition)


def parameter_symbols(source: Source, definition: tree.Definition) -> dict[str, Symbol]:
    """The symbols of a definition's parameters, by name and in order; of one name, the first."""
    owner, place = definition.name.text, place_of(source)
    found: dict[str, Symbol] = {}
    for p in definition.parameters:
        name, span = p.name.text, p.name.span
        found.setdefault(name, Symbol(Kind.PARAMETER, name, owner, place, span, source, p))
    return found


def target(source: Source, path: tree.Text) -> Source | None:
    """The file that an import reads; None where there is none."""
    try:
        return imported(source, path.value)
    except (Unreadable, SpecError, OSError):
        return None


def global_symbol(module: Module, name: str) -> Symbol | None:
    """What a name, or `file.name`, stands for outside of every definition."""
    if found := module.find(name):
        return definition_symbol(found[0].source, found[1])
    if name in BY_NAME:
        return Symbol(Kind.PRIMITIVE, name)
    if name in BOUND_WHEN_LOWERED:
        return Symbol(Kind.NUMBER, name)
    if name in FUNCTIONS:
        return Symbol(Kind.FUNCTION, name)
    return None


class Names:
    """Walks a file. Its trees are not deeper than MAX_NESTING, so it may recurse."""

    def __init__(self, file: tree.File, module: Module) -> None:
        self.file, self.module = file, module
        self._aliases = {
            s.name.text: Symbol(
                Kind.ALIAS, s.name.text, "", place_of(file.source), s.name.span, file.source, s
            )
            for s in reversed(file.statements)
            if isinstance(s, tree.Import) and s.name
        }

    def occurrences(self) -> Iterator[Occurrence]:
        """Every name that stands for something, in the order of statements."""
        for statement in self.file.statements:
            match statement:
                case tree.Import():
                    yield from self._import(statement)
                case tree.Definition():
                    yield from self._definition(statement)
                case tree.Layout():
                    yield from self._of(statement.body, {})
                case tree.Broken():
                    yield from self._broken(statement)

    def _import(self, statement: tree.Import) -> Iterator[Occurrence]:
        found = target(self.file.source, statement.path)
        place, start = (place_of(found), Span(0, 0)) if found else ("", None)
        symbol = Symbol(Kind.PATH, statement.path.value, "", place, start, found, statement)
        yield Occurrence(statement.path.span, symbol)
        if statement.name:
            yield Occurrence(statement.name.span, self._aliases[statement.name.text])

    def _definition(self, definition: tree.Definition) -> Iterator[Occurrence]:
        yield Occurrence(definition.name.span, definition_symbol(self.file.source, definition))
        scope = parameter_symbols(self.file.source, definition)
        for parameter in definition.parameters:
            yield Occurrence(parameter.name.span, scope[parameter.name.text])
            if parameter.default is not None:
                yield from self._of(parameter.default, {})
        yield from self._of(definition.body, scope)

    def _broken(self, statement: tree.Broken) -> Iterator[Occurrence]:
        """Names of the language and the file in a statement that is none: its parameters are not known."""
        start = statement.span.start
        for token in tokens(self.file.source.text[start : statement.span.stop]):
            symbol = global_symbol(self.module, token.text) if token.kind == "NAME" else None
            if symbol:
                span = Span(start + token.span.start, start + token.span.stop)
                yield Occurrence(span, symbol)

    def _of(self, node: tree.Node, scope: Scope) -> Iterator[Occurrence]:
        match node:
            case tree.Name():
                yield from self._name(node, scope)
            case tree.Call():
                yield from self._call(node, scope)
            case tree.Label(Span(start, stop), name, side):
                yield Occurrence(Span(start, start + len(name)), Symbol(Kind.LABEL, name))
                at = self.file.source.text.rindex(side, start, stop)
                yield Occurrence(Span(at, at + len(side)), Symbol(Kind.VARIABLE, side))
            case tree.SetBuilder():
                own = {v.text: Symbol(Kind.VARIABLE, v.text) for v in node.variables}
                for variable in node.variables:
                    yield Occurrence(variable.span, own[variable.text])
                yield from self._of(node.predicate, {**scope, **own})
            case _:
                for part in children(node):
                    yield from self._of(part, scope)

    def _name(self, node: tree.Name, scope: Scope) -> Iterator[Occurrence]:
        file, dot, own = node.text.partition(".")
        if dot and file in self._aliases:
            yield Occurrence(
                Span(node.span.start, node.span.start + len(file)), self._aliases[file]
            )
        if symbol := self._symbol(node.text, scope):
            start = node.span.stop - len(own) if dot else node.span.start
            yield Occurrence(Span(start, node.span.stop), symbol)

    def _symbol(self, name: str, scope: Scope) -> Symbol | None:
        return scope.get(name) or global_symbol(self.module, name) or self._aliases.get(name)

    def _call(self, node: tree.Call, scope: Scope) -> Iterator[Occurrence]:
        yield from self._name(node.function, scope)
        callee = self._symbol(node.function.text, scope)
        named = arguments_of(callee) if callee else {}
        declared = (
            arguments(BY_NAME[callee.name]) if callee and callee.kind is Kind.PRIMITIVE else ()
        )
        slots = [arg.name for arg in declared if not arg.keyword_only]
        labels = {arg.name for arg in declared if arg.kind is ArgumentKind.NAME}
        for place, argument in enumerate(node.arguments):
            value = argument.value
            if argument.name is not None and argument.name.text in named:
                yield Occurrence(argument.name.span, named[argument.name.text], keyword=True)
            slot = slots[place] if place < len(slots) else ""
            slot = argument.name.text if argument.name else slot
            if slot in labels and isinstance(value, tree.Name):
                yield Occurrence(value.span, Symbol(Kind.LABEL, value.text))
            else:
                yield from self._of(value, scope)


def arguments_of(callee: Symbol) -> dict[str, Symbol]:
    """What a call of a primitive or definition can name, in order."""
    if callee.kind is Kind.PRIMITIVE:
        declared = [a for a in arguments(BY_NAME[callee.name]) if not a.kind.variadic]
        return {a.name: Symbol(Kind.ARGUMENT, a.name, callee.name) for a in declared}
    if isinstance(callee.node, tree.Definition) and callee.source:
        return parameter_symbols(callee.source, callee.node)
    return {}


def children(node: tree.Node) -> Iterator[tree.Node]:
    """The nodes right inside of a node."""
    for f in fields(node):
        value = getattr(node, f.name)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, tree.Node):
                yield item
