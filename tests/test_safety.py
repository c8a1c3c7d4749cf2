"""What bslang never does: evaluate text, unpickle, run a shell, or run what lies beside a spec."""

from __future__ import annotations

import ast
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bslang.cache import unsealed

PACKAGE = Path(__file__).resolve().parent.parent / "bslang"
FILES = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}

EVALUATES = {"eval", "exec", "__import__", "execfile"}
UNSAFE_MODULES = {"pickle", "marshal", "shelve", "dill", "joblib", "code", "codeop", "runpy", "pty"}
OF_OS = {"system", "popen", "startfile", "fork", "forkpty", "posix_spawn", "posix_spawnp"}
UNSAFE_OPTIONS = {("shell", True), ("allow_pickle", True), ("weights_only", False)}

ONLY_IN = {
    "subprocess": {"runtime/cpu/build.py", "gpu/inspect.py"},  # the C++ compiler, and disassemblers
    # What that compiler built.
    "ctypes": {f"runtime/cpu/{name}.py" for name in ("arguments", "launch", "library")},
    "importlib.util": {"generated.py"},  # generated modules
}
"""What runs other code has a home."""


def unsafe(text: str) -> Iterator[str]:
    """What a Python file does that no file of the package may."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Name(id=name) if name in EVALUATES:
                yield name
            case ast.Import(names=names):
                yield from (n.name for n in names if n.name.split(".")[0] in UNSAFE_MODULES)
            case ast.ImportFrom(module=str(name)) if name.split(".")[0] in UNSAFE_MODULES:
                yield name
            case ast.ImportFrom(module="os", names=names):
                yield from (f"os.{n.name}" for n in names if _of_os(n.name))
            case ast.Attribute(value=ast.Name(id="os"), attr=name) if _of_os(name):
                yield f"os.{name}"
            case ast.Attribute(value=ast.Name(id="builtins"), attr=name) if name in EVALUATES:
                yield f"builtins.{name}"
            case ast.keyword(arg=str(name), value=ast.Constant(value=value)):
                if any(name == option and value is given for option, given in UNSAFE_OPTIONS):
                    yield f"{name}={value}"
            case ast.keyword(arg="shell" | "allow_pickle" as name):
                yield f"{name} that is computed"
            case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr="load")):
                yield "torch.load"
            case ast.Call(func=ast.Attribute(attr="from_string")):
                yield "a template made of a text"


def _of_os(name: str) -> bool:
    return name in OF_OS or name.startswith(("exec", "spawn"))


def test_the_package_evaluates_and_unpickles_nothing() -> None:
    found = {
        f"{file}: {what}"
        for file, path in FILES.items()
        for what in unsafe(path.read_text("utf-8"))
    }
    assert not found


@pytest.mark.parametrize(
    "line",
    [
        "eval('1')", "f = exec", "import pickle", "import pickle as p", "from marshal import loads",
        "from os import system", "os.system('true')", "os.execv('a', [])", "builtins.eval('1')",
        "subprocess.run('true', shell=True)", "run('true', shell=flag)", "np.load(f, allow_pickle=True)",
        "torch.load(f)", "x.load(f, weights_only=False)", "env.from_string('{{ x }}')",
    ],
)  # fmt: skip
def test_the_test_above_sees(line: str) -> None:
    assert list(unsafe(line))


@pytest.mark.parametrize("module", ONLY_IN)
def test_what_runs_other_code_has_a_home(module: str) -> None:
    found = set()
    for file, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [n.name for n in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [str(node.module), *(f"{node.module}.{n.name}" for n in node.names)]
            found |= {file for name in names if name == module or name.startswith(f"{module}.")}
    assert found == ONLY_IN[module]


# ---- a spec's neighbours -------------------------------------------------------------------------

NEIGHBOURS = """
sitecustomize usercustomize conftest numpy lark jinja2 torch triton typer json typing bslang rich
filelock networkx spec table matplotlib
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a spec, its table, and modules that leave a trace when they are run."""
    import numpy as np

    made = tmp_path / "specs"
    made.mkdir()
    trace = f"open({str(tmp_path / 'harm')!r}, 'a').write(__name__)\nraise SystemExit('harmed')\n"
    for name in NEIGHBOURS.split():
        (made / f"{name}.py").write_text(trace, encoding="utf-8")
    (made / "matplotlibrc").write_text("backend: module://spec\n", encoding="utf-8")
    np.save(made / "mask.npy", np.eye(4, dtype=bool))
    (made / "common.bsl").write_text("near = window(3)", encoding="utf-8")
    text = 'block 16\nimport "common.bsl"\nlayout = table("mask.npy") | near'
    (made / "spec.bsl").write_text(text, encoding="utf-8")
    return made


COMMANDS = {
    command: f"import sys; from bslang.cli.main import main; sys.argv = ['bslang', {arguments}]; main()"
    for command, arguments in {
        "check": "'check', 'spec.bsl'",
        "show": "'show', 'spec.bsl', '--seq-len', '64'",
        "compile": "'compile', 'spec.bsl', '-o', 'out'",
    }.items()
}
COMMANDS["load"] = "import bslang; assert bslang.load('spec.bsl', target='torch').graph(64)"


@pytest.mark.parametrize("command", COMMANDS)
def test_what_lies_beside_a_spec_is_not_run(command: str, folder: Path) -> None:
    """As the program is started: from a script elsewhere, in the folder of the spec."""
    script = folder.parent / "bin" / "program"
    script.parent.mkdir()
    script.write_text(COMMANDS[command], encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not (folder.parent / "harm").exists()


def test_what_lies_there_would_be_seen(folder: Path) -> None:
    """Where Python itself looks into the current folder, as for `python -c` and `python -m`."""
    subprocess.run(
        [sys.executable, "-c", "import numpy"], cwd=folder, capture_output=True, check=False
    )
    assert (folder.parent / "harm").read_text() == "numpy"


# ---- the cache of the grammar --------------------------------------------------------------------


class Harmful:
    """Unpickling it makes a folder: the test would see it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    "content", ["a pickle", "{}", "[1, 2]", '{"data": {"options": {}}, "memo": {}}', "a half"]
)
def test_a_damaged_cache_of_the_grammar_is_made_again(content: str, tmp_path: Path) -> None:
    env = os.environ | {"BSLANG_CACHE_DIR": str(tmp_path)}
    program = "from bslang import compiler; from bslang.syntax.source import Source; "
    program += "assert str(compiler.resolve(Source('x', 'window(3)')).pattern) == 'window(3)'"

    def run() -> None:
        done = subprocess.run(
            [sys.executable, "-c", program], env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr

    run()
    (file,) = (tmp_path / "grammar").iterdir()
    good = file.read_bytes()
    bad = {"a pickle": pickle.dumps(Harmful(tmp_path / "harm")), "a half": good[: len(good) // 2]}
    file.write_bytes(bad.get(content, content.encode()))
    run()
    assert unsealed(file) is not None  # not as before: Lark numbers its states in any order
    assert not (tmp_path / "harm").exists()


# ---- dependencies --------------------------------------------------------------------------------

ROOT = PACKAGE.parent


def declared() -> dict[str, set[str]]:
    """The dependencies of pyproject.toml, by extra; "" for those of the package itself."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = text[text.index("\ndependencies") : text.index("[project.scripts]")]
    found = re.findall(r"^([a-z]+) = \[(.*?)\](?= *(?:#.*)?$)", block, re.MULTILINE | re.DOTALL)
    names = {extra: re.findall(r'"([a-z][a-z0-9-]*)[<>=;[]', listed) for extra, listed in found}
    return {"" if extra == "dependencies" else extra: set(of) for extra, of in names.items()}


def test_every_dependency_has_its_reason() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (?:Core|Extra: (\w+))$", page, flags=re.MULTILINE)[1:]
    said = {
        extra or "": set(re.findall(r"^\| ([a-z][a-z0-9-]*) \| .+ \|$", text, re.MULTILINE))
        - {"package"}
        for extra, text in zip(parts[::2], parts[1::2], strict=True)
    }
    assert said == declared()
    assert {"numpy", "networkx", "lark"} < said[""] and len(said) > 8
    assert {"torch", "triton"} == said["torch"] and not said["torch"] & said[""]


def test_every_dependency_is_pinned_for_development() -> None:
    pinned = re.findall(
        r"^([\w-]+)==\S+$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE
    )
    names = {name.lower().replace("_", "-") for name in pinned}
    assert set().union(*declared().values()) - {"bslang"} <= names
