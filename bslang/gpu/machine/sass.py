"""NVIDIA's machine code, as `nvdisasm -c -gi` prints it."""

from __future__ import annotations

import re

from bslang.gpu.machine.code import Instruction, linked

_INSTRUCTION = re.compile(r"\s*/\*[0-9a-f]+\*/\s+(?P<guard>@!?\w+\s+)?(?P<text>[^;]*?)\s*;")
_LABEL = re.compile(r"(\.L_\w+):")
_JUMP = re.compile(r"`\((\.L_\w+)\)")
_LINE = re.compile(r'"([^"]*)", line (\d+)')
_ENDS = ("EXIT", "RET", "BRX", "JMX", "KILL")
"""After these, unless they are guarded, the next instruction is not reached."""


def read(text: str, kernel: str) -> list[Instruction]:
    """The instructions of a kernel.

    Of code that was inlined, the line is the one of the kernel itself: the last that is printed. Some
    compilers do not keep it; then lines of the kernel's file are lines of what was inlined, too.
    """
    found: list[tuple[Instruction, str]] = []
    labels: dict[str, int] = {}
    line, source = 0, ""
    chain: list[int] = []  # of the rows on lines since the last instruction
    at: tuple[int, ...] = ()
    inside = False
    for row in text.splitlines():
        if row.split()[:1] == [".section"]:
            inside = f".text.{kernel}," in row
        if not inside:
            continue
        if row.lstrip().startswith("//##"):
            each = _LINE.findall(row)
            file, number = each[-1]
            source = source or file  # the first is where the kernel begins
            line = int(number) if file == source else 0
            if each[0][0] == source:
                chain.append(int(each[0][1]))
        elif label := _LABEL.match(row):
            labels[label[1]] = len(found)
        elif instruction := _INSTRUCTION.match(row):
            at, chain = tuple(chain) or at, []
            found.append(_instruction(instruction["guard"], instruction["text"], line, at))
    return linked(found, labels)


def _instruction(
    guard: str | None, text: str, line: int, inlined: tuple[int, ...]
) -> tuple[Instruction, str]:
    opcode, _, operands = text.partition(" ")
    name = opcode.split(".")[0]
    jump = _JUMP.search(text)
    # `BRA UP0, (L)` depends on UP0 as `@P0 BRA (L)` does on P0.
    always = guard is None and (
        name in _ENDS or (name in ("BRA", "JMP") and operands.strip().startswith("`"))
    )
    instruction = Instruction(
        text,
        _kind(opcode, name),
        line,
        falls_through=not always,
        waits=name == "SYNCS",
        inlined=inlined,
    )
    return instruction, jump[1] if jump else ""


def _kind(opcode: str, name: str) -> str:
    if name.endswith("MMA"):  # HMMA, IMMA, wgmma's HGMMA, tcgen05's UTCHMMA, ...
        return "matrix"
    if opcode.startswith("MUFU.EX2"):
        return "exp2"
    if name in ("LDGSTS", "UTMALDG", "UBLKCP"):
        return "copy"
    if name in ("LDG", "LD"):
        return "load"
    return {"LDL": "local", "STL": "local"}.get(name, "")
