"""Without an optional package all else works, and what needs it names the command that installs it."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from bslang.missing import OPTIONAL, MissingPackageError, installed, needs

ROOT = Path(__file__).resolve().parent.parent
SPEC = "window(3) | random(1, seed=7)"
WORK = {
    "check": ["check", "a.bsl"],
    "compile": ["compile", SPEC, "-o", "out"],
    "diff": ["diff", SPEC, SPEC],
    "emit": ["compile", SPEC, "--emit", "tables", "--seq-len", "256"],
    "explain": ["explain", "E101"],
    "explorer": ["explorer", SPEC, "-o", "a.html", "--seq-len", "512"],
    "fmt": ["fmt", "--check", "a.bsl"],
    "graph": ["graph", SPEC, "--seq-len", "256"],
    "import": ["import", "config.json"],
    "list": ["list"],
    "server": ["-c", "from bslang.editors import server"],
    "show": ["show", SPEC],
    "stats": ["stats", SPEC, "--seq-len", "1024", "--layers", "2"],
    "svg": ["show", SPEC, "--svg", "a.svg"],
    "version": ["--version"],
    "why": ["why", SPEC, "5", "3"],
    "python": ["-c", "import bslang; bslang.__version__, bslang.SpecError, bslang.TargetError"],
}
"""What works without any tensor, by a name."""

TENSORS = {
    "ahead of time": ["compile", SPEC, "-o", "gpu", "--target", "cuda:90"],
    "attention": ["-c", "import bslang; bslang.attention"],
    "from_dense": ["-c", "import bslang, numpy; bslang.from_dense(numpy.eye(2, dtype=bool), 1)"],
    "from_flex": ["-c", "import bslang; bslang.from_flex(None)"],
    "importer": ["-c", "import bslang.importer"],
    "inspect": ["inspect", SPEC],
    "load": ["-c", "import bslang; bslang.load('a.bsl')"],
    "measure": ["stats", SPEC, "--seq-len", "256", "--measure"],
    "nn": ["-c", "import bslang.nn"],
    "transformers": ["-c", "import bslang.integrations.transformers"],
    "tune": ["compile", SPEC, "-o", "out", "--tune", "256"],
    "verify": ["verify", SPEC],
}

Ran = dict[str, tuple[int, str, str]]


def run(packages: str, commands: dict[str, Sequence[str]], folder: Path) -> Ran:
    """Statuses and outputs of commands without some packages, in one process in a folder."""
    (folder / "a.bsl").write_text(f"{SPEC}\n", encoding="utf-8")
    config = {"model_type": "mistral", "sliding_window": 5}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "without.py", packages],
        input=json.dumps([*commands.values()]),
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(zip(commands, json.loads(done.stdout), strict=True))


def is_said(error: str, package: str) -> bool:
    """Whether an error is one line that names the command, or ends so in Python."""
    *before, last = error.strip().splitlines()
    subject = re.escape(f"this {needs(package)}")
    if before and before[0].startswith("Traceback"):
        return re.fullmatch(rf"bslang\.missing\.MissingPackageError: {subject}", last) is not None
    return not before and re.match(rf"error: {subject}", last) is not None


def test_without_torch(tmp_path: Path) -> None:
    found = run("torch,triton", WORK | TENSORS, tmp_path)
    for name in WORK:
        assert (found[name][0], found[name][2]) == (0, ""), (name, found[name])
    assert "attention" in (tmp_path / "out" / "layout.py").read_text(encoding="utf-8")
    for name in TENSORS:
        status, _, error = found[name]
        assert status == 1 and is_said(error, "torch"), (name, found[name])
    assert "layout.py is written" in found["tune"][2]


def test_without_the_other_packages(tmp_path: Path) -> None:
    """torch is there; each of the others is missing where it is needed."""
    layout = "import bslang; a = bslang.compile('causal', target='torch'); "
    wanted = {
        "triton": ["inspect", SPEC],
        "transformers": ["-c", "import bslang.integrations.transformers"],
        "matplotlib": ["show", SPEC, "--png", "a.png"],
        "pygls": ["lsp"],
        "scipy": ["-c", f"{layout}a.to_scipy(64)"],
        "safetensors": ["-c", f"{layout}a.to_safetensors('a.safetensors', 64)"],
    }
    (tmp_path / "model.json").write_text('{"model_type": "cwm", "sliding_window": 5}', "utf-8")
    more = {
        "ahead": ["compile", SPEC, "-o", "gpu", "--target", "cuda:90", "--json"],
        "config": ["import", "model.json"],
        "runs": ["-c", f"{layout}import torch; a(*torch.zeros(3, 1, 1, 8, 4)).sum().item()"],
    }
    hidden = ",".join(name for name in OPTIONAL if name != "torch")
    found = run(hidden, wanted | more, tmp_path)
    for package in wanted:
        status, _, error = found[package]
        said = error.replace("kernels cannot be compiled ahead of time: ", "")
        said = said.replace(needs("lsprotocol"), needs("pygls"))  # one comes with the other
        assert status == 1 and is_said(said, package), (package, found[package])
    assert found["ahead"][0] == 1 and needs("triton") in json.loads(found["ahead"][1])["error"]
    assert found["config"][0] == 1 and needs("transformers") in found["config"][2]
    assert found["runs"] == [0, "", ""]


@pytest.mark.parametrize("package", OPTIONAL)
def test_the_error_says_what_to_install(package: str) -> None:
    """As pyproject.toml has it: the oldest version, and the extra."""
    version, extra = OPTIONAL[package]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(rf"^{extra} = \[(.*?)^\]|^{extra} = \[(.*)\]", project, re.M | re.S)
    assert listed is not None and f'"{package}>={version}' in listed[0]
    with pytest.raises(MissingPackageError) as raised, installed():
        raise ModuleNotFoundError("No module", name=f"{package}.part")
    error = pickle.loads(pickle.dumps(raised.value))
    assert isinstance(error, ImportError) and error.name == package
    assert str(error) == str(raised.value) == f"this {needs(package)}"
    assert str(error).endswith(f'run: pip install "bslang[{extra}]"')


def test_other_modules_are_missing_as_ever() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), installed():
        import no_such_module  # noqa: F401  # type: ignore[import-not-found]  # the point
