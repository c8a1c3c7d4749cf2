"""The formatter: one style, the same meaning, every comment kept; and `bslang fmt` on files."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import programs
from test_cli import Run, run
from test_text import PATTERNS
from writer import Writer

from bslang import compiler
from bslang.files import rewrite
from bslang.limits import MAX_FILE_BYTES, MAX_NESTING, MAX_WORDS
from bslang.syntax.diagnostics import SpecError
from bslang.syntax.format import formatted, meaning
from bslang.syntax.lines import WIDTH
from bslang.syntax.reader import read
from bslang.syntax.source import Source

__all__ = ["run"]  # the fixture

COMMENT = re.compile(r'"[^"\n]*"|(#[^\n]*)')


def fmt(text: str) -> str:
    return formatted(Source("<test>", text))


def comments(text: str) -> list[str]:
    return [found.rstrip() for found in COMMENT.findall(text) if found]


def holds(text: str) -> None:
    """Formatting changes neither meaning nor comments, and formatting again changes nothing."""
    once = fmt(text)
    before, after = (read(Source("<test>", each)) for each in (text, once))
    assert after.errors == ()
    assert meaning(after.statements) == meaning(before.statements)
    assert comments(once) == comments(text)
    assert fmt(once) == once
    assert not re.search(r"[ \t]\n|\n\n\n|\A\n|\n\n\Z", COMMENT.sub("#", once))


# ---- style ---------------------------------------------------------------------------------------

LINES = {
    "": "",
    "\n\n \t\n": "",
    "causal": "causal",
    "block   64": "block 64",
    "block 0128x64   # tiles": "block 0128x64  # tiles",
    'import"common.bsl"as   c': 'import "common.bsl" as c',
    'import  "common.bsl"': 'import "common.bsl"',
    "a=window( 3 )|global(0,-1)": "a = window(3) | global(0, -1)",
    "f(r=2,s) = last(w = r)": "f(r = 2, s) = last(w=r)",
    "f() = all": "f = all",
    "a = random (2,seed=7,)": "a = random(2, seed=7)",
    "cols(0 : 4t, :: 2, - 4 :, n-2:n:3)": "cols(0:4t, ::2, -4:, n - 2:n:3)",
    "( a|b ) .T": "(a | b).T",
    "a@b**2": "a @ b ** 2",
    "last(1_000t)": "last(1_000t)",
    "last(007)": "last(007)",
    "last(-n+2*-m)": "last(-n + 2 * -m)",
    "{i,j:i<j<=i+2&(j%4==0)}": "{i, j : i < j <= i + 2 & j % 4 == 0}",
    "heads{0:4->window(3);4:->causal;}": "heads { 0:4 -> window(3); 4: -> causal }",
    "grid(4,4,radius=( 1,inf , ))": "grid(4, 4, radius=(1, inf))",
    'table( "a # b.npy" )  # c': 'table("a # b.npy")  # c',
    "c  .sinks": "c.sinks",
    "   # alone   ": "# alone",
}


@pytest.mark.parametrize("text", LINES)
def test_one_line(text: str) -> None:
    assert fmt(text) == (f"{LINES[text]}\n" if LINES[text] else "")
    holds(text)


PARENTHESES = {
    "(a)": "a",
    "((a | b))": "a | b",
    "(a & b) | c": "a & b | c",
    "a & (b | c)": "a & (b | c)",
    "(a | b) | c": "(a | b) | c",
    "a - (b - c)": "a - (b - c)",
    "(a - b) - c": "(a - b) - c",
    "~(a)": "~a",
    "~(a | b)": "~(a | b)",
    "~(a.T)": "~a.T",
    "(~a).T": "(~a).T",
    "~(~a)": "~~a",
    "(-2) ** 3": "(-2) ** 3",
    "-(2 ** 3)": "-2 ** 3",
    "2 ** (-1)": "2 ** -1",
    "2 ** (3 ** 4)": "2 ** 3 ** 4",
    "(2 ** 3) ** 4": "(2 ** 3) ** 4",
    "(a @ b) ** 2": "(a @ b) ** 2",
    "a @ (b @ c)": "a @ (b @ c)",
    "(a < b) < c": "(a < b) < c",
    "(f)": "f",
    "last((n))": "last(n)",
    "last((n + 1):(3))": "last(n + 1:3)",
    "rows((1, 2))": "rows((1, 2))",
    "rows(((1, (2))))": "rows((1, 2))",
    "(block)": "(block)",
    "(block | a) & b": "(block | a) & b",
    "(block) & a | b": "(block & a | b)",
    "((import(3)))": "(import(3))",
    "(block) = a": "(block) = a",
    "a = (block)": "a = block",
}


@pytest.mark.parametrize("text", PARENTHESES)
def test_parentheses_stand_where_they_are_needed(text: str) -> None:
    assert fmt(text) == f"{PARENTHESES[text]}\n"
    holds(text)


WHOLE = {
    "paragraphs": (
        "\n\n# head\n\n\n\nblock 64\na = all\n\n\n# about b\nb = none # why\n\n",
        "# head\n\nblock 64\na = all\n\n# about b\nb = none  # why\n",
    ),
    "line ends": ("a = all\nb = none", "a = all\nb = none\n"),
    "operators at the start of lines": (
        "p=window(33333333,wrap=true)|global(0000000,-1111111)|random(22222,seed=7777777,within=causal)",
        "p = (\n"
        "    window(33333333, wrap=true)\n"
        "    | global(0000000, -1111111)\n"
        "    | random(22222, seed=7777777, within=causal)\n"
        ")\n",
    ),
    "a tighter chain inside": (
        f"p = aaa | {'b' * 40} & {'c' * 60}",
        f"p = (\n    aaa\n    | {'b' * 40}\n        & {'c' * 60}\n)\n",
    ),
    "arguments fill lines": (
        f"rows({', '.join(str(i) for i in range(100, 130))})",
        f"rows(\n    {', '.join(str(i) for i in range(100, 119))},\n"
        f"    {', '.join(str(i) for i in range(119, 130))}\n)\n",
    ),
    "a long branch": (
        f"heads {{ 0:4 -> {'a' * 50}; 4: -> {'b' * 50} | {'c' * 50} }}",
        f"heads {{\n    0:4 -> {'a' * 50};\n    4: -> {'b' * 50}\n        | {'c' * 50}\n}}\n",
    ),
    "a long predicate": (
        f"{{q, k : {'a' * 50} < q & {'b' * 50} < k}}",
        f"{{q, k :\n    {'a' * 50} < q\n    & {'b' * 50} < k\n}}\n",
    ),
    "a name that no line holds": (f"a = {'b' * 120}", f"a = {'b' * 120}\n"),
    "a power under a sign": (
        f"-{'a' * 60} ** {'b' * 60}",
        f"(\n    -{'a' * 60}\n        ** {'b' * 60}\n)\n",
    ),
    "comments inside": (
        "p = (window(3)   # near\n    | global(0, -1)# everywhere\n\n    # drawn\n | random(2))\n",
        "p = (\n    window(3)  # near\n    | global(0, -1)  # everywhere\n    # drawn\n"
        "    | random(2)\n)\n",
    ),
    "a comment behind an operator": (
        "p = (a |  # first\n b)",
        "p = (\n    a  # first\n    | b\n)\n",
    ),
    "a comment at the start": ("p = (  # why\n  a)", "p = (  # why\n    a\n)\n"),
    "a comment at the end": ("p = (a\n # no more\n )", "p = (\n    a\n    # no more\n)\n"),
    "comments between arguments": (
        "random(2,  # drawn\n seed=7,\n # of all\n within=all)",
        "random(\n    2,  # drawn\n    seed=7,\n    # of all\n    within=all\n)\n",
    ),
    "comments between branches": (
        "heads {\n 0:4 -> a; # near\n # far\n 4: -> b }",
        "heads {\n    0:4 -> a;  # near\n    # far\n    4: -> b\n}\n",
    ),
    "a comment where no line can end": (
        "p = (~  # not\n a # two\n .T | b)",
        "p = (\n    ~a.T  # not\n    # two\n    | b\n)\n",
    ),
    "a comment in a call of nothing": ("f(  # none\n)", "(\n    f()  # none\n)\n"),
    "a comment among parameters": (
        "f(r = 2,  # drawn\n s = 7) = random(r, seed=s)",
        "f(\n    r = 2,  # drawn\n    s = 7\n) = random(r, seed=s)\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), WHOLE.values(), ids=WHOLE)
def test_a_file(text: str, expected: str) -> None:
    assert fmt(text) == expected
    holds(text)


@pytest.mark.parametrize("text", PATTERNS)
def test_canonical_text_is_in_this_style(text: str) -> None:
    canonical = str(compiler.resolve(Source("<test>", text)).pattern)
    assert fmt(canonical) == f"{canonical}\n"


# ---- properties ----------------------------------------------------------------------------------


@settings(max_examples=500)
@given(st.randoms(use_true_random=False))
def test_any_program_means_the_same_afterwards(random: Random) -> None:
    text = Writer(random).program()
    if not read(Source("<test>", text)).errors:
        holds(text)


@settings(max_examples=200)
@given(st.lists(programs(), min_size=1, max_size=4))
def test_lines_are_as_wide_as_they_may_be(texts: list[str]) -> None:
    text = " | ".join(texts)
    holds(text)
    assert max(map(len, fmt(text).splitlines())) <= WIDTH


@pytest.mark.parametrize(
    ("before", "after"),
    [("~(", ")"), ("all - (", ")"), ("random(2, within=", ")"), ("(a | ", ").T")],
)
def test_the_deepest_nesting(before: str, after: str) -> None:
    depth = MAX_NESTING // 2 - 1
    holds(f"{before * depth}causal{after * depth}")
    holds(f"{before * depth}causal  # here\n{after * depth}")


def test_mistakes_are_refused() -> None:
    with pytest.raises(SpecError, match="E101") as caught:
        fmt("a = causal |\nb = (all\n")
    assert [d.code for d in caught.value.diagnostics] == ["E101", "E103"]


def test_a_file_that_would_grow_too_large() -> None:
    """It is left as it is, which is better than one that nothing reads any more."""
    assert fmt("|".join(["a"] * (MAX_WORDS // 2 - 1))).startswith("(\n")
    with pytest.raises(SpecError, match="MAX_WORDS"):
        fmt("|".join(["a"] * (MAX_WORDS // 2)))
    with pytest.raises(SpecError, match="MAX_FILE_BYTES"):
        fmt(f"a|b#{'x' * (MAX_FILE_BYTES - 4)}")


# ---- files ---------------------------------------------------------------------------------------


def test_files_are_formatted_in_place(run: Run) -> None:
    Path("a.bsl").write_bytes(b"\xef\xbb\xbfa=all\r\n")
    Path("b.bsl").write_bytes(b"b = none\n")
    Path("a.bsl").chmod(0o640)
    before = Path("b.bsl").stat()  # reading it may change the time of its last access
    done = run("fmt", "a.bsl", "b.bsl")
    assert (done.status, done.out, done.err) == (0, "a.bsl: formatted\n", "")
    assert Path("a.bsl").read_bytes() == b"a = all\n"
    assert stat.S_IMODE(Path("a.bsl").stat().st_mode) == 0o640
    after = Path("b.bsl").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert run("fmt", "a.bsl", "b.bsl").out == ""


def test_check_writes_nothing(run: Run) -> None:
    Path("a.bsl").write_text("a=all", encoding="utf-8")
    done = run("fmt", "--check", "spec.bsl", "a.bsl")
    assert (done.status, done.out, done.err) == (1, "a.bsl: would be formatted\n", "")
    assert Path("a.bsl").read_text(encoding="utf-8") == "a=all"
    assert run("fmt", "--check", "spec.bsl").status == 0


def test_diff_writes_nothing(run: Run) -> None:
    Path("a.bsl").write_text("block 64\n\na=all", encoding="utf-8")
    done = run("fmt", "--diff", "a.bsl")
    assert done.status == 0
    assert done.out == (
        "--- a.bsl\n+++ a.bsl (formatted)\n@@ -1,3 +1,3 @@\n block 64\n \n"
        "-a=all\n\\ No newline at end of file\n+a = all\n"
    )
    assert Path("a.bsl").read_text(encoding="utf-8") == "block 64\n\na=all"
    assert run("fmt", "--diff", "--check", "a.bsl").status == 1
    assert run("fmt", "--diff", "spec.bsl").out == ""


def test_standard_input(run: Run) -> None:
    assert run("fmt", "-", stdin="a=all # é\r\n".encode()).out == "a = all  # é\n"
    assert run("fmt", "-", "--check", stdin=b"a=all").status == 1
    assert run("fmt", "-", "--check", stdin=b"a = all\n").status == 0
    bad = run("fmt", "-", stdin=b"a = |")
    assert (bad.status, bad.out) == (1, "")


def test_files_with_mistakes_are_left_alone(run: Run) -> None:
    Path("bad.bsl").write_text("a=all\nb = causal |", encoding="utf-8")
    Path("good.bsl").write_text("a=all", encoding="utf-8")
    done = run("fmt", "bad.bsl", "missing.bsl", "good.bsl")
    assert done.status == 1
    assert done.out == "good.bsl: formatted\n"
    assert "bad.bsl:2:" in done.err
    assert "missing.bsl" in done.err
    assert Path("bad.bsl").read_text(encoding="utf-8") == "a=all\nb = causal |"


def test_a_name_that_means_nothing_is_no_mistake_of_form(run: Run) -> None:
    Path("a.bsl").write_text("a=windw(3)", encoding="utf-8")
    assert run("fmt", "a.bsl").status == 0


def test_only_files_are_written(run: Run) -> None:
    Path("a.bsl").write_text("a=all", encoding="utf-8")
    done = run("fmt", "/dev/null", "std/bigbird.bsl", "a.bsl")
    assert (done.status, done.out) == (1, "a.bsl: formatted\n")
    for place in ("/dev/null", "std/bigbird.bsl"):
        assert f" --> {place}\n" in done.err


def test_links_and_permissions_stay(tmp_path: Path) -> None:
    real, link = tmp_path / "real.bsl", tmp_path / "link.bsl"
    real.write_text("a", encoding="utf-8")
    real.chmod(0o604)
    link.symlink_to(real)
    rewrite(link, "b")
    assert link.is_symlink()
    assert real.read_text(encoding="utf-8") == "b"
    assert stat.S_IMODE(real.stat().st_mode) == 0o604
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.bsl", "real.bsl"]


def test_a_write_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.bsl"
    path.write_text("a", encoding="utf-8")

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        rewrite(path, "b")
    assert path.read_text(encoding="utf-8") == "a"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bsl"]
