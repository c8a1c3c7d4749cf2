"""Every command and program in the documentation runs, and prints what the page says it prints."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from unittest import mock

import pytest

from bslang.cli.main import main
from bslang.codegen.cpu import header
from bslang.syntax.codes import CODES

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs"))
import generate  # noqa: E402  # a script beside the pages, not a package

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[tuple[str, str]]:
    """(command, output) of a console block: `$ ` begins a command, `> ` goes on with it."""
    found: list[tuple[list[str], list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append(([line[2:]], []))
        elif (line.startswith("> ") or line == ">") and not found[-1][1]:
            found[-1][0].append(line[2:])
        else:
            found[-1][1].append(line)
    return [("\n".join(command), "\n".join(output)) for command, output in found]


def plain(text: str) -> str:
    """Text without blanks at the ends of lines."""
    return "\n".join(line.rstrip() for line in text.splitlines()).strip()


def renew(page: Path, before: str, after: str) -> None:
    """Replace the output of a command, which must stand on the page once."""
    text = page.read_text(encoding="utf-8")
    assert text.count(before) == 1, f"{page.name} has this output more than once: {before}"
    page.write_text(text.replace(before, after), encoding="utf-8")


def shell(command: str) -> str:
    done = subprocess.run(
        ["bash", "-c", command], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    return done.stdout


def arguments(command: str) -> list[str] | None:
    """Those of a command that is bslang's alone; None where a shell has more to do."""
    words = list(shlex.shlex(command, posix=True, punctuation_chars=True))
    alone = words[0] == "bslang" and not any(set(word) <= set("|&;<>()\n") for word in words)
    return shlex.split(command)[1:] if alone else None


def printed(given: list[str]) -> str:
    """What `bslang` prints, in this process: starting another takes longer than most commands."""
    said = io.TextIOWrapper(io.BytesIO(), "utf-8")
    with (
        mock.patch.object(sys, "argv", ["bslang", *given]),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
        contextlib.suppress(SystemExit),
    ):
        main()
    said.flush()
    return said.buffer.getvalue().decode()  # type: ignore[attr-defined,no-any-return]


ONE_RANK = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
"""What torchrun tells the programs of a page: they are all ranks that there are."""

SERVE = """
def serve():
    import json, sys, __main__
    for block in sys.stdin:
        exec(json.loads(block), vars(__main__))
        print("\\0", flush=True)
serve()
"""
"""A program that runs blocks as they come, and prints a line of its own after each."""


class Program:
    """The Python blocks of a page as one program: what commands between them make is there by then."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVE], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert self._process.stdin and self._process.stdout
        self._blocks, self._printed = self._process.stdin, self._process.stdout

    def run(self, block: str) -> None:
        self._blocks.write(json.dumps(block) + "\n")
        self._blocks.flush()
        printed = []
        for line in self._printed:
            if line.endswith("\0\n"):
                return
            printed.append(line)
        raise AssertionError("".join(printed))

    def end(self) -> None:
        out, _ = self._process.communicate()
        assert self._process.returncode == 0, out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page(
    page: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks of a page, in order, in one folder; its Python blocks are one program.

    With --update-golden, what a command prints now takes the place of what the page says.
    """
    update = request.config.getoption("--update-golden")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    monkeypatch.setenv("PATH", path)
    monkeypatch.setenv("COLUMNS", "100")
    for name, value in ONE_RANK.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    program = None
    for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if language == "console":
            for command, expected in commands(block):
                given = arguments(command)
                found = plain(shell(command) if given is None else printed(given))
                if update and found != plain(expected):
                    renew(page, f"{expected}\n", f"{found}\n")
                else:
                    assert found == plain(expected), command
        elif language == "python":
            program = program or Program()
            program.run(block)
    if program:
        program.end()


def test_links_lead_somewhere() -> None:
    """Those to files; tests do not look at other sites."""
    for page in PAGES:
        text = FENCE.sub("", page.read_text(encoding="utf-8"))  # C++ has [&](...)
        for target in re.findall(r"\]\((?!https://)([^)#]+)", text):
            assert (page.parent / target).exists(), f"{page.name} points to {target}"


@pytest.mark.parametrize("page", [*generate.PAGES, "README.md"])
def test_made_pages_and_pictures_are_what_the_code_says(page: str) -> None:
    made = generate.front() if page == "README.md" else generate.files(page)
    for name, text in made.items():
        file = ROOT / "docs" / name
        assert file.exists() and file.read_text(encoding="utf-8") == text, "run `make docs`"


def test_every_picture_is_on_a_page() -> None:
    shown = {
        str((page.parent / target).resolve())
        for page in PAGES
        for target in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    }
    pictures = {str(path) for path in (ROOT / "docs" / "images").rglob("*.svg")}
    assert pictures and pictures <= shown


GOLDEN = ROOT / "tests" / "golden"
EXCERPTS = [
    (".py" if language == "py" else ".cpp", text)
    for language, text in FENCE.findall((ROOT / "docs" / "kernels.md").read_text(encoding="utf-8"))
    if language in ("py", "cpp")
]


@pytest.mark.parametrize(
    ("suffix", "excerpt"), EXCERPTS, ids=[e.split("\n")[0] for _, e in EXCERPTS]
)
def test_kernels_page_shows_what_is_generated(suffix: str, excerpt: str) -> None:
    """Line by line, wherever it is in the file, and however deep."""
    text = "".join(
        (GOLDEN / f"test_generated_files_{name}" / f"{name}{suffix}.txt").read_text("utf-8")
        for name in ("streaming", "packed")
    )
    made = (text + header() if suffix == ".cpp" else text).splitlines()
    lines = excerpt.splitlines()
    starts = [i for i, line in enumerate(made) if line.strip() == lines[0]]
    found = (textwrap.dedent("\n".join(made[i : i + len(lines)])) for i in starts)
    assert "\n".join(lines) in found, (
        "take it from the golden file again, and read what is said of it"
    )


def test_kernels_page_has_excerpts_of_both_files() -> None:
    assert {suffix for suffix, _ in EXCERPTS} == {".py", ".cpp"}


def test_every_code_is_documented() -> None:
    used = set()
    for file in (ROOT / "bslang").rglob("*.py"):
        if file.name != "codes.py":
            used |= set(re.findall(r"\"([EW]\d{3})\"", file.read_text(encoding="utf-8")))
    assert used == set(CODES)


def test_reliability_names_its_tests() -> None:
    """Each test that the page names exists, and it names all tests of faults and of numbers at the edge."""
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", page))
    tests = {
        path.stem: set(
            re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        )
        for path in (ROOT / "tests").glob("test_*.py")
    }
    assert named <= set().union(*tests.values())
    for stem, found in tests.items():
        if stem.startswith(("test_faults", "test_numerics")):
            assert found <= named, f"docs/reliability.md does not name {sorted(found - named)}"


def test_verification_names_its_tests() -> None:
    page = (ROOT / "docs" / "verification.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:tests/)?(test_\w+\.py)`", page))
    assert len(named) > 10
    assert [name for name in named if not (ROOT / "tests" / name).exists()] == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_pages_begin_with_the_question_that_they_answer(page: Path) -> None:
    """All but the first page; and each has an example."""
    text = re.sub(r"<!--.*?-->\s*", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    title, first = text.split("\n\n")[:2]
    assert title.startswith("# ")
    assert "?" in first or page.name == "index.md"
    assert FENCE.search(text)
