"""The arguments of patterns as bsl text: what canonical text is made of."""

from __future__ import annotations

from typing import Any

from bslang.ir.expr import COMPARISONS, Number, Op, Symbol, Var
from bslang.ir.signature import INFINITE, Count, Range
from bslang.ir.units import has_length, written


def value_text(value: Any) -> str:
    """An argument of a primitive as it is written in a spec."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Count):
        if value.infinite:
            return "inf"
        if isinstance(value.value, int):
            return f"{value.value}t" if value.tokens else str(value.value)
        if has_length(value.value):
            return number_text(written(value.value, value.tokens), 0)
        return (
            f"{number_text(value.value, 7)} * 1t" if value.tokens else number_text(value.value, 0)
        )
    if isinstance(value, Range):
        parts = ["" if part is None else value_text(part) for part in (value.start, value.stop)]
        return ":".join(parts if value.step is None else [*parts, value_text(value.step)])
    if isinstance(value, tuple):
        return f"({', '.join(map(value_text, value))})"
    if isinstance(value, (int, Symbol)):
        infinite = isinstance(value, int) and value >= INFINITE
        return "inf" if infinite else number_text(written(value, tokens=False), 0)
    return str(value)


_PRECEDENCE = {"|": 1, "^": 2, "&": 3, "+": 5, "-": 5, "*": 6, "//": 6, "%": 6, "**": 8}
_PRECEDENCE |= dict.fromkeys(COMPARISONS, 4)
_FROM_THE_LEFT = ("+", "-", "*", "//", "%", "|", "^", "&")


def number_text(number: Number, outer: int) -> str:
    """The number as bsl text, in parentheses where it binds looser than `outer`."""
    if isinstance(number, Var):
        return number.name
    if isinstance(number, bool):
        return "true" if number else "false"
    if isinstance(number, Op):
        if number.op == "int":  # the comparison itself: reading makes it a number where it is one
            return number_text(number.args[0], outer)
        if number.op == "not":
            text = f"~{number_text(number.args[0], 7)}"
            return text if outer <= 7 else f"({text})"
        if number.op not in _PRECEDENCE:
            return f"{number.op}({', '.join(number_text(arg, 0) for arg in number.args)})"
        inner = _PRECEDENCE[number.op]
        left, right = number.args
        if number.op == "-" and left == 0:
            return f"-{number_text(right, 7)}" if outer <= 7 else f"(-{number_text(right, 7)})"
        beside = inner if number.op in _FROM_THE_LEFT else inner + 1
        text = f"{number_text(left, beside)} {number.op} {number_text(right, inner + 1)}"
        return text if inner >= outer else f"({text})"
    assert isinstance(number, int)
    return f"({number})" if number < 0 and outer > 5 else str(number)
