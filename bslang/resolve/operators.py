"""Operators on values: of patterns, of numbers, and of truths in a predicate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, reduce

from bslang.errors import PatternError
from bslang.ir.composition import Composition, Power
from bslang.ir.expr import COMPARISONS
from bslang.ir.pattern import (
    Complement,
    Difference,
    Intersection,
    Pattern,
    Union,
    Xor,
    check_bounds,
)
from bslang.ir.signature import Count
from bslang.resolve.context import Context, Scope
from bslang.resolve.predicates import compared, measured
from bslang.resolve.values import (
    UNKNOWN,
    Truth,
    Unknown,
    Value,
    arithmetic,
    comparison,
    kind_of,
    truth,
)
from bslang.syntax import tree

_SETS: Mapping[str, Callable[..., Pattern]] = {
    "|": Union.of,
    "^": Xor.of,
    "&": Intersection.of,
    "-": Difference.of,
}
_MEANT = {
    "+": "the union of patterns is `p | q`",
    "*": "the intersection of patterns is `p & q`",
}


def prefix(context: Context, node: tree.Prefix, scope: Scope) -> Value:
    """`~p`, `-x`, and `~` before a comparison."""
    value = context.value(node.operand, scope)
    if value is UNKNOWN:
        return UNKNOWN
    if node.op == "~" and isinstance(value, Pattern):
        return context.made(Complement(value), node.span)
    if node.op == "~" and isinstance(value, Truth | bool):
        return context.computed(node.span, lambda: truth("not", value))
    if node.op == "-" and isinstance(value, Count):
        negated = partial(computing(context), "-", Count(0, value.tokens), value)
        return context.computed(node.span, negated)
    hint = "the complement of a pattern is `~p`" if isinstance(value, Pattern) else ""
    context.report("E301", f"`{node.op}` does not apply to {kind_of(value)}", node.span, hint=hint)
    return UNKNOWN


def chain(context: Context, node: tree.Chain, scope: Scope) -> Value:
    """Operands joined by operators of one precedence."""
    outside = context.comparison
    if node.ops[0] in COMPARISONS:
        context.comparison = outside or node
    try:
        values = [context.value(operand, scope) for operand in node.operands]
    finally:
        context.comparison = outside
    if any(value is UNKNOWN for value in values):
        return UNKNOWN
    patterns = [value for value in values if isinstance(value, Pattern)]
    counts = [value for value in values if isinstance(value, Count)]
    truths = [value for value in values if isinstance(value, Truth | bool)]
    # A `-` alone subtracts numbers or patterns; any other operator says which is meant, `@` at once.
    op = next((op for op in node.ops if op not in ("-", "@")), node.ops[0])
    if "@" in node.ops and len(patterns) < len(values):
        op = "@"
    fits: tuple[type, ...]
    if op in ("|", "^", "&") and len(truths) == len(values):
        return context.computed(node.span, partial(truth, op, *truths))
    if op == "@" or (op in _SETS and (op != "-" or isinstance(values[0], Pattern))):
        if len(patterns) == len(values):
            if op == "@":
                first, last = reduce(Composition, patterns[:-1]), patterns[-1]
                return _composition(context, node, Composition(first, last))
            return context.made(_SETS[op](*patterns), node.span)
        wanted = "comparisons" if truths or context.predicate_of else "patterns"
        fits = (Truth, bool) if wanted == "comparisons" else (Pattern,)
    elif op == "**" and isinstance(values[0], Pattern):
        times = values[1]
        if isinstance(times, Count) and not times.tokens and not times.infinite:
            return _composition(context, node, Power(values[0], times.value))
        message = "a pattern is composed a number of times, as in `p ** 2`"
        context.report("E301", message, node.operands[1].span)
        return UNKNOWN
    elif len(counts) == len(values):
        return (_compared if op in COMPARISONS else _arithmetic)(context, node, counts)
    else:
        wanted, fits = "numbers", (Count,)
    culprits = zip(values, node.operands, strict=True)
    value, operand = next((v, o) for v, o in culprits if not isinstance(v, fits))
    hint = _MEANT.get(op, "") if isinstance(value, Pattern) else ""
    if wanted == "comparisons":
        hint = "compare it, as in `... == 0`" if isinstance(value, Count) else ""
        hint = "join patterns outside of it: `{...} & p`" if isinstance(value, Pattern) else hint
    message = f"`{op}` combines {wanted}, and this is {kind_of(value)}"
    context.report("E301", message, operand.span, hint=hint)
    return UNKNOWN


def _composition(context: Context, node: tree.Chain, made: Composition | Power) -> Value:
    context.made(made, node.span)  # first of all: what follows goes as deep as it is
    rows, columns = context.block
    try:
        check_bounds(made)
        made.check()
    except PatternError as error:
        context.report("E305", error.message, node.span, hint=error.hint)
        return UNKNOWN
    if rows != columns:
        message = f"`{made.name}` continues from a block column as a block row, and a block is "
        message += f"{rows}x{columns} tokens"
        context.report("E306", message, node.span, hint="use square blocks")
        return UNKNOWN
    return made


def _compared(context: Context, node: tree.Chain, counts: list[Count]) -> Value:
    def compare() -> Truth:
        pairs = zip(node.ops, counts, counts[1:], strict=False)
        by = compared if context.predicate_of == "tokens" else comparison
        return truth("&", *(by(op, left, right) for op, left, right in pairs))

    return context.computed(node.span, compare)


def _arithmetic(context: Context, node: tree.Chain, counts: list[Count]) -> Value:
    result: Count | Unknown = counts[0]
    for op, right in zip(node.ops, counts[1:], strict=True):
        if result is not UNKNOWN:
            result = context.computed(node.span, partial(computing(context), op, result, right))
    return result


def computing(context: Context) -> Callable[..., Count]:
    """What applies an operator or function to numbers, as their units are there."""
    return measured if context.predicate_of == "tokens" else arithmetic
