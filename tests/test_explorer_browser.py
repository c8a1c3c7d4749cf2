"""The explorer's page in a browser: headless Chromium draws it, and is driven by keys and pointers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from browsed import INK, expect, reading
from explored import SPEC, write_spec

from bslang.explorer.data import data
from bslang.explorer.page import page as page_of
from bslang.explorer.subject import Subject
from bslang.resolve.sources import source_of
from bslang.syntax.source import Source


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a page with two layouts, as a file."""
    folder = tmp_path_factory.mktemp("page")
    source = source_of(Path(write_spec(folder, f"{SPEC}odd = window(3) | window(5)\n")))
    both = [
        Subject(name, source, name, lengths=(128, 256, 512)) for name in ("near", "causal_near")
    ]
    (folder / "page.html").write_text(page_of(data(both)), encoding="utf-8")
    return (folder / "page.html").as_uri()


def test_it_draws_and_says_what_it_draws(browser: Any, file: str) -> None:
    with reading(browser, file) as reader:
        colours = reader.page.evaluate(INK)
        assert "0,114,178,255" in colours  # the first term, in full blocks
        assert len(colours) > 4
        said = reader.page.locator("#canvas0").get_attribute("aria-label")
        assert "256 tokens, 16 by 16 blocks of 16 by 16" in said
        assert "window(3): 46 blocks" in said
        assert reader.text("spec") == "block 16x16\nwindow(3) | random(1, seed=5)"
        assert reader.text("figure-blocks") in said


def test_a_short_last_block_ends_with_the_tokens(browser: Any, tmp_path: Path) -> None:
    source = source_of(Path(write_spec(tmp_path, "block 16\nall")))
    made = page_of(data([Subject("spec.bsl", source, lengths=(1,))]))
    (tmp_path / "page.html").write_text(made, encoding="utf-8")
    alpha = """places => {
      const { width, height } = canvas0;
      const row = canvas0.getContext("2d").getImageData(0, Math.round(height / 2), width, 1).data;
      return places.map((at) => row[4 * Math.round(width * at) + 3]);
    }"""
    with reading(browser, (tmp_path / "page.html").as_uri()) as reader:
        assert "1 token, 1 by 1 block of 16 by 16" in reader.text("about")
        assert reader.page.evaluate(alpha, [0.02, 0.5, 0.98]) == [0, 255, 0]


def test_sliders_change_density_cost_and_picture(browser: Any, file: str) -> None:
    with reading(browser, file) as reader:
        density, cost = reader.text("figure-density"), reader.text("figure-flops")
        before = reader.page.locator("#canvas0").screenshot()
        reader.set("set-0-w", 4)
        reader.wait_for("spec", "window(9)")
        assert float(reader.text("figure-density")[:-1]) > float(density[:-1])
        assert reader.text("figure-flops") != cost
        assert reader.page.locator("#canvas0").screenshot() != before
        reader.set("set-0-seq-len", 2)
        reader.wait_for("about", "512 tokens")
        assert reader.page.locator("#set-0-seq-len").get_attribute("aria-valuetext") == "512 tokens"


def test_everything_can_be_done_by_keys(browser: Any, file: str) -> None:
    with reading(browser, file) as reader:
        for _ in range(16):  # the picture is reached by Tab
            reader.press("Tab")
            if reader.page.evaluate("document.activeElement.id") == "stage":
                break
        assert reader.page.evaluate("document.activeElement.id") == "stage"
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert reader.page.evaluate(outline) == "solid"
        reader.press("ArrowDown", "ArrowDown", "ArrowRight")
        readout = reader.text("readout")
        assert readout.startswith(
            "Block (1, 1): full, window(3). Row 1 (tokens 16 to 31) attends to"
        )
        whole = reader.page.locator("#canvas0").screenshot()
        reader.press("+", "+", "Shift+ArrowRight")
        assert reader.page.locator("#canvas0").screenshot() != whole
        reader.press("0")
        assert reader.page.locator("#canvas0").screenshot() == whole
        reader.press("End")
        assert reader.text("readout").startswith("Block (1, 15): ")
        reader.press("?")
        assert reader.page.locator("#help").is_visible()
        reader.press("Escape", "Escape")
        assert reader.text("readout").startswith("Point at a block")


