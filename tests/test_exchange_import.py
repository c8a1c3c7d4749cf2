"""Masks of other libraries as layouts: exactly the mask, and said as a person would say it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import Case, cases, examples, programs
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, noop_mask

import bslang
from bslang import PatternError, compiler
from bslang.exchange.recognise import as_masks, recognise
from bslang.ir.grid import Grid
from bslang.ir.oracle import dense
from bslang.ir.runs import Bools
from bslang.syntax.source import Source


def mask_of(spec: str, block: int, len_q: int, len_k: int | None = None) -> Bools:
    resolved = compiler.resolve(Source("<spec>", spec), block=block)
    return dense(resolved.pattern, Grid.of(len_q, len_k or len_q, resolved.block))


# What is printed where it is not what was written: the same set, in fewer or plainer words.
CLASSIC = {
    "all": "",
    "none": "",
    "causal": "",
    "causal.T": "",
    "window(5)": "",
    "window(5) & causal": "last(3) & causal",
    "window(left=2, right=1)": "",
    "window(5, step=2)": "",
    "window(5, wrap=true)": "",
    "window(5, clamp=true)": "",
    "last(3)": "",
    "last(3) & causal": "",
    "last(50t)": "",
    "window(101t)": "",
    "chunks(4)": "",
    "chunks(4) & causal": "",
    "chunks(4, back=1)": "",
    "chunks(50t)": "",
    "cols(0, 3:5)": "",
    "rows(2)": "",
    "global(0, -1)": "",
    "global(0, -1) | window(3)": "",
    "(last(50t) | cols(0:4t)) & causal": "(last(50t) | cols(0t:4t)) & causal",
    "strided(4)": "",
    "(strided(4) | last(2)) & causal": "",
    "every(4, 3)": "",
    "(last(4) | every(4, 3)) & causal": "",
    "every(3) & last(inf)": "",
    "every(4, 1).T": "",
    "logsparse & causal": "",
    "butterfly": "",
    "diagonals(0, 2, 5)": "",
    "diagonals(3:6)": "",
    "all - window(5)": "~window(5)",
    "causal - last(3)": "",
}


@pytest.mark.parametrize("spec", CLASSIC)
def test_classic_patterns_print_as_they_are_known(spec: str) -> None:
    found = recognise(mask_of(spec, 16, 256)[None], (16, 16))
    assert str(found.pattern) == (CLASSIC[spec] or spec)


@pytest.mark.parametrize(
    "spec", ["window(3) | global(0, -1) | random(2, seed=7)", "(last(2) | random(1)) & causal"]
)
def test_what_is_drawn_becomes_a_table_beside_what_is_known(spec: str) -> None:
    mask = mask_of(spec, 16, 300)
    layout = bslang.from_dense(torch.from_numpy(mask), 16, target="torch")
    known = ("global(0, -1)", "window(3)") if "global" in spec else ("last(2)", ") & causal")
    assert 'table("sha256-' in layout.spec and all(part in layout.spec for part in known)
    assert np.array_equal(layout.to_dense(300).numpy(), mask)
    q = torch.randn(1, 1, 300, 16)
    truth = torch.nn.functional.scaled_dot_product_attention(
        q, q, q, attn_mask=torch.from_numpy(mask)
    )
    assert torch.allclose(layout(q, q, q), truth, atol=2e-6)


def test_few_queries_stand_at_the_end() -> None:
    mask = mask_of("last(50t) & causal", 16, 40, 256)
    layout = bslang.from_dense(mask, 16, target="torch")
    assert layout.spec == "last(50t)"
    start = bslang.from_dense(np.tri(40, 256, dtype=bool), 16, align="start", target="torch")
    assert start.spec == "causal"


def test_heads_with_masks_of_their_own() -> None:
    near, all_before = mask_of("last(2)", 16, 96), mask_of("causal", 16, 96)
    layout = bslang.from_dense(np.stack((near, near, all_before)), 16, target="torch")
    assert layout.spec == "heads { 0:2 -> last(2); 2 -> causal }"
    same = bslang.from_dense(np.stack((near, near)), 16, target="torch")
    assert same.spec == "last(2)"


@examples(30)
@given(case=cases(longest=24, terms=3))
def test_any_mask_comes_back_exactly(case: Case) -> None:
    """Whatever the block: what cannot be said in it is refused, and then is not made of its blocks."""
    assume(case.has_meaning())
    mask = case.mask()
    try:
        found = recognise(mask[None], case.block, case.align)
    except PatternError:
        rows, columns = case.block
        assert rows * columns > 1
        return
    assert np.array_equal(dense(found.pattern, case.grid), mask)


@examples(30)
@given(spec=programs(terms=2), length=st.integers(2, 12))
def test_blocks_are_never_refused(spec: str, length: int) -> None:
    case = Case(spec, (1, 1), length, length, "end")
    assume("grid(" not in spec and case.has_meaning())
    big = case.mask().repeat(3, axis=0).repeat(3, axis=1)
    found = recognise(big[None], (3, 3))
    assert np.array_equal(dense(found.pattern, Grid.of(3 * length, 3 * length, (3, 3))), big)


def test_a_mask_that_is_not_made_of_blocks() -> None:
    i, j = np.indices((64, 64))
    mask = (i * j) % 7 < 3
    with pytest.raises(
        PatternError, match=r"query 0 sees key 0 and query 1 not key 3; pass a smaller"
    ):
        bslang.from_dense(mask, 16)
    layout = bslang.from_dense(mask, 1, target="torch")
    assert np.array_equal(layout.to_dense(64).numpy(), mask)


def test_what_is_no_mask() -> None:
    with pytest.raises(TypeError, match="a mask must be bool"):
        bslang.from_dense(torch.ones(4, 4))
    with pytest.raises(ValueError, match=r"this one has \(4,\)"):
        bslang.from_dense(torch.ones(4, dtype=torch.bool))
    with pytest.raises(ValueError, match="none of them 0"):
        as_masks(np.ones((0, 4), dtype=bool))
    with pytest.raises(ValueError, match="cannot be the last positions"):
        bslang.from_dense(np.ones((8, 4), dtype=bool))
    with pytest.raises(TypeError, match="must be a BlockMask"):
        bslang.from_flex(torch.ones(4, 4))


# ---- FlexAttention -------------------------------------------------------------------------------


def test_a_block_mask_of_flex_attention() -> None:
    def near(b: object, h: object, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return (k <= q) & (q - k < 100)

    made = create_block_mask(near, None, None, 256, 256, device="cpu", BLOCK_SIZE=64)
    layout = bslang.from_flex(made, target="torch")
    assert (layout.spec, layout.block) == ("last(100t)", (64, 64))
    assert bslang.from_flex(made, 32, target="torch").block == (32, 32)


@pytest.mark.parametrize("spec", ["(random(1) | last(20t)) & causal", "every(3, offset=head)"])
def test_there_and_back(spec: str) -> None:
    ours = bslang.compile(spec, block=16, target="torch")
    again = bslang.from_flex(ours.to_flex(100, heads=2), target="torch")
    for head in range(2):
        assert torch.equal(again.to_dense(100, head=head), ours.to_dense(100, head=head))


def test_lists_hold_even_without_a_mask_mod() -> None:
    """Compiled kernels visit listed blocks alone; entries past the count are ignored."""
    counts = torch.tensor([[[1, 2]]], dtype=torch.int32)
    indices = torch.tensor([[[[1, 1], [0, 1]]]], dtype=torch.int32)
    mask = BlockMask.from_kv_blocks(counts, indices, BLOCK_SIZE=16, mask_mod=noop_mask)
    blocks = bslang.from_flex(mask, target="torch").to_dense(32)[::16, ::16]
    assert blocks.tolist() == [[False, True], [True, True]]


def test_lists_of_batch_rows_are_refused() -> None:
    made = create_block_mask(lambda b, h, q, k: q - k < b + 5, 2, None, 32, 32, device="cpu")
    with pytest.raises(PatternError, match="a mask for each of 2 batch rows"):
        bslang.from_flex(made)


def test_queries_that_are_the_last_are_named_by_their_positions() -> None:
    mask = torch.zeros(10, 100, dtype=torch.bool)
    mask[3, ::7] = True
    mask[4, 1::5] = True
    mask[8, ::3] = True
    with pytest.raises(
        bslang.PatternError, match=r"query 9\d .* query 9\d .*\(rows \d and \d of the mask"
    ):
        bslang.from_dense(mask, block=64)
