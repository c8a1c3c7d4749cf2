"""Calls of few queries on the cpu target, as steps of decoding are: keys in lanes, shared among threads."""

from __future__ import annotations

import math
from typing import Any

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
    """With a scale and a soft cap, and gradients."""
    case = Case(spec, (16, 16), queries, LENGTH, "end")
    tensors = inputs(queries, LENGTH, dim=24, heads=4, key_heads=2)
    agrees(compiled(spec), tensors, case.masks(4), TOLERANCE[torch.float32], scale=0.3, softcap=5.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("dim", "value_dim"), [(64, 64), (40, 24), (7, 20)])
def test_dtypes_and_dimensions(dtype: torch.dtype, dim: int, value_dim: int) -> None:
    case = Case(SPECS[1], (16, 16), 3, LENGTH, "end")
    tensors = inputs(3, LENGTH, dim=dim, value_dim=value_dim, heads=2, dtype=dtype)
    agrees(compiled(SPECS[1]), tensors, case.masks(2), TOLERANCE[dtype])


def labelled(heads: int, queries: int) -> dict[str, Any]:
    """Documents of 300 tokens, which begin elsewhere in each of some heads."""
    labels = (torch.arange(LENGTH) + 70 * torch.arange(heads)[:, None]) // 300
    return {"labels": (labels[None, :, -queries:], labels[None])}


def paged() -> dict[str, Any]:
    """Pages of two rows in no order, of which one is not there: in the second stretch of the second row."""
    pages = torch.randperm(2 * 82, dtype=torch.int32).view(2, 82)
    pages[1, 70] = -1
    return {"pages": pages, "lengths": torch.tensor([LENGTH, 1200])}


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        ("causal", {"sinks": torch.randn(4)}),
        ("causal", {"lengths": torch.tensor([LENGTH, 2])}),
        ("causal", {"key_padding": torch.arange(LENGTH) < torch.tensor([[LENGTH], [1100]])}),
        ("last(10 * head + 1)", {}),
        ("same(doc) & causal", labelled(1, 3)),
        ("same(doc) & causal", labelled(4, 3)),
        ("causal", paged()),
    ],
)
@pytest.mark.parametrize("queries", [1, 3])
def test_what_a_call_says(spec: str, options: dict[str, Any], queries: int) -> None:
    """In several stretches, beside another target."""
    rows = 1 if "labels" in options else 2
    if "labels" in options:
        of_q, of_k = options["labels"]
        options = {"labels": (of_q[..., -queries:], of_k)}
    shape = (rows, 2, LENGTH, 16) if "pages" not in options else (2 * 82, 2, 16, 16)
    q, k, v = torch.randn(rows, 4, queries, 16), torch.randn(shape), torch.randn(shape)
    found, expected = (
        bslang.compile(spec, block=16, target=target)(q, k, v, return_lse=True, **options)
        for target in ("cpu", "torch")
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)
    assert "pages" not in options or (found[0][1].isnan().any() and not found[0][0].isnan().any())


@pytest.mark.parametrize("heads", [8, 11, 16, 24])
def test_no_bit_of_grouped_heads_depends_on_threads(
    heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    q, k, v = torch.randn(1, heads, 1, 32), *torch.randn(2, 1, 1, LENGTH, 32)
    layout = compiled("causal")
    out = layout(q, k, v)
    every = out.new_tensor(0.0)
    for i in range(heads):
        alone = layout(q[:, i : i + 1], k, v)
        every = torch.maximum(every, (alone - out[:, i : i + 1]).abs().max())
    assert every < 1e-5
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=threads: count)
        assert torch.equal(layout(q, k, v), out)


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
