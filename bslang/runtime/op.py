"""The torch operators under every layout and target: forward and backward, each with its fake.

A layout is named by its key (canonical text, block and targets), so that an exported graph says
what it computes. Layouts register their key when they are made: what a call
did while torch.compile traces it would come too late.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from bslang.errors import BslangError
from bslang.runtime import modules
from bslang.runtime.labels import Labels
from bslang.runtime.padding import with_padding
from bslang.runtime.plan import DevicePlan
from bslang.runtime.target import Target

if TYPE_CHECKING:
    from bslang.runtime.layout import Layout

_LAYOUTS: dict[str, Layout] = {}


def register(layout: Layout) -> None:
    """Make a layout known to the operators."""
    _LAYOUTS[layout.key] = layout


def _layout(key: str) -> Layout:
    if key not in _LAYOUTS:  # a program that another process exported
        try:
            modules.of_key(key)
        except (BslangError, ValueError) as error:
            message = f"no layout {key!r} in this process; compile or import it first ({error})"
            raise RuntimeError(message) from None
    return _LAYOUTS[key]


def _found(
    key: str,
    q: torch.Tensor,
    k: torch.Tensor,
    align: str,
    q_labels: torch.Tensor | None,
    k_labels: torch.Tensor | None,
    padding: torch.Tensor | None,
) -> tuple[Target, DevicePlan, Labels | None]:
    """The kernels of a call, their tables, and its labels."""
    layout = _layout(key)
    if padding is not None:
        q_labels, k_labels = with_padding(padding, q.shape[2], q_labels, k_labels)
        layout = layout.hidden
    plan = layout.plan(q.shape[2], k.shape[2], align, q.device, q.shape[1])
    if q_labels is None or k_labels is None:
        return layout.target(q), plan, None
    return layout.target(q), plan, Labels.of(q_labels, k_labels, plan)


def _attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layout: str,
    scale: float,
    align: str,
    q_labels: torch.Tensor | None = None,
    k_labels: torch.Tensor | None = None,
    softcap: float = 0.0,
    padding: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(out, lse) as `bslang.runtime.target.Target.forward`; labels as in `bslang.runtime.labels`, padding
    as in `bslang.runtime.padding`.

    New arguments come last, so that graphs exported before they were there still run.
    """
    target, plan, labels = _found(layout, q, k, align, q_labels, k_labels, padding)
    with torch.autocast(q.device.type, enabled=False):  # targets choose their own precision
        return target.forward(q, k, v, plan, scale, labels, softcap)


def _attention_fake(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layout: str,
    scale: float,
    align: str,
    q_labels: torch.Tensor | None = None,
    k_labels: torch.Tensor | None = None,
    softcap: float = 0.0,
    padding: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    return out, torch.empty(q.shape[:3], dtype=lse_dtype(q.dtype), device=q.device)


def _attention_backward(
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
    softcap: float = 0.0,
    padding: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(dq, dk, dv) as `bslang.runtime.target.Target.backward`."""
    target, plan, labels = _found(layout, q, k, align, q_labels, k_labels, padding)
    with torch.autocast(q.device.type, enabled=False):
        return target.backward(grad_out, grad_lse, q, k, v, out, lse, plan, scale, labels, softcap)


def _attention_backward_fake(
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
    softcap: float = 0.0,
    padding: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    def like(x: torch.Tensor) -> torch.Tensor:
        return torch.empty(x.shape, dtype=x.dtype, device=x.device)

    return like(q), like(k), like(v)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    q, k, v, ctx.layout, ctx.scale, ctx.align, *labels, ctx.softcap, padding = inputs
    ctx.save_for_backward(q, k, v, *output, *labels, padding)


def _backward(ctx: Any, grad_out: torch.Tensor, grad_lse: torch.Tensor) -> tuple[Any, ...]:
    q, k, v, out, lse, *labels, padding = ctx.saved_tensors
    call = (ctx.layout, ctx.scale, ctx.align, *labels, ctx.softcap, padding)
    given = (grad_out, grad_lse, q, k, v, out, lse, *call)
    # The torch target is made of torch's operators: run as they are, these have gradients in turn.
    plain = torch.is_grad_enabled() and _layout(ctx.layout).target(q).name == "torch"
    grads = _attention_backward(*given) if plain else attention_backward(*given)
    return (*grads, *(None for _ in call))


def _no_second_derivatives(ctx: Any, *grads: torch.Tensor) -> None:
    raise RuntimeError(
        "second derivatives are computed by the torch target only: compile with target='torch'"
    )


def _no_vmap(info: Any, in_dims: Any, *given: Any) -> Any:
    raise RuntimeError(
        "torch.func.vmap over a bslang layout is not supported; put the mapped dimension into the batch"
    )


def _define(name: str, function: Callable[..., Any], fake: Callable[..., Any]) -> Any:
    """An operator of a function. torch.library.custom_op would load torch's compiler when it is first
    called, which takes longer than anything else that a new process does."""
    qualified = f"bslang::{name}"
    torch.library.define(qualified, torch.library.infer_schema(function, mutates_args=()))
    torch.library.impl(qualified, "default", function)
    torch.library.register_fake(qualified, fake)
    return getattr(torch.ops.bslang, name).default


attention = _define("attention", _attention, _attention_fake)
"""(out, lse) of q, k, v, layout, scale, align, q_labels, k_labels, softcap, padding; it has gradients."""

attention_backward = _define("attention_backward", _attention_backward, _attention_backward_fake)
"""(dq, dk, dv) of grad_out, grad_lse, q, k, v, out, lse, layout, scale, align, q_labels, k_labels,
softcap, padding."""

torch.library.register_autograd("bslang::attention", _backward, setup_context=_setup_context)
torch.library.register_autograd("bslang::attention_backward", _no_second_derivatives)
for _name in ("attention", "attention_backward"):
    torch.library.register_vmap(f"bslang::{_name}", _no_vmap)


def lse_dtype(dtype: torch.dtype) -> torch.dtype:
    """Log-sum-exps are fp32, or fp64 beside fp64 tensors."""
    return torch.float64 if dtype == torch.float64 else torch.float32
