"""Provenance: each visited block belongs to the first term that brings it in."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given
from strategies import Case, cases, examples
from test_cli import Run, run

from bslang.analysis.provenance import provenance, terms
from bslang.ir.oracle import dense
from bslang.ir.pattern import Union

__all__ = ["run"]  # the fixture


def blocks(case: Case, mask: np.ndarray) -> np.ndarray:
    """Which blocks a token mask has a pair in: bool (n, m)."""
    grid = case.grid
    held = np.zeros((grid.n, grid.m), dtype=bool)
    q, k = np.nonzero(mask)
    held[(q + grid.q.start) // grid.q.block, k // grid.k.block] = True
    return held


@examples(75)
@given(cases())
def test_blocks_belong_to_the_first_term_that_has_a_pair_there(case: Case) -> None:
    assume(case.has_meaning())
    pattern, grid = case.resolved.pattern, case.grid
    parts = list(terms(pattern))
    contributions = [dense(part, grid) for _, part in parts]
    assert np.array_equal(np.logical_or.reduce(contributions), case.mask())
    found = provenance(pattern, grid)
    assert [term for term, _ in found] == [term for term, _ in parts]
    taken = np.zeros((grid.n, grid.m), dtype=bool)
    for (_, runs), contribution in zip(found, contributions, strict=True):
        own = runs.dense(grid.n)
        assert not (own & taken).any()
        assert np.array_equal(own, blocks(case, contribution) & ~taken)
        taken |= own
    graph = case.lowered()
    assert np.array_equal(taken, graph.visited.dense(grid.n))


def test_terms_are_those_of_the_spec() -> None:
    def shown(spec: str) -> list[str]:
        return [str(term) for term, _ in terms(Case(spec, (4, 4), 4, 4, "end").resolved.pattern)]

    assert shown("(window(3) | cols(0)) & causal - rows(0)") == ["window(3)", "cols(0)"]
    assert shown("(last(2) | cols(0)).T | rows(1)") == ["last(2).T", "cols(0).T", "rows(1)"]
    assert shown("causal & last(2)") == ["causal & last(2)"]
    assert shown("last(3) - last(1)") == ["last(3) - last(1)"]
    assert shown("last(3) ^ rows(0)") == ["last(3)", "rows(0)"]
    assert shown("heads { 0 -> last(1) | cols(0); 1: -> all }") == ["last(1)", "cols(0)"]
    assert shown("random(2, within=last(1) | cols(0))") == ["random(2, within=last(1) | cols(0))"]
    assert isinstance(Case("last(1) | cols(0)", (4, 4), 4, 4, "end").resolved.pattern, Union)


def test_terms_beyond_the_most_are_told_together() -> None:
    case = Case("last(2) | cols(0) | rows(0) | cols(2)", (4, 4), 20, 20, "end")
    pattern, grid = case.resolved.pattern, case.grid
    every = provenance(pattern, grid)
    assert provenance(pattern, grid, 4) == every
    *first, (rest, runs) = provenance(pattern, grid, 2)
    assert first == every[:1] and str(rest) == "cols(0) | rows(0) | cols(2)"
    assert np.array_equal(
        runs.dense(grid.n), np.logical_or.reduce([own.dense(grid.n) for _, own in every[1:]])
    )


def test_what_awaits_a_call_gets_the_blocks_that_no_other_term_holds() -> None:
    spec = "(select(pick) | last(2) | same(doc) | cols(0)) & causal"
    case = Case(spec, (4, 4), 20, 20, "end")
    pattern, grid = case.resolved.pattern, case.grid
    found = {str(term): runs.size for term, runs in provenance(pattern, grid)}
    assert found == {"select(pick)": 3, "last(2)": 9, "same(doc)": 0, "cols(0)": 3}
    assert [runs.size for _, runs in provenance(pattern, grid, 2)] == [15, 0]


def test_show_terms(run: Run) -> None:
    done = run("show", "-", "--terms", "--seq-len", "256", stdin=b"last(2) | cols(0) | last(1)")
    assert (done.status, done.err) == (0, "")
    assert (
        done.out
        == """\
layout: last(2) | cols(0) | last(1)
256 tokens, block 64x64: 4 x 4 blocks

aa......
aaaa....
bbaaaa..
bb..aaaa

each cell a block, .. empty
aa last(2): 7 blocks
bb cols(0): 2 blocks
cc last(1): 0 blocks
"""
    )


def test_a_contribution_may_have_more_masks_than_a_layout() -> None:
    """What `a ^ b` brings in is `a & (a ^ b)`: its masks are not needed, and can be too many."""
    near = "near = (random(0, seed=0) | every(1t))\n"
    case = Case(near + "near | (((all - near) | (near - all)) ^ all)", (5, 3), 10, 10, "end")
    found = provenance(case.resolved.pattern, case.grid)
    assert [str(term) for term, runs in found if runs] == ["every(1t)"]
    assert np.array_equal(found[1][1].dense(case.grid.n), blocks(case, case.mask()))
