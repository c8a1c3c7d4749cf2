"""Pages in the triton target, under Triton's interpreter: the bits of tensors that lie in one piece."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

import pytest
import test_block_tables as tables
import torch
from calls import Call
from paged import Given, shuffled

import bslang

pytest.importorskip("triton")

CASES: list[tuple[Any, ...]] = [
    # Blocks that come several in a tile, listed one by one, in strips and in runs.
    ("window(3) | cols(0) | random(1, seed=7)", 16, (2, 2, 1, 60), (16, 16)),
    # Tiles that divide blocks, and a last one that is short.
    ("last(40t) & causal", 64, (1, 2, 1, 150), (16, 24)),
    # Tiles that do not, and heads that differ.
    ("heads { 0:1 -> last(40t); 1: -> causal - cols(3t) }", (48, 80), (1, 2, 1, 170), (20, 12)),
]
ODD_AND_EVEN = [slice(1, None, 2), slice(0, None, 2), slice(0)]


def given(case: tuple[Any, ...], dtype: torch.dtype = torch.float32, **options: Any) -> Given:
    spec, block, shape, dims = case
    layout = bslang.compile(spec, block=block, target="triton")
    return Given.of(layout, "triton", shape, dims, dtype, **options)


def pages(of: Given, by_head: bool) -> tuple[torch.Tensor, torch.Tensor]:
    q, k, *_ = of.tensors
    heads = (q.shape[1], k.shape[1]) if by_head else (1, 1)
    rows, cols = (-(-q.shape[2] // side) for side in of.layout.block)
    return shuffled(1, q.shape[0], heads[0], rows), shuffled(2, q.shape[0], heads[1], cols)


def check_parts(case: tuple[Any, ...], by_head: bool, **options: Any) -> None:
    """Some block rows and columns after the others."""
    of = given(case, **options)
    found = of.found(*pages(of, by_head), ODD_AND_EVEN)
    assert all(map(torch.equal, found, of.expected))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_parts_have_the_bits_of_the_whole(interpreting: Executor, case: tuple[Any, ...]) -> None:
    interpreting.submit(check_parts, case, case is not CASES[1]).result()


def check_split_rows() -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SHORTEST", "LIGHT", "HEAVY"):
            patch.setattr(f"bslang.schedule.programs.{name}", 1)
        case = "rows(0) | cols(1) | window(1)", 16, (1, 2, 1, 50), (8, 24)
        check_parts(case, True)
        of = given(case)
        plan = of.layout._plan(50, 50, "end", torch.device("cpu"), 2)
        assert all(plan.made[f"triton {side}"].slots for side in ("rows", "cols"))


def test_parts_of_split_rows_are_joined(interpreting: Executor) -> None:
    interpreting.submit(check_split_rows).result()


def check_other_scales() -> None:
    for scale in (-0.3, 0.0):
        check_parts(("causal", 32, (1, 1, 1, 70), (8, 8)), False, scale=scale)


def test_scales_below_0(interpreting: Executor) -> None:
    interpreting.submit(check_other_scales).result()


def check_labels() -> None:
    doc = torch.arange(120).view(2, 60) // 25
    case = "same(doc) & causal", 16, (2, 1, 1, 60), (16, 16)
    check_parts(case, False, labels={"doc": doc})


def test_labels_are_of_positions(interpreting: Executor) -> None:
    interpreting.submit(check_labels).result()


def check_dtypes() -> None:
    of = given(CASES[1], torch.bfloat16)
    found = of.found(*pages(of, False), [None], torch.float32)
    for x, y in zip(found, of.expected, strict=True):
        assert x.dtype == torch.float32 and torch.equal(x.to(y.dtype), y)
    assert not torch.equal(found[0], of.expected[0].float())


def test_results_in_fp32_are_rounded_once_less(interpreting: Executor) -> None:
    interpreting.submit(check_dtypes).result()


BLOCK_TABLES = [
    (Call("(last(20t) | cols(0:4t)) & causal", (16, 16), 1, 61, batch=4), 16, False),
    (Call("last(head * 7t + 3t)", (16, 16), 3, 61, batch=2, heads=2, key_heads=2), 48, True),
    (Call("causal", (64, 64), 5, 150, batch=4, heads=2, key_heads=1), 64, False),
    (Call("causal", (16, 16), 5, 100, batch=2, heads=2, key_heads=1), 64, False),
]


@pytest.mark.parametrize("case", BLOCK_TABLES, ids=lambda case: f"{case[0].spec} {case[1]}")
def test_block_tables(interpreting: Executor, case: tuple[Call, int, bool]) -> None:
    """Rows that end at different places, each with its pages: of 16, of 48, a block, 4 blocks."""
    interpreting.submit(tables.check, "triton", *case).result()


def test_keys_without_a_page(interpreting: Executor) -> None:
    check = tables.test_a_page_that_is_not_there_is_nobody_elses
    interpreting.submit(check, "triton").result()