def test_the_receptive_field_layer_by_layer(browser: Any, file: str) -> None:
    with reading(browser, file) as reader:
        reader.press("m")  # nothing happens while the picture has no focus
        reader.page.locator("#stage").focus()
        reader.press("m")  # B: a window with nothing random
        reader.wait_for("caption0", "causal_near")
        reader.press("m", "m", "m")
        reader.page.locator("#from").fill("8")
        reader.page.locator("#from").press("Enter")
        reader.wait_for("field", "After 1 layer, block 8 has received from")
        first = reader.page.locator("#canvas0").screenshot()
        reader.page.locator("#forth").click()
        reader.wait_for("field", "After 2 layers")
        assert reader.page.locator("#canvas0").screenshot() != first
        reader.page.locator("#play").click()
        reader.wait_for("field", ": all.")
        reader.page.locator("#clear").click()
        reader.wait_for("field", "Choose a row")


def test_the_field_reaches_what_the_compiler_says(browser: Any, file: str) -> None:
    """Over all blocks, the page's search finds the coverage that the compiler gave."""
    with reading(browser, file) as reader:
        rows = int(reader.page.locator("#from").get_attribute("max")) + 1
        found = []
        for block in range(rows):
            reader.page.locator("#from").fill(str(block))
            reader.page.locator("#from").press("Enter")
            found.append(int(reader.text("field").split(" from ")[1].split(" of ")[0]))
        share = reader.page.locator("#coverage span:nth-of-type(3)").inner_text()
        assert f"{sum(found) / rows**2:.2%}" == share


def test_what_stands_beside_the_picture_is_about_the_layout_drawn(browser: Any, file: str) -> None:
    with reading(browser, file) as reader:
        reader.page.locator("#from").fill("8")
        reader.page.locator("#from").press("Enter")
        reader.wait_for("field", "block 8 has received from 4 of 16")
        reader.page.locator("[data-mode=b]").click()
        assert reader.text("h-compiled").startswith("Compiled of B")
        assert reader.text("spec") == "block 16x16\nwindow(3) & causal"
        assert reader.text("about").startswith("B: Rows are queries")
        assert "Some blocks never receive" in reader.text("coverage")
        reader.wait_for("field", "block 8 has received from 2 of 16")  # the field goes along
        reader.page.locator("#stage").focus()
        reader.press("ArrowDown")
        assert reader.text("readout").startswith("Block (0, 0): partial, window(3) & causal. Row 0")
        reader.page.locator("[data-mode=side]").click()
        assert reader.text("h-compiled").startswith("Compiled of A")
        reader.page.locator("#stage").focus()
        reader.press("ArrowDown")
        said = "Block (1, 0): in A full, window(3); in B full, window(3) & causal."
        assert reader.text("readout") == said


def test_a_long_name_leaves_room_for_the_picture(browser: Any, tmp_path: Path) -> None:
    name = "n" * 3000
    source = source_of(
        Path(write_spec(tmp_path, f"block 16\n{name}(w_{name} = 3) = window(w_{name})"))
    )
    made = page_of(data([Subject(f"spec.bsl:{name}", source, name, lengths=(128,))]))
    (tmp_path / "page.html").write_text(made, encoding="utf-8")
    address = (tmp_path / "page.html").as_uri()
    with reading(browser, address, viewport={"width": 390, "height": 844}) as reader:
        box = reader.page.locator("#canvas0").bounding_box()
        assert box["y"] + box["height"] < 844
        assert reader.page.evaluate("document.documentElement.scrollWidth") <= 390
        assert reader.page.locator("#title").get_attribute("title") == f"spec.bsl:{name}"


