"""The examples run, in a reduced size, and learn."""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # benchmarks/ is not installed
from benchmarks import examples as measured  # noqa: E402

EXAMPLES = ROOT / "examples"
CONTESTANTS = {
    "train_lm": ["sparse", "dense"],
    "dna": ["own strand", "both strands", "dense"],
    "series": ["window", "logsparse", "dense"],
    "images": ["neighbours", "axial", "dense"],
    "search": ["own_block", "window_2", "doubling", "dense"],  # by the blocks that they visit
}
PLOTS = {"train_lm": "lm"}


def example(name: str, folder: Path, *options: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program of examples/ with its reduced size."""
    return subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", "--quick", "--output", folder, *options],
        cwd=folder, text=True, capture_output=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # tests run side by side
    )  # fmt: skip


def rows(printed: str) -> dict[str, list[str]]:
    """The lines of the table, by their first column."""
    cells = [line.strip()[1:-1].split("│") for line in printed.splitlines() if line.startswith("│")]
    return {first.strip(): [cell.strip() for cell in others] for first, *others in cells}


def number(cell: str) -> float:
    """The number in a cell, without its unit."""
    return float(re.sub(r"( ms|%)$", "", cell))


@pytest.mark.parametrize("name", CONTESTANTS)
def test_example(name: str, tmp_path: Path) -> None:
    done = example(name, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    table = rows(done.stdout)
    assert [row for row in table if not row.startswith("(")] == CONTESTANTS[name]
    for row in CONTESTANTS[name]:
        if name == "search":
            blocks, time, first, held_out, error, _frontier = table[row]
            last = held_out
            assert 0 < number(error) < 1
        else:
            blocks, first, last, held_out, time, *_accuracy = table[row]
        assert 0 < number(blocks) <= 100
        assert 0 < number(time) < math.inf
        assert 0 < number(last) < number(first) and 0 < number(held_out) < number(first)
    assert "data: " in done.stdout and "licence" in done.stdout
    plot = tmp_path / f"{PLOTS.get(name, name)}.png"
    assert plot.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_every_example_is_tested_and_measured() -> None:
    programs = {path.stem for path in EXAMPLES.glob("*.py")} - {"common"}
    assert programs == set(CONTESTANTS) == set(measured.EXAMPLES)


def test_what_an_example_prints_and_draws_goes_into_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, plot = tmp_path / "examples.md", tmp_path / "series.png"
    page.write_text(measured.PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    plot.write_bytes(b"a plot")
    monkeypatch.setattr(measured, "PAGE", page)
    monkeypatch.setattr(measured, "PICTURES", tmp_path / "images")
    before = page.read_text(encoding="utf-8")
    table = "   title\n┏━━━┓\n┃ a ┃\n└───┘\nmeasured on a machine\na minus b: 1"
    printed = table.replace("title", "title   ")  # titles are padded to the width of the table
    for name in measured.EXAMPLES:
        measured.write(name, f"data: text\n\n  bar 20/20\n{printed}\nplot: {plot}\n")
    after = page.read_text(encoding="utf-8")
    assert after.count(f"```text\n{table}\n```") == len(CONTESTANTS)
    assert "![Losses and times of dna](images/examples/series.png)" in after
    assert (tmp_path / "images" / "series.png").read_bytes() == b"a plot"
    outside = re.compile(r"(<!-- \w+: begin -->).*?(<!-- \w+: end -->)", re.DOTALL)
    assert outside.sub(r"\1\2", after) == outside.sub(r"\1\2", before)
    with pytest.raises(ValueError, match="no table"):
        measured.write("dna", "data: text\n")


def test_the_frontier_of_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """What no other beats in both; of two that cost the same, the better."""
    monkeypatch.syspath_prepend(EXAMPLES)
    frontier = importlib.import_module("search").frontier
    runs = [
        SimpleNamespace(blocks=blocks, final=loss)
        for blocks, loss in [(0.5, 1.0), (0.1, 3.0), (0.2, 3.5), (0.3, 2.0), (0.3, 1.5), (0.9, 1.1)]
    ]
    found = [(run.blocks, run.final) for run in frontier(runs, lambda run: run.blocks)]
    assert found == [(0.1, 3.0), (0.3, 1.5), (0.5, 1.0)]


def test_train_lm_refuses_a_spec_with_errors(tmp_path: Path) -> None:
    spec = tmp_path / "mine.bsl"
    spec.write_text("windw(3)", encoding="utf-8")
    done = example("train_lm", tmp_path, "--spec", spec)
    assert done.returncode == 1 and "did you mean `window`?" in done.stderr


@pytest.mark.parametrize(
    ("name", "read", "package"),
    [
        ("dna", "genome", "pyhmmer"),
        ("series", "pulse", "heartpy"),
        ("images", "photographs", "skimage"),
        ("train_lm", "main", "matplotlib"),
    ],
)
def test_a_missing_package_is_named(
    name: str, read: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr(sys, "argv", [f"{name}.py"])
    module = importlib.import_module(name)
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else found(name)
    )
    with pytest.raises(SystemExit, match=f"{name}.py needs the package {package}, of the extra"):
        getattr(module, read)()
