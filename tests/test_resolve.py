"""Names, parameters, numbers and units: what a program that is right comes to."""

from __future__ import annotations

from itertools import permutations

import pytest

from bslang import compiler
from bslang.errors import PatternError
from bslang.ir.oracle import dense
from bslang.ir.pattern import Primitive
from bslang.ir.signature import Kind, arguments
from bslang.limits import MAX_BLOCK
from bslang.patterns import PRIMITIVES
from bslang.resolve.program import Resolved
from bslang.syntax import tree
from bslang.syntax.diagnostics import SpecError
from bslang.syntax.source import Source, Span


def resolved(
    text: str, name: str | None = None, block: int | tuple[int, int] | None = None, **values: object
) -> Resolved:
    return compiler.resolve(Source("test.bsl", text), name, block=block, parameters=values)


def means(text: str, name: str | None = None, **values: object) -> str:
    return str(resolved(text, name, **values).pattern)


def codes(text: str, name: str | None = None, **values: object) -> list[str]:
    with pytest.raises(SpecError) as caught:
        resolved(text, name, **values)
    return [diagnostic.code for diagnostic in caught.value.diagnostics]


# ---- definitions ---------------------------------------------------------------------------------

NEAR = [
    "wide(w = 9) = near(w) | _sink",
    "near(w) = last(w) & past",
    "_sink = cols(0)",
    "past = causal",
]


@pytest.mark.parametrize("order", [*permutations(range(4))], ids=str)
def test_definitions_stand_in_any_order(order: tuple[int, ...]) -> None:
    text = "\n".join(NEAR[place] for place in order)
    assert means(text, "wide") == "last(9) & causal | cols(0)"
    assert compiler.program(Source("test.bsl", text)).names == tuple(
        NEAR[place].split("(")[0].split(" ")[0] for place in order if place != 2
    )


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("f", "window(left=1, right=2)"),
        ("f()", "window(left=1, right=2)"),
        ("f(5)", "window(left=5, right=2)"),
        ("f(5, 6)", "window(left=5, right=6)"),
        ("f(r=6)", "window(left=1, right=6)"),
        ("f(r=6, l=5)", "window(left=5, right=6)"),
        ("f(5, r=6)", "window(left=5, right=6)"),
        ("f(r=n, l=3 - 2)", "window(left=1, right=n)"),
        ("f(inf, 3)", "window(left=inf, right=3)"),
        ("f(1t, 2t)", "window(left=1t, right=2t)"),
        ("f(5) | f(7)", "window(left=5, right=2) | window(left=7, right=2)"),
        ("g(2)", "window(left=2, right=4) | window(left=4, right=2)"),
    ],
)
def test_arguments_of_definitions(call: str, expected: str) -> None:
    text = f"f(l = 1, r = 2) = window(left=l, right=r)\ng(x) = f(x, 2 * x) | f(l=x * x, r=x)\nh = {call}"
    assert means(text, "h") == expected


def test_a_parameter_hides_a_definition_and_stays_inside_its_own() -> None:
    text = "w = last(3)\nf(w = 4) = last(w)\ng = f | w\nh(w = 9) = f(w + 1) | f"
    assert means(text, "g") == "last(4) | last(3)"
    assert means(text, "h") == "last(10) | last(4)"


def test_a_definition_may_have_the_name_of_a_parameter_elsewhere() -> None:
    assert codes("f(a = 1) = last(b)\ng(b = 1) = last(a)", "f") == ["E201", "E201"]


def test_flags_are_parameters_too() -> None:
    text = "f(ring = false, w = 3) = window(w, wrap=ring)\ng = f(true)"
    assert means(text, "f") == "window(3)"
    assert means(text, "g") == means(text, "f", ring=True) == "window(3, wrap=true)"


def test_private_names_are_used_but_not_picked() -> None:
    text = "_near = last(3)\nwide = _near | causal"
    assert means(text) == "last(3) | causal"
    assert codes(text, "_near") == ["E210"]


def test_the_definitions_of_a_text_are_offered_by_name() -> None:
    with pytest.raises(SpecError, match=r"pick one: near, wide$"):
        compiler.resolve(Source("<spec>", "near = last(3)\nwide = last(9)"))


def test_errors_in_what_is_not_picked_are_errors() -> None:
    assert codes("good = last(3)\nbad = windw(3)\n_bad = last(0)", "good") == ["E201", "E303"]


def test_a_mistake_is_told_once_however_often_it_is_used() -> None:
    assert codes("a = windw(3)\nb = a | a\nc(w = 2) = b | a | last(w)\nd = c(1) | c(2)", "d") == [
        "E201"
    ]


def test_what_a_broken_statement_defines_is_not_unknown() -> None:
    assert codes("near = window(3\nwide = near | globl(0)", "wide") == ["E103", "E201"]


