"""The loops of the Triton kernels: what each of them walks, in the order in which a kernel has them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, replace

from bslang import abi
from bslang.codegen import plan as plans
from bslang.codegen.shape import Shape
from bslang.graph.blockgraph import FULL
from bslang.ir.expr import Number, Op, variables
from bslang.ir.mask import TRITON, counted, stepped, token_names
from bslang.ir.ranges import negated
from bslang.schedule.schedule import EDGE, PARTIAL, WHOLE

LINE = 100
"""Longest line of generated Python."""


@dataclass(frozen=True)
class Settles:
    """What is known at the call of blocks of a mask.

    number: of the mask; arguments: what the function of a block's state takes of a kernel, before its block
    row and column; steps: assignments (name, expression) in it; state: 0 where no pair of a block belongs,
    2 where every pair does, 1 elsewhere.
    """

    number: int
    arguments: list[str]
    steps: list[tuple[str, str]]
    state: str

    @classmethod
    def of(cls, mask: plans.Mask) -> Settles | None:
        if not mask.settles:
            return None
        names = variables(mask.surely) | variables(mask.maybe)
        arguments, steps = [], []
        for side, held, block in (("q", "row", "BLOCK_Q"), ("k", "column", "BLOCK_K")):
            labels = {
                n for what in ("least", "most") for n in plans.numbers(names, f"{side}_{what}")
            }
            for i in sorted(labels):
                arguments.append(f"{side}_range{i}")
                read = f"_bounds({side}_range{i}, {held})"
                steps.append((f"{side}_least{i}, {side}_most{i}", read))
                if mask.wide:
                    wide = (f"{side}_{what}{i}.to(tl.int64)" for what in ("least", "most"))
                    steps.append((f"{side}_least{i}, {side}_most{i}", ", ".join(wide)))
            if f"{side}_first" in names or f"{side}_last" in names:
                ends = f"{held} * {block}, ({held} + 1) * {block} - 1"
                steps.append((f"{side}_first, {side}_last", ends))
        for i in plans.numbers(names, "state"):
            arguments.append(f"states{i}")
            steps.append(
                (f"state{i}", f"tl.load(states{i} + row * call_columns + column).to(tl.int32)")
            )
        arguments += ["call_columns"] * any(name.startswith("state") for name in names)
        arguments += sorted(names - token_names(names), key=lambda name: int(name[1:]))
        state = "1"
        for name, truth, number in (
            ("full", mask.surely, 2),
            ("empty", negated(mask.maybe), 0),
        ):
            if not isinstance(truth, bool):
                found, text = stepped(truth, TRITON, LINE - len(f"    {name} = "))
                renamed = {step: f"{name}_{step}" for step, _ in found}
                steps += [(renamed[step], _renamed(value, renamed)) for step, value in found]
                steps.append((name, _renamed(text, renamed)))
                state = f"tl.where({name}, {number}, {state})"
        return cls(mask.number, arguments, steps, state)


def _renamed(text: str, names: Mapping[str, str]) -> str:
    """Code with names of steps replaced: those of two expressions are not the same."""
    return re.sub(r"\bt[0-9]+\b", lambda found: names.get(found[0], found[0]), text)


@dataclass(frozen=True)
class Mask:
    """One mask as a function of q, k, and the labels, the selections and the parameters that it reads.

    text: in bsl, comment: the same in lines; steps: assignments (name, expression) before the
    expression `result` that it returns, where one line has no room for all of it; settles: what is
    known of a block without it, if anything.
    """

    name: str
    text: str
    q_labels: list[int]
    k_labels: list[int]
    selections: list[int]
    parameters: list[str]
    steps: list[tuple[str, str]]
    result: str
    settles: Settles | None

    @classmethod
    def of(cls, mask: plans.Mask) -> Mask:
        predicate = counted(mask.predicate)
        predicate = predicate if mask.wide else _narrow(predicate)
        steps, result = stepped(predicate, TRITON, LINE - len("    return "))
        if mask.wide:
            labels = [f"{x}_label{i}" for x in "qk" for i in mask.labels(x)]
            wide = (f"{name}.to(tl.int64)" for name in ("q", "k", *labels))
            steps = [(", ".join(("q", "k", *labels)), ", ".join(wide)), *steps]
        names = [name for name, _ in mask.reads]
        return cls(
            f"_mask_{mask.number}",
            mask.text,
            mask.labels("q"),
            mask.labels("k"),
            mask.selections,
            names,
            steps,
            result,
            Settles.of(mask),
        )

    @property
    def comment(self) -> list[str]:
        return wrapped(self.text)

    @property
    def arguments(self) -> list[str]:
        """What it takes, in order, after the positions."""
        return [
            *(f"q_label{i}" for i in self.q_labels),
            *(f"k_label{i}" for i in self.k_labels),
            *(f"selected{i}" for i in self.selections),
            *self.parameters,
        ]


@dataclass(frozen=True)
class Axis:
    """The axis along which a kernel walks.

    things: what it walks; held: the name of the block that a program holds; blocks: of the number of blocks
    along the axis; block, tile: of the sides of a block and of a tile; first, length: of the position where
    the sequence begins, and of its length; pointer: where the table of a program begins; margin: of the
    loops in a kernel.
    """

    things: str
    held: str
    blocks: str
    block: str
    tile: str
    first: str
    length: str
    pointer: str
    margin: int

    @property
    def of_keys(self) -> bool:
        return self.things == "keys"

    @property
    def bounds(self) -> str:
        """What `_range` takes after the blocks."""
        return f"{self.things}, {self.block}"

    @property
    def tiles(self) -> str:
        """How many tiles a block has."""
        return f"({self.block} // {self.tile})"

    def pair(self, block: str) -> list[str]:
        """The block row and the block column of a block that it meets, as code."""
        return [self.held, block] if self.of_keys else [block, self.held]

    @property
    def found(self) -> str:
        """Where a whole `block` begins."""
        shift = "" if self.of_keys else f" - {self.first}"
        return f"block * {self.block}{shift}"


KEYS = Axis("keys", "row", "columns", "BLOCK_K", "TILE_K", "0", "len_k", "pointer", 4)
QUERIES = Axis("queries", "column", "rows", "BLOCK_Q", "TILE_Q", "q_start", "len_q", "pointer", 8)


@dataclass(frozen=True)
class Walk:
    """One loop of a kernel, over blocks of classes first .. last - 1.

    bounded: whether a tile may reach past the end of its blocks; mask: what decides pairs, if any does.
    strips: those that it goes through first, from left to right, as pairs of code; texts: what they come
    from, for people; from_end: whether one has an end that is counted from the last block. table: whether
    it goes through what the table has of the classes; listed: whether that is blocks one by one. others:
    whether another loop walks strips of its classes. streams: whether one loop goes over the tiles of
    all its strips and runs, rather than a loop over those of each. careful: whether it is of the pass that
    runs where the first one ended in a NaN.
    """

    axis: Axis
    first: int
    last: int
    bounded: bool
    mask: Mask | None = None
    strips: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    from_end: bool = False
    table: bool = True
    listed: bool = False
    others: bool = False
    streams: bool = False
    careful: bool = False

    @property
    def apart(self) -> bool:
        """Whether its steps keep NaN and infinity to the pairs that belong."""
        return self.careful and self.mask is not None

    @property
    def range(self) -> str:
        """The head of its inner loops as far as their bounds. Careful ones run rarely, and hold few tiles."""
        return "tl.range" if self.careful else "range"

    @property
    def stages(self) -> str:
        """What its inner loops take after their bounds."""
        return ", num_stages=1" if self.careful else ""

    def again(self) -> Walk:
        """The same as a loop of a careful pass, which is indented further."""
        return replace(self, axis=replace(self.axis, margin=self.axis.margin + 4), careful=True)

    @property
    def settles(self) -> Settles | None:
        """What a call settles of its blocks."""
        return self.mask.settles if self.mask else None

    @property
    def gathers(self) -> bool:
        """Whether its tiles are put together from blocks that the table lists."""
        return self.listed and self.bounded

    @property
    def of_stream(self) -> list[str]:
        """What `_stream` takes."""
        strips, limits = ("strips", self.limits) if self.strips else ("()", "None")
        table = "table" if self.table else "None"
        return [strips, limits, table, self.axis.first, self.axis.block]

    @property
    def entry(self) -> str:
        """The entry of the table for its first tile, as code; Triton 3.6 returns no None, but tuples."""
        return "_entry(stream[5])" if self.table else "()"

    @property
    def pointers(self) -> list[str]:
        """Where the table says which of its runs are the first, and the first no longer."""
        return [f"{self.axis.pointer} + {_class(number)}" for number in (self.first, self.last)]

    @property
    def limits(self) -> str:
        """The name of what its strips may cover."""
        return "limits" if self.mask else "full"

    @property
    def stop(self) -> str:
        """Where its tiles end, as code."""
        return "stop" if self.bounded else "None"

    @property
    def depth(self) -> int:
        """How far its body is indented from it."""
        return 4 if self.gathers or self.streams else 8

    @property
    def margin(self) -> int:
        """How far its body is indented."""
        return self.axis.margin + self.depth

    @property
    def comment(self) -> list[str]:
        """What stands over the loop, in lines."""
        if self.mask is not None:
            return wrapped(f"Partial blocks: {self.mask.text}")
        if self.strips and not self.table:
            return wrapped(f"Full blocks: {', '.join(dict.fromkeys(self.texts))}")
        if self.strips:
            return wrapped(f"Full blocks: {', '.join(dict.fromkeys(self.texts))}, and others")
        others = "other " if self.others else ""
        if self.first == EDGE:
            text = (
                f"full blocks that the end of the sequence cuts short: {self.axis.things} beyond it are "
                "masked."
            )
        elif self.gathers:
            text = "full blocks, gathered one by one until a tile is full."
        elif self.bounded:
            text = (
                f"full blocks whose sides are not a multiple of the tile: {self.axis.things} beyond the "
                "block are masked."
            )
        elif self.listed:
            text = "full blocks, one by one."
        else:
            text = "full blocks: every pair belongs, so there is no mask."
        return wrapped(f"{others}{text}".capitalize())


def wrapped(text: str) -> list[str]:
    """A comment in lines."""
    return textwrap.wrap(text, LINE - 14, break_long_words=False, break_on_hyphens=False)


def walks(masks: list[Mask], shape: Shape, divides: bool, axis: Axis) -> list[Walk]:
    """The loops of a kernel, class by class: its strips from left to right, then what the table has of it.

    divides: whether tiles divide the blocks that are walked.
    """
    found = []
    table = Walk(axis, WHOLE, EDGE if divides else PARTIAL, not divides)
    table = replace(table, listed=shape.rules.listed, streams=shape.streams)
    strips = replace(_with_strips(table, shape, FULL), listed=False)
    if not strips.strips:
        found.append(table)
    elif shape.rules.listed or (shape.streams and not shape.rest):
        found.append(replace(strips, table=False))
        found.append(replace(table, streams=False, others=True))
    else:
        found.append(strips)
    if divides:
        found.append(Walk(axis, EDGE, PARTIAL, True))
    for number, mask in enumerate(masks):
        kind = PARTIAL + number
        found.append(_with_strips(Walk(axis, kind, kind + 1, True, mask), shape, number))
    return found


def _with_strips(walk: Walk, shape: Shape, kind: int) -> Walk:
    """The same with the strips of its kind."""
    strips, texts, from_end = [], [], False
    for strip, text in zip(shape.rules.strips, shape.texts, strict=True):
        if strip.kind == kind:
            ends = strip.start, strip.stop
            begin, end = (edge.text(walk.axis.held, walk.axis.blocks) for edge in ends)
            strips.append(f"({begin}, {end})")
            texts.append(text)
            from_end |= any(edge.end for edge in ends)
    return replace(walk, strips=tuple(strips), texts=tuple(texts), from_end=from_end)


def _class(number: int) -> str:
    """A class by its name in generated code."""
    least = len(abi.CLASSES) - 1
    name = abi.CLASSES[min(number, least)].upper()
    return name if number <= least else f"{name} + {number - least}"


def _narrow(number: Number) -> Number:
    """The expression for 32-bit integers: a number beyond them is only there to be compared with."""
    if isinstance(number, Op):
        return Op(number.op, tuple(map(_narrow, number.args)))
    return max(1 - 2**31, min(number, 2**31 - 1)) if isinstance(number, int) else number
