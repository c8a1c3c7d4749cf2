"""Patterns that are no calls: set-builders, `heads`, tables; and several numbers in parentheses."""

from __future__ import annotations

from bslang.inputs import KEYS, QUERIES, ROW
from bslang.ir.bounds import bounds
from bslang.ir.expr import Symbol, Var
from bslang.ir.heads import Branch, Heads
from bslang.ir.pattern import Primitive
from bslang.ir.signature import Count, Range
from bslang.limits import MAX_HEADS
from bslang.patterns.builder import Builder, Labelled
from bslang.patterns.predicates import BLOCKS, TOKENS, labelled, ranges_of
from bslang.patterns.predicates import label as label_name
from bslang.patterns.table import BadTable, Matrix
from bslang.resolve.context import Context, Scope
from bslang.resolve.predicates import multiplied
from bslang.resolve.sources import Unreadable, below
from bslang.resolve.values import (
    UNKNOWN,
    Truth,
    Unknown,
    Value,
    kind_of,
)
from bslang.syntax import tree


def several(context: Context, node: tree.Tuple, scope: Scope) -> Value:
    """`(1, inf)` or `(true, false)`: a number, or a truth value, for each side of something."""
    numbers: list[int] = []
    for item in node.items:
        value = context.value(item, scope)
        if value is UNKNOWN:
            return UNKNOWN
        if isinstance(value, bool):
            number: int = value
        elif isinstance(value, Count) and isinstance(value.value, int) and not value.tokens:
            number = value.value
        else:
            message = "a number among several must be known from the spec alone, without a unit"
            context.report("E301", message, item.span)
            return UNKNOWN
        if numbers and isinstance(number, bool) != isinstance(numbers[0], bool):
            message = "`true` and `false` cannot stand beside numbers"
            context.report("E301", message, node.span)
            return UNKNOWN
        numbers.append(number)
    return tuple(numbers)


def set_builder(context: Context, node: tree.SetBuilder, scope: Scope) -> Value:
    """`{i, j : predicate}` and `{q, k : predicate}`."""
    names = tuple(name.text for name in node.variables)
    if names not in (BLOCKS, TOKENS):
        span = node.variables[0].span.to(node.variables[1].span)
        hint = (
            "write `{i, j : ...}` for blocks, or `{q, k : ...}` for tokens; the query comes first"
        )
        context.report("E308", f"`{', '.join(names)}` is not a pair of indices", span, hint=hint)
        return UNKNOWN
    outside = context.predicate_of
    if outside:
        context.report("E308", "predicates cannot be nested", node.span)
        return UNKNOWN
    context.predicate_of = "tokens" if names == TOKENS else "blocks"
    try:
        inner = {**scope, **{name: Count(Var(name)) for name in names}}
        value = context.value(node.predicate, inner)
    finally:
        context.predicate_of = outside
    if value is UNKNOWN:
        return UNKNOWN
    if not isinstance(value, Truth | bool):
        hint = "join patterns outside of it: `{...} & p`"
        hint = "compare it, as in `... == 0`" if isinstance(value, Count) else hint
        message = f"a predicate must be true or false for a pair, and this is {kind_of(value)}"
        context.report("E308", message, node.predicate.span, hint=hint)
        return UNKNOWN
    truth = value.condition if isinstance(value, Truth) else value
    product = context.computed(node.predicate.span, lambda: Count(multiplied(truth)))
    if product is UNKNOWN:
        return UNKNOWN
    condition = product.value
    try:
        bounds(condition, ranges_of(condition))
    except (ValueError, ArithmeticError) as error:
        hint = "the first index is 0; write one that is never, as in `max(j, 1)`"
        hint = hint if isinstance(error, ZeroDivisionError) or "at least 1" in str(error) else ""
        context.report("E304", str(error), node.predicate.span, hint=hint)
        return UNKNOWN
    made = Labelled(condition) if labelled(condition) else Builder(condition, names == TOKENS)
    rows, columns = context.block
    if made.relational and not made.tokens and rows != columns:
        message = f"`i` and `j` are compared, and a block is {rows}x{columns} tokens"
        hint = "compare tokens, in `{q, k : ...}`, or use square blocks"
        context.report("E306", message, node.span, hint=hint)
        return UNKNOWN
    return context.made(made, node.span)


