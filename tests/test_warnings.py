"""Warnings: what they say, and that layouts which are meant give none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given
from strategies import Case, cases, examples
from test_cli import Run, run

from bslang import compiler
from bslang.budget import Budget
from bslang.ir.oracle import dense
from bslang.ir.pattern import Pattern, Union
from bslang.lint.findings import findings, telling_length
from bslang.lint.warnings import warnings
from bslang.resolve.program import Resolved
from bslang.resources import resource
from bslang.syntax.source import Source

__all__ = ["run"]  # the fixture


def said(text: str) -> list[tuple[str, str]]:
    """The code and message of each warning of a spec."""
    source = Source("spec.bsl", text)
    return [(found.code, found.message) for found in warnings(source, compiler.program(source))]


def test_layers_that_a_predicate_tells_apart_are_looked_at() -> None:
    """Layers 0 to 7 alone would say that some operands change nothing."""
    assert not said("causal & {i, j : layer < 28} | last(2t) & {i, j : layer >= 28}")
    assert said("causal & {i, j : layer < 28} | last(2t) & {i, j : layer < 28}")


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("diagonals(1)", "W401", "queries 0 to 63 see no key (of 4096 tokens)"),
        ("causal - diagonals(0t)", "W401", "query 0 sees no key (of 4096 tokens)"),
        ("rows(3)", "W401", "4032 queries see no key; the first is 0 (of 4096 tokens)"),
        ("none", "W401", "no query sees any key (of 4096 tokens)"),
        (
            "heads { 0 -> last(1); 1: -> none } & rows(0:9)",
            "W401",
            "queries 576 to 4095 see no key",
        ),
        ("window(3) | cols(0) & causal", "W402", "query 0 sees key 63, which comes later"),
        ("window(3) | random(2, within=causal)", "W402", "though a part is `causal`"),
        ("window(3) | window(5)", "W403", "`window(3)` adds nothing to `window(5)`"),
        (
            "cols(0) | last(2) | cols(0:3)",
            "W403",
            "`cols(0)` adds nothing to `last(2)` and `cols(0:3)`",
        ),
        ("last(2) & all", "W403", "`all` removes nothing from `last(2)`"),
        ("last(4) - last(2).T - rows(0) & none.T - window(1)", "W403", ""),
        ("last(4) - diagonals(9)", "W403", "`diagonals(9)` removes nothing from `last(4)`"),
        (
            "(last(2) | random(2)) & causal",
            "W404",
            "keeps 1.1 blocks per row of the 2 that it draws",
        ),
        (
            "random(40, within=window(9))",
            "W404",
            "keeps 8.9 blocks per row of the 40 that it draws",
        ),
        ("(window(3) | random(2)) - cols(9:) ", "W404", ""),
        (
            "grid(3, 4, radius=1) | grid(3, 4, radius=0)",
            "W403",
            "`grid(3, 4, radius=0)` adds nothing",
        ),
        ("grid(14t, 14t, radius=3, offset=1t)", "W401", "query 0 sees no key (of 197 tokens)"),
        ("last(256)", "W405", "256 counts blocks of 64x64 here: 16,384 tokens"),
        ("near(w = 256) = last(w)", "W405", "256 counts blocks of 64x64 here"),
        ("block 128x32\ncols(0:128)", "W405", "128 counts blocks of 128x32 here: 16,384 tokens"),
    ],
)
def test_what_is_warned_of(text: str, code: str, message: str) -> None:
    assert any(found == code and message in whole for found, whole in said(text)), said(text)


@pytest.mark.parametrize(
    "text",
    [
        "last(127) | rows(-127)",  # not so many that they read like tokens
        "block 1\nlast(512) | cols(0)",  # blocks are tokens
        "window(left=inf, right=9)",
        "random(200) - cols(0)",  # it draws blocks only
        "last(64) | cols(0)",  # at a length of 64 blocks, all the same
        "(last(512t) | cols(0:4t)) & causal",
        "last(512t) & causal",  # to be safe
        "window(3) | global(0, -1) | random(2, seed=7)",
        "window(3) | random(3, within=~window(3))",
        "(window(3) | random(2, within=causal - window(3))) & causal",
        "(random(2, within=causal - window(3)) | last(2)) & causal",
        "same(doc) & causal",
        "same(doc) | window(3)",
        "cols(0:3) | last(inf)",
        "all - causal | last(1)",
        "heads { 0:4 -> window(3); 4: -> window(5) } | last(3)",
        "heads { 0 -> window(3); 1: -> cols(0) }",
        "segments(8, rate=4)",  # the heads share the rows out
        "strided(4) & last(inf) | every(4, offset=head) & last(inf)",
        "p(w = 1) = window(w) | window(3)",  # true of the default alone
        "p(r = 0) = window(3) | random(r)",
        "p(w) = window(w) | window(3)",
        "sinks = rows(0)\nlayout = window(3) | sinks",
        "a = rows(0)\na | window(3)",
        "grid(3, 4, radius=1) | grid(2, 2, radius=1)",  # no length fits both
        "grid(14t, 14t, radius=3, offset=1t) | global(0t)",  # at its own length
    ],
)
def test_what_is_not_warned_of(text: str) -> None:
    assert said(text) == []


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("window(left=256, right=inf)", "window(left=256t, right=inf)"),
        ("global(0:128, -1)", "global(0t:128t, -1t)"),
        ("chunks(256, back=1)", "chunks(256t, back=1)"),
        ("segments(2048, rate=4, offset=3)", "segments(2048t, rate=4, offset=3)"),
    ],
)
def test_what_to_write_for_tokens(text: str, written: str) -> None:
    """All numbers of a primitive that have a unit get it, and what is to be written compiles."""
    found = findings(compiler.resolve(Source("spec.bsl", text)).pattern, (64, 64))
    (slip,) = [each for each in found if each.code == "W405"]
    assert slip.hint.endswith(f"write `{written}`")
    compiler.resolve(Source("spec.bsl", written))


def test_a_length_says_how_many_blocks_are_many() -> None:
    def codes(text: str, length: int) -> list[str]:
        found = findings(compiler.resolve(Source("spec.bsl", text)).pattern, (64, 64), length)
        return [each.code for each in found]

    assert "W405" not in codes("last(256)", 256 * 64)
    assert "W405" in codes("last(256)", 255 * 64)
    assert "W405" in codes("last(20) | cols(0)", 10 * 64)


def test_three_of_the_others_are_named() -> None:
    others = "`last(2)` and `cols(0:3)` and `cols(9)`"
    four = "cols(0) | last(2) | cols(0:3) | cols(9)"
    assert said(four) == [("W403", f"`cols(0)` adds nothing to {others}")]
    assert said(f"{four} | rows(3)") == [("W403", f"`cols(0)` adds nothing to {others} ...")]


def test_what_only_some_heads_show_is_no_cause() -> None:
    ahead = "window(3) | cols(0) & causal"
    assert said(f"heads {{ 0 -> {ahead}; 1: -> causal }}") == []
    assert [code for code, _ in said(f"heads {{ : -> {ahead} }}")] == ["W402"]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("random(40, within=window(9))", "keeps 8.9 blocks per row", "draw fewer, or widen it"),
        ("(random(1) | last(2)) & causal", "keeps 0.6 blocks per row", "the rest is removed"),
    ],
)
def test_why_draws_come_to_little(text: str, message: str, hint: str) -> None:
    (found,) = findings(compiler.resolve(Source("spec.bsl", text)).pattern, (64, 64))
    assert found.code == "W404" and message in found.message and hint in found.hint


def test_published_layouts_and_examples_give_none() -> None:
    files = [
        *resource("std").glob("*.bsl"),
        *(Path(__file__).parents[1] / "examples").glob("*.bsl"),
    ]
    assert len(files) > 1
    for file in files:
        assert said(file.read_text(encoding="utf-8")) == [], file


@pytest.mark.parametrize(
    ("spec", "blocks"),
    [("window(3)", 64), ("last(100)", 400), ("last(6400t)", 400), ("last(inf)", 64),
     ("cols(0:90:2)", 360), ("cols(512)", 2048), ("cols(513)", None), ("random(2, seed=12345)", 64),
     ("last(30 * head + 40)", 160), ("random(2, within=last(50))", 200)],
)  # fmt: skip
def test_the_length_is_large_beside_the_numbers(spec: str, blocks: int | None) -> None:
    pattern = Case(spec, (64, 64), 1, 1, "end").resolved.pattern
    assert telling_length(pattern, (64, 64)) == (blocks and 64 * blocks)


def operands(pattern: Pattern) -> tuple[Pattern, ...]:
    return pattern.parts if isinstance(pattern, Union) else ()


def every_part(pattern: Pattern) -> list[Pattern]:
    return [pattern, *(part for inner in pattern.parts for part in every_part(inner))]


@examples(75)
@given(cases(terms=4))
@example(Case("(all | (all & all))", (4, 4), 10, 10, "end"))
def test_warnings_are_true(case: Case) -> None:
    """Of what the mask says: rows without keys exactly, needless operands of a union at the top, too."""
    case = Case(case.spec, case.block, case.len_k, case.len_k, "end")
    assume(case.has_meaning())
    resolved: Resolved = case.resolved
    pattern, mask = resolved.pattern, case.mask()
    assume(not pattern.names())
    found = findings(pattern, case.block, case.len_k)
    assert ("W401" in {f.code for f in found}) == (not mask.any(axis=1).all())
    later = bool(np.triu(mask, 1).any())
    assert later or "W402" not in {f.code for f in found}
    needless = {f.subject for f in found if f.code == "W403"} & set(operands(pattern))
    # An operand that is also written elsewhere may be needless there alone.
    assume(all(operands(pattern).count(p) == every_part(pattern).count(p) for p in needless))
    if needless:
        rest = [part for part in operands(pattern) if part not in needless]
        kept = [dense(part, case.grid) for part in rest] or [np.zeros_like(mask)]
        # A part that is written twice is warned of once.
        kept += [dense(p, case.grid) for p in needless if operands(pattern).count(p) > 1]
        assert np.array_equal(np.logical_or.reduce(kept), mask)


def test_the_search_is_bounded() -> None:
    pattern = Case(
        " | ".join(f"cols({i})" for i in range(300)), (64, 64), 1, 1, "end"
    ).resolved.pattern
    assert findings(pattern, (64, 64), 64 * 300) == []  # too many to compare
    pair = Case("window(3) | window(5)", (64, 64), 1, 1, "end").resolved.pattern
    assert findings(pair, (64, 64)) != []
    with Budget(10_000).opened():
        assert findings(pair, (64, 64)) == []
    large = Case("cols(9999) | cols(9999)", (64, 64), 1, 1, "end").resolved.pattern
    assert [found.code for found in findings(large, (64, 64))] == ["W405"]  # asks no graph
    assert [found.code for found in findings(large, (64, 64), 640_000)] != []


# ---- the command -----------------------------------------------------------------------------------


def test_check_warns(run: Run) -> None:
    Path("two.bsl").write_text("block 32\nwide = window(3) | window(5)\n", encoding="utf-8")
    done = run("check", "two.bsl")
    assert (done.status, done.out) == (0, "two.bsl: ok; wide; block 32x32; 1 warning\n")
    assert (
        done.err
        == """\
