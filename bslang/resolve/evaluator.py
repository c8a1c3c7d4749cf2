"""Expressions to values: names looked up, numbers computed, calls checked, operators applied."""

from __future__ import annotations

from collections.abc import Mapping

from bslang.ir.awaited import Conflict, inputs
from bslang.ir.expr import Var
from bslang.ir.pattern import Pattern, Transpose
from bslang.ir.signature import INFINITE, Count, Kind, Range, arguments
from bslang.ir.units import LENGTHS
from bslang.limits import MAX_LABELS, MAX_SELECTIONS
from bslang.patterns import BY_NAME
from bslang.patterns.table import Matrix
from bslang.resolve import forms, operators, unknown
from bslang.resolve.calls import Given, call_primitive, example, function_arguments, make_range
from bslang.resolve.context import Abandoned, Context, Scope
from bslang.resolve.module import BOUND_WHEN_LOWERED, Module
from bslang.resolve.origins import Origin
from bslang.resolve.predicates import Measured
from bslang.resolve.suggest import closest
from bslang.resolve.values import (
    FUNCTIONS,
    UNKNOWN,
    Truth,
    Unknown,
    Value,
    bounded,
    kind_of,
)
from bslang.syntax import tree
from bslang.syntax.diagnostics import Diagnostic, Findings
from bslang.syntax.fix import Fix, meant
from bslang.syntax.source import Span

_STEP = 2500  # steps of the budget for an expression


