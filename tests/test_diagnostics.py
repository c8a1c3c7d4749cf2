"""What a user reads when a spec is wrong: every case of tests/cases, to the letter.

A case is a program, a line of `=====` with what the command line would get beside the file, and the
message with its exit status. `pytest --update-golden` writes the messages anew.
"""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest

from bslang import compiler
from bslang.budget import limited
from bslang.errors import BslangError
from bslang.limits import MAX_ERRORS
from bslang.syntax.codes import CODES
from bslang.syntax.diagnostics import SpecError
from bslang.syntax.source import Source

CASES = sorted((Path(__file__).parent / "cases").glob("*.txt"))
MARK = re.compile(r"^=====(.*)\n", re.MULTILINE)

NOT_HERE = {"E001", "E002", "E190", "E192", "E212", "E213", "E310"}
"""Codes of several files, or of one that is missing, no text, or too large to keep: test_cli.py,
test_imports.py and test_hostile.py."""


def _options(line: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", nargs="?")
    parser.add_argument("-D", dest="define", action="append", default=[])
    parser.add_argument("--block")
    parser.add_argument("--seq-len", type=int)
    return parser.parse_args(shlex.split(line))


def outcome(program: str, line: str) -> str:
    """What compiling a program (and lowering it, where a length is given) comes to."""
    options = _options(line)
    sides = options.block and tuple(map(int, options.block.split("x")))
    try:
        with limited():
            resolved = compiler.resolve(
                Source("spec.bsl", program),
                options.name,
                block=sides,
                parameters=dict(option.split("=", 1) for option in options.define),
            )
            if options.seq_len:
                compiler.lower(resolved, options.seq_len, options.seq_len)
    except BslangError as error:
        return f"{error}\n\nexit status {error.exit_status}\n"
    return "no error\n"


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: Path, request: pytest.FixtureRequest) -> None:
    program, line, expected = MARK.split(path.read_text(encoding="utf-8"))
    message = outcome(program, line)
    if request.config.getoption("--update-golden"):
        path.write_text(f"{program}====={line}\n{message}", encoding="utf-8")
    else:
        assert message == expected


def test_every_code_has_a_case() -> None:
    texts = "".join(path.read_text(encoding="utf-8") for path in CASES)
    errors = {code for code in CODES if code.startswith("E")}
    assert set(re.findall(r"^error\[(E\d+)\]", texts, re.MULTILINE)) == errors - NOT_HERE


def test_messages_name_no_internals() -> None:
    """No class, field or terminal of the compiler's own: only what a user has written or can look up."""
    texts = "".join(path.read_text(encoding="utf-8") for path in CASES)
    assert not re.findall(
        r"__ANON|RPAR|LPAR|Count\(|Range\(|Symbol|<class|Traceback|NoneType", texts
    )


def test_only_the_first_errors_are_shown() -> None:
    """As many as MAX_ERRORS are all of them; one more ends in the note, whichever stage finds them."""
    for wrong in ("a{} = quux", "a{} = window(3) |", 'import "m{}.bsl"'):
        lines = [wrong.format(i) for i in range(3000)]
        error = refused("\n".join(lines[:MAX_ERRORS]))
        assert error.complete and len(error.diagnostics) == MAX_ERRORS
        for count in (MAX_ERRORS + 1, 3000):
            error = refused("\n".join(lines[:count]))
            assert not error.complete and len(error.diagnostics) == MAX_ERRORS + 1
            *_, note = str(error).split("\n\n")
            said = "Only the first 100 errors are shown. Fix these and run again."
            assert note == f"error[E192]: {said}\n --> spec.bsl"


def refused(program: str) -> SpecError:
    with pytest.raises(SpecError) as refusal, limited():
        compiler.resolve(Source("spec.bsl", program))
    return refusal.value
