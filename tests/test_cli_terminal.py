"""Names of files and comments of specs give a terminal no orders, whatever prints them."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from test_cli import Run, run

from bslang.cli.terminal import Printable

__all__ = ["run"]  # the fixture

ORDERS = "\x1b]0;owned\x07\x1b[31m\x1b[2J\x9b5n\u202e"
NAME = f"a{ORDERS}b.bsl"
SPEC = f"block 16\n# What it is: {ORDERS}.\nnear  =  last(2) # {ORDERS}\nfar = near | window(3)\n"

COMMANDS = [
    ["check", NAME],
    ["check", f"no{NAME}"],
    ["show", f"{NAME}:near", "--seq-len", "64"],
    ["show", f"{NAME}:none"],
    ["stats", f"{NAME}:near", "--seq-len", "64"],
    ["diff", f"{NAME}:near", f"{NAME}:far", "--seq-len", "64"],
    ["why", f"{NAME}:near", "3", "2"],
    ["list", NAME],
    ["fmt", "--diff", NAME],
    ["fmt", "--check", NAME],
    ["compile", f"{NAME}:near", "-o", f"out{ORDERS}", "--target", "torch"],
    ["compile", f"{NAME}:near", "--emit", "tree"],
    ["import", f"no{ORDERS}.json"],
    ["explorer", f"{NAME}:near", "-o", f"out{ORDERS}.html"],
]


def orders_in(text: str) -> set[str]:
    return {char for char in text if not char.isprintable() and char not in "\n\t"}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: ascii(command[:1]))
def test_no_command_prints_them(command: list[str], run: Run) -> None:
    Path(NAME).write_text(SPEC, encoding="utf-8")
    done = run(*command)
    assert done.status in (0, 1), done.err
    assert done.out or done.err
    assert not orders_in(done.out + done.err)


def test_errors_in_a_file_of_such_a_name(run: Run) -> None:
    Path(NAME).write_text(f"near = lst(2)  # {ORDERS}\n", encoding="utf-8")
    done = run("check", NAME)
    assert done.status == 1 and "a?]0;owned??[31m" in done.err
    assert not orders_in(done.err)


def test_data_for_programs_stays_as_it_is(run: Run) -> None:
    """A formatted text is data, and a comment of it may have any letter."""
    text = "block 16\n\n# \x1b[31m\nnear = last(2)\n"
    Path("a.bsl").write_text(text, encoding="utf-8")
    assert run("fmt", "-", stdin=text.encode()).out == text
    assert run("fmt", "--check", "a.bsl").status == 0


def test_on_a_terminal(tmp_path: Path) -> None:
    """Colours are ours; of the spec's own letters none is obeyed."""
    (tmp_path / NAME).write_text(SPEC, encoding="utf-8")
    for command in (["list", NAME], ["show", f"{NAME}:near", "--seq-len", "64"], ["fmt", "-"]):
        ours, theirs = pty.openpty()
        with (tmp_path / NAME).open("rb") as spec:
            process = subprocess.Popen(
                [sys.executable, "-m", "bslang", *command], cwd=tmp_path, stdin=spec,
                stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm-256color"},
            )  # fmt: skip
        os.close(theirs)
        said = b""
        while True:
            try:
                more = os.read(ours, 65536)
            except OSError:  # as Linux says that the other end is closed
                break
            if not more:
                break
            said += more
        os.close(ours)
        assert process.wait(timeout=60) == 0, said
        text = said.decode()
        assert "near" in text
        for order in ("\x1b]0", "\x07", "\x1b[2J", "\x9b", "\u202e"):
            assert order not in text, command


def test_the_stream_is_one() -> None:
    under = io.StringIO()
    stream = Printable(under)
    assert stream.write("a\x1b[0m\tb\n") == 8
    stream.writelines(["\r", "ä层\n"])
    assert under.getvalue() == "a?[0m\tb\n?ä层\n"
    assert stream.encoding == under.encoding and not stream.isatty()
