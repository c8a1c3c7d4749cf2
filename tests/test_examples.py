"""The examples run, at a tiny size, and their notebooks are theirs."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # benchmarks/ is not installed
import bslang  # noqa: E402
from benchmarks import examples as measured  # noqa: E402

EXAMPLES = ROOT / "examples"
TINY = {
    "recall": "--seeds 1 --lengths 128 --steps 3 --tested 128 256 --tests 1 --dim 16",
    "dna": "--seeds 2 --steps 2 --bases 128 --dim 16",
    "vit": "--seeds 1 --steps 2 --tests 6 --dim 16",
    "packed": "--seeds 1 --steps 2 --length 128 --dim 16 --heads 1",
    "tree": "--seeds 1 --steps 2 --answers 2 --dim 16 --heads 1",
    "finetune": "--seeds 1 --short 32 --long 128 --steps 2 --tuning 2 --dim 16",
    "serving": "--prompts 130 200 --tokens 3 --dim 16 --heads 1",
    "paged_serving": "--conversations 3 --instructions 150 --tokens 8 --dim 16 --heads 1",
    "train_lm": "--steps 6 --context 256 --dim 32 --layers 1 --heads 2 --lr 0.01",
    "context_parallel": "--ranks 2 --steps 2 --context 500 --dim 32 --layers 1 --heads 2",
}
ROWS = {
    "recall": ["window", "window + random", "window + global", "window + global + random", "dense"],
    "dna": ["window", "window + other strand", "dense"],
    "vit": ["neighbours", "neighbours + class token", "dense"],
    "packed": ["one by one", "padded", "packed", "packed, without same(doc)"],
    "tree": ["a row for each path", "one row, a tree", "one row, without the tree"],
    "finetune": [
        "dense, before", "layout, before", "layout, fine-tuned", "loaded again", "dense, fine-tuned"
    ],
    "serving": ["130 tokens", "200 tokens"],
    "paged_serving": ["each its own pages", "instructions shared"],
    "train_lm": ["sparse", "dense"],
    "context_parallel": ["1", "2"],
}  # fmt: skip


def example(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> dict[str, Any]:
    """Run an example at its tiny size; the names that it defines."""
    monkeypatch.syspath_prepend(EXAMPLES)
    options = [*TINY[name].split(), "--output", str(folder), *more]
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *options])
    return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


@pytest.mark.parametrize("name", TINY)
def test_example(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    defined = example(name, tmp_path, monkeypatch)
    table, plot = measured.figures(capfd.readouterr().out)
    heading, _, *lines = table.split("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [first for first, *_ in cells] == ROWS[name]
    assert all(len(row) == heading.count("|") - 1 and all(row) for row in cells)
    assert plot == tmp_path / f"{name}.svg"
    drawn = plot.read_text(encoding="utf-8")
    axes = defined["axes"]
    for text in (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()):
        assert text and f"<!-- {text} -->" in drawn
    assert re.search(r"\(.+\)", axes.get_ylabel()), "a unit"
    if name == "recall":
        check_recall(defined)


RANK = """
import contextlib, pathlib, runpy, sys
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
left = set()
for file in pathlib.Path("/proc/self/task").glob("*/comm"):
    with contextlib.suppress(OSError):  # a thread that has just ended
        left.add(file.read_text().strip())
assert not {name for name in left if "gloo" in name}, left
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are named in /proc")
def test_a_rank_leaves_no_thread_of_its_group(tmp_path: Path) -> None:
    """One that lets go of a tensor when Python has ended would end the process with an error."""
    options = ["--steps", "1", "--context", "64", "--dim", "16", "--heads", "1", "--layers", "1"]
    program = [str(EXAMPLES / "train_ranks.py"), *options, "--output", str(tmp_path)]
    alone = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    env = os.environ | alone | {"PYTHONPATH": str(EXAMPLES)}
    subprocess.run([sys.executable, "-c", RANK, *program], env=env, check=True, timeout=300)


