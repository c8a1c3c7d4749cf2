"""Figures of long layouts that follow from short ones: the same as those that are counted."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import cases, examples

from bslang import compiler
from bslang.analysis import extend
from bslang.analysis.extend import Extension, UnevenError, extended, polynomial
from bslang.analysis.reach import DEEPEST, reach
from bslang.analysis.stats import Spread
from bslang.analysis.steady import Steady, steady
from bslang.cli.main import main
from bslang.errors import BslangError
from bslang.ir.grid import Grid
from bslang.ir.oracle import dense
from bslang.reports.figures import Asked
from bslang.resolve.program import Resolved
from bslang.syntax.source import Source

LONG = 1_000_000


def resolved(spec: str, block: int = 4) -> Resolved:
    return compiler.resolve(Source("<test>", spec), block=block)


def asked(spec: str, length: int, block: int = 4, head: int = 0) -> Asked:
    return Asked(resolved(spec, block), length, head, 0, None)


def near(ask: Asked, steps: int) -> tuple[Asked, Extension] | None:
    """The same at a length that can be counted, some steps from the short ones."""
    long = replace(ask, length=LONG + ask.length).extension()
    if long is None:
        return None
    ask = replace(ask, length=long.lengths[0] + steps * long.step)
    return ask, replace(long, steps=steps, grid=ask.grid)


def assert_extended(ask: Asked, extension: Extension) -> None:
    found = extended(extension, lambda length: ask._counted(length, exact=True))
    assert found is not None and found.on(ask.grid) == ask._counted(ask.length)


STEADY = (
    "causal",
    "last(5t) | cols(0:3t)",
    "(last(2) | cols(0)) & causal",
    "window(3) | global(0, -1)",
    "window(5, step=3)",
    "window(6, clamp=true)",
    "window(left=inf, right=2)",
    "chunks(2, back=1) | rows(-3t:)",
    "strided(3) & causal",
    "every(8t, offset=3t) & causal | last(6t)",
    "(chunks(16t) | {q, k : 5 <= k % 16 < 8}) & causal",
    "segments(12t, rate=2, offset=1)",
    "diagonals(0, 2, 5:) - cols(1::2)",
    "~(last(3) ^ causal.T)",
    "{q, k : abs(q - k) <= 9 | min(q, k) < 6}",
    "cols(head * 3t)",
    "heads { 0 -> last(2); 1: -> every(2) & causal }",
)


@pytest.mark.parametrize("spec", STEADY)
def test_figures_of_published_kinds(spec: str) -> None:
    for length, head in ((0, 0), (3, 1)):  # with whole blocks, and with a short one
        made = near(asked(spec, length, head=head), 9)
        assert made is not None and made[0].length < 20_000
        assert_extended(*made)


@examples(25, slow=True)
@given(cases(blocks=((1, 1), (2, 2), (4, 4)), terms=3), st.integers(0, 30), st.integers(4, 12))
def test_figures_of_random_programs(case: object, length: int, steps: int) -> None:
    ask = Asked(case.resolved, length, 0, 0, None)  # type: ignore[attr-defined]  # a Case
    try:
        made = near(ask, steps)
        assume(made is not None and made[0].length <= 2000)
        made[0]._counted(made[0].length)
    except BslangError:  # it means nothing at this length
        assume(False)
    assert_extended(*made)


REACHED = (
    "causal",
    "window(3)",
    "window(3) | global(0, -1)",
    "window(2, clamp=true) | chunks(2) | rows(-3t:)",
    "last(2).T - cols(0)",
    "chunks(2, back=1) | every(4, offset=1)",
    "strided(2)",
    "last(1) | cols(0) & rows(-1) | rows(0)",
)


@pytest.mark.parametrize("spec", REACHED)
def test_what_layers_reach_is_what_is_followed(spec: str) -> None:
    made = near(asked(spec, 3), 9)
    assert made is not None
    length = 2 * extend._with_room(made[1], DEEPEST) + made[1].step
    ask = replace(made[0], length=length)
    found = extend.followed(replace(made[1], grid=ask.grid), ask.square)
    counted = reach(ask.square(), exact=True)
    assert found is not None and not found.sampled and found.blocks == counted.blocks
    assert found.hops == counted.hops
    # A layout that goes one way never ends early, however many layers that takes.
    assert found.ended == counted.ended or (found.ended and counted.layers == DEEPEST)


def test_a_sample_shows_what_is_not_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extend, "MOST_FOLLOWED", 1024)  # blocks: no room for 64 layers
    for spec, hops, ended in (
        ("window(7)", None, False),
        ("window(7) | global(0)", 2, True),
        ("chunks(3)", None, True),
        ("window(9) - cols(0)", None, False),
    ):
        made = near(asked(spec, 3), 9)
        assert made is not None
        long = replace(made[1], grid=asked(spec, 4 * LONG + made[0].length % made[1].step).grid)
        found = extend.followed(long, made[0].square)
        assert found is not None and (found.hops, found.ended) == (hops, ended), spec
        assert not found.sampled and found.blocks == long.grid.n


UNSTEADY = (
    "random(2)",
    "logsparse",
    "butterfly",
    "cols(n // 2)",
    "same(doc)",
    "{q, k : k * 2 <= q}",
    "{q, k : q + k < len_k}",
    "{q, k : isqrt(q) == isqrt(k)}",
    "window(3) @ cols(0)",
    "grid(4, 4, radius=1)",
    "window(3, wrap=true)",
    "{q, k : q * k % 3 == 0}",
)


@pytest.mark.parametrize("spec", UNSTEADY)
def test_what_is_not_steady_is_counted_at_its_length(spec: str) -> None:
    assert asked(spec, LONG).extension() is None


def test_steady_pairs_follow_from_places() -> None:
    """By the definition: pairs of one place and one distance are alike, at two lengths."""
    for spec in STEADY:
        pattern = resolved(spec).pattern
        found = steady(pattern, Grid.of(64, 64, (4, 4)))
        assert found is not None
        seen: dict[object, bool] = {}
        step = -(-4 // found.period) * found.period
        for length in (2 * found.reach + 3 * step, 2 * found.reach + 4 * step):
            mask = dense(pattern, Grid.of(length, length, (4, 4)))
            for q, k in np.random.default_rng(0).integers(0, length, (1500, 2)).tolist():
                key = (*(place(x, length, found) for x in (q, k)), apart(q, k, found))
                assert seen.setdefault(key, bool(mask[q, k])) == mask[q, k], (spec, q, k)


SHIFTS = {
    "all": 1,
    "last(9t)": 1,
    "window(3)": 4,
    "chunks(10t) & causal": 10,
    "strided(3)": 12,
    "{q, k : 0 <= q - k < 5 & (q + k) % 3 == 0}": 3,
    "{q, k : abs(q - k) < 5 & max(k, 0) % 6 == 1}": 6,
    "last(5t) - cols(0)": None,
    "window(3, clamp=true)": None,
    "last(2) | global(-1)": 4,
    "rows(0)": None,
}


def test_pairs_move_along_the_diagonal() -> None:
    """By the definition: moved by so much, a short layout is the end of a longer one."""
    for spec, shift in SHIFTS.items():
        pattern = resolved(spec).pattern
        found = steady(pattern, Grid.of(64, 64, (4, 4)))
        assert found is not None and found.shift == shift, spec
        short = dense(pattern, Grid.of(64, 64, (4, 4)))
        moves = [
            move
            for move in range(1, (shift or 24) + 1)
            if (dense(pattern, Grid.of(64 + move, 64 + move, (4, 4)))[move:, move:] == short).all()
        ]
        assert shift in moves if shift else not moves, spec


def place(x: int, length: int, found: Steady) -> object:
    if x < found.reach or length - x < found.reach:
        return (x, "first") if x < found.reach else (length - x, "last")
    return x % found.period


def apart(q: int, k: int, found: Steady) -> object:
    return k - q if abs(k - q) < found.reach else "later" if k > q else "earlier"


def test_numbers_that_follow_no_polynomial_are_not_made_up() -> None:
    assert polynomial([1, 4, 9, 16], 99) == 100**2
    assert polynomial([("token 3", 2, None)] * 4, 9) == ("token 3", 2, None)
    assert polynomial(["query 5 of 10", "query 5 of 20", "query 5 of 30", "query 5 of 40"], 9) == (
        "query 5 of 100"
    )
    spreads = [Spread(0, 0.5, n, 1, (0,), 1, (n, n + 2), 2) for n in range(3, 7)]
    assert polynomial(spreads, 10) == Spread(0, 0.0, 13, 1, (0,), 1, (13, 15), 2)
    for values in ([1, 4, 9, 17], ["a", "b", "a", "a"], [True, True, False, True], [1, 2, None, 4],
                   [(1,), (1, 2), (1,), (1,)]):  # fmt: skip
        with pytest.raises(UnevenError):
            polynomial(values, 9)
    extension = Extension((1, 2, 3, 4), 9, 1, 1, Grid.of(10, 10, (1, 1)))
    assert extended(extension, lambda length: 2**length) is None


def test_a_hundred_million_tokens_take_no_more_work_than_their_short_lengths(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lowered: list[int] = []
    lower = compiler.lower

    def counting(found: Resolved, len_q: int, *rest: object, **more: object) -> object:
        lowered.append(len_q)
        return lower(found, len_q, *rest, **more)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(compiler, "lower", counting)
    monkeypatch.setattr(sys, "argv", ["bslang", "stats", "streaming_llm", "--seq-len", "100M"])
    with pytest.raises(SystemExit, match="0"):
        main()
    out = capsys.readouterr().out
    assert "1,638,400 x 1,638,400 blocks" in out and "prefix-stable     yes" in out
    assert max(lowered) < 1_000_000
