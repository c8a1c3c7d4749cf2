"""What is wrong with a compiled kernel: what a compiler left out, and what does not fit on the device."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from bslang.gpu.machine.code import Instruction, Loops, counts
from bslang.gpu.machine.devices import DEVICES, TENSOR_COLUMNS
from bslang.gpu.machine.report import Fault, Report

SPECIALISED = ("hopper",)
"""Back ends whose kernels have partitions: warps that load tiles, and others that compute."""

HELP = {
    "compile": "this kernel cannot run on that GPU: try another version of Triton, dtype or head dimension",
    "products": "results would be wrong: try another version of Triton, and report this",
    "exponentials": "results would be wrong: try another version of Triton, and report this",
    "partitions": "Triton dropped the specialisation: try another version of Triton, and report this",
    "tensor memory": "the kernel cannot start: try a smaller head dimension, and report this",
    "shared memory": "the kernel cannot start: try smaller blocks or a smaller head dimension",
    "occupancy": "the kernel cannot start: try smaller blocks or a smaller head dimension",
    "spills": (
        "results are right, but slow: `bslang compile SPEC -o DIR --tune LENGTH`, on a machine with "
        "that GPU, looks for faster tiles"
    ),
}
"""What to do about a fault, by its kind."""

_PRODUCTS = {"forward": (1, 1), "dq": (2, 1), "dkdv": (2, 2)}
"""Matrix products of a tile by kernel: those over, or into, the dimension of keys, and that of values."""

_WARP_GROUP = 4

_MMA = re.compile(r"[HQ]MMA\.(16)(8)(4|8|16|32|64)\b")
_WGMMA = re.compile(r"[HQ]GMMA\.(\d+)x(\d+)x(\d+)")
_TCGEN05 = re.compile(r"UTC[HQ]MMA")
_MFMA = re.compile(r"v_\w*?mfma\w*?_f32_(\d+)x(\d+)x(\d+)(?:_(\d+)b)?")
_LARGEST_TCGEN05 = 128 * 256 * 16


@dataclass(frozen=True)
class _Work:
    """Of a tile of scores: multiply-adds by matrix instructions, and powers of 2."""

    products: int
    exponentials: int


def faults(report: Report, loops: Loops) -> tuple[Fault, ...]:
    """The faults of a kernel, the worst first.

    loops: of all its code. How much a kernel must do for a tile follows from the sides of the tile and
    from the head dimensions: a loop over tiles that does less computes something else.
    """
    return (*_left_out(report, loops), *_partitions(report), *_too_large(report), *_spills(loops))


def _left_out(report: Report, loops: Loops) -> Iterable[Fault]:
    wanted = _wanted(report)
    if wanted is None:
        return
    found = [_done(body, report) for body in loops.inner(("matrix", "exp2")) or [[]]]
    if report.warps > report.asked:  # one partition may multiply, and another take powers
        both = [each for each in found if each.products and each.exponentials]
        found = both or [_Work(sum(x.products for x in found), sum(x.exponentials for x in found))]
    products = min(each.products for each in found)
    exponentials = min(each.exponentials for each in found)
    if products < wanted.products:
        yield Fault(
            "products",
            f"a loop over tiles has matrix instructions for {products:,} multiply-adds; a tile "
            f"takes {wanted.products:,}",
        )
    if exponentials < wanted.exponentials:
        yield Fault(
            "exponentials",
            f"a loop over tiles has {exponentials:,} exponentials; a tile takes "
            f"{wanted.exponentials:,}",
        )


def _wanted(report: Report) -> _Work | None:
    """What a loop over tiles must do at least; None for kernels that have no such loop."""
    kernel = report.kernel.partition("_")[0]
    if kernel not in _PRODUCTS:
        return None
    of_keys, of_values = _PRODUCTS[kernel]
    scores = int(report.constants["TILE_Q"]) * int(report.constants["TILE_K"])
    # Exact products of fp32 have no matrix instruction.
    macs = 0 if report.dtype == "fp32" else of_keys * report.head_dim + of_values * report.value_dim
    return _Work(scores * macs, scores)


def _done(body: Iterable[Instruction], report: Report) -> _Work:
    """What a program does in a step of a loop, which all of its warps that compute have."""
    warps = report.computing
    lanes = DEVICES[report.architecture].lanes
    matrix = [each.text for each in body if each.kind == "matrix"]
    exponentials = sum(each.kind == "exp2" for each in body)
    return _Work(sum(multiply_adds(text, warps) for text in matrix), exponentials * warps * lanes)


def multiply_adds(instruction: str, warps: int) -> int:
    """What so many warps do by a matrix instruction that all of them issue; at most, if its text does not
    say how much (tcgen05: one warp issues it for all)."""
    if _TCGEN05.match(instruction):
        return _LARGEST_TCGEN05
    for pattern, share in ((_MMA, 1), (_WGMMA, _WARP_GROUP), (_MFMA, 1)):
        if found := pattern.match(instruction):
            m, n, k, blocks = (int(x) for x in (*found.groups("1"), "1")[:4])
            return m * n * k * blocks * warps // share
    return 0


def _partitions(report: Report) -> Iterable[Fault]:
    if report.backend in SPECIALISED and report.warps <= report.asked:
        yield Fault(
            "partitions",
            f"{report.warps} warps: those that load tiles, beside {report.asked} that compute, are "
            "missing",
        )


def _too_large(report: Report) -> Iterable[Fault]:
    if report.columns > TENSOR_COLUMNS:
        yield Fault(
            "tensor memory",
            f"{report.columns} columns of tensor memory; the device has {TENSOR_COLUMNS}",
        )
    most = DEVICES[report.architecture].program * 1024
    if report.shared > most:
        yield Fault(
            "shared memory",
            f"{report.shared:,} B of shared memory; the device has {most:,} for a program",
        )
    elif report.programs == 0 and report.columns <= TENSOR_COLUMNS:
        yield Fault("occupancy", f"no program fits on a multiprocessor: {report.limit}")


def _spills(loops: Loops) -> Iterable[Fault]:
    each = [counts(body)["local"] for body in loops.inner()]
    if any(each):
        yield Fault(
            "spills",
            f"{sum(each)} loads and stores of spilled registers in {sum(map(bool, each))} of "
            f"{len(each)} inner loops",
        )
