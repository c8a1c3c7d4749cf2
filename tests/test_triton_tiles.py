"""What a launch has of its tensors and its device: strides in steps, the order of heads."""

from __future__ import annotations

from concurrent.futures import Executor
from itertools import product
from typing import Any

import pytest
import torch
from reference import Inputs, agrees, inputs
from strategies import Case

import bslang
from bslang import api, compiler
from bslang.codegen.triton import held, streamed
from bslang.dims import Dims
from bslang.gpu import inspect
from bslang.gpu.machine.devices import DEVICES, device
from bslang.gpu.machine.report import Report
from bslang.gpu.tune import _shared
from bslang.runtime.triton.device import Device
from bslang.runtime.triton.launch import TritonTarget
from bslang.runtime.triton.tiles import launch, stride_step
from bslang.runtime.triton.tuned import tile_names
from bslang.syntax.source import Source

pytest.importorskip("triton")

CASE = Case("causal", (16, 16), 40, 40, "end")


# ---- head dimensions that are 8 mod 16 -------------------------------------------------------------


@pytest.mark.parametrize(
    ("dims", "step"),
    [((72, 72), 8), ((64, 64), 1), ((72, 64), 8), ((20, 40), 1), ((128, 8), 8), ((192, 128), 1)],
    ids=str,
)
def test_strides_are_in_steps_where_rows_begin_at_8(dims: tuple[int, int], step: int) -> None:
    assert stride_step(Dims(*dims)) == step


def test_rows_of_72_numbers_are_copied_16_bytes_at_a_time() -> None:
    target = api._kernels(compiler.resolve(Source("<spec>", "all"), block=64))
    found = inspect.inspect_kernel(target, "forward", "cuda:80", Dims.of(72), "bf16")
    assert isinstance(found, Report)
    assert found.loops and all((loop.copies, loop.loads) == (16, 0) for loop in found.loops)


def launched(check: Any) -> list[dict[str, Any]]:
    """The constants of the launches of a check."""
    found, start = [], TritonTarget._start

    def spy(self: Any, kernel: str, chosen: Any, *rest: Any) -> Any:
        found.append(chosen.constants)
        return start(self, kernel, chosen, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TritonTarget, "_start", spy)
        check()
    return found


def check_steps() -> None:
    made = bslang.compile(CASE.spec, block=CASE.block, target="triton")
    dense = inputs(40, 40, dim=24, heads=2, key_heads=2)
    odd = torch.zeros(*dense.k.shape[:3], 29)[..., :24].copy_(dense.k)  # rows 29 apart
    other = Inputs(dense.q, odd, dense.v, dense.grad_out, dense.grad_lse)
    steps = {"dense": [8, 8, 8, 8], "odd": [1, 8, 1, 1]}  # those of delta are of values
    for name, given in (("dense", dense), ("odd", other)):
        found = launched(lambda given=given: agrees(made, given, CASE.mask(), 1e-5))
        assert [each["STEP"] for each in found if "STEP" in each][:4] == steps[name]


def test_other_strides_are_taken_as_they_are(interpreting: Executor) -> None:
    interpreting.submit(check_steps).result()


# ---- tiles -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [16, 64, 128])
@pytest.mark.parametrize("architecture", [name for name in DEVICES if name.startswith("cuda")])
def test_default_tiles_fit_the_blocks_and_the_device(architecture: str, block: int) -> None:
    on, most = device(architecture), (held(block), streamed(block)[0])
    sides = ((most[0],) * 2, (most[1],) * 2)
    for kernel, dim, itemsize in product(("forward", "dq", "dkdv"), (16, 64, 128, 256), (2, 4)):
        chosen = launch(kernel, Dims.of(dim), itemsize, sides, device=on)
        kept, met = (chosen.constants[name] for name in tile_names(kernel))
        assert kept <= most[0] and met <= most[1]
        stages = chosen.options["num_stages"]
        assert _shared(kernel, Dims.of(dim), itemsize, kept, met, stages) <= on.shared