# ---- which layout --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("bigbird.bsl", "bigbird"),
        ("specs/big-bird.v2.bsl", "big_bird_v2"),
        ("3d.bslang", "layout_3d"),
        ("für.bsl", "f_r"),
        ("<spec>", "layout"),
        ("/dev/stdin", "layout"),
    ],
)
def test_a_layout_alone_has_the_name_of_its_file(file: str, name: str) -> None:
    found = compiler.resolve(Source(file, "causal"))
    assert found.name == name
    assert name.isidentifier()


def test_the_only_public_definition_needs_no_name() -> None:
    assert resolved("_a = all\nb = _a").name == "b"


def test_the_layout_of_a_file_comes_before_its_definitions() -> None:
    text = "near = last(3)\nnear | cols(0)"
    assert means(text) == "last(3) | cols(0)"
    assert means(text, "near") == "last(3)"


def test_a_program_can_be_picked_from_again_after_an_error() -> None:
    program = compiler.program(Source("test.bsl", "a(w) = last(w)\nb = causal"))
    zero = Source("-D", "0"), tree.Integer(Span(0, 1), 0, tokens=False)
    for _ in range(2):
        with pytest.raises(SpecError, match="at least 1"):
            program.pick("a", "test", {"w": zero})
        with pytest.raises(SpecError, match=r"parameter `w` of `a`"):
            program.pick("a", "test", {})
        assert str(program.pick("b", "test", {}).pattern) == "causal"


# ---- values from outside -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, "last(3)"),
        ("3", "last(3)"),
        (" 3 ", "last(3)"),
        ("512t", "last(512t)"),
        ("inf", "last(inf)"),
        (float("inf"), "last(inf)"),
        ("2 * 3 + 1", "last(7)"),
        ("n // 2", "last(n // 2)"),
        ("max(n, m) - 1", "last(max(n, m) - 1)"),
        ("(4)", "last(4)"),
        ("64t * 2", "last(128t)"),
        ("3  # three", "last(3)"),
    ],
)
def test_values_from_outside(value: object, expected: str) -> None:
    assert means("f(w) = last(w)", w=value) == expected


@pytest.mark.parametrize("value", [True, "true"])
def test_flags_from_outside(value: object) -> None:
    assert means("f(ring = false) = window(3, wrap=ring)", ring=value) == "window(3, wrap=true)"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("", "E208"),
        ("x = 3", "E208"),
        ("3\n4", "E208"),
        ("block 3", "E208"),
        ("1:2", "E101"),
        ("3)", "E101"),
        ("1.5", "E101"),
        (2.5, "E101"),
        ("x", "E201"),
        ("g", "E201"),
        (None, "E201"),
        ("causal", "E301"),
        ("1 // 0", "E304"),
        (2**31, "E304"),
        pytest.param(-(10**5000), "E304", id="-10**5000"),
        ("9" * 10_000, "E304"),
        ("true", "E301"),
    ],
)
def test_values_that_are_none(value: object, code: str) -> None:
    assert codes("f(w) = last(w)\ng = causal", "f", w=value) == [code]


def test_a_value_takes_the_place_of_a_default_in_every_use() -> None:
    text = "f(w = 3) = last(w) | g(2 * w)\ng(w = 3) = last(w)"
    assert means(text, "f", w=5) == "last(5) | last(10)"


# ---- blocks --------------------------------------------------------------------------------------


def test_blocks() -> None:
    assert resolved("causal").block == (64, 64)
    assert resolved("block 128\ncausal").block == (128, 128)
    assert resolved("causal\nblock 128x32").block == (128, 32)
    assert resolved("block 128x32\ncausal", block=16).block == (16, 16)
    assert resolved("causal", block=(16, 8)).block == (16, 8)
    assert resolved("block 1\ncausal", block=MAX_BLOCK).block == (MAX_BLOCK, MAX_BLOCK)


@pytest.mark.parametrize(
    "block", [0, -1, MAX_BLOCK + 1, (64,), (64, 64, 64), (64, 0), 64.0, "64", [64, 64]]
)
def test_blocks_that_are_none(block: object) -> None:
    with pytest.raises(
        ValueError, match=r"block must be a number of tokens from 1 to 4096, or a pair .* got"
    ):
        resolved("causal", block=block)


def takes_one_width(primitive: type[Primitive]) -> bool:
    """Whether `primitive(3)` and `primitive(3t)` are calls of it; `logsparse` counts blocks only."""
    first, *others = arguments(primitive) or [None]
    counted = first is not None and first.kind in (Kind.COUNT, Kind.COUNTS, Kind.INDICES)
    return counted and not any(arg and arg.required for arg in others)


RELATIONAL = [p for p in PRIMITIVES if p.relational and takes_one_width(p)]


