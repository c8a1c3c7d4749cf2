"""The explorer: its data is what the compiler says, and nothing of a spec breaks out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from explored import SPEC, data_of, write_spec
from typer.testing import CliRunner

from bslang import compiler
from bslang.analysis.provenance import provenance
from bslang.analysis.stats import Stats
from bslang.cli.main import app
from bslang.errors import LimitError
from bslang.explorer import data as datas
from bslang.explorer import drawn as drawns
from bslang.explorer.data import data
from bslang.explorer.page import page
from bslang.explorer.said import diagnostic
from bslang.explorer.subject import Subject
from bslang.graph.blockgraph import FULL
from bslang.syntax.diagnostics import SpecError
from bslang.syntax.source import Source

RUN = CliRunner()


def subject(name: str | None, text: str = SPEC, **more: Any) -> Subject:
    return Subject(f"spec.bsl:{name}", Source("spec.bsl", text), name, **more)


def drawn(view: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The looks of a view's blocks as a matrix, -1 where they are empty: read as the page reads them."""
    looks = np.full((view["rows"], view["columns"]), -1)
    runs = iter(view["runs"])
    for row in looks:
        column = 0
        for _ in range(next(runs)):
            column += next(runs)
            length, look = next(runs), next(runs)
            row[column : column + length] = look
            column += length
    assert next(runs, None) is None
    return looks


# ---- the data ------------------------------------------------------------------------------------


