"""Plan: the facts about a layout that generated code is specialised for, whatever its length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bslang import abi
from bslang._version import INTERFACE, __version__
from bslang.graph.possible import residuals
from bslang.graph.residual import settled
from bslang.ir.expr import Number, variables
from bslang.ir.mask import Masks, code, labels, token_names
from bslang.ir.pattern import Pattern
from bslang.schedule.schedule import PARTIAL


@dataclass(frozen=True)
class Mask:
    """One residual: its class in the schedule's tables, its bsl text, its predicate.

    apart: sets of labels (numbers in `Plan.labels`); where two blocks share no value of any label in one
    of the sets, no pair of them belongs. equal: labels; where two blocks hold one value of each, every
    pair does; None where that is not enough. wide: whether the predicate passes 32 bits on the way.
    """

    number: int
    text: str
    predicate: Number
    apart: tuple[tuple[int, ...], ...] = ()
    equal: tuple[int, ...] | None = None
    wide: bool = False

    @classmethod
    def of(cls, number: int, residual: Pattern, predicate: Number, names: tuple[str, ...]) -> Mask:
        """Derive a mask; names: of the layout's labels."""
        compared = labels(residual)
        alone = [label for label in compared if settled(residual, {label: False}) is False]
        apart: list[tuple[int, ...]] = [(names.index(label),) for label in alone]
        numbers = tuple(names.index(label) for label in compared)
        if not alone and settled(residual, dict.fromkeys(compared, False)) is False:
            apart.append(numbers)
        whole = settled(residual, dict.fromkeys(compared, True)) is True
        equal = numbers if compared and whole else None
        wide = any(primitive.wide for primitive in residual.primitives())
        return cls(number, str(residual), predicate, tuple(apart), equal, wide)

    @property
    def kind(self) -> int:
        """Class of its blocks in `bslang.schedule`."""
        return PARTIAL + self.number

    @property
    def reads(self) -> list[tuple[str, int]]:
        """The parameters that the predicate takes: (name, index into `Plan.parameters`), in order."""
        names = variables(self.predicate)
        indices = sorted(int(name[1:]) for name in names - token_names(names))
        return [(f"p{index}", index) for index in indices]

    @property
    def labels(self) -> list[int]:
        """The labels that the predicate compares, as numbers in `Plan.labels`, in order."""
        prefix = "q_label"
        names = variables(self.predicate)
        return sorted(int(n.removeprefix(prefix)) for n in names if n.startswith(prefix))


@dataclass(frozen=True)
class Plan:
    """What every target's templates may know.

    name: a Python identifier; spec: canonical bsl text of the pattern, one line; digest: of spec and block;
    masks: one for each residual; parameters: bsl text of the numbers p0, p1, ... that masks take from the
    length and the head; by_head, by_layer: whether heads, or layers, may have other sets; labels: names of
    the run-time labels; targets: names, in order; march: the processor that a library beside the module is
    built for, "" for none.
    """

    name: str
    pattern: Pattern
    spec: str
    digest: str
    block_q: int
    block_k: int
    masks: tuple[Mask, ...]
    parameters: tuple[str, ...]
    by_head: bool
    by_layer: bool
    labels: tuple[str, ...]
    targets: tuple[str, ...]
    march: str
    version: str = __version__
    interface: int = INTERFACE
    abi: str = field(default_factory=abi.digest)

    @classmethod
    def of(
        cls,
        name: str,
        pattern: Pattern,
        block: tuple[int, int],
        digest: str,
        targets: tuple[str, ...],
        march: str = "",
    ) -> Plan:
        """Derive the plan of a pattern."""
        left, names = residuals(pattern, block), labels(pattern)
        found = Masks.of(left, block, names)
        masks = tuple(
            Mask.of(number, residual, predicate, names)
            for number, (residual, predicate) in enumerate(zip(left, found.masks, strict=True))
        )
        parameters = tuple(code(number, _TEXT) for number in found.parameters)
        reads = pattern.names()
        return cls(
            name,
            pattern,
            str(pattern),
            digest,
            *block,
            masks,
            parameters,
            "head" in reads,
            "layer" in reads,
            names,
            targets,
            march,
        )

    @property
    def wide(self) -> bool:
        """Whether some mask needs 64-bit integers."""
        return any(mask.wide for mask in self.masks)

    @property
    def classes(self) -> int:
        """Number of classes of runs in the schedule's tables."""
        return PARTIAL + len(self.masks)


class _Text(dict[str, str]):
    """Prints any operator: infix where it is one, as a call otherwise. For comments."""

    def __missing__(self, op: str) -> str:
        return f"{op}({{0}}, {{1}})" if op.isalpha() else f"{{0}} {op} {{1}}"


_TEXT: Mapping[str, str] = _Text(
    abs="abs({0})",
    isqrt="isqrt({0})",
    log2="log2({0})",
    int="({0})",  # a comparison as 1 or 0, as a spec writes it
    **{"not": "not {0}"},
)
