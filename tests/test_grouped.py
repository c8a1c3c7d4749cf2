"""Decoding with grouped-query heads: those of one key head share a tile."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

import pytest
import torch
from calls import Call
from reference import TOLERANCE, agrees, inputs
from strategies import Case

import bslang
from bslang import call as calling
from bslang.runtime.grouped import side_by_side

CASES: list[tuple[Case, dict[str, Any], tuple[int, int]]] = [
    (Case("last(40t) | cols(:4t)", (16, 16), 1, 139, "end"), {"heads": 4, "key_heads": 2}, (2, 2)),
    (Case("{q, k : (q + k) % 3 == 0}", (64, 16), 1, 60, "start"), {"heads": 4, "dim": 24}, (1, 4)),
    (Case("causal", (16, 16), 1, 129, "end"), {"heads": 6, "key_heads": 2}, (2, 3)),
    (Case("last(40t)", (16, 16), 2, 139, "end"), {"heads": 4}, (4, 2)),  # two queries
    (
        Case("causal", (5, 8), 1, 30, "end"),
        {"heads": 6},
        (6, 1),
    ),  # more heads than a block has places
    (Case("last(head + 1)", (16, 16), 1, 139, "end"), {"heads": 4}, (4, 1)),  # each another layout
]
"""Calls with one key head or two, and how many heads and queries the kernel sees."""


def layout(case: Case, target: str) -> bslang.Layout:
    return bslang.compile(case.spec, block=case.block, target=target)


def given(options: dict[str, Any]) -> dict[str, Any]:
    return {"batch": 2, "key_heads": 1} | options


def check(case: Case, options: dict[str, Any], target: str) -> None:
    tensors = inputs(case.len_q, case.len_k, **given(options))
    masks = case.masks(tensors.q.shape[1])
    agrees(layout(case, target), tensors, masks, TOLERANCE[tensors.q.dtype], align=case.align)


@pytest.mark.parametrize(("case", "options", "seen"), CASES, ids=lambda x: getattr(x, "spec", ""))
def test_what_a_kernel_sees(case: Case, options: dict[str, Any], seen: tuple[int, int]) -> None:
    tensors = inputs(case.len_q, case.len_k, **given(options))
    q, k = tensors.q.detach(), tensors.k
    plan = layout(case, "torch")._plan(
        case.len_q, case.len_k, case.align, q.device, heads=q.shape[1]
    )
    made, there, _ = side_by_side(q, k, plan, calling.Call(1.0))
    assert (made.shape[1], there.len_q) == seen and made.data_ptr() == q.data_ptr()
    first, step = there.steps
    position = case.len_k - case.len_q if case.align == "end" else 0
    assert first == position and step == (made is q)
    row = position // case.block[0]
    assert (
        (there.q_start + there.len_q - 1) // there.block_q == row == there.q_start // there.block_q
    )


@pytest.mark.parametrize("target", ["cpu", "triton"])
@pytest.mark.parametrize(("case", "options", "_"), CASES, ids=lambda x: getattr(x, "spec", ""))
def test_results(
    interpreting: Executor, case: Case, options: dict[str, Any], _: object, target: str
) -> None:
    if target == "triton":
        interpreting.submit(check, case, options, target).result()
    else:
        check(case, options, target)


def check_strides(target: str) -> None:
    """q of a (batch, length, heads, dim) tensor, with a soft cap and a scale below 0."""
    case = Case("last(40t)", (16, 16), 1, 139, "end")
    tensors = inputs(1, 139, heads=6, key_heads=2)
    q = torch.randn(1, 1, 6, 2 * tensors.q.shape[3])[..., ::2].transpose(1, 2).requires_grad_()
    k, v = (x.detach().transpose(1, 2).contiguous().transpose(1, 2) for x in (tensors.k, tensors.v))
    agrees(
        layout(case, target),
        replace(tensors, q=q, k=k.requires_grad_(), v=v.requires_grad_()),
        case.masks(6),
        TOLERANCE[torch.float32],
        scale=-0.5,
        softcap=3.0,
    )


@pytest.mark.parametrize("target", ["cpu", "triton"])
def test_strides(interpreting: Executor, target: str) -> None:
    if target == "triton":
        interpreting.submit(check_strides, target).result()
    else:
        check_strides(target)


@pytest.mark.parametrize("target", ["cpu", "triton"])
@pytest.mark.parametrize("spec", ["same(doc) & causal", "same(a) | same(b)"])
def test_labels(interpreting: Executor, spec: str, target: str) -> None:
    call = Call(spec, len_q=1, len_k=61)
    if target == "triton":
        interpreting.submit(call.check, target).result()
    else:
        call.check(target)


def test_how_many_heads_share_a_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for any number of threads: at most eight, so that threads share the keys of a head."""
    seen = []
    cpu = bslang.compile("causal", target="cpu").targets["cpu"]
    monkeypatch.setattr(
        type(cpu), "_start", lambda *_, **tensors: seen.append(tensors["q"].shape[1:3])
    )
    k, v = torch.randn(1, 1, 40, 16), torch.randn(1, 1, 40, 16)
    for heads in (1, 8, 16, 10, 11, 71):
        bslang.compile("causal", target="cpu")(torch.randn(1, heads, 1, 16), k, v)
    assert seen == [(1, 1), (1, 8), (2, 8), (2, 5), (1, 11), (71, 1)]