def test_every_view_is_the_compilers_graph_at_its_setting() -> None:
    (layout,) = data([subject("near", lengths=(64, 100, 256))])["layouts"]
    names = [axis["name"] for axis in layout["axes"]]
    assert names == ["seq-len", "w", "r"]
    assert set(layout["axes"][1]["values"]) == {"1", "3", "5", "7", "9"}  # a window's width is odd
    assert len(layout["keys"]) == np.prod([len(axis["values"]) for axis in layout["axes"]])
    for key, place in layout["keys"].items():
        view, (length, w, r) = layout["views"][place], key.split("|")
        resolved = compiler.resolve(Source("", SPEC), "near", parameters={"w": w, "r": r})
        graph = compiler.lower(resolved, int(length), int(length))
        looks = drawn(view)
        assert np.array_equal(looks >= 0, graph.visited.dense(graph.grid.n))
        assert np.array_equal(
            (looks >= 0) & (looks % 2 == 0), graph.of_kind(FULL).dense(graph.grid.n)
        )
        for at, (term, runs) in enumerate(provenance(resolved.pattern, graph.grid)):
            assert np.array_equal(looks // 2 == at, runs.dense(graph.grid.n))
            assert view["terms"][at] == (str(term), runs.size)
        found = Stats.of(graph)
        assert view["figures"]["density"] == round(found.density, 6)
        assert view["figures"]["flops"] == [found.flops_forward, found.flops_dense]
        again = compiler.resolve(Source("", view["spec"]))
        assert again.pattern == resolved.pattern
        assert again.block == resolved.block


def test_heads_and_layers_are_axes_where_they_matter() -> None:
    found = data([subject("by_head", lengths=(64,))])
    assert found["left_out"] == []  # it names its two heads
    (layout,) = found["layouts"]
    assert [(axis["name"], axis["values"]) for axis in layout["axes"]] == [
        ("seq-len", ("64",)),
        ("head", ("0", "1")),
    ]
    first, second = (drawn(layout["views"][layout["keys"][f"64|{head}"]]) for head in "01")
    assert (second >= 0)[:, 0].all()
    assert not np.array_equal(first, second)
    layered = data([subject(None, "window(2 * layer + 1)", lengths=(512,))])
    assert layered["layouts"][0]["axes"][1]["values"] == ("0", "1", "2", "3")
    assert layered["left_out"] == ["layers from 4 on of spec.bsl:None"]


@pytest.mark.parametrize("spec", ["heads { 0:12 -> last(1 + head) }", "last(1 + head)"])
def test_heads_beyond_those_of_a_page_are_said_to_be_left_out(spec: str) -> None:
    found = data([subject(None, spec, lengths=(64,))])
    assert found["layouts"][0]["axes"][1]["values"] == tuple("01234567")
    assert found["left_out"] == ["heads from 8 on of spec.bsl:None"]


def test_tokens_truths_and_what_is_neither() -> None:
    text = "p(w = 64t, s = true, v = 2 * 2) = window(left=w, right=0t) | strided(v)"
    found = {axis.name: axis.values for axis in subject("p", text).axes}
    assert found["w"] == ("16t", "32t", "48t", "64t", "96t", "128t", "256t")
    assert "v" not in found


def test_values_that_are_given_take_the_place_of_defaults() -> None:
    given = subject("p", "p(w) = window(w)", given={"w": "5"}, lengths=(640,))
    assert next(axis for axis in given.axes if axis.name == "w").values[2] == "5"
    assert given.view({})["spec"] == "block 64x64\nwindow(5)\n"


def test_a_setting_that_means_nothing_says_why() -> None:
    found = subject("near").view_or_errors({"w": "4"})
    assert found["errors"][0]["code"] == "E303"
    assert (
        "seq-len is a number from 1"
        in subject("near").view_or_errors({"seq-len": "no"})["errors"][0]["message"]
    )
    assert subject("near").view_or_errors({"q": "1"})["errors"][0]["code"] == "E208"


def test_coverage_is_of_the_layers_until_nothing_is_added() -> None:
    found = subject(None, "block 16\nwindow(3)", lengths=(64,)).view({})
    assert found["coverage"] == [0.625, 0.875, 1.0]
    assert found["hops"] == 3
    never = subject(None, "block 16\nlast(2) & causal", lengths=(64,)).view({})
    assert never["hops"] is None
    assert never["ended"]


def test_unequal_sides_and_a_layout_without_blocks() -> None:
    found = subject(None, "block 32x16\nlast(48t) & causal", lengths=(96,)).view({})
    assert (found["rows"], found["columns"], found["node"]) == (3, 6, 16)
    empty = subject(None, "cols(0) & ~all", lengths=(128,)).view({})
    assert empty["figures"]["speedup"] is None
    assert (drawn(empty) == -1).all()


def test_warnings_have_their_places() -> None:
    text = "# a spec\nwindow(3) | window(5)\n"
    (found,) = data([subject(None, text, lengths=(640,))])["layouts"][0]["diagnostics"]
    assert (found["code"], found["severity"], found["marks"]) == ("W403", "warning", [(1, 0, 9)])


def test_marks_over_several_lines() -> None:
    with pytest.raises(SpecError) as error:
        compiler.resolve(Source("s", "p = window(\n  4\n)"))
    marks = diagnostic(error.value.diagnostics[0])["marks"]
    text = ["p = window(", "  4", ")"]
    assert "".join(text[line][start:stop] for line, start, stop in marks).strip()


# ---- what does not fit ---------------------------------------------------------------------------


def test_settings_that_do_not_fit_are_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = page(data([subject("near")]))
    monkeypatch.setattr(datas, "MAX_PAGE_BYTES", 250_000)
    found = data([subject("near")])
    (layout,) = found["layouts"]
    start = "|".join(axis["values"][axis["start"]] for axis in layout["axes"])
    assert start in layout["keys"]
    assert re.match(r"\d+ of \d+ settings of spec.bsl:near: ", found["left_out"][0])
    assert len(page(found)) < 250_000 < len(whole)
    monkeypatch.setattr(datas, "MAX_PAGE_BYTES", 201_000)
    with pytest.raises(LimitError, match="MAX_PAGE_BYTES"):
        data([subject("near")])


def test_parameters_that_are_too_many_stay_and_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datas, "MOST_SETTINGS", 20)
    found = data([subject("near")])
    assert [axis["name"] for axis in found["layouts"][0]["axes"]] == ["seq-len", "w"]
    assert found["left_out"][0].startswith("`r` of spec.bsl:near stays 1")


def test_a_picture_with_too_many_rows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = subject("near").view_or_errors({"seq-len": str(2**30)})
    assert "MAX_PAGE_ROWS" in found["errors"][0]["message"]
    monkeypatch.setattr(drawns, "MAX_PAGE_ROWS", 7)
    with pytest.raises(LimitError, match="MAX_PAGE_ROWS"):
        data([subject("near")])


# ---- the page ------------------------------------------------------------------------------------


