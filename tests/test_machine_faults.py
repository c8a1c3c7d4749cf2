"""What `bslang inspect` calls a fault: of code written out here, and of real kernels made worse."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from bslang import api, compiler
from bslang.cli.main import main
from bslang.gpu import inspect
from bslang.gpu.machine.code import Instruction, Loops
from bslang.gpu.machine.faults import HELP, faults, multiply_adds
from bslang.gpu.machine.report import Fault, Inspected, Report
from bslang.syntax.source import Source

FORWARD = Report(
    kernel="forward",
    backend="portable",
    architecture="cuda:90",
    head_dim=128,
    value_dim=64,
    dtype="bf16",
    faults=(),
    constants={"TILE_Q": 64, "TILE_K": 64},
    warps=4,
    asked=4,
    stages=2,
    registers=168,
    stack=0,
    local=0,
    shared=65_536,
    columns=0,
    programs=3,
    most_warps=64,
    limit="registers",
    loops=(),
)
"""A tile has 64 x 64 scores: 8 wgmma of 64 x 64 x 16 for those of keys, 4 for those of values, and 32
exponentials of each of 128 threads."""

WGMMA = Instruction("HGMMA.64x64x16.F32.BF16 R24, gdesc[UR4], R24", "matrix")
TCGEN05 = Instruction("UTCHMMA gdesc[UR6], gdesc[UR8], tmem[UR10]", "matrix")
EXP2 = Instruction("MUFU.EX2 R4, R4", "exp2")
LOCAL = Instruction("STL [R1], R4", "local")


def loop(*body: Instruction, after: Sequence[Instruction] = ()) -> list[Instruction]:
    """A loop, after other instructions."""
    return [*after, *body, Instruction("BRA", target=len(after))]


def kinds(code: Sequence[Instruction], **changes: Any) -> list[str]:
    found = faults(replace(FORWARD, **changes), Loops(code))
    assert all(each.text and HELP[each.kind] for each in found)
    return [each.kind for each in found]


GOOD = loop(*[WGMMA] * 12, *[EXP2] * 32)


def test_a_kernel_that_has_what_a_tile_takes() -> None:
    assert kinds(GOOD) == []
    assert kinds(loop(*[WGMMA] * 12, *[EXP2] * 34, after=[LOCAL])) == []  # spills before the loop
    # A search by a loop inside the other.
    search = [Instruction("LDG", "load"), Instruction("BRA", target=12)]
    assert kinds(loop(*[WGMMA] * 12, *search, *[EXP2] * 32)) == []


def test_what_is_left_out_of_any_loop() -> None:
    assert kinds([]) == ["products", "exponentials"]
    assert kinds([*[WGMMA] * 12, *[EXP2] * 32]) == ["products", "exponentials"]  # in no loop
    assert kinds(loop(*[WGMMA] * 12)) == ["exponentials"]
    assert kinds(loop(*[WGMMA] * 8, *[EXP2] * 32)) == ["products"]  # the scores, and no more
    assert kinds(GOOD + loop(*[WGMMA] * 12, *[EXP2] * 31, after=GOOD)[len(GOOD) :]) == [
        "exponentials"
    ]
    (first, _) = faults(FORWARD, Loops([]))
    assert "has matrix instructions for 0 multiply-adds; a tile takes 786,432" in first.text


@pytest.mark.parametrize(
    ("kernel", "products"), [("forward", 12), ("dq", 20), ("dkdv", 24), ("forward_hopper", 12)]
)
def test_each_kernel_needs_its_products(kernel: str, products: int) -> None:
    assert kinds(loop(*[WGMMA] * products, *[EXP2] * 32), kernel=kernel) == []
    fewer = loop(*[WGMMA] * (products - 1), *[EXP2] * 32)
    assert kinds(fewer, kernel=kernel) == ["products"]
    assert kinds([], kernel="merge") == []
    assert kinds(loop(*[EXP2] * 32), kernel=kernel, dtype="fp32") == []  # written out


def test_partitions_share_a_tile_and_must_be_there() -> None:
    half = [*[WGMMA] * 6, *[EXP2] * 16]
    one = loop(*half)
    two = [*one, *loop(*half, after=one)[len(one) :]]
    assert kinds(two, warps=12, backend="hopper") == []
    assert kinds(one, warps=12, backend="hopper") == []  # the code of two groups of warps
    assert kinds(loop(*half[:-1]), warps=12, backend="hopper") == ["exponentials"]
    assert kinds(loop(*half[1:]), warps=12, backend="hopper") == ["products"]
    powers = loop(*[EXP2] * 16)
    apart = [*powers, *loop(*[WGMMA] * 6, after=powers)[len(powers) :]]
    assert kinds(apart, warps=12) == []
    assert kinds(powers, warps=12) == ["products"]
    assert kinds(two, warps=12) == []
    assert kinds(two) == ["products", "exponentials"]
    (fault,) = faults(replace(FORWARD, backend="hopper"), Loops(GOOD))
    assert fault.kind == "partitions"
    assert fault.text.startswith("4 warps: those that load tiles")


def test_what_does_not_fit() -> None:
    assert kinds(GOOD, columns=512) == []
    assert kinds(GOOD, columns=520, programs=0) == ["tensor memory"]
    assert kinds(GOOD, shared=227 * 1024) == []
    assert kinds(GOOD, shared=227 * 1024 + 1, programs=0) == ["shared memory"]
    assert kinds(GOOD, shared=100 * 1024, architecture="cuda:120") == ["shared memory"]
    assert kinds(GOOD, programs=0) == ["occupancy"]


def test_spills_in_loops() -> None:
    spilled = loop(*GOOD[:-1], LOCAL, LOCAL)
    (fault,) = faults(FORWARD, Loops(spilled))
    assert (fault.kind, fault.text.partition(" in ")[0]) == (
        "spills",
        "2 loads and stores of spilled registers",
    )


@pytest.mark.parametrize(
    ("text", "each"),
    [
        ("HMMA.16816.F32.BF16 R4, R8, R12, R4", 16 * 8 * 16 * 4),
        ("HMMA.1688.F32.TF32 R4, R8, R12, R4", 16 * 8 * 8 * 4),
        ("HGMMA.64x128x16.F32.BF16 R24, R4, gdesc[UR4], R24", 64 * 128 * 16),
        ("UTCHMMA gdesc[UR6], gdesc[UR8], tmem[UR10]", 128 * 256 * 16),
        ("v_mfma_f32_32x32x8_bf16_1k a[0:15], v[0:1], v[2:3], a[0:15]", 32 * 32 * 8 * 4),
        ("v_mfma_f32_16x16x16_f16 v[0:3], v[4:5], v[6:7], v[0:3]", 16 * 16 * 16 * 4),
        ("v_mfma_f32_4x4x4_16b_f16 v[0:3], v[4:5], v[6:7], v[0:3]", 4 * 4 * 4 * 16 * 4),
        ("FFMA R4, R8, R12, R4", 0),
    ],
)
def test_what_four_warps_do_by_an_instruction(text: str, each: int) -> None:
    assert multiply_adds(text, 4) == each


# ---- the report ----------------------------------------------------------------------------------


def test_a_kernel_made_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disassembler shows no exponentials of one kernel, and another does not compile."""
    pytest.importorskip("triton")
    if os.environ.get("TRITON_INTERPRET", "0") != "0":
        pytest.skip("Triton interprets in this process")
    import triton

    nvidia, compiled = inspect._nvidia, triton.compile

    def read(made: Any) -> tuple[list[Instruction], int, int]:
        code, *rest = nvidia(made)
        return [replace(each, kind=each.kind.replace("exp2", "")) for each in code], *rest

    def fails(source: Any, **options: Any) -> Any:
        if source.fn.fn.__name__ == "_merge":
            raise RuntimeError("PassManager::run failed\nmore")
        return compiled(source, **options)

    monkeypatch.setattr(inspect, "_nvidia", read)
    monkeypatch.setattr(triton, "compile", fails)
    target = api._kernels(compiler.resolve(Source("spec.bsl", "near = last(3)"), block=64))
    monkeypatch.setattr(target, "kernels", {x: target.kernels[x] for x in ("forward", "merge")})
    forward, merge = inspect.inspect(target, "cuda:90", 64, "bf16")
    assert isinstance(forward, Report) and not isinstance(merge, Report)
    assert [each.kind for each in forward.faults] == ["exponentials"]
    assert [each.kind for each in merge.faults] == ["compile"]
    assert merge.faults[0].text == (
        "triton cannot compile merge for cuda:90, head dimension 64 and bf16: PassManager::run failed"
    )


