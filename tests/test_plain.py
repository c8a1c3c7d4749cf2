"""The oracle and the lowering against the evaluator of `tests/plain.py`, which computes on plain integers.

Where oracle and lowering share a rule, as the arithmetic of predicates, only this notices a mistake in it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from plain import Unsupported, belongs
from strategies import Case, cases, examples, mask_of

from bslang import compiler
from bslang.resolve.sources import source_of
from bslang.resources import resource
from grammar import builders, numbers


def held(case: Case) -> None:
    """Oracle, lowering and the plain evaluator say the same of every pair, for two heads."""
    masks = case.masks(2)[0]
    for head in range(2):
        plain = np.array(belongs(case.spec, replace(case.grid, head=head)), dtype=bool)
        np.testing.assert_array_equal(masks[head], plain)
        graph = case.lowered(head)
        np.testing.assert_array_equal(mask_of(graph), plain)


@examples(200)
@given(cases(terms=3, longest=20, one_length=False))
def test_random_programs(case: Case) -> None:
    assume(case.has_meaning(heads=2))
    try:
        held(case)
    except Unsupported:
        assume(False)


@examples(250)
@given(builders(tokens=True, depth=2), st.integers(1, 16), st.data())
def test_predicates(spec: str, len_k: int, data: st.DataObject) -> None:
    len_q = data.draw(st.integers(1, len_k))
    case = Case(spec, (3, 4), len_q, len_k, "end")
    assume(case.has_meaning(heads=2))
    held(case)


@examples(100)
@given(numbers(("n", "m", "head"), 2), st.sampled_from(["cols({}:)", "every(3, offset={})"]))
def test_numbers_of_primitives(number: str, place: str) -> None:
    case = Case(place.format(number), (2, 3), 13, 17, "end")
    assume(case.has_meaning(heads=2))
    held(case)


@pytest.mark.parametrize(
    "spec",
    [
        "{q, k : (q >= k) + (k >= q) == 2}",
        "{q, k : (q >= k) - (k >= q) == 0}",
        "{q, k : (q >= k) == 1}",
        "{q, k : -(q >= k) < 0 & abs(q < k) + 1 == 1}",
        "{q, k : (q >= k) == (k % 2 == 0)}",
        "{q, k : (k < 5) * q + (q < 5) * k == 7}",
        "{q, k : min(q >= k, k % 3 == 1) + (n > 3) * (q - k < 5) == 1}",
        "{i, j : (i < j) + (j < i) * 2 != 1}",
        "{q, k : 2 ** (1 < 2) + (~(q < k) ^ (k > 2)) == 3}",
        "rows(head >= 0) | cols(n > 3)",
        "rows((n > 3) + (head > 0):)",
        "cols((n > 3) * 2t:(m > 90) * 3t) | last(1 < 2)",
        "f(a = 4) = last((a > 3) + 1)\nf | f(a=head)",
        "f(a = n > 3) = {q, k : q - k <= a}\nf",
        "{q, k : (q < len_q // 2) + (k < len_k // 2) == 1}",
        "window(left=head < 1, right=n > 2)",
        "heads { 0:(1 < 2) -> last(2); 1: -> all }",
    ],
)
def test_comparisons_are_numbers(spec: str) -> None:
    held(Case(spec, (4, 4), 21, 21, "end"))
    held(Case(spec, (4, 4), 9, 21, "end"))


@pytest.mark.parametrize("align", ["end", "start"])
@pytest.mark.parametrize(
    "spec",
    [
        "{q, k : k < len_k // 2} & causal",
        "{q, k : q < len_q // 2 & k < len_k // 2 & q // 3 == k // 3}",
        "{q, k : k // 4 < m // 2 & q >= n * 4t - 5}",
        "{i, j : j < len_k // 8t | i * 4t >= len_q - 3t}",
        "cols(0t:len_k // 2) | rows(len_q - 3t:)",
        "last(len_k // 4 + 1t) - {q, k : k % 2 == len_q % 2}",
        "cols(0:len_k // 2).T | (last(len_q // 3 + 1t) & {q, k : q * 2 < len_q}).T",
        "half(h = len_k // 2) = cols(0t:h) & {q, k : h <= q} | diagonals(h - 2t)\nhalf",
        "every(len_k // 3 + 1t) ^ strided(len_q // 5 + 1t) | chunks(len_k // 3 + 1t, back=1)",
        "window(left=len_k // 8, right=len_k // 5, wrap=true) | global(-(len_q // 4):)",
    ],
)
def test_lengths_by_name(spec: str, align: str) -> None:
    for len_q, len_k in [(21, 21), (9, 21), (1, 4), (18, 20)]:
        held(Case(spec, (4, 4), len_q, len_k, align))
    if align == "start":
        held(Case(spec, (4, 4), 23, 12, align))


@pytest.mark.parametrize(
    "spec",
    [
        "window(left=16, right=-2, wrap=true)",
        "window(left=-9, right=9, wrap=true)",
        "window(left=16, right=-2, step=3, wrap=true)",
        "window(11, step=2, wrap=true)",
        "window(left=inf, right=-2, step=2, wrap=true)",
        "window(left=-3, right=inf, step=3, wrap=true)",
        "window(left=90t, right=-70t, wrap=true)",
        "window(left=31t, right=-30t, step=6t, wrap=true) & causal",
        "window(left=-40t, right=46t, step=4t, wrap=true).T",
    ],
)
@pytest.mark.parametrize("length", [1, 4, 15, 16, 24])
def test_a_ring_is_gone_round_more_than_once(spec: str, length: int) -> None:
    held(Case(spec, (4, 4), length, length, "end"))
    held(Case(spec, (4, 4), 2 * length + 3, length, "start"))


def test_every_head_of_blockbert_sees_a_block() -> None:
    """12 heads on 8 blocks: those from 8 on go round, and see what heads 0 to 3 do."""
    program = compiler.program(source_of(resource("std") / "blockbert.bsl"), block=4)
    resolved = program.pick("blockbert_heads", "blockbert_heads", {})
    for head in range(12):
        graph = compiler.lower(resolved, 32, 32, head=head)
        row, column = np.nonzero(graph.visited.dense(8))
        assert row.tolist() == list(range(8))
        np.testing.assert_array_equal(column, (np.arange(8) + head) % 8)
