"""Values of another head dimension than keys: every target, every entry, and what counts dimensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference import TOLERANCE, Inputs, agrees, inputs, run
from strategies import Case

import bslang

SPEC = "(last(20t) | cols(0:3t)) & causal"
PAIRS = ((17, 31), (31, 17), (1, 40), (40, 1), (16, 48), (64, 72), (192, 128), (576, 512))
FEW = ((17, 31), (72, 24))
"""For Triton, which is interpreted."""

Tensor = torch.Tensor


def layout(target: str, spec: str = SPEC) -> bslang.Layout:
    return bslang.compile(spec, block=16, target=target)


def given(dims: tuple[int, int], length: int = 44, **options: Any) -> Inputs:
    return inputs(length, length, dim=dims[0], value_dim=dims[1], **options)


# ---- results -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_any_pair(on: Callable[..., None], dtype: torch.dtype) -> None:
    on(check_pairs, dtype)


def check_pairs(target: str, dtype: torch.dtype) -> None:
    made, mask = layout(target), Case(SPEC, (16, 16), 44, 44, "end").mask()
    for place, dims in enumerate(FEW if target == "triton" else PAIRS):
        call = {"sinks": torch.tensor([0.5, 2.0])} if place % 2 else {"softcap": 3.0}
        tensors = given(dims, key_heads=2 - place % 2, batch=2, dtype=dtype)
        agrees(made, tensors, mask, TOLERANCE[dtype] * max(1, *(d / 64 for d in dims)), **call)


def test_columns_of_values_are_apart(on: Callable[..., None]) -> None:
    on(check_columns)


def check_columns(target: str) -> None:
    """Of each column of v the same bits come out, whatever is beside it; keys that are padded with zeros
    score the same."""
    made, dims = layout(target), (24, 40)
    whole = given(dims)
    out = made(whole.q, whole.k, whole.v)
    for columns in (slice(0, 24), slice(24, 40)):
        assert torch.equal(made(whole.q, whole.k, whole.v[..., columns]), out[..., columns])  # type: ignore[index,arg-type]
    q, k = (torch.nn.functional.pad(x, (0, 16)) for x in (whole.q, whole.k))
    near = made(q, k, whole.v, 24**-0.5)
    torch.testing.assert_close(near, out, atol=1e-6, rtol=0)


def test_nan_stays_in_its_document(on: Callable[..., None]) -> None:
    on(check_nan)


def check_nan(target: str) -> None:
    """Careful passes, which blocks with two documents need: of sums of either dimension."""
    made = layout(target, "same(doc) & causal")
    doc = (torch.arange(44) >= 21).int()
    for dims in ((24, 40), (40, 24)):
        plain = given(dims)
        expected = run(made, plain, labels=doc)
        for x in (plain.q, plain.k, plain.v, plain.grad_out):
            x[:, :, 21:] = torch.nan
        q, k, v = (x.requires_grad_() for x in (plain.q, plain.k, plain.v))
        out, lse = made(q, k, v, labels=doc, return_lse=True)
        weights = plain.grad_out, plain.grad_lse.clone()
        found = (out, *torch.autograd.grad((out, lse), (q, k, v), weights))
        for x, y in zip(found, (expected.out, expected.dq, expected.dk, expected.dv), strict=True):
            assert torch.equal(x[:, :, :21], y[:, :, :21]) and x[:, :, 21:].isnan().all()


def test_decoding_and_keys_of_batch_1(on: Callable[..., None]) -> None:
    on(check_decoding)


def check_decoding(target: str) -> None:
    """The query heads of a key head are rows of one tile, and k and v of batch 1 serve all queries."""
    made = layout(target)
    for dims in ((24, 40), (40, 24)):
        q = given(dims, 1, heads=4, batch=3).q
        one = given(dims, 44, heads=4, key_heads=2)
        out, lse = made(q, one.k, one.v, return_lse=True)
        assert out.shape == (3, 4, 1, dims[1])
        of_all = [
            x.expand(3, -1, -1, -1).repeat_interleave(2, 1).contiguous() for x in (one.k, one.v)
        ]
        expected, its = made(q, *of_all, return_lse=True)
        torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(lse, its, atol=1e-5, rtol=0)


def test_nothing_to_attend(on: Callable[..., None]) -> None:
    on(check_nothing)


def check_nothing(target: str) -> None:
    for batch, len_q, len_k in ((0, 9, 9), (2, 0, 9), (2, 9, 0)):
        q, k = torch.randn(batch, 4, len_q, 24), torch.randn(batch, 2, len_k, 24)
        v = torch.randn(batch, 2, len_k, 40, requires_grad=True)
        out = layout(target, "all")(q, k, v, align="start")
        assert isinstance(out, Tensor) and out.shape == (batch, 4, len_q, 40) and not out.any()
        out.sum().backward()
        assert v.grad is not None and v.grad.shape == v.shape
