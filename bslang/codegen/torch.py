"""The torch target: the runtime gathers and multiplies blocks; the module adds its masks."""

from __future__ import annotations

from dataclasses import dataclass

from bslang.codegen.emit import Section
from bslang.codegen.environment import render
from bslang.codegen.plan import Plan
from bslang.ir.mask import TORCH, stepped

_ROOM = 90  # characters of an expression on a line


@dataclass(frozen=True)
class _Mask:
    """One mask as lines of Python: (name, value) of its steps, and its result."""

    name: str
    text: str
    steps: list[tuple[str, str]]
    result: str


@dataclass(frozen=True)
class _Masks:
    """What templates/torch/masks.py.jinja sees as `target`."""

    masks: list[_Mask]


def section(plan: Plan) -> Section:
    """The masks of a layout as Python functions over tensors of positions."""
    masks = []
    for mask in plan.masks:
        parameters = [(name, f"parameters[{index}]") for name, index in mask.reads]
        steps, result = stepped(mask.predicate, TORCH, _ROOM)
        masks.append(_Mask(f"_torch_mask_{mask.number}", mask.text, [*parameters, *steps], result))
    code = render("torch/masks.py.jinja", plan, _Masks(masks)) if masks else ""
    imports = ["from bslang.runtime.torch import TorchTarget"]
    if helpers := [name for name in ("maximum", "minimum") if f"{name}(" in code]:
        imports.append(f"from bslang.runtime.masks import {', '.join(helpers)}")
    return Section(
        constructor=f"TorchTarget({'_TORCH_MASKS' if masks else '[]'})",
        code=code,
        imports=tuple(imports),
    )
