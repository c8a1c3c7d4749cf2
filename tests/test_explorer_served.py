"""The explorer's page from its server, in a browser: what is asked of the compiler as the reader goes on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from browsed import INK, expect, served
from explored import SPEC, write_spec


def test_a_million_tokens_are_drawn_by_cells_and_then_by_blocks(
    browser: Any, tmp_path: Path
) -> None:
    spec = Path(
        write_spec(tmp_path, "block 64\nbig = window(3) | global(0, -1) | random(2, seed=7)\n")
    )
    with served(browser, spec, "big", (2**20,)) as reader:
        reader.wait_for("scale", "Each cell is 32 x 32 blocks")
        assert "16,384 by 16,384 blocks" in reader.text("about")
        reader.page.locator("#stage").focus()
        reader.press("ArrowDown", "End")
        assert reader.text("readout").startswith(
            "Block rows 0 to 31, columns 16,352 to 16,383: "
        ) and "most by global(0, -1)" in reader.text("readout")
        reader.press("Escape", *["+"] * 20)
        expect(reader.page.locator("#scale")).to_be_empty()
        reader.page.locator("#stage").focus()
        reader.press("ArrowDown")
        reader.press(*["ArrowRight"] * 2)
        reader.wait_for("readout", "Block (0, 2): full, global(0, -1).")


def test_documents_are_typed_and_reasons_are_marked_in_the_spec(
    browser: Any, tmp_path: Path
) -> None:
    spec = Path(write_spec(tmp_path, "block 16\npacked = same(doc) & causal\n"))
    with served(browser, spec, "packed") as reader:
        assert reader.text("figure-pairs") == "not decided"
        reader.page.locator("[id='set-0-same(doc)']").fill("10,50,33")
        reader.wait_for("figure-pairs", "2,521")  # 55 + 1,275 + 561, and 630 of the rest
        reader.page.locator("#why-q").fill("12")
        reader.page.locator("#why-k").fill("5")
        reader.page.locator("#why-k").press("Enter")
        reader.wait_for("verdict", "Query 12 does not see key 5.")
        reader.wait_for("reasons", "removes it")
        marks = reader.page.locator("#sources mark")
        assert [(each.text_content(), each.get_attribute("class")) for each in marks.all()] == [
            ("same(doc)", "takes"),
            ("causal", "has"),
        ]
        reader.page.locator("[id='set-0-same(doc)']").fill("10,x")
        reader.wait_for("notice", "lengths of documents")


def test_a_spec_is_edited_in_the_page(browser: Any, tmp_path: Path) -> None:
    spec = Path(write_spec(tmp_path))
    with served(browser, spec, "near") as reader:
        area = reader.page.locator("textarea")
        area.fill(SPEC.replace("window(w) |", "widow(w) |"))
        reader.wait_for("diagnostics", "unknown")
        assert "window(3)" in reader.text("spec")  # the last good picture stays
        assert reader.page.locator("#sources mark").text_content() == "widow"
        assert reader.text("edited")
        area.fill(SPEC.replace("window(w) |", "cols(w) |"))
        reader.wait_for("spec", "cols(3)")
        reader.wait_for("diagnostics", "No errors")
        expect(reader.page).to_have_url(re.compile("#0.spec=.*cols"))
        address = reader.page.evaluate("location.hash")
        reader.page.get_by_role("button", name="Revert to the file").click()
        reader.wait_for("spec", "window(3)")
        expect(reader.page).not_to_have_url(re.compile("spec="))
        reader.page.evaluate("hash => { location.hash = hash; }", address)
        reader.wait_for("spec", "cols(3)")
        (left,) = reader.complaints  # the page that was left follows its events no more
        assert "/events" in left
        reader.complaints.clear()
        assert spec.read_text(encoding="utf-8") == SPEC


def test_heads_are_drawn_side_by_side(browser: Any, tmp_path: Path) -> None:
    text = "block 16\nmany = heads { 0:2 -> window(3); 2 -> cols(0) }\n"
    spec = Path(write_spec(tmp_path, text))
    with served(browser, spec, "many") as reader:
        reader.page.locator("[data-mode=head]").click()
        reader.wait_for("caption0", "heads 0, 1:")
        reader.wait_for("caption1", "head 2:")
        reader.wait_for("legend", "heads 0, 1: window(3)")
        assert reader.page.locator("#stage canvas:visible").count() == 2
        reader.page.locator("#stage").focus()
        reader.press("ArrowDown", "ArrowDown", "ArrowDown", "ArrowDown")
        assert reader.text("readout") == "Block (3, 0): in head 2."
        reader.page.locator("#canvas1").click(position={"x": 100, "y": 100})
        reader.wait_for("verdict", "In head 2: Query ")
        reader.wait_for("reasons", "cols(0)")
        reader.page.locator("[data-mode=a]").click()
        expect(reader.page.locator("#stage canvas:visible")).to_have_count(1)


def test_a_served_page_has_every_head(browser: Any, tmp_path: Path) -> None:
    spec = Path(write_spec(tmp_path, "block 16\nwide = heads { 0:12 -> cols(0:head + 1) }\n"))
    with served(browser, spec, "wide") as reader:
        box = reader.page.get_by_label("Head, any value")
        box.fill("11")
        box.press("Enter")
        reader.wait_for("about", "64 visited")  # all 8 columns of the 8 rows
        box.fill("12")
        box.press("Enter")
        reader.wait_for("notice", "head 12")


def test_a_served_page_asks_and_reloads(browser: Any, tmp_path: Path) -> None:
    spec = Path(write_spec(tmp_path))
    with served(browser, spec, "near") as reader:
        box = reader.page.get_by_label("w, any value")
        box.fill("11")
        box.press("Enter")
        reader.wait_for("spec", "window(11)")
        box.fill("4")
        box.press("Enter")
        reader.wait_for("notice", "even width")
        assert "window(11)" in reader.text("spec")  # the last good picture stays
        box.fill("5")
        box.press("Enter")
        reader.wait_for("spec", "window(5)")
        assert not reader.page.locator("#notice").is_visible()
        spec.write_text(SPEC.replace("window(w) |", "cols(w) |"), encoding="utf-8")
        reader.wait_for("spec", "cols(5)")
        spec.write_text(SPEC.replace("window", "widow"), encoding="utf-8")
        reader.wait_for("diagnostics", "widow")
        assert "cols(5)" in reader.text("spec")
        assert reader.page.locator("#notice").is_visible()
        assert len(reader.page.evaluate(INK)) > 4
        spec.write_text(SPEC, encoding="utf-8")
        reader.wait_for("spec", "window(5)")
        reader.wait_for("diagnostics", "No errors")
