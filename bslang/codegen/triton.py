"""The triton target: what its templates need of a plan, and the section that they write."""

from __future__ import annotations

import textwrap
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

from bslang import abi
from bslang.codegen.emit import Section
from bslang.codegen.environment import render
from bslang.codegen.hopper import Hopper
from bslang.codegen.plan import Plan
from bslang.codegen.shape import Shape, literal, shapes
from bslang.codegen.walks import KEYS, LINE, QUERIES, Axis, Mask, Settles, Walk, walks

_HELPERS = ("floor_div", "floor_mod", "isqrt", "log2")
"""Functions that masks may call and Triton does not have."""

SMALLEST, STREAMED, LARGEST = 16, 64, 128
"""Sides of a tile: the least that a matrix instruction takes, the least that keeps it busy, the most that
registers hold."""


_GLUON = """from bslang.runtime.triton.gluon import (
    async_load,
    fence_async_shared,
    gl,
    gluon,
    mbarrier,
    warpgroup_mma,
    warpgroup_mma_wait,
)"""


def section(plan: Plan) -> Section:
    """The kernels of a layout."""
    kernels = Kernels.of(plan)
    functions = [signature.function for signature in kernels.signatures.values()]
    tuple_of = "".join(
        ("(\n", *(f"                {name},\n" for name in functions), "            )")
    )
    imports = ["from bslang.runtime.triton.launch import TritonTarget"]
    code = render("triton/kernels.py.jinja", plan, kernels)
    if kernels.hopper is not None:
        code += "\n\n" + render("triton/hopper/kernels.jinja", plan, kernels)
        imports.append(_GLUON)
    settled = sum(mask.settles is not None for mask in kernels.masks)
    given = [
        tuple_of,
        f"held={kernels.held}",
        f"streamed={kernels.streamed}",
        "rows=_ROWS",
        "columns=_COLUMNS",
        *([f"settled={settled}"] if settled else []),
    ]
    return Section(
        constructor="".join(
            ("TritonTarget(\n", *(f"            {x},\n" for x in given), "        )")
        ),
        code=code,
        imports=tuple(imports),
    )


@dataclass(frozen=True)
class Signature:
    """The first lines of a kernel; lines: of arguments, in the groups of `bslang.abi`; strided: the tensors
    whose strides it takes."""

    function: str
    lines: list[str]
    strided: list[str]

    @classmethod
    def of(cls, kernel: abi.Kernel, has: Container[str]) -> Signature:
        """has: as in `bslang.abi.Kernel.groups`."""
        lines = []
        for group in kernel.groups(has):
            # No-break spaces, so that a line ends after an argument.
            each = (f"{x.name}:\xa0tl.constexpr" if x.is_constant else x.name for x in group)
            lines += textwrap.wrap(", ".join(each) + ",", LINE - 4, break_long_words=False)
        strided = dict.fromkeys(each.name.partition("_")[0] for each in kernel.strides)
        lines = [line.replace("\xa0", " ") for line in lines]
        return cls(kernel.function, lines, [*strided])


