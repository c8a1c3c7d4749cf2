"""Documents and padding are isolated: what is not a number in one reaches nothing of another.

The truth takes of each query only the keys that it sees, so that no weight of 0 meets a NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from calls import Call
from reference import Attended, Inputs, run

NAMES = ("q", "k", "v", "grad_out")


@dataclass(frozen=True)
class Case:
    """A call whose labels, or padding, isolate. padded: for each batch row, keys that are padding."""

    call: Call
    padded: tuple[tuple[int, int], ...] = ()
    dim: int = 16

    @property
    def options(self) -> dict[str, Any]:
        padding = torch.zeros(self.call.batch, self.call.len_k, dtype=torch.bool)
        for row, (start, stop) in enumerate(self.padded):
            padding[row, start:stop] = True
        return {
            "labels": self.call.labels(),
            "align": self.call.align,
            "key_padding": padding if self.padded else None,
        }

    def mask(self) -> torch.Tensor:
        """bool (batch, heads, len_q, len_k)."""
        mask = torch.from_numpy(np.ascontiguousarray(self.call.mask()))
        padding = self.options["key_padding"]
        return mask if padding is None else mask & ~padding[:, None, None]

    def lost(self, given: Inputs) -> torch.Tensor:
        """Queries (batch, heads, len_q) that are padding and not finite."""
        rows = torch.stack((given.q, given.grad_out)).isfinite().all(-1).all(0)
        padding = self.options["key_padding"]
        if padding is None:
            return torch.zeros_like(rows)
        return ~rows & padding[:, None, -self.call.len_q :]

    def run(self, target: str, given: Inputs) -> Attended:
        return run(self.call.layout(target), given, **self.options)


CASES = {
    "documents": Case(Call("same(doc)", len_q=44, len_k=44)),
    "shuffled": Case(Call("same(doc) & causal", (16, 16), 44, 44, kind="shuffled"), dim=24),
    "union": Case(Call("same(doc) | cols(0:3t)", (8, 16), 44, 44, kind="sorted", key_heads=1)),
    "heads": Case(
        Call("heads { 0:2 -> same(a) & last(20t); 2: -> causal - same(b) }", (16, 8), 40, 40)
    ),
    "apart": Case(Call("same(doc)", (16, 16), 30, 44, "start", "shuffled")),
    "padding": Case(Call("last(20t)", (16, 16), 44, 44), ((30, 44), (0, 9))),
    "padded documents": Case(Call("same(doc) & causal", (16, 16), 20, 44), ((0, 29), (40, 44))),
    "decoding": Case(Call("causal", (16, 16), 1, 44), ((30, 44), (0, 21))),
}


def truth(given: Inputs, case: Case) -> Attended:
    """Results in fp64, query by query; of padded queries that are no numbers, not the gradients of keys."""
    mask, lost = case.mask(), case.lost(given)
    q, k, v = (x.double().requires_grad_() for x in (given.q, given.k, given.v))
    group = q.shape[1] // k.shape[1]
    out, lse = torch.zeros_like(q), torch.full(q.shape[:3], -math.inf, dtype=torch.float64)
    rows = {}
    for batch, head, query in mask.any(-1).nonzero().tolist():
        seen = mask[batch, head, query].nonzero()[:, 0]
        keys, values = k[batch, head // group][seen], v[batch, head // group][seen]
        scores = (keys * q[batch, head, query]).sum(-1) * q.shape[-1] ** -0.5
        own = (scores.softmax(-1)[:, None] * values).sum(0), scores.logsumexp(-1)
        rows[batch, head, query] = own
    loss = q.new_zeros(())
    for at, (own_out, own_lse) in rows.items():
        if lost[at]:
            continue
        loss = loss + (own_out * given.grad_out[at].double()).sum()
        loss = loss + own_lse * given.grad_lse[at].double()
    dq, dk, dv = torch.autograd.grad(loss, (q, k, v))
    for batch, head, query in (lost & mask.any(-1)).nonzero().tolist():  # a key keeps its own NaN
        at, seen = (batch, head // group), mask[batch, head, query]
        of_k, of_v = (seen & ~x[at].isfinite().all(-1) for x in (given.k, given.v))
        dk[at][of_k | of_v], dv[at][of_k] = math.nan, math.nan
    out = out.detach()
    for at, (own_out, own_lse) in rows.items():
        out[at], lse[at] = own_out.detach(), own_lse.detach()
    return Attended(out, lse, dq.masked_fill(lost[..., None], math.nan), dk, dv)


def check(target: str, name: str, dtype: torch.dtype = torch.float32) -> None:
    """Each number that no NaN reaches has its bits; each that one reaches is NaN."""
    case = CASES[name]
    given = case.call.inputs(dtype, case.dim)
    mask = case.mask()
    chosen = poisonings(given)
    if (
        target == "triton"
    ):  # which is interpreted: one of v in the last sequence, half of all in the first
        both = replace(
            given, **{name: x.clone() for name, x in vars(chosen["half of all"]).items()}
        )
        both.v[-1] = chosen["one of v"].v[-1]
        chosen = {"half of all, one of v": both}
    cleans: dict[bytes, Attended] = {}
    for what, poisoned in chosen.items():
        lost = case.lost(poisoned)
        key = lost.numpy().tobytes()
        clean = cleans[key] = cleans.get(key) or case.run(target, without(given, lost))
        found, expected = case.run(target, poisoned), truth(poisoned, case)
        for part, x in vars(found).items():
            reached = ~getattr(expected, part).isfinite()
            if part == "lse":
                reached &= mask.any(-1)
            assert torch.equal(~x.isfinite() & (x != -math.inf), reached), (what, part)
            same = torch.where(reached, 0, x), torch.where(reached, 0, getattr(clean, part))
            assert torch.equal(*same), (what, part, "changed")


def without(given: Inputs, lost: torch.Tensor) -> Inputs:
    """Inputs whose gradients are 0 in some queries."""
    return replace(
        given,
        grad_out=given.grad_out.masked_fill(lost[..., None], 0),
        grad_lse=given.grad_lse.masked_fill(lost, 0),
    )


def poisonings(given: Inputs) -> dict[str, Inputs]:
    """Inputs with NaN in one number, and in the second half of the first sequence, of each tensor."""
    made = {}
    for name in NAMES:
        one, many = (getattr(given, name).clone() for _ in range(2))
        length = one.shape[2]
        one[-1, -1, length * 2 // 3, 3] = math.nan
        many[0, :, length // 2 :] = math.nan
        made[f"one of {name}"] = replace(given, **{name: one})
        made[f"half of {name}"] = replace(given, **{name: many})
    both = {name: getattr(made[f"half of {name}"], name) for name in NAMES}
    return made | {"half of all": replace(given, **both)}


@pytest.mark.parametrize("name", CASES)
def test_no_number_of_others_is_reached(on: Callable[..., None], name: str) -> None:
    on(check, name)


def test_half_precision(on: Callable[..., None]) -> None:
    on(check, "documents", torch.float16)


@pytest.mark.parametrize("name", ["documents", "padding"])
@pytest.mark.parametrize("threads", [1, 2, 7])
def test_threads_that_share_a_head(name: str, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        check("cpu", name)
    finally:
        torch.set_num_threads(before)


def test_infinity_stays_infinity(on: Callable[..., None]) -> None:
    on(check_infinity)


def check_infinity(target: str) -> None:
    """Of a value that is infinite, in a document beside one with a NaN."""
    case = CASES["documents"]
    given = case.call.inputs()
    given.v[:, :, 3, 1], given.v[:, :, 5, 1], given.v[:, :, 5, 2] = math.inf, math.inf, -math.inf
    given.v[0, :, 6, 2] = math.inf
    given.v[:, :, -1] = math.nan
    out, expected = case.run(target, given).out, truth(given, case).out
    if target == "triton":  # whose careful pass makes it NaN
        assert torch.equal(out.isfinite(), expected.isfinite())
        expected = torch.where(out.isfinite(), expected, out)
    torch.testing.assert_close(
        out.double(), expected, atol=2e-6, rtol=2e-6, equal_nan=True, check_dtype=False
    )
    assert out.isfinite().any() and (target == "triton" or out.isinf().any())