class Evaluator(Context):
    """Evaluates the expressions of a file, on the budget that is open."""

    def __init__(
        self,
        module: Module,
        block: tuple[int, int],
        findings: Findings,
        tables: Mapping[str, Matrix] | None = None,
    ) -> None:
        super().__init__(module, block, findings, tables)
        self._active: list[tuple[Module, str]] = []
        self._circular: set[tuple[Module, str]] = set()
        self._expanded: dict[object, tuple[Pattern | Unknown, int]] = {}

    def layout(self, body: tree.Expression) -> Pattern | Unknown:
        """The pattern of a layout without a name."""
        try:
            return self._whole(self.pattern(body, {}), body.span)
        except Abandoned:
            return UNKNOWN

    def definition(
        self, module: Module, definition: tree.Definition, given: Mapping[str, Value]
    ) -> Pattern | Unknown:
        """The pattern of a definition of a file; a parameter without value and default is UNKNOWN."""
        try:
            pattern = self._expand(module, definition, given, definition.name.span)
            return self._whole(pattern, definition.body.span)
        except Abandoned:
            return UNKNOWN

    def _whole(self, pattern: Pattern | Unknown, span: Span) -> Pattern | Unknown:
        """A layout whose calls can give what it reads of them; UNKNOWN, and reported, where they cannot."""
        if pattern is UNKNOWN:
            return UNKNOWN
        try:
            read = inputs(self.block, pattern)
        except Conflict as conflict:
            origin = self.origins.of(conflict.subject) or Origin(self.module.source, span)
            message, hint = conflict.message, conflict.hint
            self.findings.add(Diagnostic("E311", message, origin.source, origin.span, hint=hint))
            return UNKNOWN
        for names, most, what in (
            (read.label_names, MAX_LABELS, "labels are compared (MAX_LABELS)"),
            (read.selection_names, MAX_SELECTIONS, "selections are read (MAX_SELECTIONS)"),
        ):
            if len(names) > most:
                self.abandon(f"more than {most} {what}", span)
        return pattern

    def number(self, node: tree.Expression) -> Value:
        """The value of a parameter, given from outside."""
        try:
            return self._parameter_value(node, "a parameter", {})
        except Abandoned:
            return UNKNOWN

    # ---- definitions -------------------------------------------------------------------------

    def _expand(
        self, module: Module, definition: tree.Definition, given: Mapping[str, Value], span: Span
    ) -> Pattern | Unknown:
        """The pattern of a definition, used at `span`; evaluated once for each set of arguments."""
        name = definition.name.text
        if (module, name) in self._active:
            circle = self._active[self._active.index((module, name)) :]
            if not self._circular.intersection(circle):
                names = " -> ".join([*(name for _, name in circle), name])
                self.report(
                    "E207", f"`{name}` is defined in terms of itself: {names}", definition.name.span
                )
            self._circular.update(circle)
            return UNKNOWN
        # 1 and true are equal to Python.
        key = (module, name, tuple((own, value, kind_of(value)) for own, value in given.items()))
        if key in self._expanded:
            pattern, height = self._expanded[key]
            self.reach(self.depth + height, span)
            return pattern
        self._expanded[key] = UNKNOWN, 0  # stays where it is abandoned
        deepest, self.deepest = self.deepest, self.depth
        self._active.append((module, name))
        outside, self.module = self.module, module
        comparison, self.comparison = self.comparison, None
        try:
            scope: dict[str, Value] = {}
            for parameter in definition.parameters:
                own, default = parameter.name.text, parameter.default
                value: Value = UNKNOWN
                if default is not None:
                    value = self._parameter_value(default, f"parameter `{own}`", {})
                scope[own] = given.get(own, value)
            pattern = self.pattern(definition.body, scope)
        finally:
            self._active.pop()
            self.module, self.comparison = outside, comparison
            height, self.deepest = self.deepest - self.depth, max(self.deepest, deepest)
        self._expanded[key] = pattern, height
        return pattern

    def _parameter_value(self, node: tree.Expression, owner: str, scope: Scope) -> Value:
        value = self.value(node, scope)
        if isinstance(value, (Pattern, Range)):
            self.report("E301", f"{owner} is a number, not {kind_of(value)}", node.span)
            return UNKNOWN
        return value

    def _use(
        self,
        found: tuple[Module, tree.Definition],
        node: tree.Name | tree.Call,
        scope: Scope,
    ) -> Value:
        """The pattern of a definition where another uses it."""
        module, definition = found
        name, names = definition.name.text, [p.name.text for p in definition.parameters]
        has = f"its parameters are: {', '.join(names)}" if names else "it has no parameters"
        given: dict[str, Value] = {}
        wrong: list[Span] = []

        def refuse(
            code: str, message: str, span: Span, hint: str = "", fix: Fix | None = None
        ) -> None:
            wrong.append(span)
            self.report(code, message, span, hint=hint, fix=fix)

        for place, argument in enumerate(node.arguments if isinstance(node, tree.Call) else ()):
            key = (
                argument.name.text if argument.name else names[place] if place < len(names) else ""
            )
            if not key:
                count = (
                    f"{len(names)} argument{'s' * (len(names) != 1)}" if names else "no arguments"
                )
                refuse("E203", f"`{name}` takes {count}", argument.span, has)
            elif argument.name and key not in names:
                place_of_key = argument.name.span
                fix = meant(key, closest(key, names), place_of_key)
                refuse("E204", f"`{name}` has no parameter `{key}`", place_of_key, has, fix)
            elif key in given:
                refuse("E205", f"`{key}` is given twice", argument.span)
            else:
                owner = f"parameter `{key}` of `{name}`"
                given[key] = self._parameter_value(argument.value, owner, scope)
        for parameter in definition.parameters:
            key = parameter.name.text
            if parameter.default is None and key not in given and not wrong:
                hint = f"write `{name}({key}=...)`, or give `{key}` a default where it is declared"
                refuse("E203", f"`{name}` needs a value for `{key}`", node.span, hint)
        return UNKNOWN if wrong else self._expand(module, definition, given, node.span)

    # ---- expressions -------------------------------------------------------------------------

    def value(self, node: tree.Expression, scope: Scope) -> Value:
        self.spend(_STEP)
        self.reach(self.depth + 1, node.span)
        self.depth += 1
        try:
            match node:
                case tree.Integer():
                    return self._counted(
                        self.computed(node.span, lambda: Count(bounded(node.value), node.tokens))
                    )
                case tree.Infinity():
                    return Count(INFINITE)
                case tree.Boolean():
                    return node.value
                case tree.Name():
                    return self._name(node, scope)
                case tree.Label():
                    return forms.label(self, node)
                case tree.Call():
                    return self._call(node, scope)
                case tree.Range():
                    return self._range(node, scope)
                case tree.Prefix():
                    return operators.prefix(self, node, scope)
                case tree.Chain():
                    return operators.chain(self, node, scope)
                case tree.Text():
                    return node.value
                case tree.Tuple():
                    return forms.several(self, node, scope)
                case tree.SetBuilder():
                    return forms.set_builder(self, node, scope)
                case tree.Heads():
                    return forms.heads(self, node, scope)
                case tree.Transposed():
                    part = self.pattern(node.operand, scope)
                    return part if part is UNKNOWN else self.made(Transpose(part), node.span)
        finally:
            self.depth -= 1

    def _name(self, node: tree.Name, scope: Scope) -> Value:
        name = node.text
        if name in scope:
            return self._counted(scope[name])
        if found := self.module.find(name):
            return self._use(found, node, scope)
        if name in BY_NAME:
            return self._primitive(node, scope)
        if name in BOUND_WHEN_LOWERED:
            return self._counted(Count(Var(name), name in LENGTHS))
        if name in FUNCTIONS:
            return self._function(node, scope)
        return self._unknown(node, node, scope)

    def _counted(self, value: Value) -> Value:
        """A number as predicates over tokens have it, in one; any other value as it is."""
        if (
            self.predicate_of != "tokens"
            or not isinstance(value, Count)
            or isinstance(value, Truth)
        ):
            return value
        return Measured.of(value)

    def _unknown(self, name: tree.Name, written: tree.Name | tree.Call, scope: Scope) -> Unknown:
        """Report a name that stands for nothing, if its definition is not just broken or missing."""
        if name.text not in self.module.broken and not self.module.lost:
            unknown.report(self, name, written, scope)
        return UNKNOWN

    def _call(self, node: tree.Call, scope: Scope) -> Value:
        name = node.function.text
        if name in scope or name in BOUND_WHEN_LOWERED:
            what = "parameter" if name in scope else "number"
            self.report("E202", f"`{name}` is a {what} and takes no arguments", node.span)
            return UNKNOWN
        if found := self.module.find(name):
            return self._use(found, node, scope)
        if name in BY_NAME:
            return self._primitive(node, scope)
        if name in FUNCTIONS:
            return self._function(node, scope)
        for argument in node.arguments:
            self.value(argument.value, scope)  # reports what is wrong there too
        return self._unknown(node.function, node, scope)

    def _primitive(self, node: tree.Name | tree.Call, scope: Scope) -> Value:
        call = node if isinstance(node, tree.Call) else tree.Call(node.span, node, ())
        name = call.function.text
        positional = []
        named = []
        slots = [arg for arg in arguments(BY_NAME[name]) if not arg.keyword_only]
        kinds = {arg.name: arg.kind for arg in arguments(BY_NAME[name])}
        for place, argument in enumerate(call.arguments):
            value: Value
            written = argument.value
            kind = slots[place].kind if place < len(slots) else None
            kind = kinds.get(argument.name.text) if argument.name else kind
            if kind is Kind.NAME and isinstance(written, tree.Name):
                value = written.text  # the name itself, whatever else it may stand for
            elif kind is Kind.NAME or (kind is Kind.TEXT and not isinstance(written, tree.Text)):
                shown = example(BY_NAME[name])
                self.report("E301", f"expected {kind.value}, as in `{shown}`", written.span)
                value = UNKNOWN
            else:
                value = self.value(written, scope)
            given = Given(value, argument.value.span)
            if argument.name is None:
                positional.append(given)
            else:
                named.append((argument.name, given))
        made = call_primitive(BY_NAME[name], node.span, positional, named, self.report)
        if made is UNKNOWN:
            return UNKNOWN
        rows, columns = self.block
        if made.relational and not made.tokens and rows != columns:
            self.report(
                "E306",
                f"`{name}` compares block rows with block columns, and a block is {rows}x{columns} tokens",
                node.span,
                hint="count in tokens (suffix `t`), or use square blocks",
            )
            return UNKNOWN
        loaded = forms.load(self, made, node)
        return loaded if loaded is UNKNOWN else self.made(loaded, node.span)

    def _function(self, node: tree.Name | tree.Call, scope: Scope) -> Value:
        call = node if isinstance(node, tree.Call) else tree.Call(node.span, node, ())
        values = [self.value(argument.value, scope) for argument in call.arguments]
        counts = function_arguments(call, values, self.report)
        if counts is UNKNOWN:
            return UNKNOWN
        computing = operators.computing(self)
        return self.computed(node.span, lambda: computing(call.function.text, *counts))

    def _range(self, node: tree.Range, scope: Scope) -> Value:
        parts = (node.start, node.stop, node.step)
        values = [None if part is None else self.value(part, scope) for part in parts]
        return make_range(node, values, self.report)