@dataclass(frozen=True)
class Kernels:
    """What the templates in templates/triton see as `target`.

    signatures: of kernels, by their names in `bslang.abi`; constants: names of columns of tables and of
    classes, with the code of their values.
    held, streamed: the largest sides (query, key) of a tile of what a program holds, and of what it
    meets; a call may choose smaller powers of two.
    parameters: names of the masks' parameters; q_labels, k_labels: numbers of those that masks read;
    ranges, states: of the labels of each side whose ranges settle blocks, and of the selections whose
    states do; selections: of those that masks read.
    helpers: names of the functions that masks call.
    key_walks, query_walks: the loops of a program that holds queries, or keys; rows, columns: what
    follows from the block row, or column, which they hold. isolates: whether NaN and infinity are kept to
    the pairs that belong, as what a call leaves out may hold anything. hopper: what the
    kernels for Hopper need, if the layout has them.
    """

    signatures: dict[str, Signature]
    constants: list[tuple[str, str]]
    held: tuple[int, int]
    streamed: tuple[int, int]
    parameters: list[str]
    q_labels: list[int]
    k_labels: list[int]
    selections: list[int]
    ranges: dict[str, list[int]]
    states: list[int]
    helpers: list[str]
    masks: list[Mask]
    key_walks: list[Walk]
    query_walks: list[Walk]
    rows: Shape
    columns: Shape
    isolates: bool
    hopper: Hopper | None

    @classmethod
    def of(cls, plan: Plan) -> Kernels:
        masks = [Mask.of(mask) for mask in plan.masks]
        texts = [text for m in masks for text in (*(value for _, value in m.steps), m.result)]
        (stream_q, divides_q), (stream_k, divides_k) = map(streamed, (plan.block_q, plan.block_k))
        settled = frozenset(number for number, mask in enumerate(masks) if mask.settles)
        block, divided = (plan.block_q, plan.block_k), (divides_k, divides_q)
        rows, columns = shapes(plan.pattern, block, settled, divided)
        pointer = "slot" if plan.by_head else "pointer"
        facts = (
            plan.by_head,
            plan.ordered,
            bool(plan.inputs.labels),
            bool(plan.inputs.selections),
            bool(settled),
        )
        has = {name for name, given in zip(abi.FACTS, facts, strict=True) if given}
        arguments = {name for mask in masks if mask.settles for name in mask.settles.arguments}

        def settled_by(prefix: str, count: int) -> list[int]:
            return [i for i in range(count) if f"{prefix}{i}" in arguments]

        states = settled_by("states", len(plan.inputs.selections))
        parameters = [f"p{number}" for number in range(len(plan.parameters))]
        key_walks = walks(masks, rows, divides_k, KEYS)
        query_walks = walks(masks, columns, divides_q, replace(QUERIES, pointer=pointer))
        hopper = Hopper.of(plan, (key_walks, query_walks), parameters)
        return cls(
            {
                name: Signature.of(kernel, has)
                for name, kernel in abi.KERNELS.items()
                if (not kernel.only or kernel.only in has)
                and (hopper or not name.endswith(abi.HOPPER))
            },
            _constants(plan),
            (held(plan.block_q), held(plan.block_k)),
            (stream_q, stream_k),
            parameters,
            sorted({label for mask in masks for label in mask.q_labels}),
            sorted({label for mask in masks for label in mask.k_labels}),
            sorted({i for mask in plan.masks for i in mask.selections}),
            {side: settled_by(f"{side}_range", len(plan.inputs.labels)) for side in "qk"},
            states,
            [h for h in _HELPERS if any(f"{h}(" in text for text in texts)],
            masks,
            key_walks,
            query_walks,
            rows,
            columns,
            bool(plan.inputs),
            hopper,
        )

    @property
    def labels(self) -> list[int]:
        """The labels that masks read."""
        return sorted({*self.q_labels, *self.k_labels})

    @property
    def unseen(self) -> bool:
        """Whether kernels may meet keys of partial blocks that no query of the call sees."""
        return bool(self.masks) and not self.isolates

    @property
    def ranged(self) -> list[int]:
        """The labels whose ranges settle blocks."""
        return sorted({*self.ranges["q"], *self.ranges["k"]})

    @property
    def settling(self) -> list[Settles]:
        """What calls settle of blocks, by mask."""
        return [mask.settles for mask in self.masks if mask.settles]

    @property
    def settling_parameters(self) -> list[str]:
        """Names of the parameters that say what calls settle."""
        taken = {name for settles in self.settling for name in settles.arguments}
        return [name for name in self.parameters if name in taken]

    @property
    def has_strips(self) -> bool:
        return bool(self.rows.texts or self.columns.texts)

    @property
    def walks(self) -> list[Walk]:
        """Those of all kernels."""
        return [*self.key_walks, *self.query_walks]

    @property
    def streams(self) -> bool:
        """Whether some loop goes over strips and runs one after another."""
        return any(walk.streams for walk in self.walks)

    @property
    def nests(self) -> bool:
        """Whether some loop over tiles is inside one over runs of blocks; those of Hopper all are."""
        return self.hopper is not None or any(
            not walk.streams and not walk.gathers for walk in self.walks
        )

    @property
    def nested_strips(self) -> bool:
        """Whether strips are among these."""
        return any(walk.strips and (self.hopper or not walk.streams) for walk in self.walks)

    @property
    def rules(self) -> list[str]:
        """Lines of Python: what the loops compute, for the schedule to leave out of the tables."""
        return [
            *literal("_ROWS", self.rows, "row", "column"),
            *literal("_COLUMNS", self.columns, "column", "row"),
        ]

    @property
    def sizes(self) -> list[str]:
        """Arguments for which kernels are not specialised, in lines."""
        sizes = (name for kernel in abi.KERNELS.values() for name in kernel.unspecialised)
        names = " ".join(f'"{name}",' for name in dict.fromkeys(sizes))
        return textwrap.wrap(names, LINE - 4)

    @property
    def key_gathers(self) -> bool:
        """Whether a loop over keys puts tiles together from listed blocks."""
        return any(walk.gathers for walk in self.key_walks)

    @property
    def query_gathers(self) -> bool:
        """The same of queries."""
        return any(walk.gathers for walk in self.query_walks)

    @property
    def bounded_keys(self) -> bool:
        """Whether a loop over keys may be cut short."""
        return any(walk.bounded and not walk.gathers for walk in self.key_walks)

    @property
    def gathers(self) -> bool:
        return self.key_gathers or self.query_gathers

    @property
    def key_axis(self) -> Axis:
        return self.key_walks[0].axis

    @property
    def query_axis(self) -> Axis:
        return self.query_walks[0].axis

    @staticmethod
    def fits(line: str, margin: int) -> bool:
        """Whether a line is short enough where it is indented that far."""
        return margin + len(line) <= LINE

    @staticmethod
    def fit(head: str, arguments: Sequence[str], tail: str, margin: int) -> str:
        """A call or signature as formatters break it; margin: how far it will be indented."""
        inside = ", ".join(arguments)
        if margin + len(f"{head}({inside}){tail}") <= LINE:
            return f"{head}({inside}){tail}"
        if margin + 4 + len(inside) <= LINE:
            return f"{head}(\n    {inside}\n){tail}"
        lines = "".join(f"    {argument},\n" for argument in arguments)
        return f"{head}(\n{lines}){tail}"

    @staticmethod
    def tuple_of(name: str, items: Sequence[str], margin: int) -> str:
        """The assignment of a tuple as formatters break it."""
        line = f"{name} = ({', '.join(items)}{',' if len(items) == 1 else ''})"
        if margin + len(line) <= LINE:
            return line
        lines = "".join(f"    {item},\n" for item in items)
        return f"{name} = (\n{lines})"


