"""The simulator of Gluon's pipelines: right kernels give right results, and every mistake is found."""

from __future__ import annotations

import re

import pytest
import torch
from pipeline import Fault, Kernels, Mistake
from pipeline.values import Value, value
from triton.experimental.gluon.language import NVMMASharedLayout
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

RING = """
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared, mbarrier, tma, warpgroup_mma, warpgroup_mma_wait
)


@gluon.jit
def _next(stage, phase, STAGES: gl.constexpr):
    last = stage == STAGES - 1
    return gl.where(last, 0, stage + 1), gl.where(last, phase ^ 1, phase)


@gluon.jit
def _producer(q_box, x_box, q, x, q_full, full, free, tiles, TILE: gl.constexpr, STAGES: gl.constexpr):
    mbarrier.expect(q_full, q_box.block_type.nbytes)
    tma.async_load(q_box, [gl.program_id(0) * 64, 0], q_full, q)
    stage, phase = 0, 1
    for i in range(tiles):
        mbarrier.wait(free.index(stage), phase)
        mbarrier.expect(full.index(stage), x_box.block_type.nbytes)
        tma.async_load(x_box, [i * TILE, 0], full.index(stage), x.index(stage))
        stage, phase = _next(stage, phase, STAGES)


@gluon.jit
def _consumer(out_box, q, x, out, q_full, full, free, tiles, TILE: gl.constexpr, STAGES: gl.constexpr):
    S: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, TILE, 16])
    O: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, 64, 16])
    acc = gl.zeros([64, 64], gl.float32, O)
    none = gl.zeros([64, TILE], gl.float32, S)
    mbarrier.wait(q_full, 0)
    stage, phase = 0, 0
    for i in range(tiles):
        mbarrier.wait(full.index(stage), phase)
        s = warpgroup_mma(q, x.index(stage).permute((1, 0)), none, use_acc=False, is_async=True)
        s = warpgroup_mma_wait(0, deps=[s])
        p = gl.convert_layout(s.to(x.dtype), gl.DotOperandLayout(0, O, 2))
        acc = warpgroup_mma(p, x.index(stage), acc, is_async=True)
        acc = warpgroup_mma_wait(0, deps=[acc])
        mbarrier.arrive(free.index(stage), count=1)
        stage, phase = _next(stage, phase, STAGES)
    out.store(acc.to(out.dtype))
    fence_async_shared()
    tma.async_store(out_box, [gl.program_id(0) * 64, 0], out)
    tma.store_wait(0)


@gluon.jit
def kernel(q_box, x_box, out_box, length, TILE: gl.constexpr, STAGES: gl.constexpr):
    q = gl.allocate_shared_memory(q_box.dtype, q_box.block_type.shape, q_box.layout)
    x = gl.allocate_shared_memory(x_box.dtype, [STAGES, TILE, 64], x_box.layout)
    out = gl.allocate_shared_memory(out_box.dtype, [64, 64], out_box.layout)
    q_full = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    mbarrier.init(q_full, count=1)
    for i in gl.static_range(STAGES):
        mbarrier.init(full.index(i), count=1)
        mbarrier.init(free.index(i), count=1)
    fence_async_shared()  # of barriers
    tiles = gl.cdiv(length, TILE)
    gl.warp_specialize([
        (_consumer, (out_box, q, x, out, q_full, full, free, tiles, TILE, STAGES)),
        (_producer, (q_box, x_box, q, x, q_full, full, free, tiles, TILE, STAGES)),
    ], [1], [24])
"""
"""(q x') x, over tiles of x that a producer loads into a ring."""

LAYOUT = NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)


def box(tensor: torch.Tensor, rows: int) -> TensorDescriptor:
    return TensorDescriptor.from_tensor(tensor, [rows, 64], LAYOUT)


