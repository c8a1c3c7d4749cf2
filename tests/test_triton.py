"""The triton target's results under Triton's interpreter."""

from __future__ import annotations

import math
from concurrent.futures import Executor
from typing import Any

import pytest
import torch
from calls import BY_HEAD, FAR, LABELLED, PREDICATES, Call, few
from hypothesis import given, settings
from reference import TOLERANCE, Inputs, agrees, inputs, run
from strategies import Case, cases, value_dims

import bslang
from bslang.errors import TargetError
from bslang.runtime.triton.launch import TritonTarget
from bslang.runtime.triton.tables import DeviceTables

pytest.importorskip("triton")

BIGBIRD = "window(3) | global(0, -1) | random(2, seed=7)"
SINKS = "(last(70t) | cols(:4t)) & causal"
SINGLE, HALF, BRAIN = torch.float32, torch.float16, torch.bfloat16

# Each row: a program on a grid, then what its tensors are.
RUNS: list[tuple[Case, dict[str, Any]]] = [
    (Case(BIGBIRD, (16, 16), 150, 150, "end"), {}),
    (Case(BIGBIRD, (64, 64), 330, 330, "end"), {"dim": 64, "batch": 2}),
    (Case(f"({BIGBIRD}) & causal", (16, 16), 70, 90, "end"), {"dtype": HALF, "dim": 72}),
    (Case(f"({BIGBIRD}) & causal", (64, 64), 130, 200, "end"), {"dtype": BRAIN, "dim": 64}),
    (Case("all", (64, 64), 100, 100, "end"), {"dim": 24, "dtype": BRAIN}),
    (Case("none", (16, 16), 20, 40, "end"), {}),
    (
        Case("causal", (32, 16), 50, 90, "end"),
        {"dim": 24, "value_dim": 72, "heads": 4, "key_heads": 2},
    ),
    (Case("causal", (64, 64), 90, 60, "start"), {"heads": 3, "key_heads": 3, "dtype": HALF}),
    (Case(SINKS, (64, 64), 100, 180, "end"), {"dim": 24, "heads": 4}),
    (Case("causal.T", (5, 3), 17, 21, "end"), {"dim": 72, "dtype": BRAIN}),
    (Case("rows(20t:40t) - cols(3t)", (16, 16), 50, 61, "end"), {}),  # most queries see no key
    (Case("window(41t, wrap=true)", (32, 16), 70, 70, "start"), {"dtype": HALF}),
    (Case("window(9t, clamp=true)", (5, 3), 40, 40, "end"), {"dtype": BRAIN}),
    (Case("chunks(5t, 7t) | strided(5t)", (5, 3), 33, 41, "end"), {"heads": 2, "key_heads": 2}),
    (Case("chunks(3t, 4t, 9t, 1t, 7t, 2t, 6t, 2t, 5t, 8t) & causal", (5, 3), 33, 41, "end"), {}),
    (Case("diagonals(0t, 17t, 30t:40t) & ~every(3t)", (16, 16), 61, 80, "end"), {"dtype": HALF}),
    (Case("random(2, seed=3, within=causal) | rows(-1t)", (16, 32), 50, 70, "end"), {}),
    (Case("last(90t)", (100, 100), 130, 250, "end"), {}),  # tiles larger than a block's rest
    (Case("window(3t) | cols(0)", (192, 256), 210, 300, "end"), {"key_heads": 2}),  # and smaller
    (Case("last(2)", (1, 1), 5, 9, "end"), {"dim": 8}),
    # Strips and runs in one loop, of blocks with three tiles; the first query is inside a block.
    (
        Case("window(1) | cols(0) | random(2, seed=7)", (192, 192), 500, 900, "end"),
        {"key_heads": 2},
    ),
    (Case("random(3, seed=1)", (64, 64), 330, 330, "end"), {"heads": 4}),
]


def layout(case: Case) -> bslang.Layout:
    return bslang.compile(case.spec, block=case.block, target="triton", folder=case.folder)


# ---- under the interpreter -------------------------------------------------------------------


def target(made: bslang.Layout) -> TritonTarget:
    found = made.targets["triton"]
    assert isinstance(found, TritonTarget)
    found.dtypes = TritonTarget.dtypes  # bf16 too, see tests/interpreter.py
    return found


