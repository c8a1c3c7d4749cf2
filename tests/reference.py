"""Assertions about targets, held against dense masked attention in fp64 (`bslang.verify.reference`)."""

from __future__ import annotations

import torch
from strategies import Case

from bslang.ir.runs import Bools
from bslang.labels import Label
from bslang.layouts import Layout
from bslang.verify.reference import Attended, Inputs, dense, inputs, run

__all__ = ["TOLERANCE", "Attended", "Inputs", "agrees", "dense", "inputs", "labels_of", "run"]


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


def labels_of(case: Case) -> dict[str, Label] | None:
    """The labels of a case as a call takes them; None for a program without any."""
    found: dict[str, Label] = {}
    for name, pair in case.labels.items():
        of_q, of_k = map(torch.from_numpy, pair)
        found[name] = (of_q, of_k) if case.align == "start" else of_k
    return found or None


TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 2e-6,
    torch.float16: 3e-3,
    torch.bfloat16: 2e-2,
}
"""Error that a dtype's rounding explains, as a share of the largest value."""
