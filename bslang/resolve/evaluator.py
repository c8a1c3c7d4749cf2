"""Expressions to values: names looked up, numbers computed, calls checked, operators applied."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial

from bslang.ir.expr import Var
from bslang.ir.pattern import (
    Complement,
    Difference,
    Intersection,
    Pattern,
    Primitive,
    Transpose,
    Union,
    Xor,
)
from bslang.ir.signature import INFINITE, Count, Range
from bslang.limits import MAX_DEFINITION_DEPTH, MAX_TERMS
from bslang.patterns import BY_NAME
from bslang.resolve.calls import Given, call_primitive
from bslang.resolve.values import (
    FUNCTIONS,
    UNKNOWN,
    ArithmeticProblem,
    Unknown,
    Value,
    arithmetic,
    bounded,
    kind_of,
    with_zeros_in_tokens,
)
from bslang.syntax import tree
from bslang.syntax.diagnostics import Diagnostic
from bslang.syntax.source import Source, Span

BOUND_WHEN_LOWERED = ("n", "m")
"""Names of numbers that stand for the blocks of a length."""

_OPERATORS = {"|": Union, "^": Xor, "&": Intersection}
Scope = Mapping[str, Value]


@dataclass(frozen=True)
class Origin:
    """Where in a spec a primitive was written."""

    source: Source
    span: Span


class Evaluator:
    """Evaluates the expressions of one file. Problems gather in `errors`; their value is UNKNOWN."""

    def __init__(
        self, source: Source, definitions: Mapping[str, tree.Definition], block: tuple[int, int]
    ) -> None:
        self.source, self.definitions, self.block = source, definitions, block
        self.errors: list[Diagnostic] = []
        self.origins: dict[Primitive, Origin] = {}
        self._sizes: dict[int, tuple[Pattern, int]] = {}
        self._active: list[str] = []

    def report(
        self,
        code: str,
        message: str,
        span: Span | None,
        *,
        hint: str = "",
        label: str = "",
        limit: bool = False,
    ) -> None:
        """Note an error of the source, once: a definition is expanded for each of its uses."""
        found = Diagnostic(code, message, self.source, span, label, hint, limit)
        if found not in self.errors:
            self.errors.append(found)

    def defaults(self, definition: tree.Definition) -> dict[str, Value]:
        """The parameters of a definition with their defaults, UNKNOWN for those without."""
        scope: dict[str, Value] = {}
        for parameter in definition.parameters:
            default = parameter.default
            scope[parameter.name.text] = UNKNOWN if default is None else self.value(default, {})
        return scope

    def expand(self, definition: tree.Definition, scope: dict[str, Value]) -> Pattern | Unknown:
        name = definition.name
        if name.text in self._active:
            circle = " -> ".join([*self._active[self._active.index(name.text) :], name.text])
            self.report("E207", f"`{name.text}` is defined by itself: {circle}", name.span)
            return UNKNOWN
        if len(self._active) >= MAX_DEFINITION_DEPTH:
            message = f"definitions refer to one another more than {MAX_DEFINITION_DEPTH} deep"
            self.report("E191", f"{message} (MAX_DEFINITION_DEPTH)", name.span, limit=True)
            return UNKNOWN
        self._active.append(name.text)
        try:
            return self.pattern(definition.body, scope)
        finally:
            self._active.pop()

    def pattern(self, node: tree.Expression, scope: Scope) -> Pattern | Unknown:
        value = self.value(node, scope)
        if value is UNKNOWN or isinstance(value, Pattern):
            return value
        self.report("E301", f"a pattern must stand here, not {kind_of(value)}", node.span)
        return UNKNOWN

    def value(self, node: tree.Expression, scope: Scope) -> Value:
        if isinstance(node, tree.Integer):
            return self._computed(node.span, lambda: Count(bounded(node.value), node.tokens))
        if isinstance(node, tree.Infinity):
            return Count(INFINITE)
        if isinstance(node, tree.Boolean):
            return node.value
        if isinstance(node, tree.Name):
            return self._name(node, scope)
        if isinstance(node, tree.Call):
            return self._call(node, scope)
        if isinstance(node, tree.Range):
            return self._range(node, scope)
        if isinstance(node, tree.Prefix):
            return self._prefix(node, scope)
        if isinstance(node, tree.Transposed):
            part = self.pattern(node.operand, scope)
            return part if part is UNKNOWN else self._made(Transpose(part), node.span)
        return self._chain(node, scope)

    def _name(self, node: tree.Name, scope: Scope) -> Value:
        if node.text in scope:
            return scope[node.text]
        if node.text in self.definitions:
            return self._call_definition(tree.Call(node.span, node, ()), scope)
        if node.text in BY_NAME:
            return self._call(tree.Call(node.span, node, ()), scope)
        if node.text in BOUND_WHEN_LOWERED:
            return Count(Var(node.text))
        known = [*scope, *self.definitions, *BY_NAME]
        close = get_close_matches(node.text, known, 1)
        self.report(
            "E201",
            f"unknown name `{node.text}`",
            node.span,
            label="not a pattern, definition or parameter",
            hint=f"did you mean `{close[0]}`?"
            if close
            else f"known patterns: {', '.join(BY_NAME)}",
        )
        return UNKNOWN

    def _call(self, node: tree.Call, scope: Scope) -> Value:
        name = node.function.text
        if name in scope:
            self.report("E202", f"`{name}` is a parameter and takes no arguments", node.span)
            return UNKNOWN
        if name in self.definitions:
            return self._call_definition(node, scope)
        if name in FUNCTIONS:
            return self._function(node, scope)
        if name not in BY_NAME:
            return self._name(node.function, scope)  # reports the unknown name
        positional = []
        named = []
        for argument in node.arguments:
            given = Given(self.value(argument.value, scope), argument.value.span)
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
        self.origins.setdefault(made, Origin(self.source, node.span))
        return self._made(made, node.span)

    def _call_definition(self, node: tree.Call, scope: Scope) -> Value:
        definition = self.definitions[node.function.text]
        inner = self.defaults(definition)
        names = list(inner)
        given: set[str] = set()
        for place, argument in enumerate(node.arguments):
            key = (
                argument.name.text
                if argument.name
                else names[place]
                if place < len(names)
                else None
            )
            if key is None or key not in inner:
                what = f"has no parameter `{key}`" if key else f"takes {len(names)} parameters"
                has = f"it has: {', '.join(names)}" if names else "it has none"
                self.report("E204", f"`{node.function.text}` {what}", argument.span, hint=has)
                return UNKNOWN
            if key in given:
                self.report("E205", f"`{key}` is given twice", argument.span)
                return UNKNOWN
            given.add(key)
            inner[key] = self.value(argument.value, scope)
            if isinstance(inner[key], (Pattern, Range)):
                self.report(
                    "E301",
                    f"parameter `{key}` is a number, not {kind_of(inner[key])}",
                    argument.span,
                )
                return UNKNOWN
        for parameter in definition.parameters:
            key = parameter.name.text
            if parameter.default is None and key not in given:
                self.report("E203", f"`{node.function.text}` needs a value for `{key}`", node.span)
                return UNKNOWN
        return self.expand(definition, inner)

    def _function(self, node: tree.Call, scope: Scope) -> Value:
        least, most = FUNCTIONS[node.function.text]
        values = [self.value(argument.value, scope) for argument in node.arguments]
        counts = [value for value in values if isinstance(value, Count)]
        if UNKNOWN in values:
            return UNKNOWN
        if (
            len(counts) < len(values)
            or not least <= len(values) <= most
            or any(a.name for a in node.arguments)
        ):
            takes = f"{least} number{'s' * (least > 1)}" + (" or more" if most > least else "")
            self.report("E203", f"`{node.function.text}` takes {takes}", node.span)
            return UNKNOWN
        return self._computed(node.span, lambda: arithmetic(node.function.text, *counts))

    def _range(self, node: tree.Range, scope: Scope) -> Value:
        ends: list[Count | None] = []
        for end in (node.start, node.stop, node.step):
            value = None if end is None else self.value(end, scope)
            if value is UNKNOWN:
                return UNKNOWN
            if not (value is None or isinstance(value, Count)) or (
                value is not None and value.infinite
            ):
                assert end is not None
                self.report(
                    "E301",
                    "an end of a range is a number",
                    end.span,
                    hint="leave it out for no end",
                )
                return UNKNOWN
            ends.append(value)
        ends = with_zeros_in_tokens(ends)
        start, stop, step = ends
        if step is not None and isinstance(step.value, int) and step.value < 1:
            self.report("E303", "the step of a range must be at least 1", node.span)
            return UNKNOWN
        units = {end.tokens for end in ends if end is not None}
        if len(units) > 1:
            self.report("E302", "this range mixes blocks and tokens", node.span,
                         hint="give every number of it the suffix `t`, or none")  # fmt: skip
            return UNKNOWN
        return Range(start, stop, step)

    def _prefix(self, node: tree.Prefix, scope: Scope) -> Value:
        value = self.value(node.operand, scope)
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
        values = [self.value(operand, scope) for operand in node.operands]
        if UNKNOWN in values:
            return UNKNOWN
        patterns = [value for value in values if isinstance(value, Pattern)]
        counts = [value for value in values if isinstance(value, Count)]
        if len(patterns) == len(values):
            return self._operator(node, patterns)
        if len(counts) == len(values):
            return self._arithmetic(node, counts)
        joins_patterns = isinstance(values[0], Pattern)
        value, operand = next(
            (value, operand)
            for value, operand in zip(values, node.operands, strict=True)
            if not isinstance(value, Pattern if joins_patterns else Count)
        )
        joined = "patterns" if joins_patterns else "numbers"
        self.report(
            "E301",
            f"`{node.ops[0]}` joins {joined} here, and this is {kind_of(value)}",
            operand.span,
        )
        return UNKNOWN

    def _operator(self, node: tree.Chain, patterns: list[Pattern]) -> Value:
        op = node.ops[0]
        if set(node.ops) == {op} and op in _OPERATORS:
            return self._made(_OPERATORS[op].of(*patterns), node.span)
        if set(node.ops) == {"-"}:
            return self._made(Difference.of(*patterns), node.span)
        wrong = next(op for op in node.ops if op not in _OPERATORS and op != "-")
        hint = "the union of patterns is `p | q`" if wrong == "+" else ""
        self.report("E301", f"`{wrong}` does not apply to patterns", node.span, hint=hint)
        return UNKNOWN

    def _arithmetic(self, node: tree.Chain, counts: list[Count]) -> Value:
        result: Value = counts[0]
        for op, right in zip(node.ops, counts[1:], strict=True):
            if op in _OPERATORS:
                self.report("E301", f"`{op}` joins patterns, not numbers", node.span)
                return UNKNOWN
            if not isinstance(result, Count):
                return UNKNOWN
            result = self._computed(node.span, partial(arithmetic, op, result, right))
        return result

    # ---- results -----------------------------------------------------------------------------

    def _computed(self, span: Span, compute: Callable[[], Count]) -> Count | Unknown:
        try:
            return compute()
        except ArithmeticProblem as problem:
            self.report("E304", str(problem), span)
            return UNKNOWN

    def _made(self, pattern: Pattern, span: Span) -> Pattern | Unknown:
        """A pattern just built, unless it is larger than the limit with all that it is built of."""
        inner = pattern.parts or [p for p in vars(pattern).values() if isinstance(p, Pattern)]
        size = 1 + sum(self._sizes.get(id(part), (part, 1))[1] for part in inner)
        if size > MAX_TERMS:
            self.report(
                "E191",
                f"this pattern has more than {MAX_TERMS} terms (MAX_TERMS)",
                span,
                limit=True,
            )
            return UNKNOWN
        self._sizes[id(pattern)] = (pattern, size)
        return pattern
