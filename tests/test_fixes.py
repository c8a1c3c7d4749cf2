"""Fixes: what diagnostics offer as edits, and that the text after the edits is right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from test_cli import Run, run
from test_diagnostics import CASES, MARK

from bslang import compiler
from bslang.cli.check import diagnostics
from bslang.editors.diagnose import fixes
from bslang.editors.document import Document
from bslang.lint.warnings import warnings
from bslang.resolve.library import by_name
from bslang.syntax import tree
from bslang.syntax.codes import CODES
from bslang.syntax.diagnostics import Diagnostic, SpecError
from bslang.syntax.source import Source

__all__ = ["run"]  # the fixture

PROGRAMS = {
    path.stem: program
    for path in CASES
    for program, _, message in [MARK.split(path.read_text(encoding="utf-8"))]
    if "did you mean" in message and "\n  |" in message
}


def fixed(text: str, code: str) -> str:
    """A text after the fix of its only diagnostic of a code."""
    (found,) = [each for each in diagnostics(text) if each.code == code]
    assert found.fix is not None
    return found.fix.applied(text)


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_what_was_meant_is_offered(name: str) -> None:
    """Every "did you mean" of a place in the file is a fix, and after it that error is gone."""
    text = PROGRAMS[name]
    asked = [d for d in diagnostics(text) if "did you mean" in d.hint]
    assert asked
    for found in asked:
        assert found.fix is not None and found.hint == found.fix.hint
        after = [(d.code, d.message) for d in diagnostics(found.fix.applied(text))]
        assert (found.code, found.message) not in after


@pytest.mark.parametrize(
    ("text", "code", "written"),
    [
        ("windw(3)", "E201", "window(3)"),
        ("near(w) = window(w)\nnear(wd=3)", "E204", "near(w) = window(w)\nnear(w=3)"),
        ("window(3, stp=2)", "E204", "window(3, step=2)"),
        ('import "std/bigbrd.bsl" as b\nb.bigbird', "E211", 'import "std/bigbird.bsl" as b\nb.bigbird'),
        ('import "std/bigbird.bsl" as b\nb . bigbrd', "E201", None),  # no space belongs there
        ('import "std/bigbird.bsl" as b\nb.bigbrd', "E201", 'import "std/bigbird.bsl" as b\nb.bigbird'),
        ('import "std/bigbird.bsl" as birds\nbrids.bigbird', "E201",
         'import "std/bigbird.bsl" as birds\nbirds.bigbird'),
        ("bsl 1\n# mine\nblock 32\nx = BigBird(r=1) & causal", "E201",
         'bsl 1\n# mine\nimport "std/bigbird.bsl" as std\nblock 32\nx = std.bigbird(r=1) & causal'),
        ("last(256)", "W405", "last(256t)"),
        ("x = (window(left = 256,  # far\n  right=inf) | cols(0)) & causal", "W405",
         "x = (window(left = 256t,  # far\n  right=inf) | cols(0)) & causal"),
        ("global(0:128, -1)", "W405", "global(0:128t, -1t)"),
        ("chunks(256, back=1)", "W405", "chunks(256t, back=1)"),
        ("near(w = 256, v = 3) = window(left=w, right=v) | window(v)", "W405", None),
        ("near(w = 256, v = 3) = window(left=w, right=v)", "W405",
         "near(w = 256t, v = 3t) = window(left=w, right=v)"),
        ("near(w = 256) = last(w)\nwide = near(w=9)", "W405", None),
        ("last(2 * 128)", "W405", None),
        ("window(left=256, right=n)", "W405", None),
    ],
)  # fmt: skip
def test_fixes(text: str, code: str, written: str | None) -> None:
    """The text after a fix compiles without that diagnostic; None: nothing is offered."""
    if written is None:
        assert all(d.fix is None for d in diagnostics(text) if d.code == code)
        return
    assert fixed(text, code) == written
    assert [d for d in diagnostics(written) if d.code == code] == []


@pytest.mark.parametrize("code", ["E201", "E204", "W405"])
def test_the_examples_of_codes_are_fixed_as_explained(code: str) -> None:
    assert fixed(CODES[code].example, code) == CODES[code].fixed


def test_a_layout_of_the_library_is_imported_by_its_fix() -> None:
    single = [name for name, layouts in by_name().items() if len(layouts) == 1 and len(name) > 4]
    assert len(single) > 20
    for name in single[::5]:
        assert [
            d for d in diagnostics(fixed(f"{name} | cols(0)", "E201")) if d.code == "E201"
        ] == []


def test_files_beside_the_spec(tmp_path: Path) -> None:
    """A misspelt file, in an import and in a table; one that no spec can name is not offered."""
    (tmp_path / "common.bsl").write_text("near = last(2)\n", encoding="utf-8")
    (tmp_path / 'com"mom.bsl').write_text("near = last(2)\n", encoding="utf-8")
    (tmp_path / "mask.npy").write_bytes(b"")

    def of(text: str) -> list[Diagnostic]:
        with pytest.raises(SpecError) as refused:
            compiler.program(Source("spec.bsl", text, tmp_path))
        return [*refused.value.diagnostics]

    for text, written in (
        ('import "comon.bsl"\nnear', 'import "common.bsl"\nnear'),
        ('table("masc.npy")', 'table("mask.npy")'),
        ('table(file="masc.npy") | cols(0)', 'table(file="mask.npy") | cols(0)'),
    ):
        (found,) = of(text)
        assert found.fix is not None and found.fix.applied(text) == written
        assert found.fix.hint == found.hint


def test_the_search_for_fixes_is_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with many warnings is walked once."""
    walked: list[tree.Node] = []
    nodes = tree.nodes

    def noted(node: tree.Node) -> Iterator[tree.Node]:
        walked.append(node)
        return nodes(node)

    monkeypatch.setattr(tree, "nodes", noted)
    text = "\n".join(f"d{i} = last({i + 128})" for i in range(100))
    source = Source("spec.bsl", text)
    found = warnings(source, compiler.program(source))
    assert len(found) == 100 and all(d.fix for d in found)
    assert len(walked) <= 20 * 100


def test_editors_are_offered_what_touches_the_cursor() -> None:
    document = Document.of("near = windw(3) | colls(0)\n")
    titles = {
        name: [fix.title for _, fix in fixes(document, *place)]
        for name, place in {
            "first": (7, 7),
            "end": (12, 12),
            "both": (7, 20),
            "none": (0, 4),
        }.items()
    }
    first, second = "Change `windw` to `window`", "Change `colls` to `cols`"
    assert titles == {"first": [first], "end": [first], "both": [first, second], "none": []}


def test_an_imported_file_is_not_edited(tmp_path: Path) -> None:
    (tmp_path / "other.bsl").write_text("wide = windw(9)\n", encoding="utf-8")
    document = Document.of('import "other.bsl"\nwide\n', tmp_path / "spec.bsl")
    assert [*fixes(document, 0, 18)] == []


def test_fixes_as_json(run: Run) -> None:
    (found,) = run("check", "--json", "-", stdin=b"window(3) | window(5)").json["diagnostics"]
    assert found["fix"] is None
    (found,) = run("check", "--json", "-", stdin=b"x = all\ny = windw(3)").json["diagnostics"]
    assert found["fix"] == {
        "title": "Change `windw` to `window`",
        "edits": [
            {"start": {"line": 2, "column": 5}, "end": {"line": 2, "column": 10}, "text": "window"}
        ],
    }
