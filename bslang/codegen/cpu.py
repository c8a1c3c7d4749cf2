"""The cpu target: one C++ file a layout, for the system's compiler."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from bslang.codegen.emit import Section
from bslang.codegen.environment import render
from bslang.codegen.plan import Plan
from bslang.files import source_digest
from bslang.ir.expr import variables
from bslang.ir.mask import CPP, code

LINE = 100
"""Longest line of generated C++."""

LARGEST_TILE_Q = 128
LARGEST_TILE_K = 64
"""Most queries (forward), or keys (backward), that a thread works on at once: more scores would leave
the nearest caches."""

STEP_Q, STEP_K = 64, 128
"""Queries (backward), or keys (forward), that a tile meets at a time."""


def section(plan: Plan) -> Section:
    """The kernels of a layout."""
    text = render("cpu/kernel.cpp.jinja", plan, Source.of(plan))
    march = f", {json.dumps(plan.march)}" if plan.march else ""
    return Section(
        constructor=f'CpuTarget(Path(__file__).with_suffix(".cpp"), "{source_digest(text)}"{march})',
        imports=("from pathlib import Path", "from bslang.runtime.cpu.launch import CpuTarget"),
        files={".cpp": text},
    )


@dataclass(frozen=True)
class Mask:
    """One mask as a C++ function over q, k, the parameters (name, index) that it reads, and labels.

    comment, signature and code are lines. apart, equal: conditions on labels under which a block is
    empty, or full, in lines; none where there is no such condition.
    """

    number: int
    kind: int
    comment: list[str]
    signature: list[str]
    parameters: list[tuple[str, int]]
    code: list[str]
    apart: list[str]
    equal: list[str]


@dataclass(frozen=True)
class Source:
    """What the templates in templates/cpu see as `target`.

    layout: the spec in lines; position: the type of positions; tile_q, tile_k: queries of a tile
    forward, keys of one backward; step_q, step_k: those that it meets at a time; helpers: what masks
    call; of_head: whether what a program visits depends on its head, or on its sequence in the batch.
    """

    layout: list[str]
    position: str
    tile_q: int
    tile_k: int
    step_q: int
    step_k: int
    helpers: list[str]
    of_head: bool
    masks: list[Mask]

    @classmethod
    def of(cls, plan: Plan) -> Source:
        masks = [_mask(plan, number) for number in range(len(plan.masks))]
        lines = [line for mask in masks for line in mask.code]
        helpers = [h for h in ("floor_", "isqrt", "log2_floor") if any(h in line for line in lines)]
        return cls(
            _wrapped(plan.spec),
            "int64_t" if plan.wide else "int32_t",
            tile(plan.block_q, LARGEST_TILE_Q),
            tile(plan.block_k, LARGEST_TILE_K),
            STEP_Q,
            STEP_K,
            helpers,
            plan.by_head or bool(plan.labels),
            masks,
        )


def tile(block: int, largest: int) -> int:
    """The side of a tile: a block's, or that of the fewest equal parts that are small enough."""
    parts = -(-block // largest)
    return -(-block // parts)


def _mask(plan: Plan, number: int) -> Mask:
    mask = plan.masks[number]
    used = variables(mask.predicate)

    # What a mask does not read has no name, so that no compiler warns of it.
    def argument(kind: str, name: str) -> str:
        return f"{kind} {name}" if name in used or (name == "parameters" and mask.reads) else kind

    signature = [("position", "q"), ("position", "k"), ("const int64_t*", "parameters")]
    labels = [(f"q_label{i}", f"k_label{i}") for i in range(len(plan.labels))]
    lines = [signature, *([("int32_t", name) for name in pair] for pair in labels)]
    comment = [f"Mask {number}: {mask.text}"]
    comment += [f"{name} = {plan.parameters[i]}" for name, i in mask.reads]
    return Mask(
        number,
        mask.kind,
        [line for text in comment for line in _wrapped(text)],
        [", ".join(argument(*each) for each in line) for line in lines],
        mask.reads,
        _wrapped(code(mask.predicate, CPP)),
        _wrapped(" || ".join(_settles("apart", labels) for labels in mask.apart), 30),
        _wrapped(_settles("equal", mask.equal or ()), 30),
    )


def _settles(relation: str, labels: Sequence[int]) -> str:
    """The condition that blocks stand so to each other in all of some labels."""
    every = " && ".join(f"{relation}(args, cell, {label})" for label in labels)
    return f"({every})" if len(labels) > 1 and relation == "apart" else every


def _wrapped(text: str, margin: int = 12) -> list[str]:
    return textwrap.wrap(text, LINE - margin, break_long_words=False, break_on_hyphens=False)
