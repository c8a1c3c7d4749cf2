"""A spec is data from someone else: whatever it says, it is compiled or refused, and in bounded time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import programs

from bslang import compiler
from bslang.errors import BslangError, LimitError
from bslang.ir.pattern import Pattern
from bslang.limits import MAX_ERRORS, MAX_FILE_BYTES, MAX_TERMS
from bslang.syntax.diagnostics import SpecError
from bslang.syntax.source import Source


def whole_way(text: str, length: int = 200) -> Pattern:
    """Everything that a spec goes through before kernels are built; the last definition is picked."""
    program = compiler.program(Source("<test>", text))
    found = program.pick(program.names[-1] if program.names else None, "test", {})
    compiler.emit(found, ["torch"])
    compiler.schedule(compiler.lower(found, length, length))
    return found.pattern


def refusal(text: str) -> SpecError | LimitError:
    with pytest.raises((SpecError, LimitError)) as caught:
        whole_way(text)
    assert len(str(caught.value)) < 50_000, "nobody reads a message as long as this"
    return caught.value


def chain(first: str, level: str, count: int) -> str:
    """Definitions p0 .. p{count}, each made of the one before, which is {} in `level`."""
    levels = (f"p{i}{level.format(f'p{i - 1}')}\n" for i in range(1, count + 1))
    return f"p0{first}\n{''.join(levels)}"


# ---- limits --------------------------------------------------------------------------------------

TOO_MUCH = {
    "100,000 parentheses": "(" * 100_000 + "causal" + ")" * 100_000,
    "40,000 parentheses": "(" * 40_000 + "causal" + ")" * 40_000,
    "parentheses that stay open": "window(" * 30_000,
    "braces": "{" * 100_000,
    "unclosed at the start of every line": "a(\n" * 30_000,
    "unclosed before many lines": "a(\n" * 99 + "\n" * 900_000,
    "50,000 terms": " | ".join(["causal"] * 50_000),
    "20,000 differences": " - ".join(["causal"] * 20_000),
    "transposed 30,000 times": "causal" + ".T" * 30_000,
    "complement of complements": "~" * 90_000 + "causal",
    "negative negatives": "last(" + "-" * 90_000 + "3)",
    "tower of powers": "last(" + " ** ".join(["9"] * 40_000) + ")",
    "tower of 90 powers of n": "last(" + " ** ".join(["n"] * 90) + ")",
    "sum of 900 n": "last(" + " + ".join(["n"] * 900) + ")",
    "sum of 10,000 n": "last(" + " + ".join(["n"] * 10_000) + ")",
    "9 ** 9 ** 9 ** 9": "last(9 ** 9 ** 9 ** 9)",
    "2 ** 2147483647": "last(2 ** 2147483647)",
    "10,000 digits": "last(" + "9" * 10_000 + ")",
    "10,000 digits of tokens": "last(" + "9" * 10_000 + "t)",
    "block of 10,000 digits": "block " + "9" * 10_000 + "x" + "9" * 10_000 + "\ncausal",
    "300,000 indices": "rows(" + ",".join(["1"] * 300_000) + ")",
    "20,000 indices": "rows(" + ",".join(["1"] * 20_000) + ")",
    "indices used again and again": f"a = rows({','.join(['1'] * 5000)})\nb = {' | '.join(['a'] * 5000)}",
    "doubling by xor": chain(" = causal", " = {0} ^ {0}.T", 60),
    "doubling by union": chain(" = causal", " = {0} | {0}", 60),
    "doubling by difference": chain(" = causal", " = {0} - ~{0}", 60),
    "doubling with other arguments": chain("(x) = last(x)", "(x) = {0}(2 * x) ^ {0}(2 * x + 1)", 40)
    + "z = p40(1)",
    "doubling numbers": chain("(x) = last(x)", "(x) = {0}(x * x + x)", 60) + "z = p60(n)",
    "2,000 widths that the length decides": f"chunks({', '.join(['n'] * 2000)})",
    "random within random": "random(2, within=" * 40 + "causal" + ")" * 40,
    "1,000 definitions deep": chain(" = causal", " = {0}", 1000),
    "1,000 definitions deep, the other way round": "\n".join(
        reversed(chain(" = causal", " = {0}.T", 1000).splitlines())
    ),
    "definitions times parentheses": chain(" = causal", f" = {'~(' * 40}{{0}}{')' * 40}", 90),
    "a megabyte": "#" * MAX_FILE_BYTES + "\ncausal",
    "30,000 braces of heads": "heads { : -> " * 30_000 + "causal" + "}" * 30_000,
    "100 heads within heads": "heads { : -> " * 100 + "causal" + "}" * 100,
    "tuples within tuples": "rows(" + "(1, " * 99 + "1" + ")" * 99 + ")",
    "20,000 comparisons": "{i, j : " + " & ".join(["i < j"] * 20_000) + "}",
    "1,500 comparisons in a chain": "{i, j : " + " < ".join(["i"] * 1500) + "}",
    "1,500 blocks one by one": "{i, j : " + " | ".join(f"i == {k}" for k in range(1500)) + "}",
    "a product of 40 indices": "{i, j : " + " * ".join(["i"] * 40) + " < 3}",
    "10,000 digits in a predicate": "{i, j : i < " + "9" * 10_000 + "}",
    "10,000 digits of a head": "heads { " + "9" * 10_000 + " -> causal }",
    "10,000 digits in a tuple": "grid(4, 4, radius=(1, " + "9" * 10_000 + "))",
    "10,000 digits of hops": "window(3) ** " + "9" * 10_000,
    "a tower of powers of a pattern": "window(3) ** 2 ** 2 ** 2 ** 2 ** 2",
    "a tower of powers": "last(2**2**2**2**2)",
    "a tower of powers in a predicate": "{i, j : 2 ** 2 ** 2 ** 2 ** 2 < i}",
    "powers of powers": "(" * 40 + "random(2)" + ") ** 1000" * 40,
    "doubling by composition": chain(" = window(3)", " = {0} @ {0}", 60),
    "20,000 compositions": " @ ".join(["window(3)"] * 20_000),
    "1,000 labels": " | ".join(f"same(a{i})" for i in range(1000)),
}  # fmt: skip


@pytest.mark.parametrize("text", TOO_MUCH.values(), ids=TOO_MUCH)
def test_what_passes_a_limit_is_refused(text: str) -> None:
    refusal(text)


def test_refusals_for_size_say_so() -> None:
    """A limit by its name, and exit status 3: nothing is wrong with the spec but its size."""
    for name in (
        "300,000 indices",
        "doubling by xor",
        "random within random",
        "a megabyte",
        "10,000 digits",
    ):
        error = refusal(TOO_MUCH[name])
        assert error.exit_status == 3
        assert "MAX_" in str(error)


WRONG = {
    "circle of 1,000": chain(" = p1000", " = {0}", 1000),
    "circle through defaults": "f(r = g) = last(r)\ng(s = f) = last(s)",
    "circle through arguments": "f(r = 1) = last(r) | g(f)\ng(s = 1) = last(s)",
    "an unknown name doubled": chain(" = foo", " = {0} | {0}", 40),
    "10,000 unknown names": "\n".join(f"a{i} = foo{i}" for i in range(10_000)),
    "10,000 unknown names in a row": " | ".join(f"foo{i}" for i in range(10_000)),
    "an unknown name among 10,000": "\n".join(f"a{i} = all" for i in range(10_000)) + "\nb = foo",
    "10,000 wrong arguments": "window(" + ", ".join(["w=1"] * 10_000) + ")",
    "10,000 arguments too many": "window(" + ", ".join(["1"] * 10_000) + ")",
    "10,000 parameters": "f(" + ", ".join(f"x{i}" for i in range(10_000)) + ") = causal",
    "a name of 900,000 letters": "a" * 900_000,
    "a name of 390,000 letters that breaks off": "a" * 390_000 + ".",
    "two alike names of 150,000 letters": f"{'a' * 150_000} = all\nb = {'a' * 150_000}b",
    "NUL bytes": "\0" * 50_000,
    "a NUL byte": "causal\0",
    "terminal orders": "causal\x1b[2J\x1b]0;title\x07",
    "text from right to left": "causal \u202e| lla",
    "surrogates": "causal \ud800",
    "template syntax": "{{ ''.__class__ }} | {% for x in y %}{# #}",
    "template syntax in a name": "a{{7*7}} = causal",
    "a call to Python": "__import__('os').system('true')",
    "format syntax": "{0.__class__} | %s | ${HOME}",
    "division by zero": "{i, j : i // 0 < 3} | {q, k : q % 0 == 0}",
    "division by what may be zero": "{i, j : i // j < 3} | {q, k : q % (n - n) == 0}",
    "the largest numbers multiplied": "{i, j : i * 2147483647 * j * 2147483647 < 3}",
    "an index to a power": "{i, j : i ** 2147483647 < 3} | {i, j : i ** j < 3}",
    "braces within braces": "{i, j : " * 90 + "i < j" + "}" * 90,
    "heads beyond all": "heads { 0:99999999999999999999 -> causal; 2147483647 -> all }",
    "heads by steps of zero": "heads { 0:4:0 -> causal }",
    "10,000 heads": "heads { " + "; ".join(f"{i} -> causal" for i in range(10_000)) + " }",
    "heads that heads choose": "heads { head -> causal }",
    "a radius of 40,000 numbers": f"grid(4, 4, radius=({'1, ' * 40_000}1))",
    "a grid beyond all": "grid(2147483647, 2147483647, radius=1)",
    "a grid of 5,000 dimensions": f"grid({'1, ' * 5000}radius=1)",
    "quotes": '"' * 90_001,
    "quotes that stay open": '"\n' * 90_000,
    "a text of 900,000 letters": f'table("{"a" * 900_000}")',
    "a text over lines": 'table("a\nb.npy")',
    "an escaped quote": 'import "\\""',
    "10,000 files that are missing": "\n".join(f'import "m{i}.bsl"' for i in range(10_000)),
    "texts for patterns": '"" | ' * 30_000 + '""',
    "bidirectional text in quotes": 'table("\u202egpj.npy")',
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_refused(text: str) -> None:
    error = refusal(text)
    assert isinstance(error, SpecError)
    assert len(error.diagnostics) <= MAX_ERRORS + 1
    assert all(char.isprintable() or char in "\n\t" for char in str(error))


FINE = {
    "100 levels less some": "~(" * 48 + "causal" + ")" * 48,
    "differences inside of differences": "all - (" * 90 + "causal" + ")" * 90,
    "a name of 200 letters": "a" * 200 + " = causal",
    "many blank lines": "\n" * 300_000 + "causal",
    "a long comment": "# " + "(" * 300_000 + "\ncausal",
    "1,100 token diagonals": " | ".join(f"diagonals({i}t)" for i in range(1100)),
    "1,100 symmetric differences": " ^ ".join(f"diagonals({i}t)" for i in range(1100)),
    "diagonals in one call": f"diagonals({', '.join(f'{2 * i}t' for i in range(2000))})",
    "900 rows in one call": f"rows({', '.join(f'{i}:{i + 1}' for i in range(900))})",
    "200 widths": f"chunks({', '.join(f'{i}t' for i in range(1, 201))})",
    "90 nested numbers": "last(" + "(n + " * 90 + "1" + ")" * 90 + ")",
    "a reach beyond 32 bits": "window(left=n * 1_000_000t, right=0, step=n * 1_000_000t)",
    "leading zeros": "last(" + "0" * 10_000 + "3)",
    "a definition 45 deep": chain(" = causal", " = {0}.T", 45),
    "names of Python": "class(lambda = 3, None = 1) = last(lambda) | last(None)",
    "45 heads within heads": "heads { : -> " * 45 + "causal" + "}" * 45,
    "2,000 heads": f"heads {{ {'; '.join(f'{i} -> last({i + 1})' for i in range(2000))} }}",
    "a million hops": "window(3) ** 1000000",
    "hops by the length": "window(3) ** (n ** n)",
    "90 comparisons": "{i, j : " + " & ".join(f"i < j + {k}" for k in range(90)) + "}",
    "a predicate without a formula": "{q, k : (q * q - k) % 7 < abs(k - 5) ** 2}",
    "the length in a predicate": "{q, k : 2147483647 // n < q - k}",
    "a label of 900 letters": f"same({'a' * 900})",
    "labels of Python": "same(lambda) & same(None) & same(q_label0)",
    "the largest numbers": "segments(2147483647, rate=2147483647) | logsparse(2147483647) | butterfly(99)",
}


@pytest.mark.parametrize("text", FINE.values(), ids=FINE)
def test_what_only_looks_dangerous_is_compiled(text: str) -> None:
    """The whole way, and from a caller that is deep in its own stack."""

    def from_below(frames: int) -> Pattern:
        return from_below(frames - 1) if frames else whole_way(text, length=64)

    pattern = from_below(200)
    assert str(compiler.resolve(Source("<test>", str(pattern))).pattern) == str(pattern)


def test_the_largest_layout_that_is_taken() -> None:
    terms = " | ".join(
        f"last({i})" for i in range(1, MAX_TERMS // 2)
    )  # each a primitive and a number
    pattern = compiler.resolve(Source("<test>", terms)).pattern
    assert len(pattern.parts) == MAX_TERMS // 2 - 1
    assert isinstance(refusal(f"{terms} | last(1)"), SpecError)


# ---- anything at all -----------------------------------------------------------------------------

WORDS = [
    *"()[]{}|&^~-+*/%<>=!,.:;#@ \n\t0123456789tx_nmjkqT",
    *(
        "causal",
        "window",
        "last",
        "random",
        "cols",
        "all",
        "block",
        "inf",
        "true",
        "within",
        "seed",
    ),
    *("**", "//", ".T", "<=", "==", "a = ", "f(x) = ", "f(", "64t", "128x64", "\r\n", "é", "\0"),
]


def only_a_spec_error(text: str) -> None:
    try:
        whole_way(text, length=40)
    except SpecError as error:
        assert str(error)
    except LimitError:
        pass


@settings(max_examples=400)
@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(WORDS), max_size=25).map("".join)))
@example("a = (b")
@example("f(r = f) = last(r)")
@example("\r")
@example("(#")
def test_random_text(text: str) -> None:
    only_a_spec_error(text)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A right program with some of it cut out, put in, or doubled."""
    text = draw(programs())
    if draw(st.booleans()):
        text = f"f(w = 3, s) = {text} | last(w)\ng = f(2, s=1) - {text}\n{draw(programs(terms=2))}"
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        stop = draw(st.integers(start, min(len(text), start + 6)))
        put = draw(st.one_of(st.just(""), st.sampled_from(WORDS), st.just(text[start:stop] * 2)))
        text = text[:start] + put + text[stop:]
    return text