def command(
    arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[object, str, str]:
    """`bslang inspect`: exit status, and what it prints."""
    monkeypatch.setattr(sys, "argv", ["bslang", "inspect", "-", "--head-dim", "64", *arguments])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"near = last(3)")))
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code, *capsys.readouterr()


def test_the_command_fails_where_a_kernel_has_faults(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = replace(FORWARD, kernel="dq", faults=faults(FORWARD, Loops(loop(*[WGMMA] * 12))))
    lost = Inspected("sum", "portable", "cuda:90", 64, 64, "bf16", (Fault("compile", "it fails"),))
    monkeypatch.setattr(api, "inspect", lambda *_: [FORWARD, broken, lost])
    status, out, err = command(["--json"], monkeypatch, capsys)
    assert status == 1
    kernels = json.loads(out)["kernels"]
    assert [[x["kind"] for x in each["faults"]] for each in kernels] == [
        [], ["exponentials"], ["compile"],
    ]  # fmt: skip
    assert "registers" in kernels[1] and "registers" not in kernels[2]
    expected = [
        "error: faults in 2 of 3 kernels",
        "  dq for cuda:90, head dimension 128/64, bf16: a loop over tiles has 0 exponentials; a tile "
        "takes 4,096",
        "  sum for cuda:90, head dimension 64, bf16: it fails",
        f"help: exponentials: {HELP['exponentials']}",
        f"help: compile: {HELP['compile']}",
    ]
    assert err.splitlines() == expected
    status, out, err = command([], monkeypatch, capsys)
    assert (status, err.splitlines()) == (1, expected)
    said = [line.split()[-1] for line in out.splitlines() if line.startswith("faults ")]
    assert said == ["none", "exponentials", "compile"]
