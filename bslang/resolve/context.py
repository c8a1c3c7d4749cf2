"""What every part of resolving works on: where problems gather, what limits hold, how parts are evaluated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import NoReturn, TypeAlias

from bslang.budget import READING, OverBudget, spend
from bslang.ir.expr import Op
from bslang.ir.pattern import Pattern
from bslang.ir.signature import Count
from bslang.limits import MAX_NESTING, MAX_TERMS
from bslang.patterns.table import Matrix
from bslang.resolve.extent import Extents
from bslang.resolve.module import Module
from bslang.resolve.origins import Origin, Origins
from bslang.resolve.values import UNKNOWN, ArithmeticProblem, Unknown, Value, kind_of
from bslang.syntax import tree
from bslang.syntax.diagnostics import Diagnostic, Findings
from bslang.syntax.fix import Fix
from bslang.syntax.source import Span

Scope: TypeAlias = Mapping[str, Value]
"""The parameters of a definition, and the indices of a set-builder, by name."""


class Abandoned(Exception):
    """A limit was passed and reported; what was being evaluated is not worth going on with."""


class Context(ABC):
    """An evaluation under way. Problems gather in `findings`; their value is UNKNOWN.

    It is bounded by limits: no layout deeper than MAX_NESTING or larger than MAX_TERMS comes out.
    The rules of operators, forms and names (operators.py, forms.py, unknown.py) are functions of it; the
    expressions themselves are evaluated by `Evaluator`, which knows these rules.
    """

    def __init__(
        self,
        module: Module,
        block: tuple[int, int],
        findings: Findings,
        tables: Mapping[str, Matrix] | None = None,
    ) -> None:
        """tables: those that are known already, by the names that canonical text gives them."""
        self.module, self.block, self.findings = module, block, findings
        self.tables = tables or {}
        self.origins = Origins()
        self._extents = Extents()
        self.depth = self.deepest = 0
        self.predicate_of = ""  # "blocks" or "tokens" while a predicate over them is evaluated
        self.comparison: tree.Chain | None = None  # the outermost that is evaluated, for messages

    @abstractmethod
    def value(self, node: tree.Expression, scope: Scope) -> Value:
        """What an expression comes to; UNKNOWN, and reported, where it comes to nothing."""

    def report(
        self,
        code: str,
        message: str,
        span: Span | None,
        *,
        hint: str = "",
        label: str = "",
        limit: bool = False,
        fix: Fix | None = None,
    ) -> None:
        """Note an error of the source."""
        source = self.module.source
        self.findings.add(Diagnostic(code, message, source, span, label, hint, limit, fix))

    def abandon(self, message: str, span: Span | None) -> NoReturn:
        self.report("E191", message, span, limit=True)
        raise Abandoned

    def spend(self, steps: int) -> None:
        """Take steps of the budget that is open."""
        try:
            spend(steps, READING)
        except OverBudget as error:
            self.report(error.code, error.said, None, hint=error.remedy, limit=True)
            raise Abandoned from None

    def reach(self, depth: int, span: Span) -> None:
        """Note how deep the evaluation goes. A definition that is known already counts as deep as it is."""
        if depth > MAX_NESTING:
            self._too_deep(span)
        self.deepest = max(self.deepest, depth)

    def pattern(self, node: tree.Expression, scope: Scope) -> Pattern | Unknown:
        value = self.value(node, scope)
        if value is UNKNOWN or isinstance(value, Pattern):
            return value
        hint = ""
        if isinstance(value, Count) and isinstance(node, tree.Integer):
            hint = (
                "a number is an argument, as in `last(3)`, or a parameter: `name(w = 3) = last(w)`"
            )
        message = f"expected a pattern, found {kind_of(value)}"
        self.report("E301", message, node.span, hint=hint)
        return UNKNOWN

    # ---- results -----------------------------------------------------------------------------

    def computed(self, span: Span, compute: Callable[[], Count]) -> Count | Unknown:
        try:
            count = compute()
        except ArithmeticProblem as problem:
            self.report(problem.code, str(problem), span, hint=problem.hint, limit=problem.limit)
            return UNKNOWN
        if isinstance(count.value, Op):
            self._bound(count, "number", span)
        return count

    def made(self, pattern: Pattern, span: Span) -> Pattern:
        """A pattern just built, if it is not larger than the limits."""
        self._bound(pattern, "pattern", span)
        self.origins.add(pattern, Origin(self.module.source, span))
        return pattern

    def _bound(self, value: Pattern | Count, noun: str, span: Span) -> None:
        extent = self._extents.of(value)
        if extent.terms > MAX_TERMS:
            self.abandon(f"this {noun} has more than {MAX_TERMS} terms (MAX_TERMS)", span)
        if extent.depth > MAX_NESTING:
            self._too_deep(span)

    def _too_deep(self, span: Span) -> NoReturn:
        self.abandon(
            f"nested more than {MAX_NESTING} deep, definitions included (MAX_NESTING)", span
        )
