"""The torch operators under every layout and target: forward and backward, each with its fake.

They take a layout by its key (`bslang.runtime.registry`) and a call as `Call.pack` packs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from bslang.call import Call
from bslang.runtime.checks import autocast, check_tangents
from bslang.runtime.padding import Rows, padded_queries, without_lost
from bslang.runtime.plan import DevicePlan
from bslang.runtime.registry import LAYOUTS
from bslang.runtime.runnable import Runnable
from bslang.runtime.target import Target
from bslang.sinks import as_keys, gradient


def _found(
    layout: Runnable, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, call: Call
) -> tuple[Target, DevicePlan, Call]:
    """The kernels of a call and their tables, and what the call says to them."""
    if call.padding is not None:
        layout, call = layout._with_padding, call.padding_as_label(q.shape[2])
    plan = layout._plan(q.shape[2], k.shape[2], call.align, q.device, q.shape[1])
    return layout._target(q, v), plan, call


def _is_empty(q: torch.Tensor, k: torch.Tensor) -> bool:
    """Whether a call has no pairs, whatever its layout says."""
    return q.shape[2] == 0 or k.shape[2] == 0


def _attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layout: str,
    tensors: Sequence[torch.Tensor],
    numbers: Sequence[float],
    about: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(out, lse) as `bslang.runtime.target.Target.forward`; tensors, numbers, about: a packed call."""
    check_tangents(q, k, v)  # exported programs call the operator by itself
    if _is_empty(q, k):
        out, lse = _attention_fake(q, k, v, layout, tensors, numbers, about)
        return out.zero_(), lse.fill_(-torch.inf)
    call = Call.unpack(tensors, numbers, about)
    target, plan, call = _found(LAYOUTS.find(layout), q, k, v, call)
    with torch.autocast(q.device.type, enabled=False):  # targets choose their own precision
        return target.forward(q, k, v, plan, call)


def _attention_fake(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layout: str,
    tensors: Sequence[torch.Tensor],
    numbers: Sequence[float],
    about: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    out = torch.empty((*q.shape[:3], v.shape[3]), dtype=q.dtype, device=q.device)
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
    tensors: Sequence[torch.Tensor],
    numbers: Sequence[float],
    about: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(dq, dk, dv) as `bslang.runtime.target.Target.backward`."""
    if _is_empty(q, k):
        dq, dk, dv = (torch.zeros(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
        return dq, dk, dv
    call = Call.unpack(tensors, numbers, about)
    if call.sinks is not None:
        lse, grad_lse = as_keys(lse, grad_lse, call.sinks)
    of, lost = without_lost(Rows(grad_out, grad_lse, q, out, lse), call)
    target, plan, call = _found(LAYOUTS.find(layout), q, k, v, call)
    with torch.autocast(q.device.type, enabled=False):
        dq, dk, dv = target.backward(
            of.grad_out, of.grad_lse, of.q, k, v, of.out, of.lse, plan, call
        )
    return dq if lost is None else dq.masked_fill(lost[..., None], torch.nan), dk, dv


def _attention_backward_fake(
    grad_out: torch.Tensor,
    grad_lse: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    layout: str,
    tensors: Sequence[torch.Tensor],
    numbers: Sequence[float],
    about: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    def like(x: torch.Tensor) -> torch.Tensor:
        return torch.empty(x.shape, dtype=x.dtype, device=x.device)

    return like(q), like(k), like(v)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    q, k, v, ctx.key, tensors, ctx.numbers, ctx.about = inputs
    ctx.layout = LAYOUTS.find(ctx.key)  # the user may drop it before the backward pass
    ctx.save_for_backward(q, k, v, *output, *tensors)


def _backward(ctx: Any, grad_out: torch.Tensor, grad_lse: torch.Tensor) -> tuple[Any, ...]:
    q, k, v, out, lse, *tensors = ctx.saved_tensors
    packed = (ctx.key, tensors, ctx.numbers, ctx.about)
    given = (grad_out, grad_lse, q, k, v, out, lse, *packed)
    # The torch target is made of torch's operators: run as they are, these have gradients in turn.
    plain = torch.is_grad_enabled() and ctx.layout._target(q, v).name == "torch"
    grads = _attention_backward(*given) if plain else attention_backward(*given)
    call = Call.unpack(*packed[1:])
    of_tensors: list[torch.Tensor | None] = [None] * len(tensors)
    if call.sinks is not None and call.sinks.requires_grad:
        padded = padded_queries(call, q.shape[2])
        of_sinks = gradient(grad_out, out, lse, call.sinks, padded)
        of_tensors = [of_sinks if each is call.sinks else None for each in tensors]
    return (*grads, None, of_tensors, None, None)


def _no_second_derivatives(ctx: Any, *grads: torch.Tensor) -> None:
    raise RuntimeError(
        "second derivatives are computed by the torch target only: compile with target='torch'"
    )


_AUTOCAST = [f"Autocast{kind}" for kind in ("CPU", "CUDA", "XPU", "MPS")]


def _attention_autocast(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *packed: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """What programs that were exported without autocast do under it: as torch's own attention."""
    q, k, v = autocast(q, k, v)
    with torch.autocast(q.device.type, enabled=False):
        return attention(q, k, v, *packed)  # type: ignore[no-any-return]  # operators are untyped


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
"""(out, lse) of q, k, v, a layout's key, and a packed call; it has gradients."""

attention_backward = _define("attention_backward", _attention_backward, _attention_backward_fake)
"""(dq, dk, dv) of grad_out, grad_lse, q, k, v, out, lse, a layout's key, and a packed call."""

torch.library.register_autograd("bslang::attention", _backward, setup_context=_setup_context)
torch.library.register_autograd("bslang::attention_backward", _no_second_derivatives)
for _key in _AUTOCAST:
    torch.library.impl("bslang::attention", _key, _attention_autocast)
for _name in ("attention", "attention_backward"):
    torch.library.register_vmap(f"bslang::{_name}", _no_vmap)


def lse_dtype(dtype: torch.dtype) -> torch.dtype:
    """Log-sum-exps are fp32, or fp64 beside fp64 tensors."""
    return torch.float64 if dtype == torch.float64 else torch.float32