def held(block: int) -> int:
    """The largest side of a tile of the block that a program holds, for a side of the block."""
    if block >= SMALLEST and block & (block - 1) == 0:
        return min(block, LARGEST)
    if block % STREAMED == 0:
        return STREAMED
    return min(max(SMALLEST, 1 << block.bit_length()), LARGEST)


def streamed(block: int) -> tuple[int, bool]:
    """The largest side of a tile of what a program meets, and whether tiles divide the block.

    Where they do, any smaller power of two does too. Small blocks come several in a tile.
    """
    if block % STREAMED:
        return STREAMED, False
    return (LARGEST if block % LARGEST == 0 else STREAMED), True


def _constants(plan: Plan) -> list[tuple[str, str]]:
    """Names of the columns of each table and of its width, and of the classes, each line with its values."""
    lines, settles = [], any(mask.settles for mask in plan.masks)
    for table, columns in abi.COLUMNS.items():
        if not {"cells": plan.inputs.selections, "span": settles}.get(table, True):
            continue
        names = [*(f"{table}_{column}".upper() for column in columns), table.upper()]
        joined, values = ", ".join(names), f"map(tl.constexpr, range({len(names)}))"
        if len(f"{joined} = {values}") > LINE:  # as formatters break it
            joined = "".join(("(\n", *(f"    {name},\n" for name in names), ")"))
        lines.append((joined, values))
    names = [name.upper() for name in (*abi.CLASSES, "classes")]
    values = ", ".join(map(str, (*range(len(abi.CLASSES)), plan.classes)))
    return [*lines, (", ".join(names), f"map(tl.constexpr, ({values}))")]
