"""A short run of tests/fuzz.py, and that it would notice."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz import attempt, batch, surroundings, written


def test_some_thousand_inputs() -> None:
    totals = batch(seed=1, start=0, stop=3000)
    assert totals.failures == []
    assert totals.outcomes["accepted"] > 150
    assert len(totals.outcomes) > 20, "few kinds of errors: the inputs are all alike"


def test_inputs_are_the_same_every_time() -> None:
    assert [written(0, i) for i in range(50)] == [written(0, i) for i in range(50)]
    assert written(0, 1) != written(1, 1)


def test_failures_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    surroundings(tmp_path)
    assert attempt(b"causal", tmp_path) == ("accepted", "")
    assert attempt(b"windw(3)", tmp_path) == ("E201", "")

    def spin(file: object) -> str:
        while True:
            pass

    def crash(file: object) -> str:
        raise RecursionError("too deep")

    monkeypatch.setattr("fuzz.SECONDS", 0.2)
    for stand_in, message in (
        (crash, "RecursionError: too deep"),
        (lambda file: "none\n", "AssertionError: means another"),
        (lambda file: "causal |\n", "AssertionError: the formatted text has"),
        (spin, "TooSlow"),
    ):
        monkeypatch.setattr("fuzz.text_of", stand_in)
        kind, problem = attempt(b"causal", tmp_path)
        assert kind == "failure"
        assert problem.startswith(message)
