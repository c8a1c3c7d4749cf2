"""What the explorer draws, against the oracle: cells of many blocks, token masks, documents."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from explored import read_rows

from bslang import compiler
from bslang.budget import limited
from bslang.errors import LimitError
from bslang.explorer import drawn as drawns
from bslang.explorer import masks as masked
from bslang.explorer.data import data
from bslang.explorer.documents import Documents, lengths
from bslang.explorer.drawn import Drawn
from bslang.explorer.reasons import reasons
from bslang.explorer.subject import Subject
from bslang.syntax.source import Source

SPECS = {
    "bigbird": "block 16\nwindow(3) | global(0, -1) | random(2, seed=7)",
    "tokens": "block 16\n(last(50t) | cols(0:4t)) & causal",
    "not square": "block 32x16\n(last(48t) | cols(0:40t)) & causal",
    "all": "block 16\nall",
    "none": "block 16\nall - all",
    "by token": "block 16\n{q, k : (q * k) % 7 == 0} & causal",
}


def drawn(spec: str, length: int, **documents: tuple[int, ...]) -> Drawn:
    resolved = compiler.resolve(Source("s.bsl", spec))
    return Drawn.of(resolved, Documents(documents), length, 0, 0)


def blocks(spec: str, length: int) -> tuple[Any, Any]:
    """The dense oracle's full and partial blocks, as boolean matrices."""
    resolved = compiler.resolve(Source("s.bsl", spec))
    mask = compiler.mask(resolved, length, length)
    tall, wide = resolved.block
    n, m = -(-length // tall), -(-length // wide)
    whole = np.zeros((n * tall, m * wide), dtype=bool)
    whole[:length, :length] = mask
    filler = np.ones_like(whole)
    filler[:length, :length] = mask
    some, every = (part.reshape(n, tall, m, wide) for part in (whole, filler))
    any_ = some.any(axis=(1, 3))
    full = every.all(axis=(1, 3)) & any_
    return full, any_ & ~full


def filled(cells: list[int], shape: tuple[int, int]) -> tuple[Any, Any]:
    """Full and partial blocks of each cell, as matrices."""
    found = np.zeros((2, *shape), dtype=np.int64)
    for i, row in enumerate(read_rows(cells, shape[0], 3)):
        for start, stop, _, *counts in row:
            found[:, i, start:stop] = np.array(counts)[:, None]
    return found[0], found[1]


def summed(matrix: Any, side: int) -> Any:
    down, across = (-(-size // side) for size in matrix.shape)
    padded = np.zeros((down * side, across * side), dtype=np.int64)
    padded[: matrix.shape[0], : matrix.shape[1]] = matrix
    return padded.reshape(down, side, across, side).sum(axis=(1, 3))


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("length", [320, 333])
def test_cells_of_every_level_hold_the_blocks_of_the_oracle(
    kind: str, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawns, "TILE", 4)
    full, partial = blocks(SPECS[kind], length)
    found = drawn(SPECS[kind], length)
    for level in range(4):
        side = 1 << level
        wanted = summed(full, side), summed(partial, side)
        got = [np.zeros_like(matrix) for matrix in wanted]
        for down in range(0, -(-wanted[0].shape[0] // 4)):
            for across in range(0, -(-wanted[0].shape[1] // 4)):
                at = np.s_[4 * down : 4 * down + 4, 4 * across : 4 * across + 4]
                tile = filled(found.cells(level, down, across), wanted[0][at].shape)
                for matrix, part in zip(got, tile, strict=True):
                    matrix[at] = part
        assert all(map(np.array_equal, got, wanted)), level
    with pytest.raises(ValueError, match="no tile"):
        found.cells(0, 100, 0)


def test_a_cell_has_the_term_of_most_of_its_blocks() -> None:
    found = drawn("block 16\nlast(1) | cols(0:2)", 256)
    first, second, *_ = read_rows(found.cells(2, 0, 0), 4, 3)
    assert first == [(0, 1, 1, 10, 0)]  # 6 of these blocks are of the columns alone
    assert second == [(0, 1, 1, 8, 0), (1, 2, 0, 4, 0)]


def test_the_whole_picture_is_made_of_coarse_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SPECS["bigbird"]
    assert drawn(spec, 320).coarse() is None  # 20 blocks are no more than cells
    monkeypatch.setattr(drawns, "COARSE", 6)
    full, partial = blocks(spec, 333)
    found = drawn(spec, 333)
    coarse = found.coarse()
    assert coarse is not None and coarse[0] == 2  # 21 blocks in 6 cells of 4
    for got, wanted in zip(filled(coarse[1], (6, 6)), (full, partial), strict=True):
        assert np.array_equal(got, summed(wanted, 4))
    monkeypatch.setattr(drawns, "MAX_PAGE_RUNS", 5)
    assert not found.exact
    coarser = found.coarse()
    assert coarser is not None and coarser[0] > 2
    view = Subject("s", Source("s.bsl", spec), lengths=(333,)).view({})
    assert view["runs"] is None and view["masks"] is None and view["coarse"] == coarser


def test_a_million_tokens_are_counted_exactly() -> None:
    spec = "block 64\nwindow(3) | global(0, -1) | random(2, seed=7)"
    with limited():
        (layout,) = data([Subject("s", Source("s.bsl", spec), lengths=(2**20,))])["layouts"]
        (view,) = layout["views"]
    figures = view["figures"]
    assert (view["rows"], view["columns"], view["runs"]) == (16384, 16384, None)
    assert figures["blocks"] > 16384 * 5
    level, cells = view["coarse"]
    full, partial = filled(cells, (512, 512))
    assert level == 5
    assert (full.sum(), partial.sum()) == (figures["full"], figures["partial"])
    found = drawn(spec, 2**20)
    with limited():
        tiles = [found.cells(5, down, across) for down in range(2) for across in range(2)]
        near = found.cells(0, 63, 63)
    assert sum(int(filled(tile, (256, 256))[0].sum()) for tile in tiles) == figures["full"]
    rows = read_rows(near, 256, 3)
    # The last row and column are global, and the row before is a window beside them.
    assert rows[-1][-1][1] == 256 and rows[-1][0][0] == 0
    assert all(row[-1][1] == 256 for row in rows)
    assert len(str(view)) < 2_000_000


# ---- token masks ---------------------------------------------------------------------------------


def mask_of(bits: list[int], sides: tuple[int, int]) -> Any:
    flat = np.repeat(np.arange(len(bits)) % 2 == 1, bits)
    return flat.reshape(sides)


def masks_of(found: Drawn) -> dict[tuple[int, int], Any]:
    """The masks that a view has, by block."""
    made = masked.embedded(found)
    assert made is not None
    places = np.repeat(made["of"][::2], made["of"][1::2])
    partial = [
        (i, j)
        for i, row in enumerate(read_rows(found.runs(), found.graph.grid.n, 1))
        for start, stop, look in row
        for j in range(start, stop)
        if look % 2
    ]
    assert len(partial) == places.size
    return {
        block: mask_of(made["bits"][place], found.resolved.block)
        for block, place in zip(partial, places.tolist(), strict=True)
        if place >= 0
    }


@pytest.mark.parametrize("kind", ["tokens", "not square", "by token"])
def test_masks_of_partial_blocks_are_the_oracles(kind: str) -> None:
    spec, length = SPECS[kind], 125
    found = drawn(spec, length)
    resolved = compiler.resolve(Source("s.bsl", spec))
    mask = compiler.mask(resolved, length, length)
    tall, wide = resolved.block
    _, partial = blocks(spec, length)
    known = masks_of(found)
    assert set(known) == set(map(tuple, np.argwhere(partial).tolist()))
    asked = masked.within(found, (1, 3), (0, 6))
    at = np.array(asked["at"]).reshape(-1, 3).tolist()
    assert {(i, j) for i, j, _ in at} == {(i, j) for i, j in known if 1 <= i < 3 and j < 6}
    for i, j, place in at:
        assert np.array_equal(mask_of(asked["bits"][place], (tall, wide)), known[i, j])
    for (i, j), got in known.items():
        wanted = mask[tall * i : tall * (i + 1), wide * j : wide * (j + 1)]
        assert np.array_equal(got[: wanted.shape[0], : wanted.shape[1]], wanted)
        assert got.sum() == wanted.sum()


def test_masks_that_repeat_are_held_once_and_many_are_left_to_the_server() -> None:
    repeated = masked.embedded(drawn("block 16\nlast(100t) & causal", 16 * 100))
    assert repeated is not None and len(repeated["bits"]) == 3
    many = drawn("block 16\n{q, k : (q * 31 + k * k) % 1009 < 500}", 16 * 20)
    assert masked.embedded(many) is None
    with pytest.raises(LimitError, match="1,600 blocks at once"):
        masked.within(
            drawn("block 16\n{q, k : (q * 31 + k * k) % 1009 < 500}", 16 * 40), (0, 40), (0, 40)
        )
    assert len(masked.within(many, (0, 5), (0, 5))["bits"]) == 25


def test_views_of_a_page_share_their_masks() -> None:
    spec = "block 16\np(w = 3) = last(w) & causal"
    (layout,) = data([Subject("s", Source("s.bsl", spec), "p", lengths=(64, 128))])["layouts"]
    assert len(layout["views"]) > 4
    assert len(layout["masks"]) == 1
    assert all(view["masks"] == {"of": [0, view["rows"]]} for view in layout["views"])


# ---- documents -----------------------------------------------------------------------------------


def test_documents_are_the_labels_of_the_oracle() -> None:
    spec = "block 16\n(same(doc) & causal) | (same(turn) - cols(0)).T"
    length, given = 125, {"doc": (10, 50, 33), "turn": (64, 200)}
    found = drawn(spec, length, **given)
    resolved = compiler.resolve(Source("s.bsl", spec))
    ids = {
        name: np.repeat(np.arange(len(widths) + 1), [*widths, length])[:length]
        for name, widths in given.items()
    }
    mask = compiler.mask(
        resolved, length, length, labels={name: (own, own) for name, own in ids.items()}
    )
    packed = compiler.mask(found.resolved, length, length)
    assert np.array_equal(packed, mask)
    for (i, j), got in masks_of(found).items():
        wanted = mask[16 * i : 16 * (i + 1), 16 * j : 16 * (j + 1)]
        assert np.array_equal(got[: wanted.shape[0], : wanted.shape[1]], wanted)
    terms = [text for text, _ in found.terms]
    assert terms == ["same(doc) & causal", "(same(turn) - cols(0)).T"]
    why = reasons(found, 70, 5)
    assert why["sees"] is bool(mask[70, 5])
    for reason in why["reasons"]:
        assert "chunks" not in reason["term"]
        assert reason["marks"], reason


def test_a_label_is_an_axis_and_its_figures_follow() -> None:
    subject = Subject(
        "s", Source("s.bsl", "same(doc) & causal"), lengths=(600,), documents=["100,200"]
    )
    axis = next(axis for axis in subject.axes if axis.kind == "documents")
    assert (axis.name, axis.values) == ("same(doc)", ("", "100,200"))
    open_, packed = (subject.view({"same(doc)": text}) for text in axis.values)
    assert open_["figures"]["pairs"] is None and open_["awaits"] == "labels"
    assert packed["figures"]["pairs"] == sum(n * (n + 1) // 2 for n in (100, 200, 300))
    assert packed["awaits"] == "" and packed["spec"] == open_["spec"]
    wrong = subject.view_or_errors({"same(doc)": "100,-3"})
    assert "as in 100,200,300, not '-3'" in wrong["errors"][0]["message"]
    assert lengths(" 1, 002 ") == (1, 2)
    with pytest.raises(ValueError, match="up to 1,024"):
        lengths("1," * 1024 + "1")


def test_undecided_labels_have_no_masks() -> None:
    found = drawn("block 16\n(same(doc) | cols(0:3t)) & causal", 64)
    made = masked.embedded(found)
    assert made is not None and set(made["of"][::2]) == {-1}


def test_properties_are_those_of_stats() -> None:
    view = Subject("s", Source("s.bsl", "last(3) & causal"), lengths=(640,)).view({})
    assert [(found["name"], found["holds"]) for found in view["properties"]] == [
        ("Causal", True),
        ("Prefix-stable", True),
        ("Symmetric", False),
        ("Contains a star", False),
    ]
    assert view["properties"][2]["because"].startswith("query 64 sees key 0")
    with limited():
        costly = Subject("s", Source("s.bsl", "strided(16) & causal"), lengths=(2**17,)).view(
            {}, 1e-4
        )
    assert costly["properties"][3]["holds"] is None
    assert "MAX_WORK" in costly["properties"][3]["because"]


def test_only_labels_that_are_compared_for_equality_are_documents() -> None:
    text = "(same(doc) | select(pick)) & {q, k : doc[q] <= time[k]} & causal"
    subject = Subject("s", Source("s.bsl", text), lengths=(600,), documents=["100,200"])
    axes = [axis for axis in subject.axes if axis.kind == "documents"]
    assert [axis.name for axis in axes] == ["same(doc)"]
    packed = subject.view({"same(doc)": "100,200"})
    assert packed["awaits"] == "labels and selections"
    assert packed["figures"]["pairs"] is None and packed["figures"]["full"] == 0
