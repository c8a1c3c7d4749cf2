"""Pictures: what is in each cell, and what the renderers make of it."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import Case, cases, examples
from test_cli import Run, run

from bslang.analysis.provenance import provenance
from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.picture.colours import PALETTE
from bslang.picture.picture import MOST_TERMS, NO_TERM, Picture, label
from bslang.picture.svg import svg
from bslang.picture.text import PLAIN, SHADED, Look, Room, draw, plain

__all__ = ["run"]  # the fixture

SVG = "{http://www.w3.org/2000/svg}"


def graph_of(case: Case, head: int = 0) -> BlockGraph:
    return case.lowered(head)


def square(spec: str, length: int = 40, block: tuple[int, int] = (4, 4)) -> Case:
    return Case(spec, block, length, length, "end")


def picture_of(case: Case, height: int = 96, width: int = 96, heads: int = 1) -> Picture:
    graphs = [graph_of(case, head) for head in range(heads)]
    return Picture.of(graphs, height, width, case.resolved.pattern)


# ---- cells ---------------------------------------------------------------------------------------


@examples(75)
@given(cases())
def test_a_picture_of_blocks_is_what_the_oracle_says(case: Case) -> None:
    assume(case.has_meaning())
    grid, mask = case.grid, case.mask()
    panel = picture_of(case).panels[0]
    pairs = np.zeros((grid.n, grid.m), dtype=int)
    there = np.zeros_like(pairs)
    q, k = np.indices(mask.shape)
    place = (q + grid.q.start) // grid.q.block, k // grid.k.block
    np.add.at(pairs, place, mask)
    np.add.at(there, place, 1)
    pairs, there = pairs[grid.q.first :], there[grid.q.first :]
    assert np.array_equal(panel.full, (pairs == there).astype(int))
    assert np.array_equal(panel.partial, ((pairs > 0) & (pairs < there)).astype(int))
    assert np.array_equal(panel.term == NO_TERM, pairs == 0)


@examples(50)
@given(cases(), st.integers(1, 7), st.integers(1, 7))
def test_cells_share_the_blocks_out(case: Case, height: int, width: int) -> None:
    assume(case.has_meaning())
    graph = graph_of(case)
    picture = picture_of(case, height, width)
    (panel,), cells = picture.panels, picture.cells
    assert cells.down <= height and cells.across <= width
    assert panel.full.sum() == graph.of_kind(FULL).size
    assert (panel.full + panel.partial).sum() == graph.visited.size
    assert cells.area.sum() == cells.shape[0] * cells.shape[1]
    assert sum(entry.blocks for entry in picture.legend) == graph.visited.size
    held = graph.visited.dense(graph.grid.n)[graph.grid.q.first :]
    brought: dict[str, np.ndarray] = {}  # by text, as in the legend: one term may stand there twice
    for term, runs in provenance(case.resolved.pattern, graph.grid):
        blocks = runs.dense(graph.grid.n)[graph.grid.q.first :].astype(int)
        brought[label(str(term))] = brought.get(label(str(term)), 0) + blocks
    for i in range(cells.down):
        for j in range(cells.across):
            part = np.s_[
                i * cells.per_row : (i + 1) * cells.per_row,
                j * cells.per_column : (j + 1) * cells.per_column,
            ]
            assert panel.full[i, j] + panel.partial[i, j] == held[part].sum()
            assert cells.area[i, j] == held[part].size
            if panel.term[i, j] != NO_TERM:
                most = max(blocks[part].sum() for blocks in brought.values())
                chosen = picture.legend[panel.term[i, j]].text
                assert brought[chosen][part].sum() == most


def test_the_term_of_a_cell_brings_in_most_of_it() -> None:
    picture = picture_of(square("cols(0) | window(3) | rows(-1)"), 2, 2)
    assert [entry.text for entry in picture.legend] == ["cols(0)", "window(3)", "rows(-1)"]
    assert picture.panels[0].term.tolist() == [[1, 1], [0, 1]]
    assert picture_of(square("none"), 2, 2).panels[0].term.tolist() == [[NO_TERM] * 2] * 2


def test_heads_share_a_legend() -> None:
    picture = picture_of(square("heads { 0 -> cols(0); 1 -> window(3) | cols(0) }"), heads=2)
    assert [(entry.text, entry.blocks) for entry in picture.legend] == [
        ("cols(0)", 10 + 8),
        ("window(3)", 28),
    ]
    assert [panel.term[9, 0] for panel in picture.panels] == [0, 0]
    assert [panel.head for panel in picture.panels] == [0, 1]


def test_terms_beyond_the_last_count_as_one() -> None:
    spec = " | ".join(f"diagonals({i})" for i in range(MOST_TERMS + 5))
    picture = picture_of(square(spec, 400))
    assert len(picture.legend) == MOST_TERMS
    last = picture.legend[-1]
    assert last.text.startswith(f"diagonals({MOST_TERMS - 1}) | ") and len(last.text) == 64
    assert last.blocks == sum(100 - i for i in range(MOST_TERMS - 1, MOST_TERMS + 5))


def test_large_layouts_are_drawn_from_their_runs() -> None:
    n = 2**16
    picture = picture_of(square("window(3) | global(0)", 64 * n, (64, 64)))
    assert picture.cells.down == 96
    assert [entry.blocks for entry in picture.legend] == [3 * n - 2, 2 * (n - 2)]


# ---- characters ----------------------------------------------------------------------------------


def test_levels_are_inks() -> None:
    def drawn(spec: str, cells: int, inks: str) -> list[str]:
        return plain(draw(picture_of(square(spec), cells, cells), Look(inks))).splitlines()

    assert drawn("causal & rows(0:2)", 10, PLAIN)[:3] == [
        "++" + 18 * ".",
        "##++" + 16 * ".",
        20 * ".",
    ]
    assert drawn("cols(0) | rows(0:5)", 2, SHADED)[:2] == ["████", "▒▒··"]
    assert drawn("all", 1, PLAIN) == [
        "##",
        "",
        "each cell up to 10 x 10 blocks:  .. empty  --  ++  ** fuller  ## full",
    ]


def test_a_large_sparse_layout_has_its_shape_in_few_inks() -> None:
    picture = picture_of(square("window(3) | rows(0) | random(2)", 2**16), 20, 20)
    rows = plain(draw(picture, Look())).splitlines()
    assert rows[0] == "##" + "++" * 19  # the row of rows(0)
    for i, row in enumerate(rows[1:20], 1):
        assert row == "--" * i + "**" + "--" * (19 - i)  # window(3) in what random(2) brings in
    assert rows[-1].startswith("each cell up to 820 x 820 blocks, at most 0.")
    assert rows[-1].endswith("% full:  .. empty  --  ++  ** fuller  ## fullest")


def test_the_fullest_cell_of_a_large_layout_is_drawn_in_full_strength() -> None:
    case = square("last(8) | cols(0)", 2**20)
    drawn = svg(case.resolved.pattern, [graph_of(case)])
    assert "2731 blocks, at most 0.329% full; the paler, the emptier" in drawn
    first, second = PALETTE[:2]
    assert f'fill="{first}"><title>' in drawn and f'fill="{second}" fill-opacity="' in drawn
    assert f'fill="{second}"><title>' not in drawn  # one column, where the window has eight blocks


def test_half_blocks_hold_two_cells() -> None:
    case = square("rows(0) | (causal & rows(-1)) | cols(1)", 12)
    lines = draw(picture_of(case), Look(colours=True, halves=True))
    blue, orange, green = PALETTE[:3]
    assert lines[0] == [("▀", blue), ("▀", f"{blue} on {green}"), ("▀", blue)]
    assert lines[1][:2] == [("▀", orange)] * 2
    assert lines[1][2] == ("▀", "#c09330")  # partial: with grey in it
    assert (
        draw(picture_of(square("rows(-1)", 8)), Look(colours=True, halves=True))[0]
        == [("▄", blue)] * 2
    )
    assert [line[0] for line in lines[-3:]] == [("##", blue), ("##", orange), ("##", green)]


@pytest.mark.parametrize("panels", [1, 2, 3, 5, 16])
@pytest.mark.parametrize(("lines", "columns"), [(24, 80), (50, 200), (30, 40)])
def test_pictures_fit_the_window(panels: int, lines: int, columns: int) -> None:
    room = Room.of(panels, lines, columns)
    for halves in (False, True):
        case = square("cols(0) | last(head + 1)", 4000)
        picture = picture_of(case, *room.cells(halves), heads=panels)
        drawn = draw(picture, Look(colours=True, halves=halves), room.per_line)
        wide = max(len(line) for line in plain(drawn[:-3]).splitlines())
        assert wide <= columns
        stacked = -(-panels // room.per_line)
        assert len(drawn) - 3 <= max(lines, 10 * stacked) + 1
        assert plain(drawn).count("head ") == (panels if panels > 1 else 0) + 1  # one in the legend


# ---- SVG and PNG ---------------------------------------------------------------------------------


def titles(text: str) -> list[str]:
    return [str(rect.text) for rect in ET.fromstring(text).findall(f".//{SVG}rect/{SVG}title")]


@examples(40)
@given(cases(), st.sampled_from([3, 96]))
def test_svg_says_of_every_patch_what_it_holds(case: Case, cells: int) -> None:
    assume(case.has_meaning())
    graph = graph_of(case)
    text = svg(case.resolved.pattern, [graph], "layout", cells=cells)
    counted = np.array([re.findall(r"(\d+) full, (\d+) partial", t)[0] for t in titles(text)], int)
    full = graph.of_kind(FULL).size
    assert counted.reshape(-1, 2).sum(0).tolist() == [full, graph.visited.size - full]
    assert text == svg(case.resolved.pattern, [graph], "layout", cells=cells)


def test_svg_stands_alone_and_is_escaped() -> None:
    case = square("(last(2) | {i, j : j < i & i - j > 3}) & causal")
    text = svg(case.resolved.pattern, [graph_of(case)] * 6, '<b>&"name')
    root = ET.fromstring(text)
    assert root.get("role") == "img" and '<b>&"name' in str(root.get("aria-label"))
    assert str(root.findtext(f"{SVG}title")).startswith('<b>&"name: ')
    assert "j < i" in "".join(titles(text))
    assert not re.search(r"href|url\(|@import|<script|\son\w+=", text)
    assert text.count("http") == 1  # the namespace
    assert "prefers-color-scheme:dark" in text
    left = {panel.get("x") for panel in root.findall(f"{SVG}svg")}
    assert (len(root.findall(f"{SVG}svg")), len(left)) == (6, 4)  # four side by side


def test_svg_of_a_large_layout_is_small() -> None:
    case = square("window(3) | global(0) | random(3, seed=1)", 10**6, (64, 64))
    assert len(svg(case.resolved.pattern, [graph_of(case)])) < 300_000


def test_labels_are_one_printable_line() -> None:
    assert label("a\nb\x1b[0m\x00") == "a?b?[0m?"
    assert label("x" * 100) == "x" * 61 + "..."


# ---- the program ---------------------------------------------------------------------------------


def test_show_draws_heads_side_by_side(run: Run) -> None:
    spec = b"heads { 0 -> last(1); 1: -> cols(0) }"
    done = run("show", "-", "--head", "0,2:4", "--seq-len", "128", stdin=spec)
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines()[3:] == [
        "head 0  head 2  head 3",
        "##..    ##..    ##..",
        "..##    ##..    ##..",
        "",
        "each cell a block:  .. empty  ++ partial  ## full",
    ]


def test_show_writes_files(run: Run) -> None:
    done = run("show", "spec.bsl:near", "--svg", "near.svg", "--png", "near.png")
    assert (done.status, done.out, done.err) == (0, "near.svg\nnear.png\n", "")
    assert ET.parse("near.svg").getroot().tag == f"{SVG}svg"
    assert Path("near.png").read_bytes().startswith(b"\x89PNG")
    assert run("show", "spec.bsl:near", "--svg", "-").out == Path("near.svg").read_text("utf-8")
    first = Path("near.png").read_bytes()
    assert run("show", "spec.bsl:near", "--head", "0", "--png", "near.png").status == 0
    assert Path("near.png").read_bytes() == first
    assert run("show", "spec.bsl:near", "--head", "0:5", "--png", "heads.png").status == 0


def test_png_without_matplotlib_says_what_to_install(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = run("show", "spec.bsl:near", "--png", "near.png")
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        "error: this needs matplotlib 3.8 or newer, which is not installed; "
        'run: pip install "bslang[plot]"\n'
    )
    assert not Path("near.png").exists()


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ("x", "is not a list of heads"),
        ("1,", "is not a list of heads"),
        ("3:3", "names 0 heads"),
        ("0:17", "names 17 heads"),
        ("4096", "heads go up to 4095"),
    ],
)
def test_show_refuses_what_names_no_heads(run: Run, heads: str, message: str) -> None:
    done = run("show", "spec.bsl:near", "--head", heads)
    assert done.status == 2
    assert message in re.sub(r"[\s│]+", " ", done.err)


def test_show_refuses_to_replace_what_is_no_file(run: Run) -> None:
    Path("folder").mkdir()
    done = run("show", "spec.bsl:near", "--svg", "folder")
    assert (done.status, done.err) == (1, "error: cannot write to folder: not a file\n")


def on_a_terminal(*options: str, **env: str) -> str:
    """What `bslang show` of a small layout writes to a terminal."""
    ours, theirs = pty.openpty()
    program = "from bslang.cli.main import main; main()"
    spec = b"(last(2) | cols(0)) & causal"
    settings = {
        "TERM": "xterm-256color",
        "PYTHONIOENCODING": "utf-8",
        "COLUMNS": "80",
        "LINES": "40",
    }
    kept = {
        key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")
    }
    with subprocess.Popen(
        [sys.executable, "-c", program, "show", "-", "--seq-len", "640", *options],
        stdin=subprocess.PIPE, stdout=theirs, env=kept | settings | env,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(spec)
        process.stdin.close()
        os.close(theirs)
        output = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            output += part
    os.close(ours)
    assert process.returncode == 0
    return output.decode().replace("\r\n", "\n")


def test_colours_are_for_terminals_that_want_them() -> None:
    coloured = on_a_terminal()
    assert "\x1b[" in coloured and "██" in coloured
    bare = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert "▒▒" in bare and "██ last(2): 19 blocks" in bare
    for quiet in (on_a_terminal(NO_COLOR="1"), on_a_terminal(TERM="dumb")):
        assert "\x1b" not in quiet and "██▒▒" in quiet
    ascii_only = on_a_terminal("--ascii")
    assert ascii_only.isascii() and "\x1b" not in ascii_only and "##++" in ascii_only
    latin = on_a_terminal(PYTHONIOENCODING="latin-1")
    assert re.sub(r"\x1b\[[0-9;]*m", "", latin).isascii() and "\x1b[" in latin
    lettered = on_a_terminal("--terms")
    assert "aa" in lettered and "\x1b[" in lettered
    assert "▀" in on_a_terminal(
        "--seq-len", "8192"
    )  # half blocks, where cells of two characters are few
