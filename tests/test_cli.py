"""The command line: data on stdout, messages on stderr, an exit status for whose fault it is."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bslang import compiler
from bslang._version import __version__
from bslang.cli.main import main
from bslang.limits import MAX_ERRORS

SPEC = """\
block 32
near(w = 3) = last(w)
wide(w = 9, s) = window(w, step=s) | _sink
_sink = cols(0)
"""


@dataclass
class Done:
    """What a run of the program came to."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, object]:
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


Run = Callable[..., Done]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """run(*arguments, stdin=b""): the program, in a folder that holds spec.bsl."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    Path("spec.bsl").write_text(SPEC, encoding="utf-8")

    def run(*arguments: str, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "argv", ["bslang", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        status: object = 0
        try:
            main()
        except SystemExit as stop:
            status = stop.code
        assert isinstance(status, int) or status is None
        return Done(status or 0, *capsys.readouterr())

    return run


def names(folder: str | Path = ".") -> list[str]:
    """What lies in a folder."""
    return sorted(path.name for path in Path(folder).iterdir())


# ---- check ---------------------------------------------------------------------------------------


def test_check_names_what_a_file_defines(run: Run) -> None:
    Path("alone.bslang").write_text("near = last(3)\nnear | cols(0)", encoding="utf-8")
    done = run("check", "spec.bsl", "alone.bslang")
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == [
        "spec.bsl: ok; near, wide; block 32x32",
        "alone.bslang: ok; alone, near; block 64x64",
    ]


def test_check_ends_in_a_note_where_errors_are_left_out(run: Run) -> None:
    Path("spec.bsl").write_text("\n".join(f"a{i} = quux" for i in range(3000)), encoding="utf-8")
    done = run("check", "spec.bsl")
    assert done.status == 1 and done.err.count("error[E201]") == MAX_ERRORS
    note = "error[E192]: Only the first 100 errors are shown. Fix these and run again."
    assert done.err.splitlines()[-2:] == [note, " --> spec.bsl"]


def test_check_goes_on_after_a_bad_file(run: Run) -> None:
    Path("bad.bsl").write_text("a = windw(3)\nb = window(4)", encoding="utf-8")
    done = run("check", "bad.bsl", "missing.bsl", "spec.bsl")
    assert done.status == 1
    assert done.out == "spec.bsl: ok; near, wide; block 32x32\n"
    assert [line for line in done.err.splitlines() if line.startswith(("error", " -->", "3 "))] == [
        "error[E201]: unknown name `windw`",
        " --> bad.bsl:1:5",
        "error[E303]: a window of even width 4 has no middle",
        " --> bad.bsl:2:12",
        "error[E001]: no such file",
        " --> missing.bsl",
        "3 errors",
    ]


def test_check_as_json(run: Run) -> None:
    Path("bad.bsl").write_text("\na = windw(3)", encoding="utf-8")
    done = run("check", "--json", "spec.bsl", "bad.bsl", "missing.bsl")
    assert (done.status, done.err) == (1, "")
    assert done.json["checked"] == [
        {"file": "spec.bsl", "layouts": ["near", "wide"], "block": [32, 32]}
    ]
    unknown, missing = done.json["diagnostics"]
    assert unknown == {
        "file": "bad.bsl",
        "line": 2,
        "column": 5,
        "code": "E201",
        "severity": "error",
        "message": "unknown name `windw`",
        "hint": "did you mean `window`?",
        "fix": {
            "title": "Change `windw` to `window`",
            "edits": [
                {
                    "start": {"line": 2, "column": 5},
                    "end": {"line": 2, "column": 10},
                    "text": "window",
                }
            ],
        },
    }
    assert (missing["code"], missing["line"], missing["column"]) == ("E001", None, None)
    assert run("check", "--json", "spec.bsl").json["diagnostics"] == []


def test_check_at_a_length_refuses_what_means_nothing_there(run: Run) -> None:
    spec = b"a = cols(12)\nb = last(3)\nc(w = 4) = rows(w - 20)\n"
    assert run("check", "-", stdin=spec).status == 0
    done = run("check", "-", "--seq-len", "640", stdin=spec)
    assert done.status == 1
    assert done.err.count("error[E401]") == 2
    assert "column 12 of `cols(12)` is out of range for 10 blocks" in done.err
    assert run("check", "-", "--seq-len", "1280", stdin=spec).status == 0


def test_the_layout_named_like_its_file_needs_no_name(run: Run) -> None:
    Path("near.bsl").write_text("far = last(9)\nnear(w = 3) = last(w)\n", encoding="utf-8")
    assert run("show", "near.bsl", "-D", "w=2").out.startswith("near: last(2)\n")
    assert run("show", "near.bsl:far").out.startswith("far: last(9)\n")
    assert run("show", "std/bigbird.bsl").out.startswith("bigbird: window(3) | ")


def test_check_takes_a_block_and_a_name(run: Run) -> None:
    assert run("check", "spec.bsl", "--block", "16").out.endswith("block 16x16\n")
    assert run("check", "spec.bsl", "--block", "16x8").status == 1  # last(w) in blocks
    assert run("check", "spec.bsl:near").status == 0
    assert "`s` of `wide` has no default" in run("check", "spec.bsl:wide").err


def test_a_spec_from_standard_input(run: Run) -> None:
    assert (
        run("check", "-", stdin=b"\xef\xbb\xbfcausal\r\n").out
        == "<stdin>: ok; layout; block 64x64\n"
    )
    assert "not UTF-8" in run("check", "-", stdin=b"\xff").err
    bad = run("show", "-", stdin=b"causl")
    assert (bad.status, bad.out) == (1, "")
    assert "--> <stdin>:1:1" in bad.err


# ---- show and stats ------------------------------------------------------------------------------


def test_show_draws_the_blocks(run: Run) -> None:
    done = run("show", "spec.bsl:near", "--seq-len", "150", "-D", "w=2")
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == [
        "near: last(2)",
        "150 tokens, block 32x32: 5 x 5 blocks",
        "",
        "##........",
        "####......",
        "..####....",
        "....####..",
        "......####",
        "",
        "each cell a block:  .. empty  ++ partial  ## full",
    ]


def test_show_marks_partial_blocks(run: Run) -> None:
    drawn = run(
        "show", "-", "--block", "64x128", "--seq-len", "256", stdin=b"causal"
    ).out.splitlines()
    assert drawn[3:7] == ["++..", "++..", "##++", "##++"]


def test_show_and_stats_say_which_head_and_layer_they_are_of(run: Run) -> None:
    spec = b"heads { 0 -> last(1 + layer); 1: -> all }"
    drawn = run("show", "-", "--seq-len", "128", "--head", "3", "--layer", "2", stdin=spec).out
    assert "128 tokens, block 64x64: 2 x 2 blocks, head 3, layer 2\n" in drawn
    text = run("stats", "-", "--head", "1", stdin=spec).out
    assert "\nhead              1\nlayer             0\n" in text
    assert "\nhead  " not in run("stats", "spec.bsl:near").out  # all of its heads are alike


def test_show_fits_any_length(run: Run) -> None:
    drawn = run("show", "spec.bsl:near", "--seq-len", "1000000").out.splitlines()
    assert all(len(line) <= 100 for line in drawn)
    assert " blocks, at most 0." in drawn[-1]


def test_stats(run: Run) -> None:
    done = run("stats", "spec.bsl:near", "--seq-len", "1000", "--json")
    assert (done.status, done.err) == (0, "")
    found = done.json
    assert (found["name"], found["spec"]) == ("near", "last(3)")
    assert (found["tokens"], found["shape"]) == ([1000, 1000], [32, 32])
    assert found["blocks"] == 3 * 32 - 3
    assert found["density"] == pytest.approx((3 * 32 - 3) / 32**2)
    text = run("stats", "spec.bsl:near", "--seq-len", "1000").out
    assert text.startswith("near: last(3)\n")
    assert "93: 93 full, 0 partial" in text


def test_stats_of_a_long_sequence_are_in_units_that_fit(run: Run) -> None:
    done = run("stats", "spec.bsl:near", "--seq-len", "8000000")
    lines = {line[:18].strip(): line[18:] for line in done.out.splitlines()}
    assert lines["density"] == "0.001% of all blocks"  # 3 of 250,000 a row
    assert lines["forward"] == "0.20 TFLOP per head of 64; dense 16.38 PFLOP"
    assert lines["backward"] == "0.49 TFLOP per head of 64"


# ---- exit statuses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["chek", "spec.bsl"],
        ["check"],
        ["check", "spec.bsl", "-D", "w=3"],
        ["check", "spec.bsl", "--block", "64y"],
        ["check", "spec.bsl", "--block", "64x64x64"],
        ["check", "spec.bsl", "--block", "0"],
        ["check", "spec.bsl", "--block", "9" * 6000],
        ["compile", "spec.bsl:near"],
        ["compile", "spec.bsl:near", "-o", "out", "-D", "w"],
        ["compile", "spec.bsl:near", "-o", "out", "--head-dim", "64"],
        ["compile", "spec.bsl:near", "-o", "out", "--target", "triton", "--dtype", "bf16"],
        ["compile", "spec.bsl:near", "-o", "out", "--target", "cuda:90", "--head-dim", "64;128"],
        ["compile", "spec.bsl:near", "-o", "out", "--seq-len", "64"],
        ["compile", "spec.bsl:near", "--emit", "tables"],
        ["compile", "spec.bsl:near", "--emit", "table", "--seq-len", "64"],
        ["compile", "spec.bsl:near", "--emit", "pattern", "--head", "1"],
        ["compile", "spec.bsl:near", "--emit", "tree", "-D", "w=2"],
        ["compile", "spec.bsl:near", "--emit", "tree", "-o", "out"],
        ["inspect", "spec.bsl:near", "--head-dim", ""],
        ["compile", "spec.bsl:near", "-o", "out", "-D", "3=4"],
        ["show", "spec.bsl:near", "--seq-len", "0"],
        ["show", "spec.bsl:near", "--svg", "-", "--png", "-"],
        ["stats", "spec.bsl:near", "--seq-len", "many"],
        ["stats", "spec.bsl:near", "spec.bsl:wide"],
    ],
    ids=lambda arguments: " ".join(arguments)[:60],
)
def test_wrong_usage_is_2(run: Run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.status == 2
    assert "Usage" in done.err + done.out
    assert not (done.out and arguments)
    assert names() == ["spec.bsl"]


@pytest.mark.parametrize(
    ("arguments", "limit"),
    [
        (["stats", "spec.bsl:near", "--seq-len", "1073741825"], "MAX_LENGTH"),
        (["compile", "spec.bsl:near", "-o", "out", "-D", "w=2 ** 31"], "MAX_NUMBER"),
        (["check", "/dev/zero"], "MAX_FILE_BYTES"),
        (["check", "--json", "/dev/zero"], "MAX_FILE_BYTES"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_limit_is_3(run: Run, arguments: list[str], limit: str) -> None:
    done = run(*arguments)
    assert done.status == 3
    assert limit in done.err + done.out
    assert names() == ["spec.bsl"]


def test_errors_beside_a_limit_are_1(run: Run) -> None:
    assert run("check", "spec.bsl", "/dev/zero", "missing.bsl").status == 1


def test_not_enough_memory_is_3(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def lower(*arguments: object, **more: object) -> object:
        raise MemoryError

    monkeypatch.setattr(compiler, "lower", lower)
    done = run("stats", "spec.bsl:near")
    assert (done.status, done.out) == (3, "")
    assert done.err == "error: not enough memory for this layout at this length\n"


@pytest.mark.parametrize("error", [RuntimeError, ValueError, AssertionError, RecursionError])
def test_a_bug_is_70(run: Run, monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def lower(*arguments: object, **more: object) -> object:
        raise error("it broke")

    monkeypatch.setattr(compiler, "lower", lower)
    done = run("show", "spec.bsl:near")
    assert (done.status, done.out) == (70, "")
    assert "it broke" in done.err
    assert "This is a bug in bslang" in done.err


def test_version_and_help(run: Run) -> None:
    assert run("--version").out == f"bslang {__version__}\n"
    done = run("--help")
    assert (done.status, done.err) == (0, "")
    for command in ("check", "compile", "show", "stats"):
        assert command in done.out
        assert run(command, "--help").status == 0


@pytest.mark.parametrize("terminal", [True, False])
def test_colour_is_for_terminals(run: Run, monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    done = run("check", "-", stdin=b"causl")
    assert ("\033[" in done.err) == terminal


# ---- the installed program -----------------------------------------------------------------------

PROGRAM = Path(sys.executable).parent / "bslang"


def test_the_installed_program(tmp_path: Path) -> None:
    (tmp_path / "spec.bsl").write_text(SPEC, encoding="utf-8")
    good = subprocess.run(
        [PROGRAM, "check", "spec.bsl"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (good.returncode, good.stdout, good.stderr) == (
        0,
        "spec.bsl: ok; near, wide; block 32x32\n",
        "",
    )
    bad = subprocess.run(
        [PROGRAM, "stats", "spec.bsl:naer"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (bad.returncode, bad.stdout) == (1, "")
    assert "did you mean `near`?" in bad.stderr


def test_a_reader_that_goes_away_is_told_nothing(tmp_path: Path) -> None:
    (tmp_path / "spec.bsl").write_text("causal", encoding="utf-8")
    for unbuffered in ("", "1"):
        end, begin = os.pipe()
        os.close(end)
        with os.fdopen(begin, "w") as closed:
            done = subprocess.run(
                [PROGRAM, "show", "spec.bsl"], env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
                cwd=tmp_path, stdout=closed, stderr=subprocess.PIPE, text=True, check=False,
            )  # fmt: skip
        assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is full")
def test_output_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "spec.bsl").write_text("causal", encoding="utf-8")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [PROGRAM, "stats", "spec.bsl"],
            cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "error: cannot write the output: No space left on device\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["stats", "causal", "--seq-len", "16q"], "16k (16,384)"),
        (["stats"], "Missing argument 'SPEC'"),
        (["diff", "causal", "all", "--nosuch"], "--nosuch"),
        (["compile", "causal"], "name a folder"),
        (["compile", "causal", "--emit", "tree"], "--emit"),
        (["nosuch"], "nosuch"),
    ],
)
def test_wrong_usage_is_json_where_json_was_asked_for(
    run: Run, arguments: list[str], said: str
) -> None:
    done = run(*arguments, "--json")
    assert (done.status, done.err) == (2, "")
    error = json.loads(done.out)["error"]
    assert said in error and "\n" not in error.strip()
    assert run("check", "causal", "--json").status == 0  # others end as ever