@pytest.mark.parametrize("primitive", RELATIONAL, ids=lambda p: p.name)
def test_rows_meet_columns_in_tokens_where_blocks_are_not_square(primitive: type) -> None:
    call = f"{primitive.name}(3)"
    assert codes(call, block=(64, 32)) == ["E306"]
    assert codes(f"block 64x32\n{call}") == ["E306"]
    assert means(f"block 64x32\n{call}", block=64) == call
    in_tokens = f"{primitive.name}(3t)"
    assert means(in_tokens, block=(64, 32)) == in_tokens


# ---- numbers and units ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("7 // 2", "3"),
        ("-7 // 2 + 9", "5"),
        ("-7 % 3", "2"),
        ("7 - 2 - 1", "4"),
        ("2 ** 3 ** 2", "512"),
        ("2 * 3 ** 2", "18"),
        ("min(4, 2, 3) + max(1, 5)", "7"),
        ("abs(-3)", "3"),
        ("isqrt(17)", "4"),
        ("log2(1) + log2(2) + log2(1023)", "10"),
        ("(3 < 4) + (3 >= 4) + (2 == 2)", "2"),
        ("512t // 2", "256t"),
        ("512t // 64t", "8"),
        ("2 * 64t + 1t", "129t"),
        ("100t % 64", "36t"),
        ("100t % 64t", "36t"),
        ("min(64t, 32t)", "32t"),
        ("abs(-64t)", "64t"),
        ("1 + (512t > 64t)", "2"),
        ("2147483647", "2147483647"),
        ("n * 0 + 3", "n * 0 + 3"),
        ("n + 0 - 0", "n"),
        ("n * 1 // 1", "n"),
        ("n * 64t", "(n * 64) * 1t"),
        ("n // 2 + m", "n // 2 + m"),
    ],
)
def test_arithmetic(expression: str, value: str) -> None:
    assert means(f"last({expression})") == f"last({value})"


@pytest.mark.parametrize(
    "expression",
    [
        "1t * 1t", "1 // 0", "1 % 0", "2 ** -1", "log2(0)", "isqrt(-1)", "inf + 1", "-inf", "len_k * len_q",
        "min(inf, 1)", "2 ** 31", "2147483647 + 1", "0 - 2147483647 - 1", "9 ** 9 ** 9", "65536 * 65536",
    ],
)  # fmt: skip
def test_arithmetic_without_a_result(expression: str) -> None:
    assert codes(f"last({expression})") == ["E304"]


@pytest.mark.parametrize(
    "expression",
    [
        "1t + 1", "1 - 1t", "min(1, 2t)", "1t < 2", "2 ** 1t", "1t ** 2", "isqrt(4t)", "log2(4t)", "4 // 2t",
        "4 % 2t", "len_k + 1", "n - len_q", "len_k < 512", "isqrt(len_q)", "n // len_k", "max(len_k, m)",
    ],
)  # fmt: skip
def test_arithmetic_of_mixed_units(expression: str) -> None:
    assert codes(f"last({expression})") == ["E302"]


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("{q, k : k < n // 2}", "len_k // 2"),
        ("{q, k : q < n - 1}", "len_q - 1"),
        ("{q, k : n <= k < m}", "len_k"),
        ("{q, k : q + k < m}", "len_k"),
        ("{q, k : k + n > 3}", "len_k"),
        ("{q, k : len_k // 2 <= q & q < m ** 1}", "len_q"),
        ("{q, k : min(k, m // 2) > 3}", "len_k // 2"),
        ("{q, k : 2 * q < min(n, 5)}", "min(len_q, 5)"),
        ("f(half = n // 2) = {q, k : q < half}\nf", "len_q // 2"),
        ("{q, k : (q < n) + (k < 3) == 2}", "len_q"),
        ("{q, k : len_q == n}", "len_q"),
        ("{q, k : k < 3 * n // 4}", "3 * len_k // 4"),
        ("{q, k : k < n * 3 // 4}", "len_k * 3 // 4"),
        ("{q, k : 2 * q < 2 * n}", "2 * len_q"),
        ("{q, k : k < n * head}", "len_k * head"),
        ("{q, k : k < n * 64}", "n * 64t"),
        ("{q, k : k < 64 * n - 1}", "64t * n - 1"),
        ("{q, k : k < n * 128 // 2}", "n * 128t // 2"),
        ("f(b = 64) = {q, k : k < n * b}\nf", "n * 64t"),
        ("f(h = n * 64) = {q, k : k < h}\nf", "n * 64t"),
        ("{q, k : n > 3t & q < k}", "len_k"),
    ],
)
def test_positions_of_tokens_are_not_compared_with_numbers_of_blocks(
    text: str, instead: str
) -> None:
    with pytest.raises(SpecError) as error:
        means(text)
    (found,) = error.value.diagnostics
    assert found.code == "E302" and found.hint.endswith(f"write `{instead}`")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "{i, j : i < len_q}",
            "{i, j : j < len_k // 2}",
            "{i, j : n == len_q}",
            "{i, j : i * 64 < len_k}",
        ),
        *(
            "cols(0t:n // 2)",
            "cols(4:len_k // 2)",
            "window(left=len_k // 4, right=1)",
            "last(min(n, len_k))",
        ),
    ],
)
def test_lengths_of_the_other_unit(text: str) -> None:
    with pytest.raises(SpecError) as error:
        means(text)
    (found,) = error.value.diagnostics
    assert found.code == "E302" and "`len_k`" in found.hint


