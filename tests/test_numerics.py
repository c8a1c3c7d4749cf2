"""Numbers at the edge: NaN and infinity, large and tiny ones, short sequences, far addresses.

The table of docs/reliability.md names these tests.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from reference import TOLERANCE, agrees, dense, inputs, run
from strategies import Case

import bslang

BLOCK, LENGTH = 16, 44
DTYPES = (torch.float32, torch.float16)


def layout(target: str, case: Case) -> bslang.Layout:
    return bslang.compile(case.spec, block=case.block, target=target)


def case_of(spec: str, len_q: int = LENGTH, len_k: int = LENGTH, block: int = BLOCK) -> Case:
    return Case(spec, (block, block), len_q, len_k, "end")


# ---- NaN and infinity -----------------------------------------------------------------------

SPECS = [
    "(last(20t) | cols(0:3t)) & causal",
    "random(1, seed=3) | last(5t)",  # rows of several widths
    "heads { 0 -> causal; 1: -> cols(16t:40t) - rows(20t:30t) }",  # and rows that see nothing
]


@pytest.mark.parametrize(
    "spec, softcap", [*zip(SPECS, (3.0, None, None), strict=True), (SPECS[0], None)]
)
def test_what_is_no_number_reaches_what_meets_it(
    on: Callable[..., None], spec: str, softcap: float | None
) -> None:
    on(check_reach, spec, softcap)


def check_reach(target: str, spec: str, softcap: float | None) -> None:
    case = case_of(spec)
    made, given = layout(target, case), inputs(LENGTH, LENGTH, key_heads=2)
    clean = run(made, given, softcap=softcap)
    sees = torch.from_numpy(case.masks(2)[0, 1])
    meets = in_visited_blocks(sees)
    few = target == "triton"  # which is interpreted
    for name in vars(given):
        for number in (math.nan,) if few else (math.nan, math.inf):
            for at in (31,) if few else (5, 31):
                poisoned = replace(given, **{name: getattr(given, name).clone()})
                getattr(poisoned, name)[0, 1, at, ...].view(-1)[-1] = number
                found = run(made, poisoned, softcap=softcap)
                reach = reached(name, at, sees, meets)
                for part in reach:
                    x, before = getattr(found, part), getattr(clean, part)
                    assert torch.equal(x[0, 0], before[0, 0]), "the other head"
                    changed = (x[0, 1] != before[0, 1]).view(LENGTH, -1).any(-1)
                    assert not (changed & ~reach[part]).any(), (name, number, at, part)
                if math.isnan(number):
                    for part, rows in reached(name, at, sees, sees).items():
                        lost = getattr(found, part)[0, 1].view(LENGTH, -1).isnan().any(-1)
                        assert lost[rows].all(), f"{part} hides the NaN of {name}"


def in_visited_blocks(sees: torch.Tensor) -> torch.Tensor:
    """Which pairs lie in a block where some pair belongs."""
    whole = torch.zeros(2 * (-(-LENGTH // BLOCK) * BLOCK,), dtype=torch.bool)
    whole[:LENGTH, :LENGTH] = sees
    blocks = whole.unflatten(1, (-1, BLOCK)).unflatten(0, (-1, BLOCK)).any((1, 3))
    for axis in (0, 1):
        blocks = blocks.repeat_interleave(BLOCK, axis)
    return blocks[:LENGTH, :LENGTH]


def reached(name: str, at: int, sees: torch.Tensor, meets: torch.Tensor) -> dict[str, torch.Tensor]:
    """Rows of each result that a number at one position of a tensor reaches.

    sees: which keys a query takes scores of; meets: which it multiplies by a weight, be it 0.
    """
    own, none = torch.arange(LENGTH) == at, torch.zeros(LENGTH, dtype=torch.bool)
    own_row, own_column = own & meets.any(1), own & meets.any(0)
    scores = {"q": own_row, "k": sees[:, at]}.get(name, none)
    out = meets[:, at] if name == "v" else scores
    weighed = own_row if name == "grad_out" else scores
    graded = own_row if name == "grad_lse" else out | weighed
    return {
        "out": out,
        "lse": scores,
        "dq": meets[:, at] if name in "kv" else own_row,
        "dk": meets[graded].any(0) | (own_column if name == "k" else none),
        "dv": meets[weighed].any(0),
    }


def test_an_infinite_score(on: Callable[..., None]) -> None:
    on(check_infinite_scores)


def check_infinite_scores(target: str) -> None:
    """Of +inf the softmax is NaN; a key of score -inf weighs nothing, and a row of such keys is 0."""
    made, given = layout(target, case_of("last(4t)")), inputs(LENGTH, LENGTH)
    k = given.k.clone()
    k[0, 0, 7, 0] = math.inf
    k[0, 0, 20:24, 0] = -math.inf
    given.q[..., 0] = given.q[..., 0].abs() + 1
    out, lse = made(given.q, k, given.v, return_lse=True)
    assert out[:, :, 7:11].isnan().all() and lse[:, :, 7:11].isnan().all()
    assert not out[:, :, 23].any() and (lse[:, :, 23] == -math.inf).all()
    mask = np.tri(LENGTH, dtype=bool) & ~np.tri(LENGTH, k=-4, dtype=bool)
    mask[:, 20:24] = False
    expected = dense(given, mask).out
    for rows in (slice(0, 7), slice(11, LENGTH)):
        torch.testing.assert_close(
            out[:, :, rows].double(), expected[:, :, rows], atol=1e-5, rtol=0
        )


# ---- large and tiny numbers -----------------------------------------------------------------


@pytest.mark.parametrize("size", [1e3, 1e5], ids=["1e3", "1e5"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_large_scores(on: Callable[..., None], dtype: torch.dtype, size: float) -> None:
    on(check_large_scores, dtype, size)


def check_large_scores(target: str, dtype: torch.dtype, size: float) -> None:
    """Beyond the largest fp16 too. Scores and lse are rounded to fp32, which weights show."""
    case, given = case_of("last(2) & causal"), inputs(LENGTH, LENGTH, dtype=dtype)
    largest = (given.q.double() @ given.k.double().mT).abs().max() / 4
    factor = float((size / largest).sqrt())
    given = replace(given, q=given.q * factor, k=given.k * factor)
    truth, found = dense(given, case.masks(2)), run(layout(target, case), given)
    assert size / 2 < float(truth.lse.abs().max()) < 2 * size
    for name, error in found.relative(truth).items():
        bound = TOLERANCE[dtype] + size * 2**-22
        assert error <= bound, f"{name} is off by {error:.2e}"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tiny_numbers(on: Callable[..., None], dtype: torch.dtype) -> None:
    on(check_tiny, dtype)


def check_tiny(target: str, dtype: torch.dtype) -> None:
    """Numbers below the smallest normal one come through whole; scores of such are as good as 0."""
    least = torch.finfo(dtype).smallest_normal
    step = torch.tensor(least).item() * torch.finfo(dtype).eps
    given = inputs(LENGTH, LENGTH, dtype=dtype)
    tiny = torch.arange(1, LENGTH + 1)[:, None] * torch.tensor(step, dtype=torch.float64)
    tiny = tiny.to(dtype).expand(given.v.shape).contiguous()
    assert (tiny != 0).all() and (tiny.double() < least).all()
    one = layout(target, case_of("last(1t)"))
    assert torch.equal(one(given.q, given.k, tiny), tiny.expand(given.q.shape))
    case = case_of("causal")
    small = replace(given, q=tiny.expand(given.q.shape), k=tiny)
    agrees(layout(target, case), small, case.masks(2), TOLERANCE[dtype])


# ---- queries without keys -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("spec", ["none", "rows(20t:24t)", "causal - last(3t)"])
def test_queries_without_keys(on: Callable[..., None], spec: str, dtype: torch.dtype) -> None:
    on(check_blind, spec, dtype)


def check_blind(target: str, spec: str, dtype: torch.dtype) -> None:
    """Output 0, lse -inf, gradients 0; the other queries do not notice, even where scores are large."""
    case = case_of(spec)
    sees = torch.from_numpy(case.masks(2)[0])
    blind, unseen = ~sees.any(-1), ~sees.any(1)
    assert blind.any()
    for factor in (1.0, 100.0):
        given = inputs(LENGTH, LENGTH, key_heads=2, dtype=dtype)
        given = replace(given, q=given.q * factor)
        made = layout(target, case)
        out, lse = made(given.q, given.k, given.v, return_lse=True)
        assert not out[0, blind].any() and (lse[0, blind] == -math.inf).all()
        found = run(made, given)
        assert all(x.isfinite().all() for x in vars(found).values())
        assert not found.dq[0, blind].any()
        assert not found.dk[0, unseen].any() and not found.dv[0, unseen].any()
        if factor == 1:
            agrees(made, given, case.masks(2), TOLERANCE[dtype])


# ---- lengths --------------------------------------------------------------------------------

LENGTHS = (1, BLOCK - 1, BLOCK, BLOCK + 1)


@pytest.mark.parametrize("spec", ["causal", "window(3) | cols(0:3t)", "last(5t)"])
def test_lengths_around_a_block(on: Callable[..., None], spec: str) -> None:
    on(check_lengths, spec)


def check_lengths(target: str, spec: str) -> None:
    for len_q in LENGTHS:
        for len_k in {len_q} if target == "triton" else {n for n in LENGTHS if n >= len_q}:
            case = case_of(spec, len_q, len_k)
            agrees(
                layout(target, case), inputs(len_q, len_k), case.masks(2), TOLERANCE[torch.float32]
            )


# ---- far addresses --------------------------------------------------------------------------

MAP_NORESERVE = 0x4000
"""Linux's number: memory counts when it is touched. Python has the name since 3.13."""


