"""What `bslang inspect` says of a kernel, without running it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bslang.gpu.machine.code import Instruction, Loops, counts
from bslang.gpu.machine.origin import Origin, origin


@dataclass(frozen=True)
class Loop:
    """An inner loop: where it comes from, and how many instructions it has, in all and of each kind.

    matrix: matrix instructions (of which one may do many products), and products: their names with
    shapes, as the disassembler has them; exp2: powers of 2; copies: asynchronous copies from global to
    shared memory; loads: other loads of global memory; local: loads and stores of spilled registers.
    """

    line: int
    comment: str
    instructions: int
    matrix: int
    exp2: int
    copies: int
    loads: int
    local: int
    products: tuple[str, ...]


@dataclass(frozen=True)
class Fault:
    """What is wrong with a kernel. kind: one of `bslang.gpu.machine.faults.HELP`, which says what to do."""

    kind: str
    text: str


@dataclass(frozen=True)
class Inspected:
    """A kernel that was to be compiled for an architecture.

    backend: which templates and tiles it has; head_dim: of q and k; value_dim: of v; faults: what is wrong
    with it.
    """

    kernel: str
    backend: str
    architecture: str
    head_dim: int
    value_dim: int
    dtype: str
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class Report(Inspected):
    """A kernel compiled for an architecture.

    constants: those that its source was compiled with, tiles among them; warps: of a program, of which
    `asked` were asked for: Triton adds those of the partitions of a specialised kernel; registers: of a
    thread; stack: bytes of a thread; local: instructions that load or store there; shared: bytes of a
    program; columns: of tensor memory; programs: those that a multiprocessor runs at a time, of
    `most_warps` warps in all, and limit: what keeps further ones out.
    """

    constants: dict[str, int | str]
    warps: int
    asked: int
    stages: int
    registers: int
    stack: int
    local: int
    shared: int
    columns: int
    programs: int
    most_warps: int
    limit: str
    loops: tuple[Loop, ...]

    @property
    def computing(self) -> int:
        """Warps that compute: of a kernel with partitions all but those that load, which are what is there
        beside whole warp groups, or a warp group that is filled up."""
        return self.warps - (self.warps % 4 or 4) if self.warps > self.asked else self.warps


def loops(code: Loops, source: str, kernel: str) -> tuple[Loop, ...]:
    """The inner loops of a kernel that come from loops of its source, in the order of the source."""
    found = [
        _loop(body, place) for body in code.inner() if (place := _origin(source, kernel, body))
    ]
    return tuple(sorted(found, key=lambda loop: loop.line))


def _origin(source: str, kernel: str, body: Sequence[Instruction]) -> Origin | None:
    inlined = [each.inlined for each in body]
    return origin(source, kernel, (each.line for each in body), inlined)


def _loop(body: Sequence[Instruction], place: Origin) -> Loop:
    number = counts(body)
    products = sorted({each.text.partition(" ")[0] for each in body if each.kind == "matrix"})
    return Loop(
        line=place.line,
        comment=place.comment,
        instructions=len(body),
        matrix=number["matrix"],
        exp2=number["exp2"],
        copies=number["copy"],
        loads=number["load"],
        local=number["local"],
        products=tuple(products),
    )
