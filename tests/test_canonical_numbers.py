"""Canonical text of numbers and predicates: it reads back as exactly the pattern.

Of random expressions that are made to fold: powers of 0 and 1, `+ 0`, `* 1`, comparisons as numbers.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples

from bslang import compiler
from bslang.ir.expr import Number, Op, fold
from bslang.ir.pattern import Pattern
from bslang.patterns.builder import Builder
from bslang.syntax.diagnostics import SpecError
from bslang.syntax.source import Source

COMPARED = ("<", "<=", ">", ">=", "==", "!=")
IDLE = ("{} + 0", "0 + {}", "{} - 0", "0 - {}", "{} * 1", "1 * {}", "{} * 0", "{} // 1", "{} % 1")
POWERS = ("{} ** 0", "{} ** 1", "{} ** 2", "{} ** 3", "2 ** {}", "-{} ** 2", "(-{}) ** 2")
CALLS = ("min({}, {})", "max({}, {})", "abs({})", "-{}", "isqrt(abs({}))", "log2(max({}, 1))")
PLACES = (
    *("last({})", "last(({}) * 3t)", "cols({}:{}:1)", "rows({}:)", "random(2, seed={})"),
    *("every(3, offset={})", "window(left={}, right=1)", "last(2) ** ({})", "cols(({}) * 1t:9t)"),
    *("f(a = {}) = last(a)\nf", "f(a = {}) = {{i, j : a * i < j}}\nf"),
)


@st.composite
def numbers(draw: st.DrawFn, names: tuple[str, ...], depth: int = 3) -> str:
    """An integer expression; `names` are its variables."""
    if depth == 0 or draw(st.integers(0, 4)) == 4:
        return draw(st.sampled_from((*names, "0", "1", "2", "7", "(-1)", "(-3)")))

    def inner() -> str:
        return f"({draw(numbers(names, depth - 1))})"

    form = draw(st.sampled_from(["chain", "idle", "power", "call", "truth", "truth"]))
    if form == "truth":
        return f"({draw(truths(names, depth - 1))}) {draw(st.sampled_from('+-*'))} {inner()}"
    if form == "chain":
        ops = draw(st.lists(st.sampled_from(["+", "-", "*", "//", "%"]), min_size=1, max_size=3))
        return inner() + "".join(f" {op} {inner()}" for op in ops)
    table = {"idle": IDLE, "power": POWERS, "call": CALLS}[form]
    text = draw(st.sampled_from(table))
    return text.format(*(inner() for _ in range(text.count("{}"))))


@st.composite
def truths(draw: st.DrawFn, names: tuple[str, ...], depth: int = 3) -> str:
    """A predicate: comparisons, chained ones too, joined and denied."""
    form = draw(st.sampled_from(["compare"] * 4 + ["join", "not", "known"])) if depth else "compare"
    if form == "known":
        return draw(st.sampled_from(["true", "false", "1 < 2", "2 < 1"]))
    if form == "not":
        return f"~({draw(truths(names, depth - 1))})"
    if form == "join":
        left, right = (f"({draw(truths(names, depth - 1))})" for _ in range(2))
        return f"{left} {draw(st.sampled_from('&|^'))} {right}"
    sides = draw(st.integers(2, 3))
    parts = [f"({draw(numbers(names, max(depth - 1, 0)))})" for _ in range(sides)]
    signs = [f" {draw(st.sampled_from(COMPARED))} " for _ in parts[1:]]
    return "".join(part + sign for part, sign in zip(parts, [*signs, ""], strict=True))


WITH_UNITS = (
    *(
        "last({t})",
        "cols({t}:{t})",
        "window(left={t}, right=0)",
        "last({p})",
        "random(2, seed={p})",
    ),
    *("{{i, j : {p} <= i}}", "{{i, j : i * 8t < {t} & j < {p}}}", "{{q, k : k * {p} < {t}}}"),
    *("f(a = {t}) = last(a) | {{q, k : k < a}}\nf", "{{q, k : q // 3 <= {p} & k < len_k - {t}}}"),
)
TOKENS = (
    "{t} + {t}",
    "{t} - {t}",
    "{t} * {p}",
    "{p} * {t}",
    "{t} // {p}",
    "{t} % {p}",
    "{t} % {t}",
)
TOKENS += ("min({t}, {t})", "max({t}, 5t)", "abs({t})", "-{t}", "{p} * 3t", "0 - {t}", "{t} * 1")
PLAIN = ("{t} // {t}", "({t} > {t})", "({t} == 0)", "{p} + {p}", "{p} * {p}", "isqrt(abs({p}))")
PLAIN += (
    "({p} < {p})",
    "min({p}, n)",
    "{p} ** 2",
    "{p} ** 1",
    "-{p}",
    "{t} // 1t",
    "({t} <= 2t < {t})",
)


@st.composite
def counted(draw: st.DrawFn, tokens: bool, depth: int = 3) -> str:
    """An integer expression of lengths by name, of one unit."""
    if depth == 0 or not draw(st.integers(0, 4)):
        atoms = ("len_q", "len_k", "len_k", "5t") if tokens else ("n", "head", "3", "len_k // 2t")
        return draw(st.sampled_from(atoms))
    return filled(draw, draw(st.sampled_from(TOKENS if tokens else PLAIN)), depth - 1)


def filled(draw: st.DrawFn, form: str, depth: int) -> str:
    """A form with numbers of tokens for each {t}, and others for each {p}."""
    while "{t}" in form or "{p}" in form:
        form = form.replace("{t}", f"({draw(counted(True, depth))})", 1)
        form = form.replace("{p}", f"({draw(counted(False, depth))})", 1)
    return form.replace("{{", "{").replace("}}", "}")


@st.composite
def specs(draw: st.DrawFn) -> str:
    """A primitive with computed numbers, or a set-builder."""
    if draw(st.booleans()):
        of_tokens = [
            ("q", "k", "len_k", "head"),
            ("q", "k", "m", "5t"),
            ("n", "k", "7t * n", "head"),
        ]
        names = draw(st.sampled_from([*of_tokens, ("i", "j", "n", "head")]))
        if names in of_tokens:
            return f"{{q, k : {draw(truths(names))}}}"
        return f"{{{', '.join(names[:2])} : {draw(truths(names))}}}"
    place = draw(st.sampled_from(PLACES))
    count = place.count("{}")
    kind = st.one_of(numbers(("n", "m", "head"), 2), truths(("n", "m", "head"), 2))
    return place.format(*(draw(kind) for _ in range(count)))


def read(text: str) -> Pattern:
    return compiler.resolve(Source("<t>", text)).pattern


def held(text: str) -> Pattern:
    """The pattern of a text, whose canonical text reads back as it, types of numbers included."""
    pattern = read(text)
    again = read(str(pattern))
    assert repr(again) == repr(pattern)
    assert str(again) == str(pattern)
    for part in pattern.primitives():
        if isinstance(part, Builder):
            assert repr(refolded(part.condition)) == repr(part.condition)
    return pattern


def refolded(number: Number) -> Number:
    """The number folded once more, from its leaves."""
    if isinstance(number, Op):
        return fold(number.op, *map(refolded, number.args))
    return number


@examples(500)
@given(specs())
def test_canonical_text_reads_back_as_the_pattern(text: str) -> None:
    try:
        held(text)
    except SpecError as error:
        # Numbers may divide by zero, pass a limit or lie below what an argument takes, and `true` is none.
        allowed = {"E302", "E303", "E304", "E305"} | (
            {"E301"} if "true" in text or "false" in text else set()
        )
        assert {d.code for d in error.diagnostics} <= allowed, text


@examples(300)
@given(st.sampled_from(WITH_UNITS), st.data())
def test_lengths_by_name_read_back_in_their_unit(form: str, data: st.DataObject) -> None:
    text = filled(data.draw, form, 2)
    try:
        held(text)
    except SpecError as error:
        # Every number is of one unit; it may divide by zero, pass a limit or lie below what is taken.
        assert {d.code for d in error.diagnostics} <= {"E303", "E304"}, text


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("{i, j : 3 * i ** 0 <= j}", "{i, j : 3 <= j}"),
        ("{i, j : (i * j) ** 1 + 0 * 1 < j ** 2}", "{i, j : i * j < j * j}"),
        ("{q, k : (q >= k) + 0 == 1}", "{q, k : (q >= k) == 1}"),
        ("{q, k : q ** 0 == 1}", "{q, k : true}"),
        ("{q, k : 1 * (q < k) + (k < q) * 1 == 1}", "{q, k : (q < k) + (k < q) == 1}"),
        ("{q, k : (1 < 2) + q == k}", "{q, k : 1 + q == k}"),
        ("last((n > 3) * 1)", "last(n > 3)"),
        ("last(1 < 2)", "last(1)"),
        ("last((~(n > 3)) ** 2 + 1)", "last((~(n > 3)) ** 2 + 1)"),
        ("last(-(n > 3) + 2)", "last(-(n > 3) + 2)"),
        ("cols(n > 3:n < 9)", "cols(n > 3:n < 9)"),
        ("last(n ** 1 + 0)", "last(n ** 1)"),
        ("cols(0:len_k // 2)", "cols(0t:len_k // 2)"),
        ("last(len_k // 4 + n * 3t)", "last(len_k // 4 + n * 3t)"),
        ("last(len_k // 64t)", "last(len_k // 64t)"),
        ("last((len_q > 500t) + 1)", "last((len_q > 500t) + 1)"),
        ("last(isqrt(len_k // 1t) * 1t)", "last(isqrt(len_k // 1t) * 1t)"),
        (
            "{i, j : j < len_k // 128t & i * 64t < len_q}",
            "{i, j : j < len_k // 128t & i * 64t < len_q}",
        ),
        ("{q, k : k < len_k // 2 + 5t}", "{q, k : k < len_k // 2 + 5}"),
        ("f(half = len_k // 2) = {q, k : half <= k}\nf", "{q, k : len_k // 2 <= k}"),
    ],
)
def test_folded(text: str, canonical: str) -> None:
    assert str(held(text)) == canonical


def test_powers_of_signs_keep_the_sign() -> None:
    """A power of more than 63 is a shorter product, of the same parity."""
    for exponent, meant in ((100, 1), (101, -1)):
        pattern = read(f"{{i, j : (i % 3 - 1) ** {exponent} == j}}")
        (part,) = pattern.primitives()
        assert isinstance(part, Builder)
        product = part.condition.args[0] if isinstance(part.condition, Op) else 0
        factors = str(part).count("(i % 3 - 1)")
        assert (-1) ** factors == meant and isinstance(product, Op)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{i, j : 5 // (i ** 0 - 1) == j}", "divides by zero"),
        ("{i, j : log2(i ** 0 - 1) == j}", "log2 of 0"),
        ("{i, j : i ** 0 * 999999999999 * (i ** 0 * 999999999999) == j}", "MAX_NUMBER"),
    ],
)
def test_what_only_folding_shows_is_an_error_of_the_spec(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        read(text)