class Elements(HTMLParser):
    """The elements of a page that programs or addresses come from."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "img", "svg", "iframe", "b"):
            self.found.append(tag)
        self.addresses += [str(v) for k, v in attrs if k in ("src", "href", "action")]


HOSTILE = (
    '</script><script>alert(1)</script><!--<img src=x onerror="alert(2)">&amp;\u2028{{ 7 * 7 }}'
)


def test_a_spec_cannot_break_out(tmp_path: Path) -> None:
    text = f"# {HOSTILE}\np = window(3) | window(5)  # {HOSTILE}\n"
    hostile = subject("p", text, lengths=(640,))
    named = Subject(f"{HOSTILE}.bsl", Source(f"{HOSTILE}.bsl", text), "p", lengths=(640,))
    plain = Elements(page(data([subject("near")])))
    for one in (hostile, named):
        made = page(data([one]))
        parsed = Elements(made)
        assert parsed.found == plain.found == ["script", "script"]
        assert data_of(made)["layouts"][0]["source"]["text"] == text
        assert "alert(1)</script>" not in made


def test_the_page_needs_nothing_from_elsewhere() -> None:
    made = page(data([subject("near")]))
    assert Elements(made).addresses == ["data:,", "#stage"]
    assert "default-src &#39;none&#39;" in made
    assert "connect-src &#39;none&#39;" in made
    named = made.replace(
        "http://www.w3.org/2000/svg", ""
    )  # the name of a language, which nobody fetches
    assert not re.search(r"https?://|@import|url\((?!#)", named)


def test_the_same_spec_makes_the_same_bytes(tmp_path: Path) -> None:
    spec = write_spec(tmp_path)
    command = [
        sys.executable,
        "-m",
        "bslang",
        "explorer",
        f"{spec}:near",
        "--seq-len",
        "128",
        "-o",
        "-",
    ]
    pages = [
        subprocess.run(
            command, env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert pages[0] == pages[1]
    assert data_of(pages[0].decode())["title"] == f"{spec}:near"


# ---- the command ---------------------------------------------------------------------------------


def test_the_command_writes_a_page_of_two_layouts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_spec(tmp_path)
    done = RUN.invoke(
        app, ["explorer", "spec.bsl:near", "--compare", "spec.bsl:causal_near", "-D", "r=2"]
    )
    assert done.exit_code == 0, done.output
    assert done.output == "near.html\n"
    found = data_of((tmp_path / "near.html").read_text(encoding="utf-8"))
    assert [layout["name"] for layout in found["layouts"]] == ["near", "causal_near"]
    assert found["layouts"][0]["axes"][2]["start"] == 2
    axes = [layout["axes"][0] for layout in found["layouts"]]
    assert axes[0] == axes[1]


def test_documents_of_the_command_are_a_choice(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, "same(doc) & causal")
    options = ["--seq-len", "600", "--documents", "100, 200", "--documents", "300", "-o", "-"]
    done = RUN.invoke(app, ["explorer", spec, *options])
    assert done.exit_code == 0, done.output
    (layout,) = data_of(done.output)["layouts"]
    assert layout["axes"][1]["values"] == ["", "100,200", "300"]
    pairs = {
        key: layout["views"][place]["figures"]["pairs"] for key, place in layout["keys"].items()
    }
    assert pairs == {
        "600|": None,
        "600|100,200": sum(n * (n + 1) // 2 for n in (100, 200, 300)),
        "600|300": 2 * (300 * 301 // 2),
    }


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["spec.bsl:other"], 1, "no definition `other`"),
        (["missing.bsl"], 1, "no such file"),
        (["spec.bsl:near", "--seq-len", "12,x"], 2, "is not a length of at least one token"),
        (["spec.bsl:near", "--seq-len", "0"], 2, "is not a length of at least one token"),
        (["spec.bsl:near", "--port", "80"], 2, "needs `--serve`"),
        (["spec.bsl:near", "--serve", "-o", "x.html"], 2, "--serve writes no file"),
        (["-", "--serve"], 1, "standard input cannot be served"),
        (["-", "--compare", "-"], 1, "only one of two layouts"),
        (["spec.bsl:near", "-D", "w=4"], 1, "window of even width 4"),
        (["spec.bsl:near", "--seq-len", "999999999"], 3, "MAX_PAGE_ROWS"),
        (["spec.bsl:near", "--documents", "100,x"], 2, "not 'x'"),
        (["spec.bsl:near", "-o", "."], 1, "cannot write to"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    arguments: list[str], status: int, said: str, tmp_path: Path
) -> None:
    write_spec(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "bslang", "explorer", *arguments],
        cwd=tmp_path, env=os.environ | {"COLUMNS": "200"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == status
    assert said in done.stderr
    assert "Traceback" not in done.stderr
