"""What the machine code of the kernels is to be: the goals of `benchmarks.static`, all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.static_kernels import ARCHITECTURES, Kernel, Run, of_architecture

FLEX_ON = ("cuda:80", "cuda:90")
"""The architectures that FlexAttention's kernels were read for."""


@dataclass(frozen=True)
class AtMost:
    """Instructions of the longest loop over full blocks for 64 x 64 scores, with blocks of 128 tokens."""

    architecture: str
    kernel: str
    head_dim: int
    most: int


INSTRUCTIONS = (
    AtMost("cuda:90", "forward", 128, 930),
    AtMost("cuda:90", "dq", 128, 1100),
    AtMost("cuda:90", "dkdv", 128, 1310),
    AtMost("cuda:90", "forward", 64, 840),
    AtMost("cuda:100", "dkdv", 128, 1648),
    AtMost("hip:gfx942", "forward", 128, 1024),
    AtMost("hip:gfx942", "dkdv", 128, 2868),
)


@dataclass(frozen=True)
class Verdict:
    """A goal compared with the kernels that it is about; worst: the value farthest from it.

    reached, of: how many of them reach it. None of none is not reached.
    """

    text: str
    wanted: str
    reached: int
    of: int
    worst: str
    where: str

    @property
    def holds(self) -> bool:
        return 0 < self.of == self.reached


def at_most(
    text: str,
    limit: float,
    kernels: Iterable[Kernel],
    value: Callable[[Kernel], float | None],
    *,
    below: bool = False,
) -> Verdict:
    """Compare a value of each kernel that has one with a limit; below: which it must not reach."""
    found = [(x, kernel.where) for kernel in kernels if (x := value(kernel)) is not None]
    reached = sum(x < limit or (x == limit and not below) for x, _ in found)
    worst, where = max(found, default=(None, ""))
    shown = "" if worst is None else f"{worst:.4g}"
    sign = "below" if below else "at most"
    return Verdict(text, f"{sign} {limit:g}", reached, len(found), shown, where)


def every(text: str, kernels: Iterable[Kernel], holds: Callable[[Kernel], bool]) -> Verdict:
    """Compare each kernel with a rule; shown is the first that breaks it."""
    found = [(holds(kernel), kernel.where) for kernel in kernels]
    broken = [where for right, where in found if not right]
    return Verdict(text, "all", len(found) - len(broken), len(found), "", "".join(broken[:1]))


def verdicts(found: Run) -> list[Verdict]:
    return [
        *map(_instructions(found), INSTRUCTIONS),
        *(_spills(found, architecture) for architecture in ARCHITECTURES),
        _faults(found),
        *_shape(found.kernels),
        *_flex(found.kernels),
    ]


def _instructions(found: Run) -> Callable[[AtMost], Verdict]:
    def verdict(goal: AtMost) -> Verdict:
        kernels = [
            each
            for each in taken(found.kernels)
            if each.block == 128
            and each.report.head_dim == goal.head_dim
            and each.report.architecture == goal.architecture
            and each.pass_ == goal.kernel
        ]
        name = f"{of_architecture(goal.architecture)}, dim {goal.head_dim}, {goal.kernel}"
        text = f"{name}: instructions for 64x64 scores, blocks of 128"
        return at_most(text, goal.most, kernels, Kernel.longest)

    return verdict


def taken(kernels: Sequence[Kernel]) -> list[Kernel]:
    """Of each pass the kernel that calls take if they can: one with a name of its own ("forward_hopper")."""
    best: dict[tuple[object, ...], Kernel] = {}
    for each in kernels:
        report = each.report
        key = (each.layout, each.block, report.architecture, report.head_dim, each.pass_)
        if key not in best or report.kernel != each.pass_:
            best[key] = each
    return list(best.values())


def _spills(found: Run, architecture: str) -> Verdict:
    name = of_architecture(architecture)
    text = f"{name}: loads and stores of spilled registers in inner loops"
    kernels = [each for each in found.kernels if each.report.architecture == architecture]
    return at_most(text, 0, kernels, Kernel.spilled)


def _faults(found: Run) -> Verdict:
    """Spills have lines of their own."""
    bad = [
        f"{each.where}: {fault.text}"
        for each in found.kernels
        for fault in each.report.faults
        if fault.kind != "spills"
    ] + found.failed
    of = len(found.kernels) + len(found.failed)
    broken = sum(any(x.kind != "spills" for x in each.report.faults) for each in found.kernels)
    text = "compiled, complete and within the limits of the device"
    return Verdict(text, "all", of - broken - len(found.failed), of, "", "; ".join(bad[:3]))


def _shape(kernels: Sequence[Kernel]) -> Iterable[Verdict]:
    hopper = [each for each in kernels if each.report.architecture == "cuda:90"]
    nvidia = [each for each in kernels if each.report.architecture.startswith("cuda")]
    yield every("sm_90: every product of a full block by wgmma", hopper, Kernel.by_wgmma)
    yield every("NVIDIA: asynchronous copies in the loops over full blocks", nvidia, Kernel.copies)


def _flex(kernels: Sequence[Kernel]) -> Iterable[Verdict]:
    for architecture in FLEX_ON:
        for passes in (("forward",), ("dq", "dkdv")):
            some = [
                each
                for each in kernels
                if each.report.architecture == architecture and each.pass_ in passes
            ]
            name = "forward" if passes == ("forward",) else "backward"
            text = (
                f"{of_architecture(architecture)}, {name}: instructions for 64x64 scores relative to "
                "FlexAttention's"
            )
            yield at_most(text, 1, some, Kernel.of_flex)