def run(
    kernels: Kernels, seed: int, mistake: Mistake | None = None, length: int = 150, tile: int = 32
) -> float:
    """The error of the results of two programs."""
    make = torch.Generator().manual_seed(0)
    q = torch.randn(128, 64, generator=make).half()
    x = torch.randn(length, 64, generator=make).half()
    out = torch.full((128, 64), torch.nan, dtype=torch.float16)
    boxes = box(q, 64), box(x, tile), box(out, 64)
    tiles = {"TILE": tile, "STAGES": 2}
    kernels.launch("kernel", (2,), *boxes, length, **tiles, seed=seed, mistake=mistake)
    expected = (q.float() @ x.float().mT).half().float() @ x.float()
    return float(
        ((out.float() - expected).abs() / (1 + expected.abs())).max().nan_to_num(torch.inf)
    )


def said(source: str | Kernels, seed: int, mistake: Mistake | None = None) -> str:
    """The fault of a run, nothing if it has none."""
    kernels = Kernels(source) if isinstance(source, str) else source
    try:
        return "" if run(kernels, seed, mistake) < 2e-3 else "a wrong result"
    except Fault as fault:
        return str(fault)


@pytest.mark.parametrize("seed", range(8))
def test_a_ring_gives_the_results_of_dense_products(seed: int) -> None:
    assert run(Kernels(RING), seed) < 2e-3


def test_every_mistake_in_its_waits_is_found() -> None:
    ring = Kernels(RING)
    run(ring, seed=0)
    mistakes = ring.mistakes()
    assert len(mistakes) == len(set(mistakes)) == 28
    unfound = [m for m in mistakes if not any(said(ring, seed, m) for seed in range(4))]
    assert unfound == [], "\n".join(map(str, unfound))
    assert said(ring, seed=0) == ""


MISTAKES = [
    (
        "mbarrier.wait(full.index(stage), phase)",
        "pass",
        r"_consumer 0 \(_consumer, line \d+\): shared memory is read that was never written",
    ),
    (
        "mbarrier.wait(full.index(stage), phase)",
        "pass",
        r"what the copy of _producer, line \d+ writes is read without waiting for it",
    ),
    (
        "mbarrier.wait(free.index(stage), phase)",
        "pass",
        r"a buffer is overwritten that the copy of _producer, line \d+ still writes",
    ),
    (
        "mbarrier.wait(free.index(stage), phase)",
        "pass",
        r"1 more arrive at barrier \d of the memory of kernel, line \d+ than it counts",
    ),
    (
        "mbarrier.arrive(free.index(stage), count=1)",
        "pass",
        r"deadlock: .*; _producer 1 \(_producer, line \d+\) waits for parity 0 of barrier 0 of the "
        r"memory of kernel, line \d+, phase 0, 1 of 1 to arrive, 0 bytes to come",
    ),
    (
        "mbarrier.expect(full.index(stage), x_box.block_type.nbytes)",
        "mbarrier.expect(full.index(stage), x_box.block_type.nbytes + 16)",
        "deadlock: .* 0 of 1 to arrive, 16 bytes to come",
    ),
    (
        "s = warpgroup_mma_wait(0, deps=[s])",
        "pass",
        r"the product of _consumer, line \d+ is used before its wait",
    ),
    (
        "acc = warpgroup_mma_wait(0, deps=[acc])",
        "pass",
        r"a buffer is overwritten that _consumer 0 \(_consumer, line \d+\) may still read",
    ),
    (  # a buffer is freed before the product that reads it has ended
        """acc = warpgroup_mma_wait(0, deps=[acc])
        mbarrier.arrive(free.index(stage), count=1)
""",
        """mbarrier.arrive(free.index(stage), count=1)
        acc = warpgroup_mma_wait(0, deps=[acc])
""",
        r"a buffer is overwritten that _consumer 0 \(_consumer, line \d+\) may still read",
    ),
    ("fence_async_shared()  # of barriers", "pass", "which was made without a fence"),
    ("fence_async_shared()\n", "pass\n", "what _consumer 0 stored is read before its fence"),
    ("tma.store_wait(0)", "pass", "a copy to global memory of _consumer 0 is never waited for"),
    ("mbarrier.init(q_full, count=1)", "pass", "a barrier is used that was not initialised"),
    ("tiles = gl.cdiv(length, TILE)", "tiles = 1 + gl.cdiv(length, TILE)", ""),
    ("[i * TILE, 0], full.index(stage)", "[i * TILE, 0], q_full", "deadlock"),
    ("x.index(stage))\n        stage", "x.index(stage + 1))\n        stage", "buffer 2 of 2"),
    ("(_producer, (q_box", "(_producer, (q_box, gl.arange(0, 4)", "a tile of another partition"),
    ("], [1], [24])", "], [1], [24])\n    out.load()", ""),
]


