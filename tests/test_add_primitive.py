"""docs/add-primitive.md: it names every hook of a primitive, and who follows it leaves every test green."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bslang.ir.hooks import FLAGS, Hooks
from bslang.ir.pattern import Pattern, Primitive
from bslang.patterns import BY_NAME

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "add-primitive.md").read_text(encoding="utf-8")
COPIED = ("bslang", "docs", "editors", "examples", "grammar", "templates", "tests")
COPIED_FILES = ("README.md", "CHANGELOG.md", "Makefile", "pyproject.toml")

DERIVED = {"at", "bind", "counts", "primitives"}
"""What Primitive makes of its hooks, for the rest of the compiler to call."""


# ---- hooks ---------------------------------------------------------------------------------------


def test_the_page_names_every_hook() -> None:
    section = PAGE.partition("## Every hook")[2]
    parts = section.partition("| method | says |")
    flags, methods = (re.findall(r"^\| `(\w+)`", part, re.MULTILINE) for part in parts[::2])
    assert tuple(flags) == FLAGS
    public = {name for name in {**vars(Primitive), **vars(Hooks)} if not name.startswith("_")}
    assert set(methods) == public - {*FLAGS} - DERIVED
    assert public >= DERIVED


def test_flags_are_all_the_class_attributes_that_are_true_or_false() -> None:
    found = [name for name, kind in Hooks.__annotations__.items() if kind == "ClassVar[bool]"]
    assert tuple(found) == FLAGS


def test_what_a_primitive_overrides_is_a_hook() -> None:
    """No class has a public method that only some other file knows."""
    inherited = {*dir(Primitive), *dir(Pattern), "name", "__doc__"}
    for cls in BY_NAME.values():
        fields = set(cls.__dataclass_fields__)
        own = {name for name in vars(cls) if not name.startswith("_")}
        assert own <= inherited | fields, cls.__name__


# ---- steps ---------------------------------------------------------------------------------------


def apply(folder: Path, diff: str) -> None:
    """Insert the `+` lines of a page's diff after the line above each, which the file has once."""
    name, *lines = diff.splitlines()
    path = folder / name.removeprefix("--- ")
    text = path.read_text(encoding="utf-8").splitlines()
    place = -1
    for line in lines:
        if line.startswith("+"):
            place += 1
            text.insert(place, line[1:])
        else:
            assert text.count(line[1:]) == 1, f"{name}: {line!r}"
            place = text.index(line[1:])
    path.write_text("\n".join(text) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository after the steps of the page."""
    folder = tmp_path_factory.mktemp("copy")
    for name in COPIED:
        ignored = shutil.ignore_patterns("__pycache__", "node_modules")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in COPIED_FILES:
        shutil.copy(ROOT / name, folder / name)
    block = re.search(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert block
    (folder / "bslang/patterns/latter.py").write_text(block[1], encoding="utf-8")
    for diff in re.findall(r"^   ```diff\n(.*?)^   ```$", PAGE, re.MULTILINE | re.DOTALL):
        apply(folder, re.sub(r"^   ", "", diff, flags=re.MULTILINE))
    for script in ("docs/generate.py", "editors/generate_textmate.py"):  # make docs
        python(folder, script)
    return folder


def python(folder: Path, *arguments: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(folder), "BSLANG_EXAMPLES": "0.1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=env, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


CONCERNED = {
    "test_stability.py": "canonical_text or forms_have_everything",
    "test_strategies.py": "every_primitive_is_in or primitive_is_written",
    "test_resolve.py": "rows_meet_columns",
    "test_architecture.py": "primitives_do_not_import",
    "test_editors.py": "words_of_the_language or grammar_file or each_word",
    "test_editors_language.py": "documents_every_primitive",
    "test_docs.py": "made_pages or every_picture",
}
"""Tests which go through the primitives, or compare files that are made from them, by their names."""


def test_who_follows_the_page_leaves_the_tests_green(copy: Path) -> None:
    files = [f"tests/{file}" for file in CONCERNED]
    chosen = " or ".join(CONCERNED.values())
    # One run also pins the new digest, as the page says; the next test sees that it changes no other.
    options = ("-q", "-x", "-rA", "-p", "no:cacheprovider", "--update-golden", "-k", chosen)
    out = python(copy, "-m", "pytest", *files, *options)
    passed = re.findall(r"^PASSED tests/(\w+\.py)::", out, re.MULTILINE)
    assert set(passed) == set(CONCERNED)
    assert "[latter]" in out


def test_the_new_primitive_is_drawn_and_known(copy: Path) -> None:
    text = """
from hypothesis import find
from grammar import named
from bslang import compiler
from bslang.syntax.source import Source
written = find(named("latter"), lambda text: True)
print(written, compiler.resolve(Source("<test>", written)).pattern)
"""
    env = f"import sys; sys.path.insert(0, 'tests')\n{text}"
    assert python(copy, "-c", env).split() == ["latter(1)", "latter(1)"]
    golden = (copy / "tests/golden/digests.json").read_text(encoding="utf-8")
    assert '"latter(2)"' in golden
    kept = (ROOT / "tests/golden/digests.json").read_text(encoding="utf-8")
    added = [line for line in golden.splitlines() if line not in kept.splitlines()]
    assert len(added) == 3, "what was pinned before stays"
