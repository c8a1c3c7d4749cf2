"""The command line: data on stdout, messages on stderr, an exit status for whose fault it is."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from bslang import compiler
from bslang._version import __version__
from bslang.cli.main import main
from bslang.codegen.emit import TARGETS
from bslang.files import write_whole
from bslang.resolve.sources import source_of

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


@pytest.fixture
def build(run: Run) -> Run:
    """`bslang compile` of spec.bsl:near to the folder out, for the torch target."""
    return lambda *more, file="spec.bsl:near": run(
        "compile", file, "-o", "out", "--target", "torch", *more
    )


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
    done = run("check", "--json", "spec.bsl", "bad.bsl", ".")
    assert (done.status, done.err) == (1, "")
    assert done.json["checked"] == [
        {"file": "spec.bsl", "layouts": ["near", "wide"], "block": [32, 32]}
    ]
    unknown, folder = done.json["diagnostics"]
    assert unknown == {
        "file": "bad.bsl",
        "line": 2,
        "column": 5,
        "code": "E201",
        "severity": "error",
        "message": "unknown name `windw`",
        "hint": "did you mean `window`?",
    }
    assert (folder["code"], folder["line"], folder["column"]) == ("E001", None, None)
    assert run("check", "--json", "spec.bsl").json["diagnostics"] == []


def test_check_at_a_length_refuses_what_means_nothing_there(run: Run) -> None:
    spec = b"a = cols(12)\nb = last(3)\nc(w = 4) = rows(w - 20)\n"
    assert run("check", "-", stdin=spec).status == 0
    done = run("check", "-", "--seq-len", "640", stdin=spec)
    assert done.status == 1
    assert done.err.count("error[E401]") == 2
    assert "column 12 of `cols(12)` lies outside of 10 blocks" in done.err
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


# ---- compile -------------------------------------------------------------------------------------


def test_compile_writes_a_module_that_is_called(run: Run) -> None:
    done = run(
        "compile", "spec.bsl:wide", "-o", "deep/er", "--target", "torch", "-D", "s=2", "-D", "w=5"
    )
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == ["deep/er/wide.py"]
    assert names("deep/er") == ["wide.py"]
    spec = importlib.util.spec_from_file_location("made", "deep/er/wide.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert made.SPEC == "window(5, step=2) | cols(0)"
    assert made.BLOCK == (32, 32)
    q = torch.ones(1, 1, 100, 16)
    assert torch.allclose(made.attention(q, q, q), q)


def test_compile_as_json(build: Run) -> None:
    done = build("--json")
    assert done.json == {
        "name": "near",
        "digest": compiler.digest(compiler.resolve(source_of(Path("spec.bsl")), "near")),
        "files": ["out/near.py"],
    }


def test_compile_is_for_all_targets_if_none_is_named(run: Run) -> None:
    done = run("compile", "spec.bsl:near", "-o", "out")
    assert done.status == 0
    assert names("out") == sorted(Path(line).name for line in done.out.splitlines())
    text = Path("out/near.py").read_text(encoding="utf-8")
    assert f"Targets  {', '.join(TARGETS)}" in text


def test_files_that_hold_their_text_are_left_alone(build: Run) -> None:
    assert build().status == 0
    path = Path("out/near.py")
    os.utime(path, (1, 1))
    before = path.stat()
    again = build()
    assert (again.status, again.out) == (0, "out/near.py\n")
    assert (path.stat().st_ino, path.stat().st_mtime) == (before.st_ino, 1)
    assert build("-D", "w=5").status == 0  # another text
    assert path.stat().st_mtime > 1


@pytest.mark.parametrize("text", ["", "import mine\n", "x" * 10_000 + "generated by bslang"])
def test_compile_leaves_files_of_others_alone(build: Run, text: str) -> None:
    Path("out").mkdir()
    Path("out/near.py").write_text(text, encoding="utf-8")
    done = build()
    assert (done.status, done.out) == (1, "")
    assert "out/near.py was not written by bslang and is left alone" in done.err
    assert Path("out/near.py").read_text(encoding="utf-8") == text


GPU = ["--target", "cuda:90"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["spec.bsl:naer", "-o", "out"], "did you mean `near`?"),
        (["spec.bsl", "-o", "out"], "pick one: spec.bsl:near, spec.bsl:wide"),
        (["spec.bsl:_sink", "-o", "out"], "private"),
        (["spec.bsl:wide", "-o", "out"], "parameter `s` of `wide` has no default"),
        (["spec.bsl:near", "-o", "out", "-D", "v=3"], "`near` has no parameter `v`"),
        (["spec.bsl:near", "-o", "out", "-D", "w=0"], "must be at least 1"),
        (["spec.bsl:near", "-o", "out", "-D", "w=+"], "parameter w:1:1"),
        (["spec.bsl:near", "-o", "out", "--target", "torhc"], "did you mean 'torch'?"),
        (["spec.bsl:near", "-o", "out", "--target", "metal"], "targets are triton, cpu, torch"),
        (["spec.bsl:near", "-o", "out", "--target", "cuda:9"], "unknown architecture 'cuda:9'"),
        (["spec.bsl:near", "-o", "out", *GPU, "--dtype", "bf16,fp8"], "unknown dtype 'fp8'"),
        (["spec.bsl:near", "-o", "out", *GPU, "--head-dim", "64,65"], "a multiple of 8 from 8 to"),
        (["spec.bsl:near", "-o", "spec.bsl"], "spec.bsl is a file; -o takes a folder"),
        (["spec.bsl:near", "-o", "spec.bsl/out"], "cannot write to spec.bsl/out"),
        (["spec.bsl:near", "-o", "/proc/bslang"], "cannot write to /proc/bslang"),
        (["missing.bsl:near", "-o", "out"], "specs there: spec.bsl"),
        (["missing/spec.bsl", "-o", "out"], "no spec file lies in that folder"),
        ([".", "-o", "out"], "this is a folder, not a spec"),
        (["window(3) | causal", "-o", "out"], "`-` reads an expression from standard input"),
        (["a" * 5000, "-o", "out"], "cannot be read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_compile_writes_nothing_when_it_fails(run: Run, arguments: list[str], message: str) -> None:
    done = run("compile", *arguments)
    assert (done.status, done.out) == (1, "")
    assert message in done.err
    assert names() == ["spec.bsl"]


def test_compile_names_a_folder_in_its_way(build: Run) -> None:
    Path("out/near.py").mkdir(parents=True)
    done = build()
    assert (done.status, done.out) == (1, "")
    assert "out/near.py is a folder" in done.err


def test_nothing_half_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.py").write_text("old", encoding="utf-8")

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path, {"a.py": "new", "a.cpp": "new"})
    assert names(tmp_path) == ["a.py"]
    assert (tmp_path / "a.py").read_text(encoding="utf-8") == "old"


def test_the_module_appears_after_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []
    replace = Path.replace

    def note(self: Path, target: Path) -> Path:
        order.append(Path(target).name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", note)
    write_whole(tmp_path, {"a.py": "imports it", "a.cpp": "is needed"})
    assert order == ["a.cpp", "a.py"]


@pytest.mark.parametrize(
    ("text", "strips"),
    [
        ("window(65t) | cols(n // 2:) ^ diagonals(3t, 0t:9t:2t) & random(2, within=causal)", False),
        ("window(3) | global(0, -1) | last(500t) | random(2, seed=7)", True),
    ],
)
def test_output_is_the_same_bytes_whatever_the_hash_seed(
    text: str, strips: bool, tmp_path: Path
) -> None:
    spec = tmp_path / "spec.bsl"
    spec.write_text(f"a = {text}", encoding="utf-8")
    made = []
    for seed in ("0", "1", "random"):
        folder = tmp_path / f"out{seed}"
        subprocess.run(
            [sys.executable, "-m", "bslang", "compile", str(spec), "-o", str(folder)],
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
            stdout=subprocess.DEVNULL,
        )
        made.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert made[0] == made[1] == made[2]
    assert any(b"Strip(" in file for file in made[0].values()) or not strips
    assert all(str(tmp_path).encode() not in file for file in made[0].values())


@pytest.fixture
def march(run: Run) -> Run:
    """`bslang compile --march` of spec.bsl:near to the folder out."""
    if not any(
        map(shutil.which, (os.environ.get("CXX", "c++").split()[0], "c++", "g++", "clang++"))
    ):
        pytest.skip("no C++ compiler")
    return lambda *more: run("compile", "spec.bsl:near", "-o", "out", "--march", *more)


def test_compile_builds_for_a_processor(march: Run) -> None:
    done = march("native")
    files = ["out/near.py", "out/near.cpp", "out/near.native.so"]
    assert (done.status, done.out.splitlines(), done.err) == (0, files, "")
    first = {name: Path("out", name).read_bytes() for name in names("out")}
    assert march("native", "--json").json["files"] == files
    assert {name: Path("out", name).read_bytes() for name in names("out")} == first
    assert b"Library  near.native.so" in first["near.py"]
    code = "import near, torch; print(near.LAYOUT.target(torch.zeros(1, 1, 9, 8)).name)"
    env = os.environ | {"PATH": "", "CXX": ""}
    used = subprocess.run(
        [sys.executable, "-c", code],
        cwd="out",
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (used.stdout, used.stderr) == ("cpu\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["i586-"], "i586-"),
        (["native -O0"], "native -O0"),
        (["../near"], "../near"),
        (["native", "--target", "torch"], "only the cpu target is built for a processor (native)"),
    ],
    ids=str,
)
def test_a_build_that_fails_leaves_everything_as_it_was(
    arguments: list[str], message: str, build: Run, march: Run
) -> None:
    assert build().status == 0
    before = Path("out/near.py").read_bytes()
    done = march(*arguments)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("error: ") and message in done.err and "Traceback" not in done.err
    assert names("out") == ["near.py"] and Path("out/near.py").read_bytes() == before


def test_compile_leaves_a_library_of_others_alone(march: Run) -> None:
    Path("out").mkdir()
    Path("out/near.native.so").write_bytes(b"\x7fELF" + bytes(5000))
    done = march("native")
    assert (done.status, done.out) == (1, "")
    assert "out/near.native.so was not written by bslang and is left alone" in done.err
    assert names("out") == ["near.native.so"]


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
    assert lines["forward"] == "0.20 TFLOP a head of 64; dense 16.38 PFLOP"
    assert lines["backward"] == "0.49 TFLOP a head of 64"


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
    assert "This is a bug of bslang's" in done.err


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
