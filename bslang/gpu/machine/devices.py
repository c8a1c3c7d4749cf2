"""What a multiprocessor (of AMD: a compute unit) gives to the programs that share it."""

from __future__ import annotations

from dataclasses import dataclass

from bslang.runtime.triton.device import Device

REGISTERS = 512
"""Registers of 32 bits for each lane of the warps of one of a multiprocessor's 4 parts."""

_PARTS = 4
_REGISTERS_AT_ONCE = 8
TENSOR_COLUMNS = 512
"""Columns of tensor memory of a multiprocessor that has any."""


@dataclass(frozen=True)
class Multiprocessor:
    """warps, programs: at most so many at a time; shared: KiB of shared memory, of which a program
    may use `program`; reserved: KiB that the system takes for each; lanes: threads of a warp."""

    warps: int
    programs: int
    shared: int
    program: int
    reserved: int = 1
    lanes: int = 32

    def occupancy(
        self, registers: int, shared: int, warps: int, columns: int = 0
    ) -> tuple[int, str]:
        """Programs that run at a time, and what keeps further ones out.

        registers: of a thread; shared: bytes; warps: of a program; columns: of tensor memory.
        """
        each = -(-max(registers, 1) // _REGISTERS_AT_ONCE) * _REGISTERS_AT_ONCE
        fits = {
            "registers": REGISTERS // each * _PARTS // warps,
            "warps": self.warps // warps,
            "programs": self.programs,
        }
        if used := shared + self.reserved * 1024:
            fits["shared memory"] = self.shared * 1024 // used
        if columns:
            fits["tensor memory"] = TENSOR_COLUMNS // columns
        limit = min(fits, key=lambda name: fits[name])
        return fits[limit], limit


_AMPERE = Multiprocessor(64, 32, 164, 163)
_HOPPER = Multiprocessor(64, 32, 228, 227)
_CDNA = Multiprocessor(32, 32, 64, 64, reserved=0, lanes=64)

DEVICES = {
    "cuda:80": _AMPERE,
    "cuda:86": Multiprocessor(48, 16, 100, 99),
    "cuda:87": Multiprocessor(48, 16, 164, 163),
    "cuda:89": Multiprocessor(48, 24, 100, 99),
    "cuda:90": _HOPPER,
    "cuda:100": _HOPPER,
    "cuda:103": _HOPPER,
    "cuda:120": Multiprocessor(48, 24, 100, 99),
    "cuda:121": Multiprocessor(48, 24, 100, 99),
    "hip:gfx90a": _CDNA,
    "hip:gfx942": _CDNA,
    "hip:gfx950": Multiprocessor(32, 32, 160, 160, reserved=0, lanes=64),
}
"""By architecture; cuda:90 is compute capability 9.0.

Source: CUDA C++ Programming Guide, technical specifications per compute capability; AMD Instinct
MI200, MI300 and CDNA4 instruction set architecture guides.
"""


def device(architecture: str) -> Device:
    """A device of an architecture of `DEVICES`, as launches see it."""
    of = DEVICES[architecture]
    return Device(architecture, of.program * 1024, of.lanes)