warning[W403]: `window(3)` adds nothing to `window(5)`
 --> two.bsl:2:8
  |
2 | wide = window(3) | window(5)
  |        ^^^^^^^^^ here
  |
  = help: leave it out

"""
    )
    assert run("check", "--strict", "two.bsl").status == 1
    assert run("check", "--strict", "spec.bsl").status == 0


def test_check_warns_beside_errors(run: Run) -> None:
    Path("two.bsl").write_text("window(3) | window(5)\n", encoding="utf-8")
    Path("bad.bsl").write_text("windw(3)\n", encoding="utf-8")
    done = run("check", "two.bsl", "bad.bsl")
    assert done.status == 1
    assert done.err.index("warning[W403]") < done.err.index("error[E201]")


def test_check_at_a_length(run: Run) -> None:
    text = b"last(8) | cols(0)"
    assert run("check", "-", stdin=text).err == ""
    assert "`cols(0)` adds nothing" in run("check", "-", "--seq-len", "512", stdin=text).err


def test_warnings_as_json(run: Run) -> None:
    done = run("check", "--json", "-", stdin=b"diagonals(1)")
    assert (done.status, done.err) == (0, "")
    (warning,) = done.json["diagnostics"]
    assert (warning["code"], warning["severity"], warning["line"]) == ("W401", "warning", 1)
    assert run("check", "--json", "--strict", "-", stdin=b"diagonals(1)").status == 1