@settings(max_examples=400)
@given(mutated())
def test_mutated_programs(text: str) -> None:
    only_a_spec_error(text)


@settings(max_examples=200)
@given(
    programs(),
    st.sampled_from(["n", "m", "n - 7", "n * n", "m // 2", "2 ** n", "n % 3 - 1", "log2(n)"]),
)
def test_numbers_of_the_length_in_every_place(text: str, number: str) -> None:
    """Any number of a right program may become one that only the length decides."""
    digits = [
        place for place, char in enumerate(text) if char.isdigit() and not text[place - 1].isdigit()
    ]
    for place in digits[:3]:
        end = place + 1
        while end < len(text) and text[end].isdigit():
            end += 1
        unit = " * 1t" if text[end : end + 1] == "t" else ""
        changed = f"{text[:place]}(({number}){unit}){text[end + bool(unit) :]}"
        only_a_spec_error(f"block 4\n{changed}")


@pytest.mark.parametrize("entry", [compiler.program, compiler.resolve], ids=["program", "resolve"])
def test_errors_are_the_same_every_time(entry: Callable[[Source], object]) -> None:
    text = "a = windw(3) | globl(0)\nb(w = 4) = window(w) | a\nc = b(x=3) | last(-1)\nd = (all"
    messages = set()
    for _ in range(2):
        with pytest.raises(BslangError) as caught:
            entry(Source("<test>", text))
        messages.add(str(caught.value))
    assert len(messages) == 1
