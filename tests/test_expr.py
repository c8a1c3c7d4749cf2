"""Numbers that are known later, and patterns, under the operators of Python."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bslang import compiler
from bslang.ir.bounds import bounds
from bslang.ir.expr import Op, Term, Var, evaluate, fold, joined, maximum, minimum, over
from bslang.ir.heads import told_apart
from bslang.ir.mask import CPP, code, token_names
from bslang.ir.pattern import Complement, Difference, Intersection, Transpose, Union, Xor
from bslang.ir.text import number_text
from bslang.patterns import BY_NAME
from bslang.syntax.source import Source

Join = Callable[[Any, Any], Any]

ARITHMETIC = [operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod]
COMPARED = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]
LOGICAL = [operator.and_, operator.or_, operator.xor]
N = Var("n")


@pytest.mark.parametrize("join", ARITHMETIC)
@given(value=st.integers(1, 20), other=st.integers(1, 20))
def test_symbols_compute_as_ints(join: Join, value: int, other: int) -> None:
    """On either side, on both, and with an argument that is folded away."""
    for made, meant in (
        (join(N, other), join(value, other)),
        (join(other, N), join(other, value)),
        (join(N, -N), join(value, -value)),
        (join(N, 1), join(value, 1)),
        (join(Term(N), other).number, join(value, other)),
        (join(other, Term(N)).number, join(other, value)),
        (join(Term(N), -Term(N)).number, join(value, -value)),
    ):
        assert evaluate(made, {"n": value}) == meant
    assert evaluate(abs(-Term(N)).number, {"n": value}) == value


@pytest.mark.parametrize("compared", COMPARED)
@given(value=st.integers(-3, 3), other=st.integers(-3, 3), truth=st.booleans())
def test_terms_compare_and_join_as_truths(
    compared: Join, value: int, other: int, truth: bool
) -> None:
    term = compared(Term(N), other)
    meant = compared(value, other)
    assert evaluate(term.number, {"n": value}) is meant
    assert evaluate((~term).number, {"n": value}) is not meant
    for join in LOGICAL:
        found = join(term, Term(N) < 0)
        assert evaluate(found.number, {"n": value}) == join(meant, value < 0)
        assert evaluate(join(term, truth).number, {"n": value}) == join(meant, truth)
    for join in LOGICAL[:2]:  # what NumPy's truths ask of a term on their right
        assert evaluate(join(truth, term).number, {"n": value}) == join(truth, meant)


def test_terms_have_no_truth_value() -> None:
    with pytest.raises(TypeError, match=r"combine with &, \| and ~"):
        bool(Term(N) < 3)
    with pytest.raises(TypeError, match=r"combine with \| & - \^ and ~"):
        bool(BY_NAME["all"]())


@given(value=st.integers(-9, 9), other=st.integers(-9, 9))
def test_extrema(value: int, other: int) -> None:
    for made, plain in ((minimum, min), (maximum, max)):
        assert evaluate(made(Term(N), other).number, {"n": value}) == plain(value, other)
        assert evaluate(made(other, N).number, {"n": value}) == plain(other, value)
        assert made(np.array([value]), np.array([other])).tolist() == [plain(value, other)]


def test_joined_is_shallow_and_in_order() -> None:
    assert joined(operator.add, ["a", "b", "c", "d", "e"]) == "abcde"
    assert joined(lambda a, b: f"({a}{b})", "abcde") == "(((ab)(cd))e)"


def test_powers_stay_within_64_bits() -> None:
    assert fold("**", 2, 64) == 2**64 and fold("**", -3, 3) == -27 and fold("**", 1, 10**9) == 1
    for base, exponent in ((2, 65), (-2, 65), (3, 41)):
        with pytest.raises(OverflowError, match="MAX_NUMBER"):
            fold("**", base, exponent)
    with pytest.raises(ValueError, match="negative exponent"):
        fold("**", 2, -1)
    assert (fold("log2", 1), fold("log2", 8), fold("isqrt", 8)) == (0, 3, 2)
    with pytest.raises(ValueError, match="log2 of 0; it needs a number above 0"):
        fold("log2", 0)
    with pytest.raises(ValueError, match="isqrt of -1; it needs a number of at least 0"):
        fold("isqrt", -1)


@given(st.integers(-9, 9), st.integers(0, 9), st.integers(0, 5))
def test_bounds_of_powers(low: int, wide: int, exponent: int) -> None:
    ends = low, low + wide
    every = [x**exponent for x in range(low, low + wide + 1)]
    found = bounds(Op("**", (N, exponent)), {"n": ends})
    assert found[0] <= min(every) and max(every) <= found[1]
    if exponent > 0:  # of x ** 0 they are wider where x may be 0
        least = 0 if low <= 0 <= ends[1] and exponent % 2 == 0 else min(every)
        assert found == (least, max(every))


@given(st.integers(-9, 9), st.integers(0, 9), st.integers(1, 9), st.integers(0, 3))
def test_bounds_of_remainders(low: int, wide: int, divisor: int, more: int) -> None:
    number, divisors = Op("%", (N, Var("m"))), (divisor, divisor + more)
    every = [x % d for x in range(low, low + wide + 1) for d in range(divisor, divisor + more + 1)]
    found = bounds(number, {"n": (low, low + wide), "m": divisors})
    assert 0 <= found[0] <= min(every) and max(every) <= found[1] < divisor + more
    if more == 0 and low // divisor == (low + wide) // divisor:
        assert found == (min(every), max(every))
    ends = np.array([low]), np.array([low + wide])
    assert [int(end[0]) for end in bounds(number, {"n": ends, "m": divisors})] == list(found)


@pytest.mark.parametrize("op", ["isqrt", "log2"])
def test_bounds_of_roots_and_logarithms(op: str) -> None:
    """Of integers, and of arrays of them."""
    exact = math.isqrt if op == "isqrt" else lambda x: x.bit_length() - 1
    low = np.arange(1, 300)
    found = bounds(Op(op, (N,)), {"n": (low, low + 30)})
    assert found[0].tolist() == [exact(int(x)) for x in low]
    assert found[1].tolist() == [exact(int(x) + 30) for x in low]
    assert bounds(Op(op, (N,)), {"n": (9, 40)}) == (exact(9), exact(40))
    with pytest.raises(ValueError, match=f"`{op}` needs a number of at least"):
        bounds(Op(op, (N,)), {"n": (-1, 40)})


@pytest.mark.parametrize(
    ("exponent", "message"),
    [
        (Var("n"), "must be a number that the spec gives"),
        (-1, "negative"),
        (63, "can overflow 64 bits"),
    ],
)
def test_bounds_refuse_powers_of_any_size(exponent: Any, message: str) -> None:
    with pytest.raises((ValueError, OverflowError), match=message):
        bounds(Op("**", (Var("q"), exponent)), {"q": (0, 9), "n": (1, 9)})
    assert bounds(Op("**", (Var("q"), 62)), {"q": (0, 2)}) == (0, 2**62)


def test_division_is_plain_where_nothing_is_negative() -> None:
    """C++ rounds to zero: only what may be below it needs a function that rounds down."""

    def plain(text: str) -> bool:
        pattern = compiler.resolve(Source("<t>", f"{{q, k : ({text}) // 3 == k}}")).pattern
        (condition,) = [vars(part)["condition"] for part in pattern.primitives()]
        return "floor_div" not in code(condition, CPP)

    for text in (
        *("q", "k + 2", "q * k", "q // 2", "min(q, k)", "abs(q)", "max(q - k, 0)", "max(0, q - k)"),
        *("(q - k) % 3", "isqrt(q)", "log2(q + 1)", "q * 3 + k"),
    ):  # fmt: skip
        assert plain(text), text
    for text in ("q - k", "min(q, k - 9)", "q + (k - 9)", "max(q - 1, k - 1)", "q * (k - 1)", "-q"):
        assert not plain(text), text
    assert math.floor(-1 / 3) == over(Op("//", (Var("q"), 3)), {"q": np.array([-1])})[0]


def test_negative_numbers_stand_in_parentheses() -> None:
    q, k = Var("q"), Var("k")
    assert code(Op("-", (q, -3)), CPP) == "q - (-3)"
    assert code(Op("+", (q, Op("*", (-3, k)))), CPP) == "q + (-3) * k"
    assert number_text(Op("**", (-2, N)), 0) == "(-2) ** n"
    assert number_text(Op("+", (N, -2)), 0) == "n + (-2)"


def test_truths_that_are_known_settle_others() -> None:
    some = Op("<", (N, 3))
    for op, known, left in (("&", True, some), ("&", False, False), ("|", True, True)):
        assert fold(op, known, some) == left == fold(op, some, known)


def test_patterns_under_operators() -> None:
    a, b = BY_NAME["all"](), BY_NAME["causal"]()
    assert a | b == Union.of(a, b)
    assert a & b == Intersection.of(a, b)
    assert a ^ b == Xor.of(a, b)
    assert a - b == Difference.of(a, b) and b - a != a - b
    assert ~a == Complement(a) and Transpose(a) == a.T
    assert str((a - b) | ~b) == "all - causal | ~causal"
    assert str(a - (b - a)) == "all - (causal - all)"
    near = compiler.resolve(Source("<t>", "all - (last(2) @ last(1))")).pattern
    assert str(near) == "all - last(2) @ last(1)"
    assert Union.of(a | b, ~b).parts == (a, b, ~b)  # nested uses of an operator become one


@pytest.mark.parametrize(
    ("spec", "heads"),
    [
        ("causal", 0),
        ("last(head + 1)", 0),
        ("heads { 0 -> all; 1: -> causal }", 2),
        ("heads { 0:4 -> all; 4:9:2 -> causal }", 9),
        ("causal | heads { 0:2 -> all; 2: -> heads { 2 -> all; 7: -> none } }", 8),
    ],
)
def test_heads_that_it_takes(spec: str, heads: int) -> None:
    assert told_apart(compiler.resolve(Source("<t>", spec)).pattern) == heads


def test_names_that_differ_from_token_to_token() -> None:
    labels = {"q_label0", "k_label1"}
    assert token_names(frozenset({"q", "k", "n", "len_q", "head", *labels})) == {"q", "k", *labels}
