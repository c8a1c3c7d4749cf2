"""Blocks in pages: the results of a call whose tensors lie in one piece, wherever the pages are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from paged import Given, shuffled

import bslang

CASES = [
    ("window(3) | global(0, -1) | random(2, seed=7)", 16, (2, 4, 2, 245), (16, 16)),
    ("last(100t) & causal", 64, (1, 2, 1, 300), (16, 24)),
    ("heads { 0:2 -> last(40t); 2: -> causal - cols(3t) }", (16, 32), (2, 4, 2, 150), (20, 12)),
    ("causal", 128, (1, 4, 4, 130), (20, 20)),
    ("order morton(5, 7, 7)\ngrid(5t, 7t, 7t, radius=2)", 16, (1, 2, 1, 245), (8, 8)),
]
BITS = {"cpu": True, "torch": False}
"""Targets, and whether a part of their work has the bits of the whole."""


def given(case: tuple[object, ...], target: str, dtype: torch.dtype = torch.float32) -> Given:
    spec, block, shape, dims = case
    layout = bslang.compile(spec, block=block, target=target)  # type: ignore[arg-type]
    return Given.of(layout, target, shape, dims, dtype)  # type: ignore[arg-type]


def pages(of: Given, by_head: bool) -> tuple[torch.Tensor, torch.Tensor]:
    q, k, *_ = of.tensors
    heads = (q.shape[1], k.shape[1]) if by_head else (1, 1)
    rows, cols = (-(-q.shape[2] // side) for side in of.layout.block)
    return shuffled(1, q.shape[0], heads[0], rows), shuffled(2, q.shape[0], heads[1], cols)


@pytest.mark.parametrize("target", BITS)
@pytest.mark.parametrize("by_head", [False, True])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_pages_change_no_bit(case: tuple[object, ...], by_head: bool, target: str) -> None:
    of = given(case, target)
    assert all(map(torch.equal, of.found(*pages(of, by_head), [None]), of.expected))


@pytest.mark.parametrize("target", BITS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_parts_of_the_work_are_the_whole(case: tuple[object, ...], target: str) -> None:
    """Block rows and columns one way and the other; a row or a column has the bits of the whole."""
    of = given(case, target)
    odd_and_even = [slice(1, None, 2), slice(0, None, 2), slice(0)]
    found = of.found(*pages(of, True), odd_and_even)
    for x, y in zip(found, of.expected, strict=True):
        if BITS[target]:
            assert torch.equal(x, y)
        torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("target", BITS)
def test_results_in_fp32_are_rounded_once_less(target: str) -> None:
    of = given(CASES[0], target, torch.bfloat16)
    found = of.found(*pages(of, False), [None], torch.float32)
    for x, y in zip(found, of.expected, strict=True):
        assert x.dtype == torch.float32
        assert torch.equal(x.to(y.dtype), y)
    assert not torch.equal(found[0], of.expected[0].float())


@pytest.mark.parametrize("target", BITS)
def test_labels_are_of_positions(target: str) -> None:
    layout = bslang.compile("same(doc) & causal", block=16, target=target)
    labels = torch.from_numpy(np.sort(np.random.default_rng(0).integers(0, 5, (2, 130)), axis=1))
    of = Given.of(layout, target, (2, 2, 1, 130), (16, 16), labels={"doc": labels})
    assert all(map(torch.equal, of.found(*pages(of, False), [None]), of.expected))
