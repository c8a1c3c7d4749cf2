"""Plan: the facts about a layout that generated code is specialised for, whatever its length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bslang._version import __version__
from bslang.graph.residual import residuals
from bslang.ir.expr import Number, variables
from bslang.ir.mask import Masks, code
from bslang.ir.pattern import Pattern
from bslang.schedule.schedule import PARTIAL


@dataclass(frozen=True)
class Mask:
    """One residual: its class in the schedule's tables, its bsl text, its predicate."""

    number: int
    text: str
    predicate: Number

    @property
    def kind(self) -> int:
        """Class of its blocks in `bslang.schedule`."""
        return PARTIAL + self.number

    @property
    def reads(self) -> list[tuple[str, int]]:
        """The parameters that the predicate takes: (name, index into `Plan.parameters`), in order."""
        indices = sorted(int(name[1:]) for name in variables(self.predicate) - {"q", "k"})
        return [(f"p{index}", index) for index in indices]


@dataclass(frozen=True)
class Plan:
    """What every target's templates may know.

    name: a Python identifier; spec: canonical bsl text, one line; digest: of spec and block;
    masks: one for each residual; parameters: bsl text of the numbers p0, p1, ... that masks take
    from the length; targets: names, in order.
    """

    name: str
    spec: str
    digest: str
    block_q: int
    block_k: int
    masks: tuple[Mask, ...]
    parameters: tuple[str, ...]
    targets: tuple[str, ...]
    version: str = __version__

    @classmethod
    def of(
        cls,
        name: str,
        pattern: Pattern,
        block: tuple[int, int],
        digest: str,
        targets: tuple[str, ...],
    ) -> Plan:
        """Derive the plan of a pattern."""
        left = residuals(pattern)
        found = Masks.of(left, block)
        masks = tuple(
            Mask(number, str(residual), predicate)
            for number, (residual, predicate) in enumerate(zip(left, found.masks, strict=True))
        )
        parameters = tuple(code(number, _TEXT) for number in found.parameters)
        return cls(name, str(pattern), digest, *block, masks, parameters, targets)

    @property
    def classes(self) -> int:
        """Number of classes of runs in the schedule's tables."""
        return PARTIAL + len(self.masks)


class _Text(dict[str, str]):
    """Prints any operator: infix where it is one, as a call otherwise. For comments."""

    def __missing__(self, op: str) -> str:
        return f"{op}({{0}}, {{1}})" if op.isalpha() else f"{{0}} {op} {{1}}"


_TEXT: Mapping[str, str] = _Text(
    abs="abs({0})", isqrt="isqrt({0})", log2="log2({0})", **{"not": "not {0}"}
)
