"""AMD's machine code, as LLVM writes it for the assembler."""

from __future__ import annotations

import re

from bslang.gpu.machine.code import Instruction, linked

_LABEL = re.compile(r"(\.LBB\w+):")
_LINE = re.compile(r"(\S+\.\w+):(\d+):\d+")
_NUMBER = re.compile(r"\s*(?:- )?\.(\w+):\s+(\d+)\s*$")


def read(text: str, kernel: str) -> list[Instruction]:
    """The instructions of a kernel; of code that was inlined, the line is the one of the kernel itself."""
    found: list[tuple[Instruction, str]] = []
    labels: dict[str, int] = {}
    line, source = 0, ""
    inside = False
    for row in text.splitlines():
        code, _, comment = row.partition(";")
        code = code.strip()
        if code == f"{kernel}:":
            inside = True
        elif not inside:
            continue
        elif code.startswith((".Lfunc_end", ".section")):
            break
        elif code.startswith(".loc"):  # the comment ends in where it was inlined, if it was
            file, number = (_LINE.findall(comment) or [("", 0)])[-1]
            source = source or file  # the first is where the kernel begins
            line = int(number) if file == source else 0
        elif label := _LABEL.match(code):
            labels[label[1]] = len(found)
        elif code and not code.startswith(".") and not code.endswith(":"):
            found.append(_instruction(code, line))
    return linked(found, labels)


def numbers(text: str) -> dict[str, int]:
    """What the assembler is told of a kernel by numbers: "vgpr_count", "private_segment_fixed_size", ..."""
    begin = text.rindex(".amdgpu_metadata")
    found = map(_NUMBER.match, text[begin:].splitlines())
    return {number[1]: int(number[2]) for number in found if number}


def _instruction(text: str, line: int) -> tuple[Instruction, str]:
    text = " ".join(text.split())
    opcode, _, operands = text.partition(" ")
    jump = operands if opcode.startswith(("s_branch", "s_cbranch")) else ""
    ends = opcode in ("s_branch", "s_endpgm", "s_setpc_b64")
    return Instruction(text, _kind(opcode, operands), line, falls_through=not ends), jump


def _kind(opcode: str, operands: str) -> str:
    if opcode.startswith(("v_mfma", "v_smfmac", "v_wmma", "v_swmmac")):
        return "matrix"
    if opcode.startswith("v_exp_"):
        return "exp2"
    if opcode.startswith("scratch_"):
        return "local"
    if opcode.startswith(("global_load", "buffer_load", "flat_load")):
        return "copy" if "_lds" in opcode or operands.endswith(" lds") else "load"
    return ""