@pytest.mark.parametrize(
    "text",
    [
        *(
            "{q, k : k < n * 64t}",
            "{q, k : k < 64t * n}",
            "{q, k : k < n * 64t // 2}",
            "{q, k : k * n < q * m}",
            "{q, k : k < n * (len_k // m)}",
            "{q, k : k < n * 1t}",
            "{q, k : q // 64 < n // 2}",
            "{q, k : q % n == 0}",
            "{q, k : k < len_k}",
        ),
        *("{q, k : (n > 3) * q < k}", "{q, k : q < n * 64t - 1}", "{i, j : i < n // 2}"),
        *("{i, j : i * 64t < len_q}", "{i, j : j < len_k // 128t}", "{q, k : n // 2 < m}"),
    ],
)
def test_what_converts_units(text: str) -> None:
    assert means(text) == text


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("f(b = 64t) = {q, k : k < n * b}\nf", "{q, k : k < n * 64t}"),
        ("f(h = n * 64t) = {q, k : k < h}\nf", "{q, k : k < n * 64t}"),
        ("{q, k : n * 3t > 5 & k < 5t}", "{q, k : n * 3 > 5 & k < 5}"),  # where it need not be said
        ("{q, k : k < n + (head > 9) * 64t * n - n}", None),
        ("{q, k : k < (n - 3) * 1t * 64}", "{q, k : k < (n - 3) * 64t}"),
    ],
)
def test_the_suffix_stays_where_it_decides(text: str, canonical: str | None) -> None:
    """Canonical text has the `t` that makes tokens of blocks, and no other; None: refused all the same."""
    if canonical is None:
        assert codes(text) == ["E302"]
    else:
        assert means(text) == canonical == means(canonical)


@pytest.mark.parametrize(
    ("text", "length", "expected"),
    [
        ("cols(n - 1)", 40, "cols(-1)"),
        ("last(n // 2)", 80, "last(5)"),
        ("last(isqrt(n) + log2(m))", 72, "last(6)"),
        ("cols(n % 3:n - 2)", 64, "cols(2:6)"),
        ("last(max(n, 4) - min(n, 4))", 56, "last(3)"),
        ("last(1 + (n > 5))", 64, "last(2)"),
        ("random(n // 4, seed=n)", 64, "random(2, seed=8)"),
        ("window(2 * (n // 3) + 1)", 48, "window(5)"),
        ("diagonals(0:n:abs(2 - n))", 40, "diagonals(0:5:3)"),
        ("last(n * 2t)", 40, "last(10t)"),
        ("rows(n * 8t - 5t:)", 40, "rows(35t:)"),
        ("chunks(n - 6, back=n - 7)", 64, "chunks(2, back=1)"),
        ("last(2 ** (n - 5))", 64, "last(8)"),
    ],
)
def test_numbers_of_the_length_are_those_of_the_length(
    text: str, length: int, expected: str
) -> None:
    """n and m stand for blocks of 8 tokens."""
    masks = [
        dense(found.pattern, compiler.grid(found, length, length))
        for found in (resolved(text, block=8), resolved(expected, block=8))
    ]
    assert (masks[0] == masks[1]).all()


def test_n_counts_rows_and_m_columns() -> None:
    found = resolved("rows(n - 1) | cols(m - 1)", block=(8, 4))
    mask = dense(found.pattern, compiler.grid(found, 24, 40, "start"))
    assert mask[-8:].all()
    assert mask[:, -4:].all()
    assert not mask[:-8, :-4].any()


@pytest.mark.parametrize(
    "text", ["last(n - 9)", "window(n)", "cols(n)", "last(8 // (n - 8))", "last(n ** 11)"]
)
def test_numbers_that_mean_nothing_at_a_length(text: str) -> None:
    found = resolved(text, block=8)
    with pytest.raises(SpecError) as caught:
        compiler.lower(found, 64, 64)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "E401"
    assert diagnostic.source.name == "test.bsl"
    assert "n = 8 and m = 8" in diagnostic.label
    with pytest.raises(PatternError):
        dense(found.pattern, compiler.grid(found, 64, 64))
