"""The torch target: the runtime gathers and multiplies blocks; the module adds its masks."""

from __future__ import annotations

from dataclasses import dataclass

from bslang.codegen.emit import Section
from bslang.codegen.environment import render
from bslang.codegen.plan import Mask, Plan
from bslang.ir.expr import variables
from bslang.ir.mask import TORCH, stepped, token_names

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
    """What templates/torch/masks.py.jinja sees as `target`.

    maybe: what ranges of blocks say of some masks; arguments: those of every mask.
    """

    masks: list[_Mask]
    maybe: list[_Mask]
    arguments: str

    @property
    def names(self) -> str:
        """The list of all masks, as formatters break it."""
        names = [mask.name for mask in self.masks]
        line = f"_TORCH_MASKS = [{', '.join(names)}]"
        if len(line) <= 100:
            return line
        return "\n".join(("_TORCH_MASKS = [", *(f"    {name}," for name in names), "]"))


def _maybe(mask: Mask) -> _Mask:
    """Whether any pair of a block may belong, as lines of Python over its ranges."""
    names = variables(mask.maybe)
    values = [(name, f'ranges["{name}"]') for name in sorted(token_names(names))]
    values += [(name, f"parameters[{name[1:]}]") for name in sorted(names - token_names(names))]
    steps, result = stepped(mask.maybe, TORCH, _ROOM)
    return _Mask(f"_torch_maybe_{mask.number}", mask.text, [*values, *steps], result)


def section(plan: Plan) -> Section:
    """The masks of a layout as Python functions over tensors of positions."""
    masks = []
    for mask in plan.masks:
        values = [(name, f"parameters[{index}]") for name, index in mask.reads]
        for x in ("q", "k"):
            values += [(f"{x}_label{i}", f"{x}_labels[{i}]") for i in mask.labels(x)]
        values += [(f"selected{i}", f"selected[{i}]") for i in mask.selections]
        steps, result = stepped(mask.predicate, TORCH, _ROOM)
        masks.append(_Mask(f"_torch_mask_{mask.number}", mask.text, [*values, *steps], result))
    arguments = "q, k, parameters" + (", q_labels, k_labels, selected" if plan.inputs else "")
    maybe = [_maybe(mask) for mask in plan.masks if mask.maybe is not True]
    code = render("torch/masks.py.jinja", plan, _Masks(masks, maybe, arguments)) if masks else ""
    imports = ["from bslang.runtime.torch.attention import TorchTarget"]
    if helpers := [
        name for name in ("isqrt", "log2", "maximum", "minimum", "rank") if f"{name}(" in code
    ]:
        imports.append(f"from bslang.runtime.torch.masks import {', '.join(helpers)}")
    given = ["_TORCH_MASKS" if masks else "[]"]
    if numbers := [mask.number for mask in plan.masks if mask.maybe is not True]:
        each = ", ".join(f"{number}: _torch_maybe_{number}" for number in numbers)
        given.append(f"maybe={{{each}}}")
    return Section(
        constructor=f"TorchTarget({', '.join(given)})",
        code=code,
        imports=tuple(imports),
    )
