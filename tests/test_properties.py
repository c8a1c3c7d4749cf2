"""Properties and pairs, against what is read off dense masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from strategies import Case, cases, examples

from bslang import compiler
from bslang.analysis import properties
from bslang.analysis.pairs import asked, count_pairs, dense, first_pair, masks, sees
from bslang.analysis.properties import MAX_COMPARED, Answer, Properties
from bslang.analysis.worst import grows_with_call
from bslang.errors import BslangError, LimitError
from bslang.graph.blockgraph import BlockGraph
from bslang.graph.lower import lower
from bslang.ir.oracle import dense as oracle
from bslang.ir.runs import Bools
from bslang.limits import MAX_MASK_WORK
from bslang.resolve.program import Resolved
from bslang.syntax.source import Source


def square(case: Case) -> Case:
    """The same program where queries and keys are the same tokens."""
    return Case(case.spec, case.block, case.len_k, case.len_k, "end")


def graph_of(case: Case) -> BlockGraph:
    return case.lowered()


def resolved(spec: str, block: int = 4) -> Resolved:
    return compiler.resolve(Source("spec.bsl", spec), block=block)


def answers(spec: str, length: int = 40, block: int = 4, head: int = 0) -> Properties:
    layout = resolved(spec, block)
    return Properties.of(layout.pattern, compiler.lower(layout, length, length, head=head))


# ---- pairs ---------------------------------------------------------------------------------------


@examples(100)
@given(cases())
def test_pairs_are_those_of_the_mask(case: Case) -> None:
    assume(case.has_meaning())
    graph, mask, grid = graph_of(case), case.mask(), case.grid
    assert count_pairs(graph) == mask.sum()
    q = np.arange(grid.q.start, grid.q.stop)[:, None]
    k = np.arange(grid.k.start, grid.k.stop)[None, :]
    for ahead, wanted in ((False, mask), (True, mask & (k > q))):
        pair = first_pair(graph, ahead=ahead)
        assert (pair is None) == (not wanted.any())
        if pair is not None:
            assert wanted[pair[0] - grid.q.start, pair[1]]
    for query, key in ((grid.q.start, 0), (grid.q.stop - 1, grid.k.stop - 1)):
        assert sees(graph, query, key) == mask[query - grid.q.start, key]


@examples(30)
@given(cases())
def test_masks_of_blocks_are_parts_of_the_mask(case: Case) -> None:
    assume(case.has_meaning())
    graph, mask, grid = graph_of(case), case.mask(), case.grid
    rows, columns = (grid.n - grid.q.first) * grid.q.block, grid.m * grid.k.block
    padded = np.zeros((rows, columns), dtype=bool)
    top = grid.q.start - grid.q.first * grid.q.block
    padded[top : top + mask.shape[0], : mask.shape[1]] = mask
    assert np.array_equal(dense(graph), padded)
    i, j = np.array([grid.n - 1]), np.array([grid.m - 1])
    assert np.array_equal(masks(graph, i, j)[0], padded[-grid.q.block :, -grid.k.block :])


def test_blocks_that_repeat_one_another_are_asked_once() -> None:
    def blocks(spec: str) -> int:
        layout = resolved(spec, 8)
        return sum(part.cells.size for part in asked(compiler.lower(layout, 4096, 4096)))

    assert blocks("causal") <= 4  # one on the diagonal, and at its ends
    assert blocks("cols(0t)") <= 4
    assert blocks("rows(3t)") <= 4
    assert blocks("last(20t)") <= 12


# ---- properties ----------------------------------------------------------------------------------


def check_pair(answer: Answer, wanted: bool, wrong: Bools) -> None:
    """An exact answer, and a pair among those that show it."""
    assert answer.holds == wanted
    assert (answer.pair is None) == wanted
    assert answer.pair is None or wrong[answer.pair]


@examples(100)
@given(cases())
def test_properties_are_those_of_the_mask(case: Case) -> None:
    case = square(case)
    assume(case.has_meaning())
    mask = case.mask()
    found = Properties.of(case.resolved.pattern, graph_of(case))
    later = np.triu(np.ones_like(mask), 1)
    check_pair(found.causal, not (mask & later).any(), mask & later)
    check_pair(found.symmetric, bool((mask == mask.T).all()), mask & ~mask.T)
    stars = mask.all(axis=0) & mask.all(axis=1)
    check_pair(found.star, bool(stars.any()), ~mask)


@examples(40)
@given(cases(longest=20, one_length=False))
def test_prefix_stable_layouts_keep_rows_at_every_shorter_length(case: Case) -> None:
    case = square(case)
    assume(case.has_meaning())
    found = Properties.of(case.resolved.pattern, graph_of(case))
    mask = case.mask()
    changed = np.triu(mask, 1)
    for length in range(1, case.len_k):
        shorter = Case(case.spec, case.block, length, length, "end")
        if shorter.has_meaning():
            changed[:length, :length] |= mask[:length, :length] ^ shorter.mask()
    check_pair(found.prefix_stable, not changed.any(), changed)


@examples(75)
@given(cases(blocks=((4, 4), (5, 3), (1, 1)), longest=20, one_length=False))
def test_what_keeps_rows_by_its_parts_keeps_them(case: Case) -> None:
    case = square(case)
    assume(case.has_meaning())
    pattern = case.resolved.pattern
    if not properties._KeepsRows(case.grid)(pattern):
        return
    mask = case.mask()
    for length in range(1, case.len_k):
        shorter = Case(case.spec, case.block, length, length, "end")
        if shorter.has_meaning():
            assert np.array_equal(shorter.mask(), mask[:length, :length])


@pytest.mark.parametrize(
    ("spec", "stable"),
    [
        ("causal", True),
        ("(last(3) | cols(0)) & causal", True),
        ("(random(2, seed=7, within=causal - window(3)) | window(3)) & causal", True),
        ("random(2, seed=7) & causal", False),
        ("random(1, within=window(3, clamp=true) & last(inf)) & causal", False),
        ("random(m // 4, within=causal - window(3)) & causal", False),
        ("((last(2) - cols(-2)) @ last(2)) & causal", False),
        ("(window(3) | global(0, -1)) & causal", False),
        ("window(3, clamp=true) & causal", False),
        ("last(min(n, 3)) & causal", True),
        ("last(1 + isqrt(n)) & causal", False),
        ("cols(n - n) & causal", True),
        ("last(max(n, 40)) & causal", True),
        ("rows(-1t) & causal", False),
        ("window(3)", False),
        ("none", True),
    ],
)
def test_prefix_stable(spec: str, stable: bool) -> None:
    assert answers(spec).prefix_stable.holds is stable


def test_answers_say_why() -> None:
    def because(name: str, spec: str) -> str:
        found: Answer = getattr(answers(spec), name)
        return found.because

    assert because("causal", "all") == "query 0 sees key 3, which comes later"
    assert because("symmetric", "last(2)") == "query 4 sees key 0, but not the other way round"
    stable = because("prefix_stable", "(window(3) | global(0, -1)) & causal")
    assert stable == "query 32 sees key 4 with 36 tokens, but not with 40"
    assert because("star", "window(3) | global(0)") == "token 0 sees all tokens, and all see it"
    assert because("star", "causal") == "token 0 comes closest, but it does not see token 4"
    assert because("star", "all - cols(0)") == "token 4 comes closest, but it does not see token 0"
    assert because("star", "all - rows(0)") == "token 4 comes closest, but token 0 does not see it"


def test_labels_are_decided_where_the_worst_case_is_known() -> None:
    documents = answers("same(doc) & causal")
    assert documents.causal.holds and documents.prefix_stable.holds
    assert documents.symmetric.holds is documents.star.holds is None
    assert "labels" in documents.star.because
    ahead = answers("same(doc)")
    assert ahead.causal.holds is False
    where = "which comes later, where the labels of the call let it"
    assert ahead.causal.because == f"query 0 sees key 1, {where}"
    assert answers("all - same(doc)").causal.holds is None
    chosen = answers("(select(pick, rows=1t) | last(2)) & causal - select(far).T")
    assert chosen.causal.holds and chosen.prefix_stable.holds
    assert chosen.symmetric.because == "it depends on the selections of the call"
    both = answers("same(doc) & {q, k : k < cut[b]} & select(pick)")
    assert both.causal.because.endswith("where the labels and selections of the call let it")
    by_head = answers("heads { 0 -> window(3); 1: -> same(doc) }")  # of head 0, which has no labels
    assert by_head.symmetric.holds and "labels" not in by_head.causal.because


@examples(50)
@given(cases(labels=True))
def test_the_worst_case_of_labels_is_that_all_are_equal(case: Case) -> None:
    """Where it is said to be: then no labels add a pair, and none has a later key than these."""
    case = square(case)
    assume("same(" in case.spec and case.has_meaning())
    pattern, grid, mask = case.resolved.pattern, case.grid, case.mask()
    if grows_with_call(pattern, grid.head):
        equal = {name: tuple(map(np.zeros_like, pair)) for name, pair in case.labels.items()}
        assert not (mask & ~oracle(pattern, grid, equal)).any()
    if properties.is_causal(pattern, graph_of(case)).holds:
        assert not np.triu(mask, 1).any()


def test_labels_may_be_taken_away_twice() -> None:
    for spec in (
        "causal - (all - same(doc))",
        "~~same(doc) & causal",
        "heads { : -> same(doc) } & causal",
        "causal - select(dropped)",
        "causal & ~{q, k : x[k] == 1}",
        "(select(pick) ^ cols(0)) & causal",
    ):
        assert answers(spec).causal.holds, spec
    for spec in (
        "~same(doc)",
        "all - same(doc)",
        "heads { : -> all - same(doc) }",
        "~(same(doc) - cols(0))",
        "~heads { : -> same(doc) }",
        "same(doc) ^ all",
    ):
        assert answers(spec).causal.holds is None, spec
    later = answers("heads { 0 -> same(doc); 1: -> ~same(doc) }")
    assert later.causal.holds is False
    assert answers("heads { 0 -> same(doc); 1: -> ~same(doc) }", head=1).causal.holds is None


def test_heads_are_decided_one_by_one() -> None:
    assert answers("last(1 + head) & causal", head=0).star.holds is False
    first = resolved("diagonals(head)")
    assert [
        Properties.of(first.pattern, compiler.lower(first, 40, 40, head=head)).symmetric.holds
        for head in (0, 1)
    ] == [True, False]


@pytest.mark.parametrize(
    "spec",
    [
        "causal",
        "last(1 + head) & causal",
        "last(1 + layer) & causal",
        "heads { 0 -> causal; 1: -> last(head) & causal }",
        "(random(2, seed=7, within=causal - window(3)) | window(3)) & causal",
    ],
)
def test_what_parts_settle_needs_no_comparison(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bslang.analysis.properties.MAX_COMPARED", -1)
    assert answers(spec, head=3).prefix_stable.holds


def test_blocks_that_the_diagonal_crosses_differ() -> None:
    """All three blocks have one mask, and only the last two have keys after query 9."""
    layout = compiler.resolve(Source("s", "{q, k : q == 9} & cols(3:6)"), block=(8, 2))
    found = Properties.of(layout.pattern, compiler.lower(layout, 40, 40)).causal
    assert found.pair == (9, 10)


def test_what_costs_too_much_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bslang.analysis.pairs.MAX_MASK_WORK", 8)
    found = answers("chunks(6t) & causal")
    assert found.causal.holds is None and "MAX_MASK_WORK" in found.causal.because
    monkeypatch.setattr("bslang.analysis.properties.MAX_COMPARED", 3)
    assert answers("cols(n - n) & last(inf)", block=1).prefix_stable.holds is None
    monkeypatch.setattr("bslang.analysis.properties.MAX_COMPARED", 100)  # of 780 in all
    assert answers("cols(n - n) & last(inf)", block=1).prefix_stable.holds is None
    assert MAX_COMPARED > 100


def test_too_many_masks_to_compare_stay_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bslang.analysis.properties.MAX_MASK_WORK", 8)
    found = answers("{q, k : q - k < len_k // 4} & causal").prefix_stable
    assert found.holds is None and "MAX_MASK_WORK" in found.because


def test_a_matrix_of_all_pairs_is_made_of_few() -> None:
    layout = resolved("causal", 64)
    with pytest.raises(LimitError, match=rf"pairs one by one.*MAX_MASK_WORK = {MAX_MASK_WORK}"):
        dense(compiler.lower(layout, 2**20, 2**20))


def test_queries_that_are_not_the_keys() -> None:
    layout = resolved("causal")
    found = Properties.of(layout.pattern, compiler.lower(layout, 8, 40))
    assert found.causal.holds
    assert found.symmetric.holds is found.star.holds is found.prefix_stable.holds is None
    with pytest.raises(BslangError):
        lower(resolved("cols(10)").pattern, compiler.grid(layout, 8, 8))
