"""`make test-floors`: the tests at the oldest versions that pyproject.toml allows, and at the newest.

One environment after another, each under .venv-floors/: made, its packages installed, tests run, and a line
about them written into docs/verification.md. Only what has run has a line.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".venv-floors"
PAGE = ROOT / "docs" / "verification.md"
PACKAGES = ("torch", "numpy", "triton")
PYTHONS = tuple(f"3.{minor}" for minor in range(10, 15))

KERNELS = (
    *("tests/test_triton.py", "tests/test_triton_code.py", "tests/test_strips.py"),
    *("tests/test_grouped.py", "tests/test_aot.py", "tests/test_inspect.py", "tests/test_tune.py"),
)
"""The tests of the Triton kernels."""


@dataclass(frozen=True)
class Environment:
    """A Python and packages at given versions; those that are not given are the newest that fit.

    tests: files, or none for all of them.
    """

    name: str
    python: str
    versions: dict[str, str]
    tests: Sequence[str] = ()

    @property
    def requirements(self) -> list[str]:
        """What pip installs: torch first, as its own Triton comes with it."""
        return [
            f"{name}=={self.versions[name]}" if name in self.versions else name for name in PACKAGES
        ]


def floors() -> dict[str, str]:
    """The oldest version of each package that pyproject.toml allows, as it is written there."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return {name: re.findall(rf'"{name}>=([0-9.]+)', text)[0] for name in PACKAGES}


def environments() -> list[Environment]:
    """All floors at once, each by itself, and the newest of all with every Python."""
    oldest = floors()
    last = PYTHONS[-1]
    return [
        Environment("oldest", PYTHONS[0], oldest),
        Environment("triton", PYTHONS[1], {"triton": oldest["triton"]}, KERNELS),
        Environment("numpy", PYTHONS[1], {"numpy": oldest["numpy"]}),
        *(Environment(f"python{python}", python, {}) for python in PYTHONS[:-1]),
        Environment("newest", last, {}),
    ]


def interpreter(python: str) -> str:
    """The command of a Python, or "" where this machine has none."""
    found = shutil.which(f"python{python}")
    works = found and subprocess.run([found, "--version"], capture_output=True).returncode == 0
    return str(found) if works else ""


def ready(environment: Environment, dev: str) -> Path | None:
    """The Python of an environment with its packages; None where there is no such Python.

    dev: what is installed beside the packages, as pip takes it.
    """
    command = interpreter(environment.python)
    if not command:
        return None
    folder = FOLDER / environment.name
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([command, "-m", "venv", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    for requirement in environment.requirements:
        subprocess.run([*pip, requirement], check=True)
    pins = [one for one in environment.requirements if "==" in one]
    subprocess.run([*pip, *pins, "--editable", dev], check=True, cwd=ROOT)
    return python


ASK = (
    "import platform, numpy, torch, triton; "
    "print(platform.python_version(), torch.__version__, numpy.__version__, triton.__version__, sep='|')"
)


def run(environment: Environment, python: Path, tests: Sequence[str]) -> str:
    """Run tests; the line of the page: versions, what ran, and what came of it."""
    asked = subprocess.run([str(python), "-c", ASK], text=True, stdout=subprocess.PIPE, check=True)
    versions = asked.stdout.strip().split("|")
    for package, found in zip(PACKAGES, versions[1:], strict=True):
        wanted = environment.versions.get(package)
        assert wanted is None or found.startswith(wanted), (package, wanted, found)
    tests = tests or environment.tests
    command = [str(python), "-m", "pytest", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE)
    sys.stdout.write(done.stdout)
    counts = re.findall(r"(\d+) (passed|failed|errors?|skipped)", _last(done.stdout))
    came = ", ".join(f"{number} {what}" for number, what in counts) or "all passed"
    if done.returncode:
        came = f"**{came}**"
    what = "all" if not tests else ", ".join(Path(test).stem for test in tests)
    return f"| {environment.name} | {' | '.join(versions)} | {what} | {came} |"


def _last(output: str) -> str:
    lines = [line for line in output.splitlines() if re.search(r"\d+ (passed|failed)", line)]
    return lines[-1] if lines else ""


BEGIN, END = "<!-- floors -->", "<!-- end of floors -->"
HEAD = "| environment | Python | torch | NumPy | Triton | tests | result |\n|---|---|---|---|---|---|---|"


def recorded(page: str, line: str) -> str:
    """A page with the line of an environment in its table, in place of the one before."""
    before, rest = page.split(BEGIN)
    table, after = rest.split(END)
    name = line.split("|")[1]
    lines = [one for one in table.strip().splitlines()[2:] if one.split("|")[1] != name]
    order = {f" {environment.name} ": at for at, environment in enumerate(environments())}
    lines = sorted([*lines, line], key=lambda one: order.get(one.split("|")[1], len(order)))
    return f"{before}{BEGIN}\n{HEAD}\n" + "\n".join(lines) + f"\n{END}{after}"


def main() -> None:
    known = {environment.name: environment for environment in environments()}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", choices=known, action="append", help="environments; all, if left out"
    )
    parser.add_argument("--tests", nargs="+", default=[], help="test files in place of its own")
    parser.add_argument("--dev", default=".[dev]", help="what is installed of bslang")
    parser.add_argument(
        "--python", type=Path, help="an environment that is ready, in place of a new one"
    )
    given = parser.parse_args()
    failed = []
    for name in given.only or known:
        python = given.python or ready(known[name], given.dev)
        if python is None:
            print(f"{name}: no Python {known[name].python} on this machine")
            failed += (
                [name] if given.only else []
            )  # as CI asks for one: nothing tested is no success
            continue
        line = run(known[name], python, given.tests)
        print(line)
        PAGE.write_text(recorded(PAGE.read_text(encoding="utf-8"), line), encoding="utf-8")
        failed += [name] if "**" in line else []
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
