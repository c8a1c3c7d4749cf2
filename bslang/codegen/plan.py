"""Plan: the facts about a layout that generated code is specialised for, whatever its length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bslang import abi
from bslang._version import INTERFACE, __version__
from bslang.graph.possible import residuals
from bslang.graph.residual import leaves, needs
from bslang.inputs import Inputs
from bslang.ir.awaited import inputs
from bslang.ir.expr import Number, variables
from bslang.ir.mask import Masks, code, token_names
from bslang.ir.ordered import order_of
from bslang.ir.pattern import Pattern, Primitive, Transpose
from bslang.ir.ranges import Cells, Known
from bslang.schedule.schedule import PARTIAL


@dataclass(frozen=True)
class Mask:
    """One residual: its class in the schedule's tables, its bsl text, its predicate.

    surely, maybe: what a call's ranges say of a block (`bslang.ir.ranges`): whether every pair of it
    belongs, and whether any may. lists: the selections (numbers in `Plan.inputs`) in whose listed cells
    all pairs lie. wide: whether the predicate passes 32 bits on the way.
    """

    number: int
    text: str
    predicate: Number
    surely: Number = False
    maybe: Number = True
    lists: tuple[int, ...] = ()
    wide: bool = False

    @classmethod
    def of(
        cls,
        number: int,
        residual: Pattern,
        predicate: Number,
        known: Known,
        inputs: Inputs,
        block: tuple[int, int],
    ) -> Mask:
        """Derive a mask; inputs: of the layout."""
        lists = []
        for leaf in leaves(residual):
            cells, turned = (leaf.part, True) if isinstance(leaf, Transpose) else (leaf, False)
            if needs(residual, leaf):
                assert isinstance(cells, Primitive)
                lists += [
                    inputs.selections.index(each.selection(block, turned))
                    for each in cells.awaited()
                    if isinstance(each, Cells)
                ]
        wide = any(primitive.wide for primitive in residual.primitives())
        return cls(number, str(residual), predicate, *known, tuple(lists), wide)

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
    def settles(self) -> bool:
        """Whether a call may settle a block of it."""
        return self.surely is not False or self.maybe is not True

    def labels(self, side: str) -> list[int]:
        """The labels of a side ("q" or "k") that the predicate reads, as numbers in `Plan.inputs`."""
        return numbers(variables(self.predicate), f"{side}_label")

    @property
    def selections(self) -> list[int]:
        """The selections that the predicate reads, as numbers in `Plan.inputs`."""
        return numbers(variables(self.predicate), "selected")


@dataclass(frozen=True)
class Plan:
    """What every target's templates may know.

    name: a Python identifier; spec: canonical bsl text, one line for the order of tokens, if they have one,
    and one for the pattern; digest: of spec and block;
    masks: one for each residual; parameters: bsl text of the numbers p0, p1, ... that masks take from the
    length and the head; by_head, by_layer: whether heads, or layers, may have other sets; inputs: what its
    calls give; ordered: whether masks look up the positions of tokens; targets: names, in order; march: the
    processor that a library beside the module is built
    for, "" for none.
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
    inputs: Inputs
    ordered: bool
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
        spec: str = "",
    ) -> Plan:
        """Derive the plan of a pattern; spec: its text, where that is not all."""
        left, given = residuals(pattern, block), inputs(block, pattern)
        found = Masks.of(left, block, given)
        masks = tuple(
            Mask.of(number, residual, predicate, known, given, block)
            for number, (residual, predicate, known) in enumerate(
                zip(left, found.masks, found.known, strict=True)
            )
        )
        parameters = tuple(code(number, _TEXT) for number in found.parameters)
        reads = pattern.names()
        return cls(
            name,
            pattern,
            spec or str(pattern),
            digest,
            *block,
            masks,
            parameters,
            "head" in reads,
            "layer" in reads,
            given,
            order_of(*left) is not None,
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


def numbers(names: frozenset[str], prefix: str) -> list[int]:
    """The i of every name `{prefix}{i}` among some names, ascending."""
    return sorted(int(n.removeprefix(prefix)) for n in names if n.startswith(prefix))


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