def label(context: Context, node: tree.Label) -> Value:
    """`time[q]` in a predicate over tokens."""
    if context.predicate_of != "tokens":
        message = f"`{node.name}[{node.side}]` can be read only in a predicate over tokens"
        if context.predicate_of:
            message += ", and this one compares blocks"
        hint = f"write `{{q, k : ...}}`, as in `{{q, k : {node.name}[k] <= {node.name}[q]}}`"
        context.report("E308", message, node.span, hint=hint)
        return UNKNOWN
    if node.side not in (QUERIES, KEYS, ROW):
        name = node.name
        message = f"`{name}[{node.side}]` does not say whose label it is"
        hint = f"write `{name}[q]` for the query, `{name}[k]` for the key, `{name}[b]` for the batch row"
        context.report("E308", message, node.span, hint=hint)
        return UNKNOWN
    return Count(Var(label_name(node.name, node.side)))


def heads(context: Context, node: tree.Heads, scope: Scope) -> Value:
    """`heads { 0:4 -> p; 4: -> q }`."""
    branches = []
    taken: set[int] = set()
    failed = False
    for branch in node.branches:
        pattern = context.pattern(branch.pattern, scope)
        chosen = _heads_of(context, branch.heads, scope)
        if chosen is UNKNOWN or pattern is UNKNOWN:
            failed = True
            continue
        start, stop, step = chosen
        own = range(start, MAX_HEADS if stop is None else stop, step)
        if twice := taken.intersection(own):
            message = f"head {min(twice)} has a pattern already"
            hint = "give each head one; ranges leave out their end, as in `0:4`, then `4:`"
            context.report("E309", message, branch.heads.span, hint=hint)
            failed = True
        taken.update(own)
        branches.append(Branch(start, stop, step, pattern))
    return UNKNOWN if failed else context.made(Heads(tuple(branches)), node.span)


def _heads_of(
    context: Context, node: tree.Expression, scope: Scope
) -> tuple[int, int | None, int] | Unknown:
    """start, stop (None: no end) and step of the heads of a branch; UNKNOWN, and reported, for none."""
    value = context.value(node, scope)
    if value is UNKNOWN:
        return UNKNOWN
    parts: list[Count | None]
    if isinstance(value, Range):
        parts = [value.start or Count(0), value.stop, value.step or Count(1)]
    elif isinstance(value, Count) and isinstance(value.value, int):
        parts = [value, Count(value.value + 1), Count(1)]
    else:
        parts = []
    numbers = [part.value if part else None for part in parts if not (part and part.tokens)]
    if len(numbers) != 3 or any(isinstance(x, Symbol) for x in numbers):
        message = "heads are given by a number or a range, as in `0:4`, known from the spec alone"
        context.report("E309", message, node.span)
        return UNKNOWN
    start, stop, step = numbers
    assert isinstance(start, int) and isinstance(step, int) and not isinstance(stop, Symbol)
    if not 0 <= start < MAX_HEADS or (stop is not None and not start < stop <= MAX_HEADS):
        message = (
            f"heads are counted from 0 to {MAX_HEADS - 1} (MAX_HEADS), and none is in this range"
        )
        context.report("E309", message, node.span, hint="a range goes up, as in `0:4` or `4:`")
        return UNKNOWN
    return start, stop, step


def load(context: Context, primitive: Primitive, node: tree.Expression) -> Primitive | Unknown:
    """A primitive with the file that it names beside the spec, if it names one."""

    def read(file: str) -> Matrix:
        known = context.tables.get(file)
        return Matrix.read(below(context.module.source, file)) if known is None else known

    try:
        return primitive.load(read)
    except (Unreadable, BadTable) as error:
        code, fix = "E310", None
        if isinstance(error, Unreadable):
            path = node.arguments[0].value if isinstance(node, tree.Call) else node
            code, fix = "E211", error.fix(path) if isinstance(path, tree.Text) else None
        context.report(code, error.message, node.span, hint=error.hint, limit=error.limit, fix=fix)
    except OSError as error:
        context.report("E211", f"this file cannot be read: {error.strerror}", node.span)
    return UNKNOWN
