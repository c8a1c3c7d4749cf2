"""What a spec can write into generated code: numbers, and texts in comments and string constants.

Each hostile spec has a tame twin, which differs from it in names alone. Their generated files have to be
the same program: equal once comments are gone and string constants are blank.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from bslang import compiler
from bslang.files import HEADER
from bslang.generated import import_file
from bslang.resolve.module import layout_name
from bslang.resolve.sources import source_of
from bslang.syntax.source import Source

NAMES = [
    "class", "None", "eval", "__import__", "__builtins__", "__file__", "torch", "tl", "LAYOUT", "SPEC",
    "attention", "refusal", "q", "p0", "q_label0", "parameters", "asm", "int", "a" * 900,
]  # fmt: skip
"""Every one is a name of bsl, so that a spec may use it for a definition, a parameter and a label."""

STEMS = [
    'x"; import os; os.mkdir("harm") #', "x'''; import os; os.mkdir('harm') #", '"""', "x\nimport os",
    "*/ int harm; /*", "x\\", "x??/", "{{ 7*7 }}", "{% raw %}", "{# #}", "%s{0}", "${HOME}", "`id`", "$(id)",
    "x; touch harm", "é\u202e", "\u2028import os", "a" * 200, "__init__", "class", "1", " ", "-rf",
]  # fmt: skip
"""Names of files without their suffix."""


@cache
def generated(source: Source, name: str | None = None) -> dict[str, str]:
    """The generated texts of a layout by suffix; neither tables nor the header is of it."""
    resolved = compiler.resolve(source, name)
    files = compiler.emit(resolved)
    assert all(Path(file).name == file for file in files), "a file elsewhere"
    del files[HEADER]
    return {Path(file).suffix: str(text) for file, text in files.items() if isinstance(text, str)}


def python(text: str) -> str:
    """A Python program without its comments and the content of its string constants."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return ast.dump(tree)


def cpp(text: str) -> str:
    """A C++ program without comments, as a compiler reads it: it joins lines before it knows comments."""
    text = text.replace("??/", "\\")
    text = re.sub(r"\\\s*\n", "", text)
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip())


def same_program(hostile: dict[str, str], tame: dict[str, str]) -> None:
    assert hostile.keys() == tame.keys() == {".py", ".cpp"}
    assert python(hostile[".py"]) == python(tame[".py"])
    assert cpp(hostile[".cpp"]) == cpp(tame[".cpp"])


FORMS: dict[str, Callable[[str], str]] = {
    "a label": lambda name: f"same({name}) & last(100t)",
    "two labels": lambda name: f"same({name}) | same(other) & causal",
    "a definition": lambda name: f"{name} = last(100t) | cols(0)",
    "a parameter": lambda name: f"x({name} = 100) = last({name} * 1t)",
    "a comment": lambda name: f'x = last(100t)  # """ {name} */ \\',
}


@pytest.mark.parametrize("form", FORMS)
def test_names_of_a_spec_are_no_code(form: str) -> None:
    tame = generated(Source("x.bsl", FORMS[form]("tame")))
    for name in NAMES:
        if form == "a definition" and name.startswith("_"):
            continue  # private: it cannot be picked
        picked = name if form == "a definition" else None
        same_program(generated(Source("x.bsl", FORMS[form](name)), picked), tame)


@pytest.mark.parametrize("stem", STEMS, ids=ascii)
def test_names_of_files_are_no_code(stem: str) -> None:
    assert re.fullmatch(r"\w+", layout_name(Source(f"{stem}.bsl", "")), re.ASCII)
    hostile, tame = (generated(Source(f"{s}.bsl", "last(100t)")) for s in (stem, "tame"))
    same_program(hostile, tame)


@pytest.mark.parametrize("stem", [s for s in STEMS if not set(s) & set('\n"/\\')], ids=ascii)
def test_names_of_tables_and_imported_files_are_no_code(stem: str, tmp_path: Path) -> None:
    """A text in quotes, of which only the file that it names counts."""
    for name in (stem, "tame"):
        np.save(tmp_path / f"{name}.npy", np.eye(4, dtype=bool))
        (tmp_path / f"{name}.bsl").write_text("near = last(100t)", encoding="utf-8")
        text = f'import "{name}.bsl"\nx = near | table("{name}.npy")'
        (tmp_path / f"spec of {name}.txt").write_text(text, encoding="utf-8")
    texts = [generated(source_of(tmp_path / f"spec of {name}.txt"), "x") for name in (stem, "tame")]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    "text", [r"{q, k : k < 7 & q \ 3 == 0}", "last(3) /* harm */", "#include <x>\n1"]
)
def test_code_of_other_languages_is_refused(text: str) -> None:
    from bslang.errors import BslangError

    with pytest.raises(BslangError):
        generated(Source("x.bsl", text))


def test_running_a_hostile_layout_runs_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is imported and called here is what the tests above hold to be the same program."""
    monkeypatch.chdir(tmp_path)
    for number, stem in enumerate(STEMS):
        resolved = compiler.resolve(
            Source(f"{stem}.bsl", "(last(20t) | cols(0)) & causal"), block=16
        )
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, text in compiler.emit(resolved, ["torch"]).items():
            (folder / name).write_text(str(text), encoding="utf-8")
        layout = import_file(folder / f"{resolved.name}.py", f"hostile_{number}").LAYOUT
        q = torch.ones(1, 1, 40, 8)
        assert torch.equal(layout(q, q, q), q)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(map(str, range(len(STEMS))))


# ---- what generated Python calls -----------------------------------------------------------------

PLAIN = [
    "last(100t)",
    "same(doc) & causal",
    "heads { 0 -> last(100t); 1: -> causal }",
    "random(3, seed=7)",
]
PLAIN += [
    "{q, k : min(abs(q - k), log2(q * k + 1)) < isqrt(max(q, k))}",
    "chunks(100t) | strided(n // 3)",
]
MODULES = {"pathlib", "torch", "triton", "triton.language", "typing", "typing_extensions", "bslang"}
CALLS = re.compile(
    r"(tl|triton|gl|gluon|mbarrier)\..+|async_load|fence_async_shared|warpgroup_mma(_wait)?|Layout|LAYOUT|Inputs|Label|Selection|refusal|Path|Path\(__file__\)\.with_suffix"
    r"|(Triton|Cpu|Torch)Target|.+\.(to|trans|index|reshape|permute|load)|float|isqrt|log2|minimum|maximum|abs|min|max|range"
    r"|map|len|'[a-z_ ]+'\.split"
)


@pytest.mark.parametrize("text", PLAIN)
def test_generated_python_imports_and_calls_a_few_things(text: str) -> None:
    tree = ast.parse(generated(Source("x.bsl", text))[".py"])
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert {alias.name for alias in node.names} <= MODULES
        elif isinstance(node, ast.ImportFrom):
            assert str(node.module).split(".")[0] in MODULES
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called in defined or CALLS.fullmatch(called), called
