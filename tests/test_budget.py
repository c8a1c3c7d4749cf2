"""One budget for all that a command does: a small text that asks for much ends soon. Steps are counted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bslang import api, budget, compiler
from bslang.budget import DRAWS, MASKS, READING, RUNS, Budget, OverBudget, limited, share, spend
from bslang.cli.main import main
from bslang.editors.diagnose import problems
from bslang.editors.document import Document
from bslang.editors.hover import hover
from bslang.explorer.compiling import Compiling
from bslang.explorer.subject import Subject
from bslang.graph.lower import lower
from bslang.ir.grid import Grid
from bslang.limits import MAX_WORK
from bslang.resolve.suggest import closest
from bslang.syntax.diagnostics import SpecError
from bslang.syntax.source import Source

LONG = {
    "strides": " & ".join(f"~strided({i}t)" for i in range(2, 400)),
    "few strides": " & ".join(f"~strided({i}t)" for i in range(2, 20)),
    "segments": " | ".join(f"segments({i + 1}t, rate={i}, offset=0)" for i in range(1, 801)),
    "powers": "x = random(2) ** 3\n"
    + "\n".join(f"a{i} = random(2, seed={i}) ** {i + 2}" for i in range(2000)),
    "a large power": "(diagonals(0, 1, 5) | random(1)) ** 2147483647",
    "draws of single tokens": "block 1\nx = "
    + " | ".join(f"random(50, seed={i})" for i in range(40)),
    "draws": " | ".join(f"random(20, seed={i})" for i in range(3000)),
    "formulas": " & ".join(f"{{q, k : (q * k) % {c} < 1}}" for c in range(3, 15)),
    "heads": "heads { " + "; ".join(f"{i} -> last({i + 1})" for i in range(4096)) + " }",
    "parameters": f"x({', '.join(f'a{i} = {i + 1}' for i in range(40))}) = "
    + " | ".join(f"last(a{i})" for i in range(40)),
    "windows that go round": " ^ ".join(
        f"window(left={1000 * i}t, right={7 * i}t, step={i}t, wrap=true)" for i in range(1, 200)
    ),
    "a power of a power": "{i, j : ((i % 2) ** 63) ** 63 <= j}",
    "powers of powers": "{i, j : (((((i % 2) ** 63) ** 63) ** 63) ** 63) ** 63 <= j}",
    "unknown names": "\n".join(f"{'n' * 30}{i:06d}{'b' * 20} = all" for i in range(6000))
    + "\nx = "
    + " | ".join(f"{'n' * 29}x{i:06d}{'b' * 20}" for i in range(90)),
}
"""Specs of some kilobytes that took seconds, or gigabytes."""


@pytest.fixture
def budgets(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Budget]]:
    """The budgets of MAX_WORK that are opened."""
    opened: list[Budget] = []

    class Counted(Budget):
        def __init__(self, allowed: int, whole: Budget | None = None) -> None:
            super().__init__(allowed, whole)
            if whole is None and allowed == MAX_WORK:
                opened.append(self)

    monkeypatch.setattr(budget, "Budget", Counted)
    yield opened


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    monkeypatch.setattr("sys.argv", ["bslang", *arguments])
    try:
        main()
    except SystemExit as stop:
        return stop.code
    return 0


COMMANDS = {
    "check": (),
    "show": (),
    "stats": (),
    "why": ("3", "1"),
    "compile": ("--target", "cpu", "--target", "triton", "-o", "out"),
    "explorer": ("-o", "page.html"),
}


EVERYWHERE = ("few strides", "powers", "parameters", "a power of a power")
"""Kinds that are tried with every command; the others with two."""


@pytest.mark.parametrize(
    ("kind", "command"),
    [(k, c) for k in LONG for c in COMMANDS if c in ("check", "stats") or k in EVERYWHERE],
)
def test_a_command_ends_with_its_budget(
    kind: str, command: str, budgets: list[Budget], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("spec.bsl").write_text(LONG[kind])
    name = ":x" if "x = " in LONG[kind] or LONG[kind].startswith("x(") else ""
    file = "spec.bsl" if command == "check" else f"spec.bsl{name}"
    status = run(monkeypatch, command, file, *COMMANDS[command])
    assert status in (0, 1 if kind == "unknown names" else 3)
    (only,) = budgets
    # Nothing goes on for long after it is refused: what is left over is what one step asked for.
    assert only.left > -20 * MAX_WORK
    assert only.spent[READING] > 0


@pytest.mark.parametrize("kind", LONG)
def test_an_editor_and_the_explorers_server_answer(kind: str, budgets: list[Budget]) -> None:
    document = Document.of(LONG[kind])
    problems(document)
    hover(document, len(LONG[kind]) - 3)
    if kind in EVERYWHERE:
        served = Compiling(lambda: [Subject("x", Source("x.bsl", LONG[kind]))], [])
        assert served.data()["layouts"] or served.data()["errors"]
        served.answer("view", {"layout": 0, "setting": {"seq-len": "2048"}})
    assert budgets and all(each.left > -20 * MAX_WORK for each in budgets)
    with limited():  # a request has a budget of its own, whatever else was spent
        with pytest.raises(OverBudget):
            spend(2 * MAX_WORK, RUNS)
        assert not [p for p in problems(Document.of("window(3)")) if p.diagnostic.code == "E193"]


def test_the_refusal_says_what_was_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "spec.bsl").write_text(LONG["strides"])
    assert run(monkeypatch, "stats", str(tmp_path / "spec.bsl")) == 3
    said = capsys.readouterr().err
    assert said.startswith("error[E193]: this spec takes too much work, most of it for ")
    assert "(MAX_WORK)" in said and "= help: use fewer terms" in said and "spec.bsl:1:1" in said
    assert run(monkeypatch, "stats", "--json", str(tmp_path / "spec.bsl")) == 3
    (found,) = json.loads(capsys.readouterr().out)["diagnostics"]
    assert found["code"] == "E193"


def test_the_same_work_is_counted_everywhere() -> None:
    """Steps are counted: two runs of one spec spend alike, on any machine."""
    spent = []
    for _ in range(2):
        counted = Budget(MAX_WORK)
        with counted.opened():
            resolved = compiler.resolve(
                Source("x", "(window(3) | random(2)) & causal - strided(5t)")
            )
            lower(resolved.pattern, Grid.of(1000, 1000, (16, 16)))
        spent.append(counted.spent)
    assert spent[0] == spent[1] and set(spent[0]) == {READING, RUNS, MASKS, DRAWS}


def test_a_budget_stays_exhausted() -> None:
    whole = Budget(100)
    with whole.opened():
        spend(60, RUNS)
        part = share(1)
        with part.opened(), pytest.raises(OverBudget, match="MAX_WORK = 100"):
            spend(41, MASKS)
        assert whole.exhausted and part.exhausted
        with pytest.raises(OverBudget, match="combining"):
            spend(0, MASKS)
    spend(10**12, RUNS)  # nothing is counted outside of a budget


def test_a_share_leaves_the_rest() -> None:
    with limited():
        part = share(0.25)
        with part.opened(), pytest.raises(OverBudget):
            spend(MAX_WORK // 2, RUNS)
        assert part.exhausted
        spend(MAX_WORK // 4, RUNS)


def test_a_length_that_the_user_asks_for_costs_in_proportion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budgets: list[Budget]
) -> None:
    (tmp_path / "spec.bsl").write_text("last(2)")
    assert run(monkeypatch, "stats", str(tmp_path / "spec.bsl"), "--seq-len", "1M") == 0
    assert budgets[0].allowed == 16 * MAX_WORK
    assert run(monkeypatch, "stats", str(tmp_path / "spec.bsl"), "--seq-len", "4k") == 0
    assert budgets[1].allowed == MAX_WORK


def test_a_python_call_is_bounded_as_well(budgets: list[Budget]) -> None:
    api.compile(LONG["few strides"], target="torch")
    with pytest.raises(SpecError, match="MAX_NESTING"):
        api.compile(LONG["powers of powers"])
    assert budgets and all(each.left >= 0 for each in budgets)
    with Budget(1000).opened(), pytest.raises(SpecError, match="E193"):
        api.compile("window(3)")


def test_suggestions_stop_where_half_of_the_budget_is_gone() -> None:
    names = [f"{'n' * 40}{i:05}" for i in range(200)]
    wanted = f"{'n' * 40}0000x"
    assert closest(wanted, names)
    with limited():
        found = [closest(wanted, names) for _ in range(200)]
    assert found[0] and not found[-1]


def test_lowering_is_what_it_is_without_a_budget() -> None:
    resolved = compiler.resolve(Source("x", "(last(40t) | random(2)) & causal"))
    grid = Grid.of(3000, 3000, resolved.block)
    free = lower(resolved.pattern, grid)
    with limited():
        counted = lower(resolved.pattern, grid)
    assert np.array_equal(free.start, counted.start) and np.array_equal(free.kind, counted.kind)
