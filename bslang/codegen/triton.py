"""The triton target: what its templates need of a plan, and the section that they write."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from bslang.codegen import plan as plans
from bslang.codegen.emit import Section
from bslang.codegen.environment import render
from bslang.codegen.plan import Plan
from bslang.codegen.shape import Shape, edge_text, literal, shapes
from bslang.graph.blockgraph import FULL
from bslang.ir.expr import Number, Op
from bslang.ir.mask import TRITON, stepped
from bslang.schedule.schedule import EDGE, PARTIAL, WHOLE
from bslang.schedule.strips import Strip

LINE = 100
"""Longest line of generated Python."""

_HELPERS = ("floor_div", "floor_mod", "isqrt", "log2")
"""Functions that masks may call and Triton does not have."""

SMALLEST, STREAMED, LARGEST = 16, 64, 128
"""Sides of a tile: the least that a matrix instruction takes, the least that keeps it busy, the most that
registers hold."""


def section(plan: Plan) -> Section:
    """The kernels of a layout."""
    kernels = Kernels.of(plan)
    given = [
        "_forward",
        "_merge",
        "_delta",
        "_backward_dq",
        "_backward_dkdv",
        "_sum",
        f"held={kernels.held}",
        f"streamed={kernels.streamed}",
        "rows=_ROWS",
        "columns=_COLUMNS",
    ]
    used = ["Edge", "Rules", "Strip"] if kernels.has_strips else ["Rules"]
    return Section(
        constructor="".join(
            ("TritonTarget(\n", *(f"            {x},\n" for x in given), "        )")
        ),
        code=render("triton/kernels.py.jinja", plan, kernels),
        imports=(
            "from bslang.runtime.triton.launch import TritonTarget",
            f"from bslang.schedule.strips import {', '.join(used)}",
        ),
    )


@dataclass(frozen=True)
class Settles:
    """What is known of blocks of a mask when only the least and the greatest of their labels are.

    number: of the mask; labels: those that are compared; state: 0 where no pair of a block belongs, 2
    where every pair does, 1 elsewhere: an expression over `apart0`, `equal0`, ...
    """

    number: int
    labels: list[int]
    state: str

    @classmethod
    def of(cls, mask: plans.Mask) -> Settles | None:
        if not mask.apart and mask.equal is None:
            return None
        state = "1"
        if mask.equal is not None:
            state = f"tl.where({' & '.join(f'equal{i}' for i in mask.equal)}, 2, {state})"
        if mask.apart:
            sets = [" & ".join(f"apart{i}" for i in labels) for labels in mask.apart]
            empty = " | ".join(f"({x})" if "&" in x and len(sets) > 1 else x for x in sets)
            state = f"tl.where({empty}, 0, {state})"
        used = sorted({i for labels in (*mask.apart, mask.equal or ()) for i in labels})
        return cls(mask.number, used, state)

    @property
    def arguments(self) -> list[str]:
        """What its functions take of a kernel, before the blocks."""
        return [f"{name}{label}" for label in self.labels for name in ("held", "ranges")]


@dataclass(frozen=True)
class Mask:
    """One mask as a function of q, k, and the labels and the parameters that it reads.

    text: in bsl, comment: the same in lines; steps: assignments (name, expression) before the
    expression `result` that it returns, where one line has no room for all of it; settles: what the
    labels of a block settle without it, if anything.
    """

    name: str
    text: str
    labels: list[int]
    parameters: list[str]
    steps: list[tuple[str, str]]
    result: str
    settles: Settles | None

    @property
    def comment(self) -> list[str]:
        return _wrapped(self.text)

    def arguments(self, q: str = "", k: str = "") -> list[str]:
        """What it takes, in order; q and k: how the values of a tile are indexed."""
        labels = [f"{x}_label{i}{at}" for i in self.labels for x, at in (("q", q), ("k", k))]
        return [*labels, *self.parameters]


@dataclass(frozen=True)
class Walk:
    """One loop of a kernel, over blocks of classes first .. last - 1.

    bounded: whether a tile may reach past the end of a run; mask: what decides pairs, if any does.
    strip: the blocks that are computed, and text: what they are, for people; begin, end, low, high: its
    ends, and where it may begin and end, as code. listed: whether the table has the blocks one by
    one. others: whether strips of this class stand before it. together: the strips of a class, and
    its runs in the table, that one loop goes through; this is the first of them.
    """

    first: int
    last: int
    bounded: bool
    mask: Mask | None = None
    strip: Strip | None = None
    text: str = ""
    begin: str = ""
    end: str = ""
    low: str = ""
    high: str = ""
    listed: bool = False
    others: bool = False
    together: tuple[Walk, ...] = ()

    @property
    def settles(self) -> Settles | None:
        """What labels settle of its blocks."""
        return self.mask.settles if self.mask and not self.strip else None

    @property
    def from_end(self) -> bool:
        """Whether an end of its strip, or of those that go with it, is counted from the last block."""
        strips = [walk.strip for walk in (self, *self.together) if walk.strip]
        return any(strip.start.end or strip.stop.end for strip in strips)

    def comment(self, things: str) -> list[str]:
        """What stands over the loop, in lines; `things` are what it walks: keys, or queries."""
        if self.strip is not None:
            return _wrapped(f"{self.text}: {'full' if self.mask is None else 'partial'} blocks.")
        others = "other " if self.others else ""
        if self.mask is not None:
            return _wrapped(f"{others}partial blocks: {self.mask.text}".capitalize())
        if self.first == EDGE:
            return [
                f"Full blocks that the end of the sequence cuts short: only {things} there count."
            ]
        if self.bounded and self.listed:
            return [f"{others}full blocks, one by one, as many as a tile holds.".capitalize()]
        if self.bounded:
            return [
                f"{others}full blocks; their sides are no multiple of a tile's, so {things} are "
                "counted.".capitalize()
            ]
        if self.listed:
            return [f"{others}full blocks, one by one.".capitalize()]
        return [f"{others}full blocks: every pair belongs, nothing is checked.".capitalize()]


@dataclass(frozen=True)
class Kernels:
    """What the templates in templates/triton see as `target`.

    tables: arguments of a kernel that say what it visits.
    held, streamed: the largest sides (query, key) of a tile of what a program holds, and of what it
    meets; a call may choose smaller powers of two.
    parameters: names of the masks' parameters; labels, settled: numbers of the labels that masks
    compare, and of those whose ranges settle blocks.
    helpers: names of the functions that masks call.
    key_walks, query_walks: the loops of a program that holds queries, or keys; rows, columns: what
    follows from the block row, or column, which they hold.
    """

    tables: list[str]
    held: tuple[int, int]
    streamed: tuple[int, int]
    parameters: list[str]
    labels: list[int]
    settled: list[int]
    helpers: list[str]
    masks: list[Mask]
    key_walks: list[Walk]
    query_walks: list[Walk]
    rows: Shape
    columns: Shape

    @classmethod
    def of(cls, plan: Plan) -> Kernels:
        masks = [_mask(mask) for mask in plan.masks]
        texts = [text for m in masks for text in (*(value for _, value in m.steps), m.result)]
        (stream_q, divides_q), (stream_k, divides_k) = map(streamed, (plan.block_q, plan.block_k))
        settled = frozenset(number for number, mask in enumerate(masks) if mask.settles)
        rows, columns = shapes(plan.pattern, (plan.block_q, plan.block_k), settled)
        tables = ["programs", "pointer", "runs", "parameters"]
        tables += ["head_graph"] if plan.by_head else []
        tables += ["q_labels", "k_labels", "q_ranges", "k_ranges"] if plan.labels else []
        return cls(
            tables,
            (held(plan.block_q), held(plan.block_k)),
            (stream_q, stream_k),
            [f"p{number}" for number in range(len(plan.parameters))],
            sorted({label for mask in masks for label in mask.labels}),
            sorted({i for mask in masks if mask.settles for i in mask.settles.labels}),
            [h for h in _HELPERS if any(f"{h}(" in text for text in texts)],
            masks,
            _walks(masks, rows, divides_k, ("row", "columns", "low")),
            _joined(_walks(masks, columns, divides_q, ("column", "rows", "full_low"))),
            rows,
            columns,
        )

    @property
    def has_strips(self) -> bool:
        return bool(self.rows.texts or self.columns.texts)

    @property
    def rules(self) -> list[str]:
        """Lines of Python: what the loops compute, for the schedule to leave out of the tables."""
        return [*literal("_ROWS", self.rows), *literal("_COLUMNS", self.columns)]

    @staticmethod
    def fit(head: str, arguments: Sequence[str], tail: str, margin: int) -> str:
        """A call or signature on one line, or a line for each argument where that is too long.

        margin: how far it will be indented.
        """
        line = f"{head}({', '.join(arguments)}){tail}"
        if margin + len(line) <= LINE:
            return line
        inside = "".join(f"    {argument},\n" for argument in arguments)
        return f"{head}(\n{inside}){tail}"


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


def _walks(
    masks: list[Mask], shape: Shape, divides: bool, names: tuple[str, str, str]
) -> list[Walk]:
    """The loops of a kernel: of each class the strips from left to right, and what is left.

    names: of the block that a program holds, of the number of blocks on the other axis, and of the first
    one there with all its positions.
    """
    walks = _strips(shape, None, FULL, not divides, names)
    others = bool(walks)
    if divides:
        walks.append(Walk(WHOLE, EDGE, False, listed=shape.rules.listed, others=others))
        walks.append(Walk(EDGE, PARTIAL, True))
    else:
        walks.append(Walk(WHOLE, PARTIAL, True, listed=shape.rules.listed, others=others))
    for number, mask in enumerate(masks):
        strips = _strips(shape, mask, number, True, names)
        kind = PARTIAL + number
        walks += [*strips, Walk(kind, kind + 1, True, mask, others=bool(strips))]
    return walks


def _joined(walks: list[Walk]) -> list[Walk]:
    """The same with the strips of a class, and the runs that the table has of it, in one loop."""
    found: list[Walk] = []
    for _, each in groupby(walks, lambda walk: (walk.first, walk.listed)):
        group = tuple(each)
        found.append(replace(group[0], together=group) if len(group) > 1 else group[0])
    return found


def _strips(
    shape: Shape, mask: Mask | None, kind: int, bounded: bool, names: tuple[str, str, str]
) -> list[Walk]:
    row, columns, full_low = names
    low, high = (full_low, "full_high") if mask is None else ("low", "high")
    number = PARTIAL + kind if mask else WHOLE
    found: list[Walk] = []
    for strip, text in zip(shape.rules.strips, shape.texts, strict=True):
        if strip.kind == kind:
            found.append(
                Walk(
                    number,
                    number + 1,
                    bounded,
                    mask,
                    strip,
                    text,
                    edge_text(strip.start, row, columns),
                    edge_text(strip.stop, row, columns),
                    "end" if found else low,
                    high,
                )
            )
    return found


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, LINE - 14, break_long_words=False, break_on_hyphens=False)


def _mask(mask: plans.Mask) -> Mask:
    predicate = mask.predicate if mask.wide else _narrow(mask.predicate)
    steps, result = stepped(predicate, TRITON, LINE - len("    return "))
    if mask.wide:
        steps = [("q, k", "q.to(tl.int64), k.to(tl.int64)"), *steps]
    names = [name for name, _ in mask.reads]
    return Mask(
        f"_mask_{mask.number}",
        mask.text,
        mask.labels,
        names,
        steps,
        result,
        Settles.of(mask),
    )


def _narrow(number: Number) -> Number:
    """The expression for 32-bit integers: a number beyond them is only there to be compared with."""
    if isinstance(number, Op):
        return Op(number.op, tuple(map(_narrow, number.args)))
    return max(1 - 2**31, min(number, 2**31 - 1)) if isinstance(number, int) else number