@pytest.mark.parametrize(("old", "new", "fault"), MISTAKES)
def test_what_is_said_of_a_mistake(old: str, new: str, fault: str) -> None:
    """Under one of some seeds; where nothing is said, nothing is wrong: more tiles are zeros."""
    assert old in RING
    source = RING.replace(old, new)
    faults = [said(source, seed) for seed in range(8)]
    assert any(re.search(fault, each) for each in faults) if fault else faults == [""] * 8, faults


def test_what_is_loaded_is_read() -> None:
    q = "tma.async_load(q_box, [gl.program_id(0) * 64, 0], q_full, q)"
    twice = RING.replace(q, f"{q}\n    {q}").replace(
        "q_full, q_box.block", "q_full, 2 * q_box.block"
    )
    assert all("still writes" in said(twice, seed) for seed in range(4))
    more = RING.replace(
        "in range(tiles):\n        mbarrier.wait(free",
        "in range(tiles + 1):\n        mbarrier.wait(free",
    )
    assert more != RING
    assert all("is never waited for" in said(more, seed) for seed in range(4))


def test_a_program_is_the_same_under_the_same_seed() -> None:
    """And another under others."""
    source = RING.replace("mbarrier.wait(full.index(stage), phase)", "pass")
    faults = [said(source, seed) for seed in range(6)]
    assert [said(source, seed) for seed in range(6)] == faults
    assert len(set(faults)) > 1


KERNELS = """
import triton
import triton.language as tl


@triton.jit
def copy(x, y, many, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + at, tl.load(x + at, mask=at < many, other=1.5), mask=at < many)
"""


def test_global_memory_has_ends_and_is_written_once() -> None:
    x, y = torch.arange(40.0), torch.zeros(40)
    kernels = Kernels(KERNELS)
    kernels.launch("copy", (3,), x, y, 40, BLOCK=16)
    assert torch.equal(x, y)
    with pytest.raises(Fault, match="element 40 of a tensor of 40 is accessed"):
        kernels.launch("copy", (3,), x, y, 48, BLOCK=16)
    twice = Kernels(KERNELS.replace("* BLOCK +", "* 8 +"))
    with pytest.raises(Fault, match="is written twice"):
        twice.launch("copy", (2,), x, y, 40, BLOCK=16)


def data(x: Value) -> object:
    return x.data.tolist()


def test_numbers_are_those_of_triton() -> None:
    seven = value(7)
    assert data(-seven // 2) == -3 and data(-seven % 2) == -1  # as in C
    assert data(value(2**31 - 1) + 1) == -(2**31)
    half = Value(torch.tensor([1.0], dtype=torch.bfloat16))
    assert (half * 2.5).data.dtype == torch.bfloat16  # numbers of Python take the type of a tile
    assert (half * value(2.5)).data.dtype == torch.float32
    assert (seven * 0.5).data.dtype == torch.float32
    assert (seven + 2**40).data.dtype == torch.int64
    assert data(value(1.0) / 3) == pytest.approx(1 / 3)
    assert (seven / 2).data.dtype == torch.float32
