"""Bars of long commands: on a terminal, for standard error, and nowhere else."""

from __future__ import annotations

import io
import sys

import pytest
import torch

from bslang.cli.bar import progress
from bslang.progress import report, reporting
from bslang.verify.measure import measure


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard error from now on. Not as a fixture: pytest puts its own there between the two."""
    made = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", made)
    return made


def test_a_bar_shows_what_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = terminal(monkeypatch)
    with progress("tuning"):
        report(3, 20)
        print("data")
    assert "tuning" in shown.getvalue() and "3/20" in shown.getvalue()
    assert capsys.readouterr().out == "data\n" and "data" not in shown.getvalue()


def test_no_bar_where_it_is_unwanted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = terminal(monkeypatch)
    with progress("tuning", quiet=True):
        report(3, 20)
    assert shown.getvalue() == ""
    piped = io.StringIO()  # a file, or a pipe
    monkeypatch.setattr(sys, "stderr", piped)
    with progress("tuning"):
        report(3, 20)
    assert piped.getvalue() == "" == capsys.readouterr().out


def test_work_reports_its_parts() -> None:
    seen: list[tuple[int, int]] = []

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return q * k + v

    with reporting(lambda *step: seen.append(step)):
        measure(attend, 8, causal=False, rounds=3)  # type: ignore[arg-type]  # called as a layout is
    report(1, 1)  # to nobody
    assert seen == [(0, 3), (1, 3), (2, 3)] * 2