def check(case: Case, options: dict[str, Any], **call: Any) -> None:
    made = layout(case)
    target(made)
    tensors = inputs(case.len_q, case.len_k, **options)
    masks = case.masks(tensors.q.shape[1])
    agrees(made, tensors, masks, TOLERANCE[tensors.q.dtype], align=case.align, **call)


@pytest.mark.parametrize(("case", "options"), RUNS, ids=lambda x: str(getattr(x, "spec", "")))
def test_results(interpreting: Executor, case: Case, options: dict[str, Any]) -> None:
    interpreting.submit(check, case, options).result()


SPLIT: list[tuple[Case, dict[str, Any]]] = [
    (Case("rows(0) | window(3)", (16, 16), 147, 147, "end"), {"batch": 2}),
    (
        Case("cols(0) | causal", (16, 16), 90, 131, "end"),
        {"heads": 4, "key_heads": 2, "dim": 24, "value_dim": 40},
    ),
    (Case("causal", (16, 16), 3, 139, "end"), {"dtype": HALF}),  # decoding
    (
        Case("causal", (16, 16), 1, 139, "end"),
        {"heads": 6, "key_heads": 2, "dim": 40, "value_dim": 24},
    ),
    (Case("last(40t) | cols(:4t)", (5, 3), 61, 83, "end"), {}),
    (Case("rows(9t:20t)", (16, 32), 71, 103, "start"), {}),  # parts in which queries see no key
]


