"""Expressions to values: names looked up, numbers computed, calls checked, operators applied."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from bslang.ir.expr import Op, Var
from bslang.ir.pattern import (
    Complement,
    Difference,
    Intersection,
    Pattern,
    Transpose,
    Union,
    Xor,
)
from bslang.ir.signature import INFINITE, Count, Kind, Range, arguments
from bslang.limits import MAX_NESTING, MAX_STEPS, MAX_TERMS
from bslang.patterns import BY_NAME
from bslang.resolve.calls import Given, call_primitive, function_arguments, make_range
from bslang.resolve.extent import Extents
from bslang.resolve.suggest import closest
from bslang.resolve.values import (
    FUNCTIONS,
    UNKNOWN,
    ArithmeticProblem,
    Unknown,
    Value,
    arithmetic,
    bounded,
    kind_of,
)
from bslang.syntax import tree
from bslang.syntax.diagnostics import Diagnostic, Findings
from bslang.syntax.source import Source, Span

BOUND_WHEN_LOWERED = ("n", "m", "head", "layer")
"""Names of numbers that are known when a layout is lowered: blocks of the length, and for which head."""

_OPERATORS = {"|": Union, "^": Xor, "&": Intersection}
_MEANT = {"+": "the union of patterns is `p | q`", "*": "the intersection of patterns is `p & q`"}
Scope = Mapping[str, Value]


@dataclass(frozen=True)
class Origin:
    """Where in a spec a primitive was written."""

    source: Source
    span: Span


class _Abandoned(Exception):
    """A limit was passed and reported; what was being evaluated is not worth going on with."""


class Evaluator:
    """Evaluates the expressions of one file. Problems gather in `findings`; their value is UNKNOWN.

    broken: names whose definitions have mistakes of their own. It is bounded by limits: no layout
    deeper than MAX_NESTING or larger than MAX_TERMS comes out, and no more than MAX_STEPS are taken.
    """

    def __init__(
        self,
        source: Source,
        definitions: Mapping[str, tree.Definition],
        block: tuple[int, int],
        findings: Findings,
        broken: frozenset[str] = frozenset(),
    ) -> None:
        self.source, self.definitions, self.block = source, definitions, block
        self.findings, self.broken = findings, broken
        self.origins: dict[str, Origin] = {}
        self._extents = Extents()
        self._active: list[str] = []
        self._circular: set[str] = set()
        self._expanded: dict[object, tuple[Pattern | Unknown, int]] = {}
        self._depth = self._deepest = self._steps = 0

    def report(
        self, code: str, message: str, span: Span | None, *, hint: str = "", label: str = ""
    ) -> None:
        """Note an error of the source."""
        self.findings.add(Diagnostic(code, message, self.source, span, label, hint))

    def _abandon(self, message: str, span: Span | None) -> NoReturn:
        self.findings.add(Diagnostic("E191", message, self.source, span, limit=True))
        raise _Abandoned

    def layout(self, body: tree.Expression) -> Pattern | Unknown:
        """The pattern of a layout without a name."""
        try:
            return self._pattern(body, {})
        except _Abandoned:
            return UNKNOWN

    def definition(
        self, definition: tree.Definition, given: Mapping[str, Value]
    ) -> Pattern | Unknown:
        """The pattern of a definition; a parameter without value and default is UNKNOWN."""
        try:
            return self._expand(definition, given, definition.name.span)
        except _Abandoned:
            return UNKNOWN

    def number(self, node: tree.Expression) -> Value:
        """The value of a parameter, given from outside."""
        try:
            return self._parameter_value(node, "a parameter", {})
        except _Abandoned:
            return UNKNOWN

    # ---- definitions -------------------------------------------------------------------------

    def _expand(
        self, definition: tree.Definition, given: Mapping[str, Value], span: Span
    ) -> Pattern | Unknown:
        """The pattern of a definition, used at `span`; evaluated once for each set of arguments."""
        name = definition.name.text
        if name in self._active:
            circle = self._active[self._active.index(name) :]
            if not self._circular.intersection(circle):
                message = f"`{name}` is defined by itself: {' -> '.join([*circle, name])}"
                self.report("E207", message, definition.name.span)
            self._circular.update(circle)
            return UNKNOWN
        key = (name, tuple(given.items()))
        if key in self._expanded:
            pattern, height = self._expanded[key]
            self._reach(self._depth + height, span)
            return pattern
        self._expanded[key] = UNKNOWN, 0  # stays where it is abandoned
        deepest, self._deepest = self._deepest, self._depth
        self._active.append(name)
        try:
            scope: dict[str, Value] = {}
            for parameter in definition.parameters:
                own, default = parameter.name.text, parameter.default
                value: Value = UNKNOWN
                if default is not None:
                    value = self._parameter_value(default, f"parameter `{own}`", {})
                scope[own] = given.get(own, value)
            pattern = self._pattern(definition.body, scope)
        finally:
            self._active.pop()
            height, self._deepest = self._deepest - self._depth, max(self._deepest, deepest)
        self._expanded[key] = pattern, height
        return pattern

    def _reach(self, depth: int, span: Span) -> None:
        """Note how deep the evaluation goes. A definition that is known already counts as deep as it is."""
        if depth > MAX_NESTING:
            self._too_deep(span)
        self._deepest = max(self._deepest, depth)

    def _parameter_value(self, node: tree.Expression, owner: str, scope: Scope) -> Value:
        value = self._value(node, scope)
        if isinstance(value, (Pattern, Range)):
            self.report("E301", f"{owner} is a number, not {kind_of(value)}", node.span)
            return UNKNOWN
        return value

    def _use(self, definition: tree.Definition, node: tree.Name | tree.Call, scope: Scope) -> Value:
        """The pattern of a definition where another uses it."""
        name, names = definition.name.text, [p.name.text for p in definition.parameters]
        has = f"its parameters are: {', '.join(names)}" if names else "it has no parameters"
        given: dict[str, Value] = {}
        wrong: list[Span] = []

        def refuse(code: str, message: str, span: Span, hint: str = "") -> None:
            wrong.append(span)
            self.report(code, message, span, hint=hint)

        for place, argument in enumerate(node.arguments if isinstance(node, tree.Call) else ()):
            key = (
                argument.name.text if argument.name else names[place] if place < len(names) else ""
            )
            if not key:
                count = (
                    f"{len(names)} argument{'s' * (len(names) != 1)}" if names else "no arguments"
                )
                refuse("E203", f"`{name}` takes {count}", argument.span, has)
            elif key not in names:
                close = closest(key, names)
                hint = f"did you mean `{close}`?" if close else has
                refuse("E204", f"`{name}` has no parameter `{key}`", argument.span, hint)
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
        return UNKNOWN if wrong else self._expand(definition, given, node.span)

    # ---- expressions -------------------------------------------------------------------------

    def _pattern(self, node: tree.Expression, scope: Scope) -> Pattern | Unknown:
        value = self._value(node, scope)
        if value is UNKNOWN or isinstance(value, Pattern):
            return value
        self.report("E301", f"a pattern must stand here, not {kind_of(value)}", node.span)
        return UNKNOWN

    def _value(self, node: tree.Expression, scope: Scope) -> Value:
        self._steps += 1
        if self._steps > MAX_STEPS:
            self._abandon(f"this file takes more than {MAX_STEPS} steps (MAX_STEPS)", None)
        self._reach(self._depth + 1, node.span)
        self._depth += 1
        try:
            match node:
                case tree.Integer():
                    return self._computed(
                        node.span, lambda: Count(bounded(node.value), node.tokens)
                    )
                case tree.Infinity():
                    return Count(INFINITE)
                case tree.Boolean():
                    return node.value
                case tree.Name():
                    return self._name(node, scope)
                case tree.Call():
                    return self._call(node, scope)
                case tree.Range():
                    return self._range(node, scope)
                case tree.Prefix():
                    return self._prefix(node, scope)
                case tree.Chain():
                    return self._chain(node, scope)
                case tree.Transposed():
                    part = self._pattern(node.operand, scope)
                    return part if part is UNKNOWN else self._made(Transpose(part), node.span)
        finally:
            self._depth -= 1

    def _name(self, node: tree.Name, scope: Scope) -> Value:
        name = node.text
        if name in scope:
            return scope[name]
        if name in self.definitions:
            return self._use(self.definitions[name], node, scope)
        if name in BY_NAME:
            return self._primitive(node, scope)
        if name in BOUND_WHEN_LOWERED:
            return Count(Var(name))
        if name in FUNCTIONS:
            return self._function(node, scope)
        if name in self.broken:
            return UNKNOWN
        close = closest(name, [*scope, *BY_NAME, *self.definitions])
        numbers = ", ".join([*BOUND_WHEN_LOWERED, *scope])
        self.report(
            "E201",
            f"unknown name `{name}`",
            node.span,
            label="not a pattern, definition or parameter",
            hint=f"did you mean `{close}`?"
            if close
            else f"known patterns: {', '.join(BY_NAME)}; known numbers: {numbers}",
        )
        return UNKNOWN

    def _call(self, node: tree.Call, scope: Scope) -> Value:
        name = node.function.text
        if name in scope or (name in BOUND_WHEN_LOWERED and name not in self.definitions):
            what = "parameter" if name in scope else "number"
            self.report("E202", f"`{name}` is a {what} and takes no arguments", node.span)
            return UNKNOWN
        if name in self.definitions:
            return self._use(self.definitions[name], node, scope)
        if name in BY_NAME:
            return self._primitive(node, scope)
        if name in FUNCTIONS:
            return self._function(node, scope)
        for argument in node.arguments:
            self._value(argument.value, scope)  # reports what is wrong there too
        return self._name(node.function, scope)  # reports the unknown name

    def _primitive(self, node: tree.Name | tree.Call, scope: Scope) -> Value:
        call = node if isinstance(node, tree.Call) else tree.Call(node.span, node, ())
        name = call.function.text
        positional = []
        named = []
        slots = [arg for arg in arguments(BY_NAME[name]) if not arg.keyword_only]
        for place, argument in enumerate(call.arguments):
            value: Value
            written = argument.value
            if slots[place : place + 1] and slots[place].kind is Kind.NAME and not argument.name:
                # The name itself is meant, whatever else it may stand for.
                value = written.text if isinstance(written, tree.Name) else UNKNOWN
                if value is UNKNOWN:
                    self.report("E301", f"a name must stand here: `{name}(doc)`", written.span)
            else:
                value = self._value(written, scope)
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
        self._made(made, node.span)
        self.origins.setdefault(str(made), Origin(self.source, node.span))
        return made

    def _function(self, node: tree.Name | tree.Call, scope: Scope) -> Value:
        call = node if isinstance(node, tree.Call) else tree.Call(node.span, node, ())
        values = [self._value(argument.value, scope) for argument in call.arguments]
        counts = function_arguments(call, values, self.report)
        if counts is UNKNOWN:
            return UNKNOWN
        return self._computed(node.span, lambda: arithmetic(call.function.text, *counts))

    def _range(self, node: tree.Range, scope: Scope) -> Value:
        parts = (node.start, node.stop, node.step)
        values = [None if part is None else self._value(part, scope) for part in parts]
        return make_range(node, values, self.report)

    def _prefix(self, node: tree.Prefix, scope: Scope) -> Value:
        value = self._value(node.operand, scope)
        if value is UNKNOWN:
            return UNKNOWN
        if node.op == "~" and isinstance(value, Pattern):
            return self._made(Complement(value), node.span)
        if node.op == "-" and isinstance(value, Count):
            return self._computed(node.span, lambda: arithmetic("-", Count(0, value.tokens), value))
        hint = "the complement of a pattern is `~p`" if isinstance(value, Pattern) else ""
        self.report("E301", f"`{node.op}` does not apply to {kind_of(value)}", node.span, hint=hint)
        return UNKNOWN

    def _chain(self, node: tree.Chain, scope: Scope) -> Value:
        values = [self._value(operand, scope) for operand in node.operands]
        if any(value is UNKNOWN for value in values):
            return UNKNOWN
        op = next((op for op in node.ops if op != "-"), "-")
        wanted: type[Pattern | Count]
        if op in _OPERATORS or (op == "-" and isinstance(values[0], Pattern)):
            patterns = [value for value in values if isinstance(value, Pattern)]
            if len(patterns) == len(values):
                join = Difference.of if op == "-" else _OPERATORS[op].of
                return self._made(join(*patterns), node.span)
            wanted, joined = Pattern, "patterns"
        else:
            counts = [value for value in values if isinstance(value, Count)]
            if len(counts) == len(values):
                return self._arithmetic(node, counts)
            wanted, joined = Count, "numbers"
        value, operand = next(
            (value, operand)
            for value, operand in zip(values, node.operands, strict=True)
            if not isinstance(value, wanted)
        )
        message = f"`{op}` joins {joined}, and this is {kind_of(value)}"
        self.report("E301", message, operand.span, hint=_MEANT.get(op, ""))
        return UNKNOWN

    def _arithmetic(self, node: tree.Chain, counts: list[Count]) -> Value:
        result: Count | Unknown = counts[0]
        for op, right in zip(node.ops, counts[1:], strict=True):
            if result is not UNKNOWN:
                result = self._computed(node.span, partial(arithmetic, op, result, right))
        return result

    # ---- results -----------------------------------------------------------------------------

    def _computed(self, span: Span, compute: Callable[[], Count]) -> Count | Unknown:
        try:
            count = compute()
        except ArithmeticProblem as problem:
            found = Diagnostic("E304", str(problem), self.source, span, limit=problem.limit)
            self.findings.add(found)
            return UNKNOWN
        if isinstance(count.value, Op):
            self._bound(count, "number", span)
        return count

    def _made(self, pattern: Pattern, span: Span) -> Pattern:
        """A pattern just built, if it is not larger than the limits."""
        self._bound(pattern, "pattern", span)
        return pattern

    def _bound(self, value: Pattern | Count, noun: str, span: Span) -> None:
        extent = self._extents.of(value)
        if extent.terms > MAX_TERMS:
            self._abandon(f"this {noun} has more than {MAX_TERMS} terms (MAX_TERMS)", span)
        if extent.depth > MAX_NESTING:
            self._too_deep(span)

    def _too_deep(self, span: Span) -> NoReturn:
        self._abandon(
            f"nested more than {MAX_NESTING} deep, definitions included (MAX_NESTING)", span
        )
