"""`bslang why`: the verdict is that of the mask, and the terms that it names do what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from strategies import Case, cases, examples
from test_cli import Run, run

from bslang import compiler
from bslang.analysis.why import Effect, Reason, why
from bslang.ir.oracle import dense
from bslang.ir.pattern import Pattern, Primitive
from bslang.syntax.source import Source

__all__ = ["run"]  # the fixture

SPEC = """\
near(w = 2) = last(w)
layout = (near | cols(0)) & causal - window(left=0, right=0)
drawn = random(2, seed=7, within=causal - window(3)) | near(1)
"""


@examples(100)
@given(cases())
def test_verdicts_are_those_of_the_mask(case: Case) -> None:
    assume(case.has_meaning())
    mask, grid, pattern = case.mask(), case.grid, case.resolved.pattern
    ends = np.unique(np.linspace(0, mask.shape[0] - 1, 4).astype(int)).tolist()
    for row in ends:
        for key in np.unique(np.linspace(0, mask.shape[1] - 1, 4).astype(int)).tolist():
            verdict = why(pattern, grid, grid.q.start + row, key)
            assert verdict.sees == mask[row, key]
            assert verdict.reasons


def parts_of(pattern: Pattern) -> set[Pattern]:
    """A pattern with all that stands in it, patterns among arguments and parts of predicates included."""
    inside = {value for value in vars(pattern).values() if isinstance(value, Pattern)}
    if isinstance(pattern, Primitive):
        inside |= {pattern.expand()} - {pattern}
    return {pattern}.union(*map(parts_of, {*pattern.parts, *inside}))


@examples(75)
@given(cases(terms=4))
def test_terms_are_of_the_layout_and_hold_what_is_said(case: Case) -> None:
    assume(case.has_meaning() and ".T" not in case.spec)
    grid, pattern = case.grid, case.resolved.pattern
    query, key = grid.q.stop - 1, 0
    for reason in why(pattern, grid, query, key).reasons:
        assert reason.term in parts_of(pattern)
        held = dense(reason.term, grid)[query - grid.q.start, key]
        if reason.effect is Effect.LACKS:
            assert not held
        elif reason.effect is Effect.HAS:
            assert held


@pytest.mark.parametrize(
    ("spec", "pair", "sees", "reasons"),
    [
        ("window(3) | cols(0)", (8, 0), True, ["cols(0) has it"]),
        ("window(3) | cols(0)", (8, 30), False, ["window(3) lacks it", "cols(0) lacks it"]),
        ("last(3) & causal", (8, 9), False, ["last(3) has it", "causal removes it"]),
        ("all - window(3) - cols(0)", (8, 1), False, ["all has it", "cols(0) removes it"]),
        ("~window(3)", (8, 30), True, ["~window(3) has it"]),
        ("~window(3)", (8, 8), False, ["window(3) removes it"]),
        ("last(2).T", (0, 4), True, ["last(2) has it"]),
        ("all ^ rows(0)", (0, 4), False,
         ["all has it", "rows(0) has it", "all ^ rows(0) removes it"]),
        ("all ^ rows(0)", (8, 4), True, ["all has it"]),
        ("heads { 0 -> none; 1: -> all }", (0, 0), False, ["none lacks it"]),
        ("random(1, within=causal)", (0, 9), False,
         ["random(1, within=causal) lacks it", "causal lacks it"]),
        ("same(doc) & causal", (9, 8), None, ["same(doc) depends on the call", "causal has it"]),
        ("same(doc) & causal", (8, 9), False, ["causal lacks it"]),
        ("same(doc) | causal", (9, 8), True, ["causal has it"]),
        ("all - same(doc)", (9, 8), None, ["all has it", "same(doc) depends on the call"]),
    ],
)  # fmt: skip
def test_reasons(spec: str, pair: tuple[int, int], sees: bool | None, reasons: list[str]) -> None:
    layout = compiler.resolve(Source("spec.bsl", spec), block=4)
    verdict = why(layout.pattern, compiler.grid(layout, 40, 40), *pair)
    assert verdict.sees is sees
    shown = [f"{reason.term} {reason.effect.value}" for reason in verdict.reasons]
    assert [text for text in shown if text not in ("same(doc) has it",)] == reasons


def test_each_head_has_its_own_reasons() -> None:
    layout = compiler.resolve(
        Source("spec.bsl", "heads { 0 -> none; 1: -> diagonals(head) }"), block=4
    )
    verdict = why(layout.pattern, compiler.grid(layout, 40, 40, head=2), 8, 0)
    (reason,) = verdict.reasons
    assert verdict.sees and isinstance(reason.term, Primitive)
    assert reason == Reason(reason.term, Effect.HAS) and str(reason.term) == "diagonals(head)"


# ---- the command -----------------------------------------------------------------------------------


@pytest.fixture(name="ask")
def _ask(run: Run) -> Run:
    Path("spec.bsl").write_text(SPEC, encoding="utf-8")
    return lambda *arguments, **more: run("why", *arguments, **more)


def test_terms_are_shown_where_they_stand(ask: Run) -> None:
    done = ask("spec.bsl:layout", "700", "-1")
    assert (done.status, done.err) == (0, "")
    assert (
        done.out
        == """\
