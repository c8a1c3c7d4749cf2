"""The wheel holds all that bslang needs: it works from another folder, where no checkout can be seen."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from bslang._version import __version__
from bslang.missing import OPTIONAL

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel built from this tree, by the tools of the development environment."""
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed wheel and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--no-compile"]
    done = subprocess.run(
        [*command, "--target", folder, wheel], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def python(
    installed: Path, folder: Path, *arguments: str, given: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run Python with the installed wheel and the environment's libraries, but not its checkout.

    given: its standard input.
    """
    # Without site (-S), the environment's editable install is not on the path; the libraries are.
    paths = [str(installed), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
    return subprocess.run(
        [sys.executable, "-S", *arguments],
        cwd=folder, env=env, input=given, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_what_is_inside(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert wheel.name == f"bslang-{__version__}-py3-none-any.whl"
    for folder, pattern in (
        ("grammar", "*.lark"),
        ("templates", "**/*.jinja"),
        ("bslang", "**/*.py"),
        ("bslang", "std/*.bsl"),
        ("bslang", "runtime/cpu/*.cpp"),
        ("bslang", "runtime/cpu/include/*.h"),
    ):
        files = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).glob(pattern)}
        assert files
        assert {name if folder == "bslang" else f"bslang/{name}" for name in files} <= inside
    assert "bslang/py.typed" in inside
    tops = {name.split("/")[0] for name in inside}
    assert tops == {"bslang", f"bslang-{__version__}.dist-info"}
    assert not [name for name in inside if "__pycache__" in name or name.endswith((".so", ".orig"))]


def test_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = f"bslang-{__version__}.dist-info"
        metadata = archive.read(f"{info}/METADATA").decode()
        entries = archive.read(f"{info}/entry_points.txt").decode()
        assert archive.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert "bslang = bslang.cli.main:main" in entries
    needed = re.findall(r"^Requires-Dist: ([\w-]+)(.*)$", metadata, re.MULTILINE)
    core = {name: version for name, version in needed if "extra ==" not in version}
    assert core.keys() >= {"lark", "networkx", "jinja2", "numpy", "typer", "rich"}
    assert not core.keys() & OPTIONAL.keys()
    assert all(">=" in version and "==" not in version for version in core.values())
    for name, (version, extra) in OPTIONAL.items():
        assert any(
            given.startswith(f">={version}") and f"extra == '{extra}'" in given.replace('"', "'")
            for package, given in needed
            if package == name
        ), name
    assert any(name == "triton" and "sys_platform == 'linux'" in of for name, of in needed)
    assert "License-Expression: Apache-2.0" in metadata


def test_it_compiles_and_runs_where_there_is_no_checkout(installed: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "examples" / "bigbird.bsl", tmp_path)
    where = python(installed, tmp_path, "-c", "import bslang; print(bslang.__file__)")
    assert where.stdout.strip() == str(installed / "bslang" / "__init__.py")

    checked = python(installed, tmp_path, "-m", "bslang", "check", "bigbird.bsl")
    assert (checked.returncode, checked.stderr) == (0, "")
    listed = python(installed, tmp_path, "-m", "bslang", "list")
    assert (listed.returncode, listed.stderr) == (0, "") and "std/natten.bsl" in listed.stdout
    made = python(
        installed, tmp_path, "-m", "bslang", "compile", "bigbird.bsl:bigbird", "-o", "out"
    )
    assert (made.returncode, made.stderr) == (0, "")
    assert "out/bigbird.py" in made.stdout.splitlines()

    (tmp_path / "use.py").write_text(
        "import sys, torch, bslang\n"
        "sys.path.insert(0, 'out')\n"
        "import bigbird\n"
        "q, k, v = torch.randn(3, 1, 2, 200, 16)\n"
        "same = bslang.load('bigbird.bsl:bigbird', target='torch')(q, k, v)\n"
        "assert bigbird.attention(q, k, v).isclose(same, atol=1e-5).all()\n",
        encoding="utf-8",
    )
    used = python(installed, tmp_path, "use.py")
    assert (used.returncode, used.stderr) == (0, "")


def test_it_compiles_without_torch(installed: Path, tmp_path: Path) -> None:
    """What `pip install bslang` brings, as tests/test_missing.py has it for every command."""
    commands = [["compile", "bigbird", "-o", "out"], ["-c", "import bslang; bslang.Layout"]]
    program = str(ROOT / "tests" / "without.py")
    done = python(installed, tmp_path, program, ",".join(OPTIONAL), given=json.dumps(commands))
    assert done.returncode == 0, done.stderr
    compiled, python_error = json.loads(done.stdout)
    assert compiled[0] == 0 and "out/bigbird.py" in compiled[1].splitlines()
    assert python_error[2].endswith('run: pip install "bslang[torch]"\n')
