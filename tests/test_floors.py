"""`make test-floors` tests what pyproject.toml allows, and its page says what has run."""

from __future__ import annotations

import re

import floors
import pytest


def test_floors_are_those_of_pyproject() -> None:
    text = (floors.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for package, version in floors.floors().items():
        assert f'"{package}>={version}' in text
    (python,) = re.findall(r'^requires-python = ">=(.+)"$', text, re.MULTILINE)
    assert floors.PYTHONS[0] == python
    by_name = {environment.name: environment for environment in floors.environments()}
    assert by_name["oldest"].versions == floors.floors() and by_name["oldest"].python == python
    assert by_name["newest"].requirements == [*floors.PACKAGES]
    assert {environment.python for environment in by_name.values()} == {*floors.PYTHONS}
    for tests in (environment.tests for environment in by_name.values()):
        assert all((floors.ROOT / test).is_file() for test in tests)


def test_a_result_takes_the_place_of_the_one_before() -> None:
    page = f"before\n{floors.BEGIN}\n{floors.HEAD}\n{floors.END}\nafter\n"
    newest, oldest = "| newest | 3.14 | all | 2 passed |", "| oldest | 3.10 | all | 1 failed |"
    both = floors.recorded(floors.recorded(page, newest), oldest)
    assert both == page.replace(floors.HEAD, f"{floors.HEAD}\n{oldest}\n{newest}")
    again = oldest.replace("1 failed", "2 passed")
    assert floors.recorded(both, again) == both.replace(oldest, again)


def test_the_page_has_the_table() -> None:
    page = floors.PAGE.read_text(encoding="utf-8")
    table = page.split(floors.BEGIN)[1].split(floors.END)[0].strip().splitlines()
    assert "\n".join(table[:2]) == floors.HEAD
    known = {environment.name for environment in floors.environments()}
    assert {line.split("|")[1].strip() for line in table[2:]} <= known
    assert not any("**" in line for line in table[2:])  # as what has failed is set


@pytest.mark.parametrize("python", ["3.99", "nothing"])
def test_a_python_that_is_not_here(python: str) -> None:
    assert floors.interpreter(python) == ""
    assert floors.ready(floors.Environment("none", python, {}), ".") is None


def test_asking_for_a_python_that_is_not_here_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """As CI asks for one: an environment that could not run is no success."""
    monkeypatch.setattr(floors, "ready", lambda environment, dev: None)
    monkeypatch.setattr("sys.argv", ["floors.py", "--only", "oldest"])
    with pytest.raises(SystemExit, match="failed: oldest"):
        floors.main()
