"""Context parallelism on simulated ranks: the same results as one process, the bytes that were planned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from simulated import World, one, tensors
from strategies import Case, cases, examples

import bslang
from bslang.layouts import layout_of
from bslang.placement.placement import Placement, common_block

NAMES = ("out", "lse", "dq", "dk", "dv")


def close(found: list[torch.Tensor], truth: list[torch.Tensor], tolerance: float) -> None:
    for name, mine, other in zip(NAMES, found, truth, strict=True):
        torch.testing.assert_close(
            mine,
            other,
            rtol=tolerance,
            atol=tolerance,
            msg=lambda text, name=name: f"{name}: {text}",
        )


@st.composite
def worlds(draw: st.DrawFn, case: Case) -> World:
    """Ranks with blocks in any order, of which some may have none, and any exchange."""
    ranks, block = draw(st.integers(1, 8)), common_block(case.block)
    blocks = -(-case.len_k // block)
    per = -(-blocks // ranks)
    order = draw(st.permutations(range(ranks * per)))
    owner = np.array(order[:blocks], dtype=np.int64) // per
    placement = Placement(owner, ranks, block, case.len_k)
    kind = draw(st.sampled_from(("exchange", "exchange", "gather", None)))
    rows = st.sets(st.integers(0, case.grid.n - 1), max_size=case.grid.n)
    return World(placement, kind, tuple(sorted(draw(rows))) if draw(st.booleans()) else ())


@examples(20)
@given(st.data())
def test_any_program_on_any_ranks(data: st.DataObject) -> None:
    """In fp64, so that a block too few or too many is seen."""
    case = data.draw(cases(labels=False))
    assume(case.len_q == case.len_k and case.align == "end" and case.has_meaning(4))
    world = data.draw(worlds(case))
    layout = layout_of(case.resolved, ("torch",))
    dims = data.draw(st.sampled_from(((8, 8), (8, 5), (4, 12))))
    heads = data.draw(st.sampled_from(((4, 2), (4, 1), (2, 2))))
    batch, keep = data.draw(st.sampled_from((1, 2))), data.draw(st.booleans())
    given_ = tensors(case.len_k, heads, dims, batch)
    options: dict[str, Any] = {}
    if data.draw(st.booleans()):
        options["softcap"] = 2.0
    if data.draw(st.booleans()):
        options["sinks"] = torch.linspace(-1, 1, heads[0], dtype=torch.float64)
    if data.draw(st.integers(0, 3)) == 0:
        options["key_padding"] = (
            torch.arange(case.len_k) >= torch.tensor([[case.len_k], [1]])[:batch]
        )
    truth = one(layout, given_, **options)
    found = world.attended(layout, given_, keep=keep, **options)
    close(found.results, truth, 1e-9)
    if not found.exchange.spread.size:  # whose log-sum-exps are planned as fp32
        found.bytes_are_planned(given_[0], given_[2], keep)


CASES = {
    "window": "last(100t) & causal",
    "bigbird": "window(3) | global(0, -1) | random(2, seed=7)",
    "dense": "causal",
    "heads": "heads { 0 -> last(60t) & causal; 1 -> strided(5) & causal; 2: -> rows(3) | window(3) }",
    "gaps": "random(1, seed=3) - causal",
}


@pytest.mark.parametrize("ranks", [1, 4, 8, 50])
@pytest.mark.parametrize("name", CASES)
def test_the_exchange_that_is_chosen(name: str, ranks: int) -> None:
    layout = bslang.compile(CASES[name], block=16, target="torch")
    world = World(Placement.contiguous(500, 16, ranks))
    given_ = tensors(500, dtype=torch.float32)
    found = world.attended(layout, given_)
    close(found.results, one(layout, given_), 1e-4)
    found.bytes_are_planned(given_[0], given_[2], keep=True)
