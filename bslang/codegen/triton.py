"""The Triton target: what its templates need of a plan, and the section that they write."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from bslang.codegen.environment import render
from bslang.codegen.plan import Plan
from bslang.ir.expr import Number, Op, Var, variables
from bslang.ir.mask import TRITON, code
from bslang.schedule.schedule import EDGE, WHOLE

LINE = 100
"""Line length of generated Python."""

SMALLEST, LARGEST = 16, 128
"""Sides of a tile: the least that a matrix instruction takes, the most that registers hold."""


def tile(block: int) -> tuple[int, bool]:
    """The largest tile side for a block side, and whether smaller powers of two divide the block too.

    A program's own tile may be cut short at no cost; a loop over full blocks that tiles do not
    divide must check bounds.
    """
    if block & (block - 1) == 0 and block >= SMALLEST:
        return min(block, LARGEST), True
    if block % 64 == 0:
        return 64, True
    return min(max(SMALLEST, 1 << block.bit_length()), LARGEST), False


@dataclass(frozen=True)
class MaskFunction:
    """One mask as a function of q, k and the parameters that it reads.

    steps: assignments (name, expression) before the expression `code` that it returns; there are
    some only where it is too long for a line.
    """

    name: str
    text: str
    parameters: list[str]
    steps: tuple[tuple[str, str], ...]
    code: str

    @property
    def comment(self) -> list[str]:
        return _wrapped(self.text)


@dataclass(frozen=True)
class Walk:
    """One loop of a kernel: over the runs of classes [first, last).

    bounded: whether a tile may reach past the end of a run; mask: what decides pairs.
    """

    first: int
    last: int
    bounded: bool
    mask: MaskFunction | None = None

    def comment(self, things: str) -> list[str]:
        """What stands over the loop; `things` are what it walks, keys or queries."""
        if self.mask is not None:
            return _wrapped(f"Partial blocks: {self.mask.text}")
        if self.first == EDGE:
            return [f"Full blocks cut short: only {things} that are there."]
        if self.bounded:
            return [f"Full blocks: every pair, but tiles reach past the {things} of a run."]
        return ["Full blocks: every pair, nothing to check."]


class Triton:
    """What the templates in templates/triton see as `target`."""

    name = "triton"

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.parameters = [f"p{number}" for number in range(len(plan.parameters))]
        self.masks = [
            _function(f"_mask_{mask.number}", mask.text, mask.predicate) for mask in plan.masks
        ]
        self.tile_q, exact_q = tile(plan.block_q)
        self.tile_k, exact_k = tile(plan.block_k)
        self.key_walks = self._walks(exact_k)
        self.query_walks = self._walks(exact_q)

    def _walks(self, exact: bool) -> list[Walk]:
        full = [Walk(WHOLE, EDGE, bounded=False), Walk(EDGE, EDGE + 1, bounded=True)]
        if not exact:
            full = [Walk(WHOLE, EDGE + 1, bounded=True)]
        masked = zip(self.plan.masks, self.masks, strict=True)
        return full + [Walk(mask.kind, mask.kind + 1, True, function) for mask, function in masked]

    @cached_property
    def helpers(self) -> list[str]:
        """The functions that masks call."""
        text = "\n".join(
            line for mask in self.masks for line in (*(value for _, value in mask.steps), mask.code)
        )
        return [name for name in ("floor_div", "floor_mod") if f"{name}(" in text]

    def section(self) -> str:
        """The Triton part of a generated module, without imports; ends with one newline."""
        return render("triton/kernels.py.jinja", self.plan, self)

    @staticmethod
    def fit(head: str, arguments: Sequence[str], tail: str, indent: int) -> str:
        """A call or signature on one line, or with a line for each argument where it is too long."""
        margin = " " * indent
        line = f"{margin}{head}({', '.join(arguments)}){tail}"
        if len(line) <= LINE:
            return line
        inside = "".join(f"{margin}    {argument},\n" for argument in arguments)
        return f"{margin}{head}(\n{inside}{margin}){tail}"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, LINE - 14, break_long_words=False, break_on_hyphens=False)


def _function(name: str, text: str, predicate: Number) -> MaskFunction:
    if not isinstance(predicate, Var | Op):  # a constant: of no effect, but it has to be a tensor
        predicate = Op("==" if predicate else "!=", (Var("q"), Var("q")))
    used = sorted(
        (p for p in variables(predicate) if p not in ("q", "k")), key=lambda p: int(p[1:])
    )
    steps: list[tuple[str, str]] = []
    short = _shortened(predicate, steps)
    return MaskFunction(name, text, used, tuple(steps), code(short, TRITON))


def _shortened(number: Number, steps: list[tuple[str, str]]) -> Number:
    """The expression, with parts of it named in `steps` so that each fits on a line."""
    room = LINE - len("    return ")
    if not isinstance(number, Op) or len(code(number, TRITON)) <= room:
        return number
    args = [_shortened(arg, steps) for arg in number.args]
    while len(code(Op(number.op, tuple(args)), TRITON)) > room:
        longest = max(range(len(args)), key=lambda index: len(code(args[index], TRITON)))
        part = f"t{len(steps)}"
        steps.append((part, code(args[longest], TRITON)))
        args[longest] = Var(part)
    return Op(number.op, tuple(args))
