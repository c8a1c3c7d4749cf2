"""Calls of few queries on the cpu target, as steps of decoding are: keys in lanes, shared among threads."""

from __future__ import annotations

import math

import pytest
import torch
from reference import TOLERANCE, agrees, inputs
from strategies import Case

import bslang

LENGTH = 1301  # more than a stretch of 8 steps of 128 keys
SPECS = [
    "causal",
    "(last(300t) | cols(:4t)) & causal",
    "(window(3) | global(0,-1) | random(2, seed=7)) & causal",  # many short runs
    "{q, k : (q + k) % 3 == 0}",
    "strided(7) & causal",
    "none",
]


def compiled(spec: str) -> bslang.Layout:
    return bslang.compile(spec, block=16, target="cpu")


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("queries", [1, 2, 3, 5, 8])
def test_against_dense_attention(spec: str, queries: int) -> None:
    """All that a call may say, with gradients."""
    case = Case(spec, (16, 16), queries, LENGTH, "end")
    tensors = inputs(queries, LENGTH, dim=24, heads=4, key_heads=2)
    agrees(compiled(spec), tensors, case.masks(4), TOLERANCE[torch.float32], scale=0.3, softcap=5.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("dim", "value_dim"), [(64, 64), (40, 24), (7, 20)])
def test_dtypes_and_dimensions(dtype: torch.dtype, dim: int, value_dim: int) -> None:
    case = Case(SPECS[1], (16, 16), 3, LENGTH, "end")
    tensors = inputs(3, LENGTH, dim=dim, value_dim=value_dim, heads=2, dtype=dtype)
    agrees(compiled(SPECS[1]), tensors, case.masks(2), TOLERANCE[dtype])


@pytest.mark.parametrize("spec", SPECS)
def test_no_bit_depends_on_threads(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = (torch.randn(1, 2, n, 32) for n in (8, LENGTH, LENGTH))
    layout = compiled(spec)
    out, lse = layout(q, k, v, return_lse=True)
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=threads: count)
        for found, expected in zip(layout(q, k, v, return_lse=True), (out, lse), strict=True):
            assert torch.equal(found, expected)


@pytest.mark.parametrize("spec", SPECS[:2])
def test_no_bit_depends_on_queries_beside(spec: str) -> None:
    q, k, v = (torch.randn(1, 2, n, 32) for n in (8, LENGTH, LENGTH))
    layout = compiled(spec)
    out = layout(q, k, v)
    for i in range(8):
        end = LENGTH - 7 + i
        alone = layout(q[:, :, i : i + 1], k[:, :, :end], v[:, :, :end])
        assert torch.equal(alone, out[:, :, i : i + 1])


def test_what_is_not_seen_does_not_matter() -> None:
    """NaN in other documents, and where no key of a whole stretch is seen."""
    layout = bslang.compile("same(doc) & causal", block=16, target="cpu")
    labels = torch.arange(LENGTH)[None] // 400
    q, k, v = torch.randn(1, 1, 2, 16), *(torch.randn(1, 1, LENGTH, 16) for _ in range(2))
    last = labels[0] == labels[0, -1]
    expected = layout(q, k, v, labels=(labels[:, -2:], labels))
    for number in (math.nan, math.inf):
        k[:, :, ~last], v[:, :, ~last] = number, number
        assert torch.equal(layout(q, k, v, labels=(labels[:, -2:], labels)), expected)
