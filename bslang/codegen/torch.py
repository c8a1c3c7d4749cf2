"""The torch target: the runtime gathers and multiplies blocks; the module adds its masks."""

from __future__ import annotations

from dataclasses import dataclass

from bslang.codegen.emit import Section
from bslang.codegen.environment import render
from bslang.codegen.plan import Plan
from bslang.ir.mask import TORCH, code


@dataclass(frozen=True)
class _Masks:
    """What templates/torch/masks.py.jinja sees as `target`: each mask's expression in torch."""

    codes: tuple[str, ...]


def section(plan: Plan) -> Section:
    """The masks of a layout as Python functions over tensors of positions."""
    codes = tuple(code(mask.predicate, TORCH) for mask in plan.masks)
    helpers = sorted(h for h in ("maximum", "minimum") if any(f"{h}(" in text for text in codes))
    names = ", ".join(f"_torch_mask_{mask.number}" for mask in plan.masks)
    imports = ["from bslang.runtime.torch import TorchTarget"]
    if helpers:
        imports.append(f"from bslang.runtime.masks import {', '.join(helpers)}")
    return Section(
        constructor=f"TorchTarget([{names}])",
        code=render("torch/masks.py.jinja", plan, _Masks(codes)) if codes else "",
        imports=tuple(imports),
    )