no: query 700 (block row 10) does not see key 16383 (block column 255)

 --> spec.bsl:1:15
  |
1 | near(w = 2) = last(w)
  |               ^^^^^^^ lacks it

 --> spec.bsl:2:18
  |
2 | layout = (near | cols(0)) & causal - window(left=0, right=0)
  |                  ^^^^^^^    ^^^^^^ lack it
"""
    )


def test_a_yes(ask: Run) -> None:
    done = ask("spec.bsl:layout", "700", "640", "--seq-len", "1000")
    assert done.out.startswith(
        "no: query 700 (block row 10) does not see key 640 (block column 10)\n"
    )
    assert "^^^^^^^^^^^^^^^^^^^^^^^ removes it" in done.out
    done = ask("spec.bsl:layout", "700", "3", "--seq-len", "1000")
    assert done.out.startswith("yes: query 700 (block row 10) sees key 3 (block column 0)\n")
    assert "^^^^^^^    ^^^^^^ have it" in done.out


def test_as_json(ask: Run) -> None:
    done = ask("spec.bsl:layout", "-1", "0", "--seq-len", "1000", "--json")
    assert done.json == {
        "query": 999,
        "key": 0,
        "block": [15, 0],
        "sees": True,
        "reasons": [
            {"term": "cols(0)", "effect": "has", "file": "spec.bsl", "line": 2, "column": 18},
            {"term": "causal", "effect": "has", "file": "spec.bsl", "line": 2, "column": 29},
        ],
    }


def test_parameters_block_and_head(ask: Run) -> None:
    assert ask("spec.bsl:near", "700", "0", "-D", "w=12").out.startswith("yes")
    assert ask("spec.bsl:near", "700", "0").out.startswith("no")
    assert ask("spec.bsl:near", "700", "0", "--block", "512").out.startswith("yes")
    heads = b"heads { 0 -> none; 1: -> all }"
    assert ask("-", "1", "2", stdin=heads).out.startswith("no")
    assert ask("-", "1", "2", "--head", "3", stdin=heads).out.startswith("yes")


def test_wrong_positions_and_lengths(ask: Run) -> None:
    done = ask("spec.bsl:layout", "0", "20000")
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        "error: key 20000 is out of range for 16384 tokens; --seq-len sets another length\n"
    )
    assert "query -16385 is out of range" in ask("spec.bsl:layout", "-16385", "0").err
    assert ask("spec.bsl:layout", "x", "0").status == 2
    assert "error[E401]" in ask("-", "0", "0", "--seq-len", "64", stdin=b"cols(9)").err
    assert "(MAX_LENGTH" in ask("-", "0", "0", "--seq-len", str(2**31), stdin=b"causal").err


def test_a_term_is_shown_where_it_stands(run: Run) -> None:
    """Equal terms have places of their own: here the last of three."""
    spec = "heads { 0:4 -> window(3); 4: -> last(9) & window(3) }"
    Path("equal.bsl").write_text(f"a = window(3)\nb = {spec}\n", encoding="utf-8")
    shown = run("why", "equal.bsl:b", "300", "290", "--head", "5").out
    assert f"2 | b = {spec}" in shown and "1 | a" not in shown
    under = shown.splitlines()[shown.splitlines().index(f"2 | b = {spec}") + 1]
    assert under.index("^") == len("2 | b = ") + spec.index("last(9)")
    assert under.rindex("^") == len("2 | b = ") + spec.rindex("window(3)") + len("window(3)") - 1