def test_two_layouts_side_by_side_and_their_difference(browser: Any, file: str) -> None:
    with reading(browser, file) as reader:
        reader.page.locator("[data-mode=side]").click()
        assert reader.page.locator("#canvas1").is_visible()
        assert reader.text("figure-density") != reader.text("figure-density1")
        reader.page.locator("[data-mode=difference]").click()
        assert not reader.page.locator("#canvas1").is_visible()
        only_a, only_b, both = (
            int(reader.text(f"figure-{id}")) for id in ("difference", "difference1", "both")
        )
        assert only_a + both == int(reader.text("figure-blocks"))
        assert only_b + both == int(reader.text("figure-blocks1"))
        assert {"0,114,178,255", "87,96,106,255"} <= set(reader.page.evaluate(INK))
        reader.page.locator("[data-mode=hold]").click()  # A as it is now stands for B
        reader.set("set-0-w", 3)
        reader.wait_for("spec", "window(7)")
        assert int(reader.text("figure-difference")) > 0
        assert reader.text("figure-difference1") == "0"
        reader.page.locator("[data-mode=b]").click()
        for _ in range(6):  # what is held has its masks, too
            reader.page.locator("#in").click()
        reader.page.locator("#canvas0").click()
        assert reader.text("verdict").startswith("Query ")


def test_diagnostics_lead_to_their_line(browser: Any, file: str) -> None:
    with reading(browser, file) as reader:
        entry = reader.page.locator("#diagnostics button")
        assert entry.inner_text().startswith("warning W403: `window(3)` adds nothing")
        entry.click()
        assert reader.page.evaluate("document.activeElement.innerText").startswith("odd = ")
        assert reader.page.locator("mark").inner_text() == "window(3)"


def test_the_spec_is_copied(browser: Any, file: str) -> None:
    with reading(browser, file, permissions=["clipboard-read", "clipboard-write"]) as reader:
        reader.page.locator("#copy").click()
        reader.wait_for("copy", "Copied")
        copied = reader.page.evaluate("navigator.clipboard.readText()")
        assert copied == "block 16x16\nwindow(3) | random(1, seed=5)\n"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_themes_follow_the_system_and_the_button(browser: Any, file: str, theme: str) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    grounds = {"light": "rgb(251, 251, 249)", "dark": "rgb(21, 23, 27)"}
    other = "light" if theme == "dark" else "dark"
    with reading(browser, file, color_scheme=theme) as reader:
        assert reader.page.evaluate(ground) == grounds[theme]
        reader.page.locator("#theme").click()
        assert reader.page.evaluate(ground) == grounds[other]


@pytest.mark.parametrize("width", [360, 800, 1280])
def test_no_width_scrolls_sideways(browser: Any, file: str, width: int) -> None:
    with reading(browser, file, viewport={"width": width, "height": 740}) as reader:
        for mode in ("a", "side", "difference"):
            reader.page.locator(f"[data-mode={mode}]").click()
            assert reader.page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_pointer_moves_zooms_and_points(browser: Any, file: str) -> None:
    with reading(browser, file) as reader:
        box = reader.page.locator("#canvas0").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        reader.page.mouse.move(x, y)
        assert reader.text("readout").startswith("Block (")
        whole = reader.page.locator("#canvas0").screenshot()
        reader.page.mouse.wheel(0, -400)
        expect(reader.page.locator("#stage")).to_have_attribute("style", "touch-action: none;")
        zoomed = reader.page.locator("#canvas0").screenshot()
        assert zoomed != whole
        reader.page.mouse.down()
        reader.page.mouse.move(x - 60, y - 40, steps=4)
        reader.page.mouse.up()
        assert reader.page.locator("#canvas0").screenshot() != zoomed
        assert reader.text("field").startswith("Choose a row")  # a drag is no click
        reader.page.mouse.click(x, y)
        assert reader.text("verdict").startswith("Query ")
        reader.page.keyboard.down("Shift")
        reader.page.mouse.click(x, y)
        reader.page.keyboard.up("Shift")
        assert reader.text("field").startswith("After 1 layer")


