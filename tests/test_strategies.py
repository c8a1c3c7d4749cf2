"""The random programs of property tests: all of the language occurs in them, and they shrink.

Strategies choose from tables (tests/grammar.py), so what a test here asks of each entry of a table is drawn.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st
from strategies import programs

from bslang import compiler
from bslang.patterns import BY_NAME
from bslang.resolve.module import BOUND_WHEN_LOWERED
from bslang.resolve.values import FUNCTIONS
from bslang.syntax.source import Source
from grammar import (
    AROUND,
    BODIES,
    COMPARED,
    CONSTANT,
    GIVEN,
    INDEXED,
    JOINED,
    NAMES,
    NUMBERS,
    RELATIONAL,
    SIZES,
    Forms,
    _Writer,
    builders,
    compared,
    definition,
    definitions,
    named,
)

few = settings(max_examples=10)


# ---- every form ----------------------------------------------------------------------------------


def test_every_primitive_is_in_a_table() -> None:
    assert {*RELATIONAL, *INDEXED, *CONSTANT, *GIVEN, "random"} == set(BY_NAME)


@pytest.mark.parametrize("name", [*RELATIONAL, *INDEXED])
def test_a_primitive_is_written_and_means_something(name: str) -> None:
    @few
    @given(named(name))
    def written(text: str) -> None:
        assert re.match(rf"{name}\b", text)
        assert name in str(compiler.resolve(Source("<test>", text)).pattern)

    written()


@pytest.mark.parametrize("name", GIVEN)
def test_what_a_call_gives_names_its_primitive(name: str) -> None:
    assert all(text.startswith(f"{name}(") for text in GIVEN[name])


SIGNS = {
    "plain": r"\w|\{", "complement": "^~", "transposed": r"\.T$", "random": r"^random\(",
    "heads": r"^heads \{ .* -> .*; .* -> .* \}$", "power": r"\) \*\* [1-4]\)$", "composition": " @ ",
    **{op: re.escape(f" {op} ") for op in JOINED},
}  # fmt: skip
"""How each form around others is told from its text."""


@pytest.mark.parametrize("form", [*AROUND, *JOINED])
def test_a_form_around_others_is_written(form: str) -> None:
    @few
    @given(programs(terms=3, form=form))
    def written(text: str) -> None:
        assert re.search(SIGNS[form], text)

    written()


@pytest.mark.parametrize("tokens", [False, True])
def test_set_builders_are_written(tokens: bool) -> None:
    @few
    @given(builders(tokens))
    def written(text: str) -> None:
        assert text.startswith("{q, k : " if tokens else "{i, j : ")

    written()


@pytest.mark.parametrize("op", COMPARED)
def test_comparisons_are_written(op: str) -> None:
    @few
    @given(compared(("i", "j"), 1, op=op, chained=True))
    def written(text: str) -> None:
        assert re.match(rf"~?\(\d <= .* {re.escape(op)} .*\)$", text)

    written()


def test_numbers_have_every_name_operator_and_function() -> None:
    texts = " ".join((*SIZES, *NUMBERS.values()))
    words = set(re.findall(r"[a-z]\w*|\*\*|//|[-+*%<>]", texts))
    assert words >= {*FUNCTIONS, *BOUND_WHEN_LOWERED, "+", "-", "*", "//", "%", "**"}
    assert all(NUMBERS[form].count(form) for form in NUMBERS)


def test_ranges_have_every_form() -> None:
    forms = {
        "end": r"^(0|-1)t$",
        "compared": r".* < ",
        "range": r"^[^:]*:[^:]*$",
        "step": r"^[^:]*:[^:]*:[^:]+$",
    }

    @few
    @given(st.data())
    def written(data: st.DataObject) -> None:
        for form, sign in forms.items():
            assert re.match(sign, _Writer(data.draw, tokens=True).index(form))

    written()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("parameter", [False, True])
def test_definitions_and_calls_have_every_form(name: str, parameter: bool) -> None:
    @few
    @given(definition(name, Forms(), parameter))
    def written(made: tuple[str, tuple[str, ...]]) -> None:
        line, calls = made
        assert re.match(rf"{name}\(w = \d+t?\) = " if parameter else f"{name} = ", line)
        signs = [name, rf"{name}\(\d+t?\)", rf"{name}\(w=\d+t?\)"]
        assert len(calls) == (3 if parameter else 1)
        assert all(map(re.fullmatch, signs, calls))

    written()


def test_the_bodies_of_definitions_use_their_parameter() -> None:
    assert all("w" in re.findall(r"\bw\b", body.format(x="w")) for body in BODIES)


@few
@given(definitions(Forms()))
def test_one_or_two_names_are_defined(made: tuple[str, tuple[str, ...]]) -> None:
    lines, calls = made
    assert (
        [re.match(r"\w+", line)[0] for line in lines.splitlines()]
        == [  # type: ignore[index]  # a name
            *NAMES[: len(lines.splitlines())]
        ]
    )
    assert calls[0] == NAMES[0]


@pytest.mark.parametrize("name", ["last", "window", "chunks", "grid"])
def test_arguments_without_end_are_written(name: str) -> None:
    quiet = settings(max_examples=200, database=None)
    assert "inf" in find(named(name), lambda text: "inf" in text, settings=quiet)


# ---- shrinking -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "least"),
    [
        ("", "all"),
        ("window", "window(1)"),
        ("@", "(all @ all)"),
        ("within", "random(0, seed=0, within=all)"),
        ("heads", "heads { 0 -> all; 1: -> all }"),
    ],
)
def test_programs_shrink_to_small_ones(wanted: str, least: str) -> None:
    quiet = settings(max_examples=500, database=None, suppress_health_check=list(HealthCheck))
    assert find(programs(), lambda text: wanted in text, settings=quiet) == least