def check_split_rows(case: Case, options: dict[str, Any]) -> int:
    """Check with parts that are small; returns how many blocks rows were split into."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SHORTEST", "LIGHT", "HEAVY"):
            patch.setattr(f"bslang.schedule.programs.{name}", 1)
        made = layout(case)  # held, so that `check` calls the same
        check(case, options)
        plan = made._plan(case.len_q, case.len_k, case.align, torch.device("cpu"))
        tables = (made for made in plan.made.values() if isinstance(made, DeviceTables))
        return sum(each.slots for each in tables)


@pytest.mark.parametrize(("case", "options"), SPLIT, ids=lambda x: str(getattr(x, "spec", "")))
def test_parts_of_split_rows_are_joined(
    interpreting: Executor, case: Case, options: dict[str, Any]
) -> None:
    assert interpreting.submit(check_split_rows, case, options).result() > 1


def check_random_programs() -> None:
    @settings(max_examples=20, deadline=None, derandomize=True, database=None)
    @given(cases(blocks=((16, 16), (5, 3), (8, 32)), longest=40), value_dims)
    def agree(case: Case, value_dim: int) -> None:
        if case.has_meaning():
            check(case, {"dim": 8, "value_dim": value_dim})

    agree()


def test_random_programs(interpreting: Executor) -> None:
    interpreting.submit(check_random_programs).result()


@pytest.mark.parametrize("spec", [*BY_HEAD, *LABELLED, *PREDICATES])
def test_heads_and_labels(interpreting: Executor, spec: str) -> None:
    for call in few(spec):
        interpreting.submit(call.check, "triton").result()


def test_numbers_beyond_32_bits(interpreting: Executor) -> None:
    call = Call(FAR, (64, 64), 3, 47_000, heads=1, key_heads=1, batch=1)
    interpreting.submit(call.check, "triton").result()


def test_blocks_of_other_documents_are_not_visited(interpreting: Executor) -> None:
    for spec in ("same(doc) & causal", "same(doc) & last(head * 9t + 9t)"):
        call = Call(spec, (16, 16), 64, 64)
        interpreting.submit(call.others_are_not_visited, "triton").result()


def check_strides_and_scales() -> None:
    case = Case(SINKS, (16, 16), 40, 60, "end")
    made, mask = layout(case), case.mask()
    plain = inputs(40, 60, heads=4, key_heads=2)
    for scale in (0.3, -0.3, 0.0):
        agrees(made, plain, mask, 1e-5, scale=scale)
    # Columns that lie far apart, rows that are one and the same, and rows past each other's ends.
    far = plain.q.transpose(2, 3).contiguous().transpose(2, 3)
    same = plain.k[:, :1, :1].expand(plain.k.shape)
    apart = torch.cat((plain.v, plain.v), 2)[:, :, ::2]
    odd = Inputs(far, same, apart, plain.grad_out[:, :, :1].expand_as(far), plain.grad_lse)
    agrees(made, odd, mask, 1e-5)


def test_strides_and_scales(interpreting: Executor) -> None:
    interpreting.submit(check_strides_and_scales).result()


@pytest.mark.parametrize("dtype", [SINGLE, HALF, BRAIN], ids=str)
@pytest.mark.parametrize("softcap", [0.3, 5.0, 1e6])
def test_softcaps(interpreting: Executor, softcap: float, dtype: torch.dtype) -> None:
    """Of 0.3 most scores reach it; of 1e6 the quotient is so small that tanh must be exact there."""
    for spec, block in ((SINKS, (16, 32)), ("rows(20t:40t) - cols(3t)", (5, 3))):
        case, options = Case(spec, block, 50, 90, "end"), {"dtype": dtype, "dim": 24}
        interpreting.submit(check, case, options, softcap=softcap).result()
        if softcap == 5.0:
            interpreting.submit(check, case, options, scale=-0.7, softcap=softcap).result()


@pytest.mark.parametrize("spec", [LABELLED[1], LABELLED[9]])
def test_softcaps_with_labels(interpreting: Executor, spec: str) -> None:
    for call in few(spec):
        interpreting.submit(call.check, "triton", softcap=2.0).result()


def check_nan_under_a_softcap() -> None:
    given = inputs(40, 40)
    given.q[0, 1, 33, 3] = torch.nan
    made = layout(Case("causal", (16, 16), 40, 40, "end"))
    out, lse = made(given.q, given.k, given.v, softcap=5.0, return_lse=True)
    assert out[0, 1, 33].isnan().all() and lse[0, 1, 33].isnan()
    assert out.isnan().sum() == out.shape[-1] and lse.isnan().sum() == 1


def test_nan_is_not_hidden_by_a_softcap(interpreting: Executor) -> None:
    interpreting.submit(check_nan_under_a_softcap).result()


def check_repeatable() -> None:
    case = Case(f"({BIGBIRD}) & causal", (16, 16), 50, 70, "end")
    given = inputs(50, 70, heads=4, key_heads=2, dtype=HALF)
    first, second = (run(layout(case), given) for _ in range(2))
    assert all(torch.equal(x, getattr(second, name)) for name, x in vars(first).items())
    out = layout(case)(given.q, given.k, given.v)
    assert isinstance(out, torch.Tensor) and out.is_contiguous()
    empty = inputs(50, 70, batch=0)
    assert run(layout(case), empty).dk.shape == empty.k.shape


def test_the_same_bits_every_time(interpreting: Executor) -> None:
    interpreting.submit(check_repeatable).result()


def bf16_without_the_repair() -> str:
    with pytest.raises(TargetError) as caught:
        layout(Case("cols(0)", (32, 32), 20, 20, "end"))(
            *(torch.zeros(1, 1, 20, 16).bfloat16(),) * 3
        )
    return str(caught.value)


def test_the_interpreter_takes_no_bf16(interpreting: Executor) -> None:
    assert (
        "takes torch.float32, torch.float16"
        in interpreting.submit(bf16_without_the_repair).result()
    )


def check_integer_functions(dtype: torch.dtype, bits: int) -> None:
    """isqrt and log2 around every power of 2 and the square below it, up to so many bits."""
    import triton
    import triton.language as tl

    made = layout(Case(PREDICATES[3], (16, 16), 1, 1, "end"))
    functions = target(made).kernels["forward"].fn.__globals__
    near = [
        x + step
        for e in range(1, bits + 1)
        for x in (2**e, math.isqrt(2**e - 1) ** 2)
        for step in (-1, 0, 1)
    ]
    values = [min(max(x, 1), 2**bits - 1) for x in near]

    @triton.jit
    def ask(x, roots, logs, isqrt: tl.constexpr, log2: tl.constexpr) -> None:  # type: ignore[no-untyped-def]
        value = tl.load(x + tl.program_id(0))
        tl.store(roots + tl.program_id(0), isqrt(value))
        tl.store(logs + tl.program_id(0), log2(value))

    x = torch.tensor(values, dtype=dtype)
    roots, logs = torch.zeros_like(x), torch.zeros_like(x)
    ask[(len(values),)](x, roots, logs, functions["isqrt"], functions["log2"])
    assert roots.tolist() == [math.isqrt(value) for value in values]
    assert logs.tolist() == [value.bit_length() - 1 for value in values]


@pytest.mark.parametrize(("dtype", "bits"), [(torch.int32, 31), (torch.int64, 62)])
def test_integer_functions(interpreting: Executor, dtype: torch.dtype, bits: int) -> None:
    interpreting.submit(check_integer_functions, dtype, bits).result()