def test_pairs_of_large_blocks_and_the_address_of_a_picture(browser: Any, file: str) -> None:
    """Masks are in the file: a pair on the other side of the diagonal is not seen, and so says the page."""
    with reading(browser, f"{file}#mode=b&zoom=8,0.5,0.5&pair=130,129") as reader:
        reader.wait_for("verdict", "Query 130 sees key 129.")
        pale = reader.page.evaluate(INK)
        reader.page.locator("#why-k").fill("131")
        reader.page.locator("#why-k").press("Enter")
        reader.wait_for("verdict", "Query 130 does not see key 131.")
        reader.wait_for("reasons", "bslang why causal_near 130 131 --seq-len 256 -D w=3")
        expect(reader.page).to_have_url(re.compile("pair=130,131"))
        assert "mode=b&zoom=8,0.5,0.5" in reader.page.evaluate("location.hash")
        assert "0,114,178,255" in pale and len(pale) > 6
        assert reader.page.locator("#map").is_visible()
        reader.page.locator("#fit").click()
        expect(reader.page.locator("#map")).to_be_hidden()


def test_a_picture_is_saved_as_svg_and_png(browser: Any, file: str) -> None:
    with reading(browser, file) as reader:
        for mode in ("a", "side"):
            reader.page.locator(f"[data-mode={mode}]").click()
            with reader.page.expect_download() as saved:
                reader.page.locator("#svg").click()
            drawing = ElementTree.parse(saved.value.path())
            words = [each.text for each in drawing.iter("{http://www.w3.org/2000/svg}text")]
            fills = {each.get("fill") for each in drawing.iter("{http://www.w3.org/2000/svg}rect")}
            assert {"window(3)", "128"} | ({"tokens", "blocks"} if mode == "a" else set()) <= set(
                words
            )
            assert {"#0072b2", "#e69f00"} <= fills
        assert saved.value.suggested_filename == "near.svg"
        with reader.page.expect_download() as saved:
            reader.page.locator("#png").click()
        assert Path(saved.value.path()).read_bytes().startswith(b"\x89PNG")


# ---- in the site ---------------------------------------------------------------------------------


def test_the_frame_of_the_playground_is_light_or_dark_as_its_page(browser: Any) -> None:
    source = Source("near.bsl", "near = window(3)")
    script = Path(__file__).parent.parent / "docs" / "theme" / "playground.js"
    served = {
        "/": '<body data-md-color-scheme="default"><iframe class="explorer" src="frame.html"></iframe>'
        '<script src="playground.js"></script>',
        "/frame.html": page_of(data([Subject("near", source, lengths=(128,))])),
        "/playground.js": script.read_text(encoding="utf-8"),
    }
    types = {"js": "text/javascript"}
    page = browser.new_page(color_scheme="dark")
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))

    def answer(route: Any) -> None:
        path = "/" + route.request.url.partition("://")[2].partition("/")[2]
        kind = types.get(path.rpartition(".")[2], "text/html")
        route.fulfill(body=served[path], content_type=f"{kind}; charset=utf-8")

    page.route("http://site.example/**", answer)
    page.goto("http://site.example/")
    frame = page.frame_locator("iframe")
    frame.locator("html[data-theme=light]").wait_for(state="attached")
    page.evaluate("document.body.dataset.mdColorScheme = 'slate'")
    frame.locator("html[data-theme=dark]").wait_for(state="attached")
    page.evaluate("document.body.dataset.mdColorScheme = 'default'")
    page.evaluate("document.querySelector('iframe').src = 'frame.html'")  # another layout
    frame.locator("html[data-theme=light]").wait_for(state="attached")
    empty = "'contentDocument', { value: new Document() }"  # as while the frame loads
    page.evaluate(f"void Object.defineProperty(document.querySelector('iframe'), {empty})")
    page.evaluate("document.body.dataset.mdColorScheme = 'slate'")
    page.evaluate("new Promise(requestAnimationFrame)")
    assert errors == []
    page.close()