@pytest.mark.parametrize("far", ["heads", "rows"])
def test_tensors_of_more_than_2_to_the_31_elements(on: Callable[..., None], far: str) -> None:
    on(check_far, far)


def check_far(target: str, far: str) -> None:
    """Inputs of which most memory is never touched: what they hold lies 2^31 elements apart."""
    length = 300 if far == "rows" else LENGTH
    case = case_of("last(2) & causal", length, length, 64)
    given = inputs(length, length, heads=2, key_heads=2)
    made = layout(target, case)
    expected = run(made, given)
    spread = {name: spread_out(getattr(given, name), far) for name in ("q", "k", "v", "grad_out")}
    spread_given = replace(given, **spread)
    for name, x in vars(run(made, spread_given)).items():
        assert torch.equal(x, getattr(expected, name)), name


def spread_out(x: torch.Tensor, far: str) -> torch.Tensor:
    """The same numbers, (1, 2, length, dim), where the heads lie far apart, or the rows."""
    length, dim = x.shape[2:]
    row = 2**23 - dim if far == "rows" else dim  # the widest that no target copies
    head = 2 * dim if far == "rows" else 2**31
    assert length * row > 2**31 or head >= 2**31
    size = head + length * row
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    memory = mmap.mmap(-1, size * x.itemsize, private | MAP_NORESERVE)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    held = torch.frombuffer(memory, dtype=x.dtype)
    return held.as_strided(x.shape, (size, head, row, 1)).copy_(x)
