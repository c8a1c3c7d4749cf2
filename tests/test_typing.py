"""mypy and pyright accept every Python block of the documentation, and tell what each call returns."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bslang import compiler
from bslang.syntax.source import Source

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

GENERATED = {"bigbird": "window(3) | global(0, -1)", "labelled": "same(doc) & causal"}
"""Modules that commands on the pages write, and one more, by name."""

CALLS = """
import bslang
import torch
from typing_extensions import assert_type

import bigbird
import labelled

q = k = v = torch.randn(1, 2, 64, 16)
layout: bslang.Layout = bslang.compile("causal")
flag = bool(torch.rand(()) < 0.5)
doc = torch.zeros(64, dtype=torch.int32)

assert_type(layout(q, k, v), torch.Tensor)
assert_type(layout(q, k, v, 0.5, softcap=20.0, align="start", key_padding=doc), torch.Tensor)
assert_type(layout(q, k, v, return_lse=False), torch.Tensor)
assert_type(layout(q, k, v, return_lse=True), tuple[torch.Tensor, torch.Tensor])
assert_type(layout(q, k, v, return_lse=flag), torch.Tensor | tuple[torch.Tensor, torch.Tensor])
assert_type(layout.packed(q, k, v, [0, 64]), torch.Tensor)
assert_type(layout.packed(q, k, v, [0, 64], return_lse=True), tuple[torch.Tensor, torch.Tensor])
assert_type(layout.at_heads(1).at_layer(2)(q, k, v), torch.Tensor)
assert_type(bslang.attention(q, k, v, "causal", scale=0.5), torch.Tensor)
assert_type(bslang.attention(q, k, v, layout, return_lse=True), tuple[torch.Tensor, torch.Tensor])
assert_type(bigbird.attention(q, k, v, softcap=20.0), torch.Tensor)
assert_type(bigbird.attention(q, k, v, return_lse=True), tuple[torch.Tensor, torch.Tensor])
assert_type(labelled.attention(q, k, v, labels=doc), torch.Tensor)
assert_type(labelled.LAYOUT(q, k, v, labels={"doc": (doc, doc)}), torch.Tensor)
"""

REFUSED = """
import bslang
import torch

import bigbird

q = k = v = torch.randn(1, 2, 64, 16)
layout = bslang.compile("causal")
layout(q, k, v, sofcap=20.0)  # refused
layout(q, k, v, softcap="20")  # refused
layout(q, k, v, return_lse=True).square()  # refused
layout.packed(q, k, v, [0, 64], window_size=3)  # refused
bslang.attention(q, k, v, layout, is_causal=True)  # refused
bigbird.attention(q, k, v, attn_mask=None)  # refused
"""


def program(page: Path) -> str:
    """The Python blocks of a page as one program; each line has its number on the page."""
    text = page.read_text(encoding="utf-8")
    lines = [""] * text.count("\n")
    for block in BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(1))
        code = block[1].splitlines()
        lines[first : first + len(code)] = code
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package `pages` of the programs, and beside it the modules that they import."""
    folder = tmp_path_factory.mktemp("typed")
    pages = folder / "pages"
    pages.mkdir()
    programs = {page.stem: program(page) for page in PAGES}
    for stem, text in {"__init__": "", **programs, "calls": CALLS, "refused": REFUSED}.items():
        (pages / f"{stem.replace('-', '_')}.py").write_text(text, encoding="utf-8")
    for name, spec in GENERATED.items():
        resolved = compiler.resolve(Source(f"{name}.bsl", spec))
        module = compiler.emit(resolved)[f"{name}.py"]
        assert isinstance(module, str)
        (folder / f"{name}.py").write_text(module, encoding="utf-8")
    return folder


def errors(found: list[tuple[str, int, str]]) -> list[str]:
    """The errors (file, line from 1 on, message), but for those of lines that are to be refused; of these,
    the ones without an error."""
    lines = REFUSED.splitlines()
    refused = {line for line, text in enumerate(lines, 1) if text.endswith("# refused")}
    hit = {line for file, line, _ in found if Path(file).stem == "refused"}
    others = [
        f"{Path(file).stem}:{line}: {message}"
        for file, line, message in found
        if Path(file).stem != "refused" or line not in refused
    ]
    return others + [f"accepted: {lines[line - 1]}" for line in sorted(refused - hit)]


def test_mypy(folder: Path) -> None:
    """With the settings of the repository, whose cache it shares; functions on pages need no annotations,
    and kernels have none."""
    config = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    config += '\n[[tool.mypy.overrides]]\nmodule = ["pages.*"]\n'
    for strictness in ("untyped_defs", "incomplete_defs", "untyped_calls"):
        config += f"disallow_{strictness} = false\n"
    config += f"[[tool.mypy.overrides]]\nmodule = {list(GENERATED)}\nignore_errors = true\n"
    (folder / "pyproject.toml").write_text(config, encoding="utf-8")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "-p", "pages", "--config-file", "pyproject.toml"),
            *("--cache-dir", str(ROOT / ".mypy_cache"), "--no-error-summary", "--hide-error-context"),
        ],
        cwd=folder, env=os.environ | {"MYPYPATH": f"{folder}{os.pathsep}{ROOT}"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout  # 2: mypy itself failed
    found = re.findall(r"^(\S+?):(\d+): error: (.*)$", done.stdout, re.MULTILINE)
    assert errors([(file, int(line), message) for file, line, message in found]) == []


def test_pyright(folder: Path) -> None:
    """With its default settings; the types of transformers are left out, as they are for mypy."""
    stubs = folder / "stubs" / "transformers"
    stubs.mkdir(parents=True)
    (stubs / "__init__.pyi").write_text("def __getattr__(name: str): ...\n", encoding="utf-8")
    settings = {
        "include": ["pages"],
        "extraPaths": [str(folder), str(ROOT)],
        "stubPath": "stubs",
        "pythonVersion": "3.10",
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable],
        cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    report = json.loads(done.stdout[done.stdout.index("{") :])
    assert report["summary"]["filesAnalyzed"] == len(PAGES) + 3
    found = [
        (d["file"], d["range"]["start"]["line"] + 1, d["message"])
        for d in report["generalDiagnostics"]
        if d["severity"] == "error"
    ]
    assert errors(found) == []
    shutil.rmtree(stubs.parent)
