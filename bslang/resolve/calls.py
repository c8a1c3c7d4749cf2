"""Calls of primitives: arguments held against the signature that the primitive declares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bslang.errors import PatternError
from bslang.ir.pattern import Pattern, Primitive, check_bounds
from bslang.ir.signature import Argument, Count, Kind, Range, arguments
from bslang.ir.text import value_text
from bslang.ir.values import counts as counts_in
from bslang.resolve.suggest import closest
from bslang.resolve.values import (
    FUNCTIONS,
    UNKNOWN,
    Truth,
    Unknown,
    Value,
    kind_of,
    unit_hint,
    with_zeros_in_tokens,
)
from bslang.syntax import tree
from bslang.syntax.fix import Fix, meant
from bslang.syntax.source import Span

Report = Callable[..., None]
"""report(code, message, span, hint="", label="", fix=None)"""


@dataclass
class Given:
    """One argument as it was written, with its value."""

    value: Value
    span: Span


@dataclass
class _Call:
    primitive: type[Primitive]
    report: Report
    values: dict[str, Any] = field(default_factory=dict)
    spans: dict[str, Span] = field(default_factory=dict)
    failed: bool = False

    def fail(
        self, code: str, message: str, span: Span, hint: str = "", fix: Fix | None = None
    ) -> None:
        self.failed = True
        self.report(code, message, span, hint=hint, fix=fix)


def signature(primitive: type[Primitive]) -> str:
    """How a primitive is called, for messages: `random(k, seed=0, within=...)`."""
    forms = [argument_form(arg) for arg in arguments(primitive)]
    return f"{primitive.name}({', '.join(forms)})" if forms else primitive.name


def argument_form(arg: Argument) -> str:
    """An argument as a signature shows it: `k`, `seed=0`, `within=...`, or `x, ...` for several."""
    if arg.kind.variadic:
        return "x, ..."
    if arg.required and not arg.keyword_only:
        return arg.name
    known = not arg.required and arg.default is not None
    return f"{arg.name}={value_text(arg.default) if known else '...'}"


def call_primitive(
    primitive: type[Primitive],
    span: Span,
    positional: list[Given],
    named: list[tuple[tree.Name, Given]],
    report: Report,
) -> Primitive | Unknown:
    """Build a primitive from its arguments; UNKNOWN (with every problem reported) where it cannot be."""
    call = _Call(primitive, report)
    declared = arguments(primitive)
    _place_positional(call, declared, positional)
    _place_named(call, declared, named)
    for arg in declared:
        if arg.required and arg.name not in call.values and not call.failed:
            call.fail(
                "E203",
                f"`{primitive.name}` needs {_needs(arg)}",
                span,
                f"write `{example(primitive)}`",
            )
    if call.failed or _has_unknown(call.values):
        return UNKNOWN
    values = with_zeros_in_tokens([*call.values.values()])
    made = primitive(**dict(zip(call.values, values, strict=True)))
    if not _one_unit(call, made):
        return UNKNOWN
    try:
        check_bounds(made)
        made.check()
    except PatternError as error:
        report("E303", error.message, call.spans.get(error.field, span), hint=error.hint)
        return UNKNOWN
    return made


def _needs(arg: Argument) -> str:
    return f"{'arguments' if arg.kind.variadic else f'`{arg.name}`'}: {arg.help}"


def example(primitive: type[Primitive]) -> str:
    """The pattern that its documentation shows."""
    return (primitive.__doc__ or "").rsplit("Example: `", 1)[-1].split("`")[0]


def _has_unknown(values: dict[str, Any]) -> bool:
    flat = [
        item
        for value in values.values()
        for item in (value if isinstance(value, tuple) else (value,))
    ]
    return any(item is UNKNOWN for item in flat)


def _place_positional(call: _Call, declared: tuple[Argument, ...], positional: list[Given]) -> None:
    open_slots = [arg for arg in declared if not arg.keyword_only]
    if open_slots and open_slots[0].kind.variadic:
        arg = open_slots[0]
        if positional:
            call.values[arg.name] = tuple(_accept(call, arg, given) for given in positional)
            call.spans[arg.name] = positional[0].span.to(positional[-1].span)
        return
    for arg, given in zip(open_slots, positional, strict=False):
        call.values[arg.name] = _accept(call, arg, given)
        call.spans[arg.name] = given.span
    for given in positional[len(open_slots) :]:
        count = len(open_slots)
        takes = (
            "no arguments"
            if not declared
            else f"{count} argument{'s' * (count != 1)} without a name"
        )
        call.fail(
            "E203",
            f"`{call.primitive.name}` takes {takes}",
            given.span,
            f"its form is `{signature(call.primitive)}`",
        )


def _place_named(
    call: _Call, declared: tuple[Argument, ...], named: list[tuple[tree.Name, Given]]
) -> None:
    by_name = {arg.name: arg for arg in declared if not arg.kind.variadic}
    for name, given in named:
        arg = by_name.get(name.text)
        if arg is None:
            form = f"its form is `{signature(call.primitive)}`"
            fix = meant(name.text, closest(name.text, by_name), name.span)
            message = f"`{call.primitive.name}` has no argument `{name.text}`"
            call.fail("E204", message, name.span, form, fix)
        elif name.text in call.values:
            call.fail("E205", f"`{name.text}` is given twice", name.span)
        else:
            call.values[name.text] = _accept(call, arg, given)
            call.spans[name.text] = given.span


def _accept(call: _Call, arg: Argument, given: Given) -> Any:
    """The value as the primitive stores it; reports it where its kind is wrong."""
    value = given.value
    if value is UNKNOWN:
        return UNKNOWN

    def wrong(hint: str = "") -> Unknown:
        message = f"{_whose(call, arg)} must be {arg.kind.value}, not {kind_of(value)}"
        call.fail("E301", message, given.span, hint)
        return UNKNOWN

    if arg.kind in (Kind.NAME, Kind.TEXT):
        return value if isinstance(value, str) else wrong()
    if isinstance(value, tuple) and arg.kind in (Kind.NUMBERS, Kind.FLAGS):
        flags = isinstance(value[0], bool)
        return value if flags == (arg.kind is Kind.FLAGS) else wrong()
    if arg.kind is Kind.PATTERN:
        return value if isinstance(value, Pattern) else wrong()
    if arg.kind in (Kind.FLAG, Kind.FLAGS):
        return value if isinstance(value, bool) else wrong("write `true` or `false`")
    if isinstance(value, Range):
        return value if arg.kind is Kind.INDICES else wrong()
    if isinstance(value, bool) or not isinstance(value, Count):
        return wrong()
    if value.infinite and not arg.infinite:
        call.fail("E307", f"{_whose(call, arg)} cannot be `inf`", given.span, _where_inf(call, arg))
        return UNKNOWN
    if arg.kind in (Kind.NUMBER, Kind.NUMBERS):
        if value.tokens:
            return wrong(unit_hint([value], "leave the `t` out"))
        return value.value
    return value.number if isinstance(value, Truth) else value


def _whose(call: _Call, arg: Argument) -> str:
    return f"{'an argument' if arg.kind.variadic else f'`{arg.name}`'} of `{call.primitive.name}`"


def _where_inf(call: _Call, arg: Argument) -> str:
    """Which arguments take `inf`, where one is given that does not."""
    if arg.kind is Kind.INDICES:
        return "a range without an end has none: `4:`"
    takers = [f"`{other.name}`" for other in arguments(call.primitive) if other.infinite]
    return f"{' and '.join(takers)} can" if takers else ""


def _one_unit(call: _Call, made: Primitive) -> bool:
    shared = (arg.name for arg in arguments(made) if not arg.own_unit)
    given = counts_in(tuple(getattr(made, name) for name in shared))
    counts = [count for count in given if not count.infinite]
    if len({count.tokens for count in counts}) < 2:
        return True
    spans = sorted(call.spans.values(), key=lambda span: span.start)
    call.fail(
        "E302",
        f"`{made.name}` mixes blocks and tokens",
        spans[0].to(spans[-1]),
        unit_hint(counts, "give every number of it the suffix `t`, or none"),
    )
    return False


def function_arguments(
    call: tree.Call, values: list[Value], report: Report
) -> list[Count] | Unknown:
    """The numbers that a function is called with; UNKNOWN (and reported) where it takes others."""
    name = call.function.text
    least, most = FUNCTIONS[name]
    counts = [value for value in values if isinstance(value, Count)]
    if any(value is UNKNOWN for value in values):
        return UNKNOWN
    named = any(argument.name for argument in call.arguments)
    if len(counts) < len(values) or not least <= len(values) <= most or named:
        takes = "1 number" if most == 1 else f"{least} to {most} numbers"
        hint = f"write `{name}(a)`" if most == 1 else f"write `{name}(a, b)`"
        report("E203", f"`{name}` takes {takes}", call.span, hint=hint)
        return UNKNOWN
    return counts


def make_range(node: tree.Range, values: list[Value | None], report: Report) -> Range | Unknown:
    """A range of the values of its start, stop and step; UNKNOWN (and reported) where it is none."""
    ends: list[Count | None] = []
    for part, value in zip((node.start, node.stop, node.step), values, strict=True):
        if value is UNKNOWN:
            return UNKNOWN
        if value is None or (isinstance(value, Count) and not value.infinite):
            ends.append(value.number if isinstance(value, Truth) else value)
            continue
        infinite = isinstance(value, Count)
        message = (
            f"an end of a range must be a number, not {'`inf`' if infinite else kind_of(value)}"
        )
        hint = "leave it out for no end" if infinite else ""
        report("E301", message, (part or node).span, hint=hint)
        return UNKNOWN
    start, stop, step = with_zeros_in_tokens(ends)
    if step is not None and isinstance(step.value, int) and step.value < 1:
        message = f"the step of a range is {step.value}; it must be at least 1"
        report("E303", message, (node.step or node).span)
        return UNKNOWN
    made = Range(start, stop, step)
    if len({part.tokens for part in made.given}) > 1:
        hint = unit_hint(made.given, "give every number of it the suffix `t`, or none")
        report("E302", "this range mixes blocks and tokens", node.span, hint=hint)
        return UNKNOWN
    return made