@pytest.mark.parametrize(
    ("kernel", "architecture", "block", "tile"),
    [
        ("forward", "cuda:80", 128, (128, 64, 8, 3)),
        ("forward", "cuda:86", 128, (128, 64, 8, 2)),
        ("forward", "cuda:90", 128, (128, 128, 8, 2)),
        ("forward", "cuda:90", 64, (64, 64, 4, 3)),
        ("dkdv", "cuda:100", 128, (64, 128, 8, 2)),
        ("dkdv", "cuda:120", 128, (16, 128, 8, 2)),
        ("dq", "hip:gfx942", 128, (128, 32, 4, 2)),
        ("dq", "hip:gfx942", 64, (64, 32, 2, 2)),
    ],
)
def test_tiles_are_those_of_the_architecture(
    kernel: str, architecture: str, block: int, tile: tuple[int, int, int, int]
) -> None:
    sides = ((held(block),) * 2, (streamed(block)[0],) * 2)
    chosen = launch(kernel, Dims.of(128), 2, sides, device=device(architecture))
    found = chosen.constants | chosen.options
    names = ("TILE_Q", "TILE_K", "num_warps", "num_stages")
    assert tuple(found[name] for name in names) == tile


def test_the_comparison_of_tiles_begins_with_the_default() -> None:
    from benchmarks.tiles import candidates

    first, *others = candidates("dkdv", "cuda:90", 128, 64)
    assert first.constants["TILE_K"] == 64 and first not in others
    assert {each.constants["TILE_Q"] for each in others} == {16, 32, 64}
    assert all(each.constants.keys() == first.constants.keys() for each in others)


# ---- the order of heads ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("l2", "heads", "size", "expected"),
    [
        (None, 12, 1 << 30, 12),  # nothing is known
        (1000, 12, 40, 12),  # all fit half of it
        (1000, 12, 42, 6),
        (1000, 12, 100, 4),  # 5 do, of which there are no whole turns
        (1000, 7, 100, 1),
        (1000, 12, 5000, 1),
    ],
)
def test_heads_that_the_l2_cache_holds_run_together(
    l2: int | None, heads: int, size: int, expected: int
) -> None:
    assert Device("cuda:90", l2=l2).at_once(heads, size) == expected


def check_turns() -> None:
    import triton
    import triton.language as tl

    made = bslang.compile(CASE.spec, block=CASE.block, target="triton")
    target = made.targets["triton"]
    assert isinstance(target, TritonTarget)

    @triton.jit
    def ask(programs, heads, turn: tl.constexpr) -> None:  # type: ignore[no-untyped-def]
        program, head = turn(6, 2)
        tl.store(programs + tl.program_id(0), program)
        tl.store(heads + tl.program_id(0), head)

    programs, heads = torch.zeros(2, 18, dtype=torch.int32)
    ask[(18,)](programs, heads, target.kernels["forward"].fn.__globals__["_turn"])
    assert heads.tolist() == [
        turn * 2 + head for turn in range(3) for _ in range(3) for head in (0, 1)
    ]
    assert programs.tolist() == [program for _ in range(3) for program in range(3) for _ in (0, 1)]

    given = inputs(40, 40, heads=2, key_heads=2, batch=2)
    size = 40 * 2 * given.k.shape[3] * 4
    for l2, expected in ((None, 4), (2 * size * 3, 2)):
        seen, start = set(), TritonTarget._start

        def spy(self: Any, kernel: str, chosen: Any, programs: int, arguments: Any) -> Any:
            names = [
                name for name in self.kernels[kernel].arg_names if name not in chosen.constants
            ]
            named = dict(zip(names, arguments, strict=True))
            if "heads_at_once" in named:
                seen.add((kernel, named["heads_at_once"]))  # noqa: B023  # called in this turn
            return start(self, kernel, chosen, programs, arguments)  # noqa: B023

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Device, "of", lambda device, l2=l2: Device(l2=l2))
            patch.setattr(TritonTarget, "_start", spy)
            agrees(made, given, CASE.mask(), 1e-5)
        assert seen == {(kernel, expected) for kernel in ("forward", "dq", "dkdv")}


def test_results_do_not_depend_on_the_order_of_heads(interpreting: Executor) -> None:
    interpreting.submit(check_turns).result()
