"""The `cpu` target: one C++ file a layout, for the system's compiler."""

from __future__ import annotations

from dataclasses import dataclass

from bslang.codegen.environment import render
from bslang.codegen.plan import Plan
from bslang.ir.expr import variables
from bslang.ir.mask import CPP, code

LARGEST_TILE = 128
"""Queries (or keys) that a thread works on at once, at most: beyond it, scores leave the nearest caches."""

STEP_K = 64
"""Keys of one step of the online softmax."""


@dataclass(frozen=True)
class MaskCode:
    """One mask as C++: `parameters` are the (name, index, bsl text) of those that it uses."""

    number: int
    text: str
    code: str
    parameters: tuple[tuple[str, int, str], ...]


@dataclass(frozen=True)
class Source:
    """What the templates in templates/cpu know beside the plan."""

    tile_q: int
    tile_k: int
    step_k: int
    masks: tuple[MaskCode, ...]

    @classmethod
    def of(cls, plan: Plan) -> Source:
        masks = []
        for mask in plan.masks:
            used = variables(mask.predicate)
            names = [(f"p{i}", i, text) for i, text in enumerate(plan.parameters)]
            parameters = tuple(parameter for parameter in names if parameter[0] in used)
            masks.append(MaskCode(mask.number, mask.text, code(mask.predicate, CPP), parameters))
        return cls(_tile(plan.block_q), _tile(plan.block_k), STEP_K, tuple(masks))


def _tile(block: int) -> int:
    parts = -(-block // LARGEST_TILE)
    return -(-block // parts)


class Cpu:
    """Generates the C++ of a layout."""

    name = "cpu"

    def files(self, plan: Plan) -> dict[str, str]:
        """The generated files, by the suffix of their names."""
        return {".cpp": render("cpu/kernel.cpp.jinja", plan, Source.of(plan))}
