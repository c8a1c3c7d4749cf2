"""`bslang diff`: what one layout has and another lacks, against dense masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import Case, cases, examples, programs
from test_cli import Run, run

from bslang import compiler
from bslang.analysis.difference import Side, marks

__all__ = ["run"]  # the fixture


@examples(75)
@given(cases(blocks=((4, 4), (5, 3)), terms=3), st.data())
def test_sides_are_what_the_masks_say(case: Case, data: st.DataObject) -> None:
    other = data.draw(programs(square=case.block[0] == case.block[1], terms=3))
    twin = Case(other, case.block, case.len_q, case.len_k, case.align)
    assume(case.has_meaning() and twin.has_meaning())
    a, b = (compiler.lower(c.resolved, c.len_q, c.len_k, c.align) for c in (case, twin))
    mine, theirs = case.mask(), twin.mask()
    plus, minus = Side.of(a, b), Side.of(b, a)
    start = case.grid.q.start
    for side, wanted in ((plus, mine & ~theirs), (minus, theirs & ~mine)):
        assert side.pairs == wanted.sum()
        assert (side.pair is None) == (not wanted.any())
        assert side.pair is None or wanted[side.pair[0] - start, side.pair[1]]
    assert plus.blocks == (a.visited - b.visited).size
    grid = case.grid
    drawn = marks(a, b, plus, minus, grid.n, grid.m)
    for row, line in enumerate(drawn.tolist(), grid.q.first):
        for column, mark in enumerate(line):
            q = slice(max(row * grid.q.block - start, 0), (row + 1) * grid.q.block - start)
            k = slice(column * grid.k.block, (column + 1) * grid.k.block)
            x, y = mine[q, k], theirs[q, k]
            more, less = (x & ~y).any(), (y & ~x).any()
            same = "#" if x.any() else "."
            assert mark == ("*" if more and less else "+" if more else "-" if less else same)


def test_a_picture_of_many_blocks_shows_every_difference() -> None:
    a = compiler.lower(Case("causal", (1, 1), 64, 64, "end").resolved, 64, 64)
    b = compiler.lower(Case("causal | rows(0) & cols(63)", (1, 1), 64, 64, "end").resolved, 64, 64)
    drawn = marks(a, b, Side.of(a, b), Side.of(b, a), 8, 8)
    assert drawn.shape == (8, 8) and np.argwhere(drawn == "-").tolist() == [[0, 7]]


# ---- the command -----------------------------------------------------------------------------------


@pytest.fixture(name="compare")
def _compare(run: Run) -> Run:
    Path("spec.bsl").write_text(
        "block 32\na = window(3) | cols(0)\nb = (window(3) | cols(-1)) & last(inf)\n",
        encoding="utf-8",
    )
    return lambda *arguments, **more: run("diff", *arguments, **more)


def test_pairs_blocks_and_a_picture(compare: Run) -> None:
    done = compare("spec.bsl:a", "spec.bsl:b", "--seq-len", "192")
    assert (done.status, done.err) == (1, "")
    assert (
        done.out
        == """\
+ spec.bsl:a: window(3) | cols(0)
- spec.bsl:b: (window(3) | cols(-1)) & last(inf)

+ only A: 9,216 pairs, 9 blocks, such as query 0 and key 32
- only B: 0 pairs, 0 blocks

##++........
####++......
++####++....
++..####++..
++....####++
++......####

each cell a block:  ++ pairs of A only  -- pairs of B only  ** some of each  ## the same  .. none
"""
    )


def test_equal_layouts(compare: Run) -> None:
    done = compare("spec.bsl:a", "-", stdin=b"block 32\ncols(0) | last(2) | last(2).T")
    assert (done.status, done.err) == (0, "")
    assert done.out.endswith("\n\nequal at 16,384 tokens: 2,044 blocks\n")


def test_pairs_count_where_blocks_do_not(compare: Run) -> None:
    Path("causal.bsl").write_text("block 32\ncausal", encoding="utf-8")
    done = compare("causal.bsl", "-", "--seq-len", "64", stdin=b"block 32\nlast(inf)")
    assert "- only B: 992 pairs, 0 blocks, such as query 0 and key 1" in done.out


def test_as_json(compare: Run) -> None:
    done = compare("spec.bsl:a", "spec.bsl:b", "--seq-len", "192", "--json")
    assert done.status == 1
    assert done.json == {
        "equal": False,
        "tokens": 192,
        "only_a": {
            "spec": "spec.bsl:a",
            "pattern": "window(3) | cols(0)",
            "pairs": 9216,
            "blocks": 9,
            "pair": [0, 32],
        },
        "only_b": {
            "spec": "spec.bsl:b",
            "pattern": "(window(3) | cols(-1)) & last(inf)",
            "pairs": 0,
            "blocks": 0,
            "pair": None,
        },
    }
    assert compare("spec.bsl:a", "spec.bsl:a", "--json").json["equal"] is True


def test_layouts_that_do_not_compare(compare: Run) -> None:
    done = compare("spec.bsl:a", "-", stdin=b"causal")
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        "error: cannot compare blocks of 32x32 and 64x64 tokens; give both layouts one size with "
        "`--block 32x32`\n"
    )
    assert compare("spec.bsl:a", "-", "--block", "32", stdin=b"causal").err == ""
    assert "labels" in compare("spec.bsl:a", "-", stdin=b"block 32\nsame(doc)").err
    chosen = compare("spec.bsl:a", "-", stdin=b"block 32\nselect(pick)")
    assert "depends on the selections of a call" in chosen.err
    assert "no definition `c`" in compare("spec.bsl:a", "spec.bsl:c").err


def test_one_head_of_each(compare: Run) -> None:
    heads = b"block 32\nheads { 0 -> none; 1 -> window(3) | cols(0) }"
    assert compare("spec.bsl:a", "-", stdin=heads).status == 1
    assert compare("spec.bsl:a", "-", "--head", "1", stdin=heads).status == 0
