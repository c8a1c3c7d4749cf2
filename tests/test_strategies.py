"""The random programs of property tests: all of the language occurs in them, and they shrink."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from strategies import Case, cases, programs

from bslang.patterns import BY_NAME

FORMS = {
    "union": r"\|", "intersection": "&", "difference": " - ", "symmetric difference": r"\^",
    "complement": "~", "transposed": r"\.T", "composition": " @ ", "power": r"\) \*\* ",
    "blocks": r"\{i, j :", "tokens": r"\{q, k :", "heads": r"heads \{", "definition": r"^\w+ = ",
    "definition with a parameter": r"^\w+\(w = ", "private": "^_far", "call": r"near\(\d",
    "call by name": r"near\(w=", "within": "within=", "range with a step": r"\d:\d+t?:\d",
    "chained": "<= .* <", "without end": r"\binf\b",
    **{word: rf"\b{word}\b" for word in ("n", "m", "head", "layer", "min", "max", "abs", "isqrt", "log2")},
    **{sign: re.escape(f" {sign} ") for sign in ("+", "*", "//", "%", "<", "<=", ">", ">=", "==", "!=")},
}  # fmt: skip


def test_all_of_the_language_is_drawn() -> None:
    texts: list[str] = []

    @settings(max_examples=400, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(cases(labels=True))
    def draw(case: Case) -> None:
        texts.append(case.spec)

    draw()
    every = {**{name: rf"\b{name}\b" for name in BY_NAME}, **FORMS}
    missing = [
        form
        for form, pattern in every.items()
        if not any(re.search(pattern, text, re.MULTILINE) for text in texts)
    ]
    assert not missing


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
