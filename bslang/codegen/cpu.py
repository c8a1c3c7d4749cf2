"""The cpu target: one C++ file a layout, for the system's compiler."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from bslang.codegen.emit import Section
from bslang.codegen.environment import render
from bslang.codegen.plan import Plan
from bslang.files import source_digest
from bslang.ir.expr import variables
from bslang.ir.mask import CPP, code

LINE = 100
"""Longest line of generated C++."""

LARGEST_TILE = 128
"""Most queries, or keys, that a thread works on at once: more scores would leave the nearest caches."""

STEP_K = 64
"""Keys in one step of the online softmax."""


def section(plan: Plan) -> Section:
    """The kernels of a layout."""
    text = render("cpu/kernel.cpp.jinja", plan, Source.of(plan))
    return Section(
        constructor=f'CpuTarget(Path(__file__).with_suffix(".cpp"), "{source_digest(text)}")',
        imports=("from pathlib import Path", "from bslang.runtime.cpu import CpuTarget"),
        files={".cpp": text},
    )


@dataclass(frozen=True)
class Mask:
    """One mask as a C++ function over q, k and the parameters (name, index) that it reads.

    comment and code are lines.
    """

    number: int
    kind: int
    comment: list[str]
    signature: str
    parameters: list[tuple[str, int]]
    code: list[str]


@dataclass(frozen=True)
class Source:
    """What the templates in templates/cpu see as `target`.

    layout: the spec in lines; tile_q, tile_k: sides of a tile; step_k: keys at a time along a row;
    divides: whether masks divide numbers that may be negative.
    """

    layout: list[str]
    tile_q: int
    tile_k: int
    step_k: int
    divides: bool
    masks: list[Mask]

    @classmethod
    def of(cls, plan: Plan) -> Source:
        masks = [_mask(plan, number) for number in range(len(plan.masks))]
        divides = any("floor_" in line for mask in masks for line in mask.code)
        return cls(
            _wrapped(plan.spec), tile(plan.block_q), tile(plan.block_k), STEP_K, divides, masks
        )


def tile(block: int) -> int:
    """The side of a tile: a block's, or that of the fewest equal parts that are small enough."""
    parts = -(-block // LARGEST_TILE)
    return -(-block // parts)


def _mask(plan: Plan, number: int) -> Mask:
    mask = plan.masks[number]
    used = variables(mask.predicate)
    # What a mask does not read has no name, so that no compiler warns of it.
    signature = [f"int64_t{' ' + name if name in used else ''}" for name in ("q", "k")]
    signature.append(f"const int32_t*{' parameters' if mask.reads else ''}")
    comment = [f"Mask {number}: {mask.text}"]
    comment += [f"{name} = {plan.parameters[i]}" for name, i in mask.reads]
    return Mask(
        number,
        mask.kind,
        [line for text in comment for line in _wrapped(text)],
        ", ".join(signature),
        mask.reads,
        _wrapped(code(mask.predicate, CPP)),
    )


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, LINE - 12, break_long_words=False, break_on_hyphens=False)
