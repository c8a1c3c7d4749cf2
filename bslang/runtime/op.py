"""The torch operators under every layout and target: forward and backward, each with its fake.

A layout is named by its key (canonical text, block and targets), so that an exported graph says
what it computes. Layouts register their key when they are first called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from bslang.runtime.labels import Labels
from bslang.runtime.plan import DevicePlan

if TYPE_CHECKING:
    from bslang.runtime.layout import Layout

_LAYOUTS: dict[str, Layout] = {}


def register(layout: Layout) -> str:
    """Make a layout known to the operators; returns its key."""
    _LAYOUTS[layout.key] = layout
    return layout.key


def _layout(key: str) -> Layout:
    if key not in _LAYOUTS:
        raise RuntimeError(f"no layout {key!r} in this process; compile or import it first")
    return _LAYOUTS[key]


def _plan(
    layout: Layout,
    q: torch.Tensor,
    k: torch.Tensor,
    align: str,
    q_labels: torch.Tensor | None,
    k_labels: torch.Tensor | None,
) -> tuple[DevicePlan, Labels | None]:
    """The tables of a call, and its labels."""
    plan = layout.plan(q.shape[2], k.shape[2], align, q.device, q.shape[1])
    if q_labels is None or k_labels is None:
        return plan, None
    return plan, Labels.of(q_labels, k_labels, plan)


@torch.library.custom_op("bslang::attention", mutates_args=())
def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layout: str,
    scale: float,
    align: str,
    q_labels: torch.Tensor | None = None,
    k_labels: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(out, lse) as `bslang.runtime.target.Target.forward`; labels as in `bslang.runtime.labels`."""
    found = _layout(layout)
    plan, labels = _plan(found, q, k, align, q_labels, k_labels)
    with torch.autocast(q.device.type, enabled=False):  # targets choose their own precision
        return found.target(q).forward(q, k, v, plan, scale, labels)


@attention.register_fake
def _(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layout: str,
    scale: float,
    align: str,
    q_labels: torch.Tensor | None = None,
    k_labels: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    return out, torch.empty(q.shape[:3], dtype=lse_dtype(q.dtype), device=q.device)


@torch.library.custom_op("bslang::attention_backward", mutates_args=())
def attention_backward(
    grad_out: torch.Tensor,
    grad_lse: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    layout: str,
    scale: float,
    align: str,
    q_labels: torch.Tensor | None = None,
    k_labels: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(dq, dk, dv) as `bslang.runtime.target.Target.backward`."""
    found = _layout(layout)
    plan, labels = _plan(found, q, k, align, q_labels, k_labels)
    with torch.autocast(q.device.type, enabled=False):
        return found.target(q).backward(grad_out, grad_lse, q, k, v, out, lse, plan, scale, labels)


@attention_backward.register_fake
def _(
    grad_out: torch.Tensor,
    grad_lse: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    layout: str,
    scale: float,
    align: str,
    q_labels: torch.Tensor | None = None,
    k_labels: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    def like(x: torch.Tensor) -> torch.Tensor:
        return torch.empty(x.shape, dtype=x.dtype, device=x.device)

    return like(q), like(k), like(v)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    q, k, v, ctx.layout, ctx.scale, ctx.align, *labels = inputs
    ctx.save_for_backward(q, k, v, *output, *labels)


def _backward(ctx: Any, grad_out: torch.Tensor, grad_lse: torch.Tensor) -> tuple[Any, ...]:
    q, k, v, out, lse, *labels = ctx.saved_tensors
    grads = attention_backward(
        grad_out, grad_lse, q, k, v, out, lse, ctx.layout, ctx.scale, ctx.align, *labels
    )
    return (*grads, None, None, None, *(None for _ in labels))


attention.register_autograd(_backward, setup_context=_setup_context)


def lse_dtype(dtype: torch.dtype) -> torch.dtype:
    """Log-sum-exps are fp32, or fp64 beside fp64 tensors."""
    return torch.float64 if dtype == torch.float64 else torch.float32
