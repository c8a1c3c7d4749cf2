"""Methods of a layout answer as commands do, as objects that print and that notebooks show."""

from __future__ import annotations

import json
from html import unescape
from pathlib import Path

import pytest
from test_cli import Run, run  # noqa: F401  # the fixture

import bslang
from bslang import layouts
from bslang.errors import BslangError, TargetError

SPEC = "(last(300t) | cols(0:4t)) & causal"


@pytest.fixture(scope="module")
def layout() -> bslang.Layout:
    return bslang.compile(SPEC, block=64)


def test_they_print_what_commands_print(layout: bslang.Layout, run: Run) -> None:  # noqa: F811
    """But for the name of the source."""
    options = ["--head-dim", "32", "--heads", "2", "--layers", "3"]
    asked = [
        (layout.show(), ["show"]),
        (layout.show(1000, terms=True), ["show", "--seq-len", "1000", "--terms"]),
        (layout.stats(2048), ["stats", "--seq-len", "2048"]),
        (layout.stats(head_dim=32, heads=2, layers=3), ["stats", *options]),
        (layout.why(900, 2, 4096), ["why", "900", "2", "--seq-len", "4096"]),
        (layout.why(-1, 100), ["why", "16383", "100"]),
    ]
    for answer, (command, *arguments) in asked:
        said = run(command, SPEC, *arguments)
        assert said.status == 0
        assert str(answer) == repr(answer)
        assert str(answer).replace("<spec>", "<expression>") == said.out.rstrip("\n"), command


def test_as_dict_is_what_json_prints(layout: bslang.Layout, run: Run) -> None:  # noqa: F811
    for answer, command in (
        (layout.stats(2048), ["stats", SPEC, "--seq-len", "2048"]),
        (layout.why(900, 2), ["why", SPEC, "900", "2"]),
    ):
        printed = run(*command, "--json").out.replace("<expression>", "<spec>")
        assert json.loads(json.dumps(answer.as_dict())) == json.loads(printed)


def test_notebooks_show_them(layout: bslang.Layout) -> None:
    assert layout.show()._repr_svg_().startswith("<svg") and not hasattr(
        layout.show(), "_repr_html_"
    )
    html = layout.why(900, 2)._repr_html_()
    assert html.startswith("<pre") and "&lt;spec&gt;" in html
    assert unescape(html).count("last(300t)") == str(layout.why(900, 2)).count("last(300t)")
    page = layout.explorer([512, 1024])
    frame = page._repr_html_()
    assert frame.startswith('<iframe srcdoc="') and unescape(page.html[:40]) in unescape(frame)
    assert '"' not in frame[len('<iframe srcdoc="') : frame.index('" sandbox')]


def test_answers_have_their_figures(layout: bslang.Layout) -> None:
    found = layout.stats(2048)
    assert found.stats.tokens == (2048, 2048) and found.properties.causal.holds is True
    assert (layout.why(900, 2).sees, layout.why(2, 900).sees) == (True, False)
    assert bslang.compile("same(doc)").why(3, 2).sees is None


def test_pictures_and_pages_are_saved(layout: bslang.Layout, tmp_path: Path) -> None:
    drawing = layout.show()
    assert drawing.save(tmp_path / "a.svg").read_text(encoding="utf-8") == drawing.svg()
    assert drawing.save(tmp_path / "a.txt").read_text(encoding="utf-8") == f"{drawing}\n"
    assert drawing.save(tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match=r"\.svg, \.png or \.txt file, not a\.jpg"):
        drawing.save(tmp_path / "a.jpg")
    page = layout.explorer(512, compare=bslang.compile("causal"))
    assert page.save(tmp_path / "a.html").read_text(encoding="utf-8") == page.html
    assert repr(page).startswith("explorer of layout and layout: ")


MIXED = "heads { 0:2 -> last((layer + 1) * 64t); 2: -> causal }"


def test_they_speak_of_the_layout_s_own_heads_and_layer(run: Run) -> None:  # noqa: F811
    mixed = bslang.compile(MIXED).at_layer(2)
    said = run("show", MIXED, "--layer", "2", "--head", "1,2").out.rstrip("\n")
    assert str(mixed.at_heads(1).show(head=[0, 1])) == said
    assert not mixed.why(700, 500).sees and bslang.compile(MIXED).at_layer(3).why(700, 500).sees
    assert mixed.at_heads(2).why(700, 0).sees and not mixed.at_heads(1).why(700, 0).sees
    assert (
        mixed.at_heads(2).stats(1024).stats.blocks
        == bslang.compile("causal").stats(1024).stats.blocks
    )
    page = mixed.explorer(1024).html
    assert "192" in page and "(layer + 1)" not in page
    with pytest.raises(ValueError, match=r"heads from 2 on: explore `at_heads\(0\)`"):
        mixed.at_heads(2).explorer()


def test_verify_compares_with_the_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the layout's own heads and layer; wrong kernels are found."""
    mixed = bslang.compile(MIXED, target=["cpu", "torch"]).at_layer(1).at_heads(1)
    found = mixed.verify(100, target="torch", dtype="fp32", head_dim=[16, (16, 8)], heads=2)
    assert any("head dimension 16/8," in call for call in found.calls)
    assert [row.who for row in found.rows] == ["torch on cpu, fp32"] and not found.failures
    assert str(found).endswith(found.good) and "torch on cpu, fp32" in str(found)
    other = layouts.layout_of(mixed._resolved, ("torch",), 0)
    monkeypatch.setattr(layouts.Layout, "_for_target", lambda self, name: other)
    found = mixed.verify(100, target="torch", dtype="fp32", head_dim=16, heads=2)
    assert found.failures and "Do not use this target" in repr(found)


def test_what_does_not_fit_is_refused(layout: bslang.Layout) -> None:
    with pytest.raises(
        ValueError, match=r"numbers, or pairs \(of q and k, of v\), not \(8, 8, 4\)"
    ):
        layout.verify(head_dim=[(8, 8, 4)])  # type: ignore[list-item]  # what is refused
    with pytest.raises(
        TargetError, match="no target 'cuda'; it is compiled for triton, cpu, torch"
    ):
        layout.verify(target="cuda")
    with pytest.raises(
        BslangError, match="key 20000 is out of range for 16384 tokens; seq_len sets another"
    ):
        layout.why(0, 20000)
    for query, key, name in ((1.5, 0, "query"), (0, "1", "key")):
        with pytest.raises(TypeError, match=f"{name} must be an integer, not "):
            layout.why(query, key)  # type: ignore[arg-type]
    for wrong in (0, -1, True, 1.5, "1k"):
        with pytest.raises(ValueError, match="seq_len must be an integer of at least 1"):
            layout.stats(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="head must be an integer of at least 0"):
        layout.show(head=-1)
    with pytest.raises(TypeError, match=r"compare must be a bslang\.Layout, not str"):
        layout.explorer(compare="causal")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a list of at least one"):
        layout.show(head=[])
    with pytest.raises(ValueError, match=r"labels of a call \(doc\)"):
        bslang.compile("same(doc)").stats(measure=True)
    with pytest.raises(ValueError, match=r"labels and selections of a call \(doc, pick\)"):
        bslang.compile("same(doc) & select(pick)").stats(measure=True)
    with pytest.raises(bslang.SpecError, match="E401"):
        bslang.compile("grid(8, 8, radius=1)").show(640)
