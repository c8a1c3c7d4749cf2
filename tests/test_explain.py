"""`bslang explain`, and the examples of every diagnostic code."""

from __future__ import annotations

import sys

import pytest

from bslang.cli.check import diagnostics
from bslang.cli.main import main
from bslang.syntax.codes import CODES


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["bslang", *arguments])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.mark.parametrize("name", [name for name, code in CODES.items() if code.example])
def test_examples_have_one_error(name: str) -> None:
    assert {found.code for found in diagnostics(CODES[name].example)} == {name}


@pytest.mark.parametrize("name", [name for name, code in CODES.items() if code.fixed])
def test_fixed_examples_have_no_error(name: str) -> None:
    assert CODES[name].example and diagnostics(CODES[name].fixed) == []


def test_what_an_explanation_holds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "explain", "w403") == 0
    assert (
        capsys.readouterr().out
        == """\
W403: An operand has no effect

In a union, the other operands already contain it; in an intersection or a difference, it removes \
nothing. Remove it, or check its numbers.

This is wrong:

    warning[W403]: `window(3)` adds nothing to `window(5)`
     --> spec.bsl:1:1
      |
    1 | window(3) | window(5)
      | ^^^^^^^^^ here
      |
      = help: leave it out

This is right:

    window(5)
"""
    )


def test_all_codes_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "explain") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(CODES)


def test_an_unknown_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "explain", "W4031") == 1
    assert capsys.readouterr() == ("", "error: there is no code W4031; did you mean W403?\n")
    assert run(monkeypatch, "explain", "what") == 1
    assert "`bslang explain` lists them" in capsys.readouterr().err
