"""Assertions about targets, held against dense masked attention in fp64 (`bslang.verify.reference`)."""

from __future__ import annotations

from typing import Any

import torch
from strategies import Case

from bslang.inputs import BOTH, QUERIES, ROW
from bslang.ir.runs import Bools
from bslang.labels import Given
from bslang.layouts import Layout
from bslang.verify.reference import Attended, Inputs, dense, inputs, run

__all__ = ["TOLERANCE", "Attended", "Inputs", "agrees", "dense", "given_of", "inputs", "run"]


def agrees(layout: Layout, given: Inputs, mask: Bools, tolerance: float, **call: object) -> None:
    """Assert that a layout's results are within `tolerance` of the fp64 reference, all of them."""
    scale, softcap = call.get("scale"), call.get("softcap")
    assert scale is None or isinstance(scale, float)
    assert softcap is None or isinstance(softcap, float)
    sinks = call.get("sinks")
    assert sinks is None or isinstance(sinks, torch.Tensor)
    truth = dense(given, mask, scale, softcap=softcap, sinks=sinks)
    found = run(layout, given, **call)  # type: ignore[arg-type]  # passed through
    for name, error in found.error(truth).items():
        size = 1 + float(getattr(truth, name).abs().max())
        assert error <= tolerance * size, f"{name} is off by {error:.2e} (size {size:.2f})"


def given_of(case: Case) -> dict[str, Any]:
    """The labels and selections of a case as options of a call."""
    labels: dict[str, Given] = {}
    for label in case.inputs.labels:
        of_q, of_k = map(torch.from_numpy, case.labels[label.name])
        if label.sides == ROW:
            labels[label.name] = of_q[:1] if len(of_q) else of_k[:1]
        elif label.sides != BOTH:
            labels[label.name] = of_q if label.sides == QUERIES else of_k
        else:
            labels[label.name] = (of_q, of_k) if case.align == "start" else of_k
    selections = {name: torch.from_numpy(x)[None, None] for name, x in case.selections.items()}
    return {"labels": labels or None, "select": selections or None}


TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 2e-6,
    torch.float16: 3e-3,
    torch.bfloat16: 2e-2,
}
"""Error that a dtype's rounding explains, as a share of the largest value."""