def check_recall(defined: dict[str, Any]) -> None:
    """What is asked for was stated, and facts reach all questions only through global tokens."""
    tokens, value, answer = defined["batch"](3, 1024, torch.Generator().manual_seed(0))
    facts = value > 0
    asked = answer.masked_fill(torch.arange(1024) < defined["BLOCK"], -1) >= 0
    assert facts.sum(1).eq(defined["KEYS"]).all() and asked.sum(1).eq(defined["QUESTIONS"]).all()
    for row in range(3):
        stated = dict(
            zip(
                tokens[row, facts[row]].tolist(), (value[row, facts[row]] - 1).tolist(), strict=True
            )
        )
        assert [stated[key] for key in tokens[row, asked[row]].tolist()] == answer[
            row, asked[row]
        ].tolist()
    for name, spec in defined["LAYOUTS"].items():
        dense = bslang.compile(spec, block=defined["BLOCK"]).to_dense(1024).squeeze().float()
        reached = torch.linalg.matrix_power(dense, defined["HOPS"])[768:, :512] > 0
        assert bool(reached.all()) == ("global" in name or name == "dense")
        assert bool(reached.any()) == (name != "window")


def test_every_example_is_tested_and_measured_and_fits_a_page() -> None:
    notebooks = _notebooks()
    programs = notebooks.programs()
    assert {path.stem for path in programs} == set(TINY) == set(ROWS) == set(measured.EXAMPLES)
    lines = {path.stem: len(path.read_text(encoding="utf-8").splitlines()) for path in programs}
    assert max(lines.values()) <= 170 and sum(lines.values()) <= 130 * len(lines), lines
    for name in notebooks.HELPERS:
        most = 120 if name == "train_ranks" else 80  # a program of its own
        assert len((EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()) < most


def test_notebooks_are_made_from_the_examples() -> None:
    notebooks = _notebooks()
    for path in notebooks.programs():
        program = path.read_text(encoding="utf-8")
        assert path.with_suffix(".ipynb").read_text(encoding="utf-8") == notebooks.notebook(program)
        written = json.loads(notebooks.notebook(program))["cells"]
        assert written[0]["cell_type"] == "markdown" and written[0]["source"][0].startswith("# ")
        parts = ["".join(cell["source"]) for cell in written if cell["cell_type"] == "code"]
        without = re.sub(r"^# %%.*\n(#.*\n)*", "", program, flags=re.MULTILINE)
        assert re.sub(r"\s", "", "".join(parts)) == re.sub(r"\s", "", without)  # no line is lost
        compile("\n".join(parts), str(path), "exec")


def _notebooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "docs" / "notebooks.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_an_example_prints_and_draws_goes_into_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, plot = tmp_path / "examples.md", tmp_path / "dna.svg"
    page.write_text(measured.PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    plot.write_text("a plot", encoding="utf-8")
    monkeypatch.setattr(measured, "PAGE", page)
    monkeypatch.setattr(measured, "PICTURES", tmp_path / "images")
    before = page.read_text(encoding="utf-8")
    table = "| a   | b |\n| --- | - |\n| c   | d |\n\na machine\n\na minus b: 1"
    table = table.replace("| - |", "| --- |")
    for name in measured.EXAMPLES:
        measured.write(name, f"| no table |\nstep 1\n{table}\n\nplot: {plot}\n")
    after = page.read_text(encoding="utf-8")
    assert after.count(table) == len(TINY)
    assert "![The table of dna as a plot](images/examples/dna.svg)" in after
    assert (tmp_path / "images" / "dna.svg").read_text(encoding="utf-8") == "a plot"
    outside = re.compile(r"(<!-- \w+: begin -->).*?(<!-- \w+: end -->)", re.DOTALL)
    assert outside.sub(r"\1\2", after) == outside.sub(r"\1\2", before)
    with pytest.raises(ValueError, match="no table"):
        measured.write("dna", "data: text\n")


def test_train_lm_refuses_a_spec_with_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "mine.bsl"
    spec.write_text("windw(3)", encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        example("train_lm", tmp_path, monkeypatch, "--spec", str(spec))
    assert ended.value.code == 1 and "did you mean `window`?" in capfd.readouterr().err


@pytest.mark.parametrize(("name", "package"), [("dna", "pyhmmer"), ("vit", "skimage")])
def test_a_missing_package_is_named(
    name: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else found(name)
    )
    monkeypatch.delitem(sys.modules, "common", raising=False)
    with pytest.raises(SystemExit, match=rf"no .+ of {package}: pip install .+\[examples\]"):
        example(name, tmp_path, monkeypatch)
