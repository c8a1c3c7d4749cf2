"""Whether a carried layout computes what it should: output, log-sum-exps and gradients, against the torch
target in fp64."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.contest import TIMES_GRADIENT, TOLERANCE, relative
from benchmarks.first import carried
from benchmarks.first.carried import Carried
from benchmarks.first.where import CUDA, INTERPRETER, NOTHING, Where, filled_with_nan, task
from bslang.layouts import Layout
from bslang.verify.given import Given

BATCH = 2
GUARD = 64
"""Rows of NaN behind each head of an input: a kernel that reads beyond it gives NaN."""

LSE_TOLERANCE = 1e-3
SMALL_DIM = 16
"""The head dimension where an interpreter computes."""

PARTS = ("out", "lse", "dq", "dk", "dv")
Parts = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Shape:
    """heads, key_heads: of queries and of keys; options: of the call, beside labels and selections."""

    length: int
    dim: int
    heads: int
    key_heads: int
    dtype: torch.dtype
    options: dict[str, Any] = field(default_factory=dict)


@task
def check(where: Where, folder: str, which: Carried, dim: int) -> dict[str, Any]:
    """A layout in one call, forward and backward; errors by part."""
    layout = carried.layout(folder, which)
    shape = Shape(
        which.length if where.on == CUDA else which.short,
        SMALL_DIM if where.on == INTERPRETER else dim,
        which.heads,
        which.heads // 2 if which.heads % 2 == 0 else which.heads,
        where.dtype,
    )
    return compare(where, layout, shape)


def compare(where: Where, layout: Layout, shape: Shape, **tensors: torch.Tensor) -> dict[str, Any]:
    """Call a layout for both targets and compare; tensors: q, k, v to call it with, else drawn."""
    given = drawn(where, shape) | tensors
    labels = Given.draw(layout.inputs, BATCH, shape.length, shape.length, 0).options(where.device)
    options = {**labels, **shape.options}
    with filled_with_nan():
        found = attend(layout, given, options)
    exact = {name: x.detach().double().requires_grad_() for name, x in given.items()}
    truth = attend(layout._for_target("torch"), exact, options)
    if where.on == NOTHING:  # nothing was computed
        return {"shapes": {name: list(x.shape) for name, x in found.items()}}
    return judge(found, truth, shape.dtype)


def drawn(where: Where, shape: Shape) -> Parts:
    """Leaves (BATCH, heads, length, dim) q, k, v and the gradient of out, each before rows of NaN."""
    generator = torch.Generator(where.device).manual_seed(0)
    found = {}
    for name in ("q", "k", "v", "do"):
        heads = shape.heads if name in ("q", "do") else shape.key_heads
        whole = torch.full(
            (BATCH, heads, shape.length + GUARD, shape.dim), torch.nan, dtype=shape.dtype,
            device=where.device,
        )  # fmt: skip
        part = whole[:, :, : shape.length]
        values = torch.randn(part.shape, generator=generator, device=where.device)
        part.copy_(values)
        found[name] = part.requires_grad_(name != "do")
    return found


def attend(layout: Layout, given: Parts, options: dict[str, Any]) -> Parts:
    q, k, v = (given[name] for name in ("q", "k", "v"))
    out, lse = layout(q, k, v, return_lse=True, **options)
    grads = torch.autograd.grad(out, (q, k, v), given["do"].to(out.dtype))
    return dict(zip(PARTS, (out.detach(), lse.detach(), *grads), strict=True))


def judge(found: Parts, truth: Parts, dtype: torch.dtype) -> dict[str, Any]:
    """Errors by part, and which are larger than rounding explains."""
    errors, wrong = {}, []
    for name, exact in truth.items():
        if name == "lse":
            both = torch.isfinite(exact)
            errors[name] = float((found[name] - exact)[both].abs().max()) if both.any() else 0.0
            limit = LSE_TOLERANCE
            if not torch.equal(found[name][~both].double(), exact[~both]):
                wrong.append("lse of queries without keys is not -inf")
        else:
            errors[name] = relative(found[name].double(), exact)
            limit = TOLERANCE[str(dtype).partition(".")[2]]
            limit *= 1 if name == "out" else TIMES_GRADIENT
        if not errors[name] <= limit:  # nor is NaN
            wrong.append(f"{name} is off by {errors[name]:.1e}, {limit:.0e} allowed")
    rounded = {name: float(f"{error:.3g}") for name, error in errors.items()}
    return {"errors": rounded, "wrong": "; ".join(wrong)}
