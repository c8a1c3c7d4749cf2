"""The torch operators under every layout and target: forward and backward, each with its fake.

They take a layout by its key (`bslang.runtime.registry`) and a call as `Call.pack` packs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from bslang.call import Call
from bslang.errors import BslangError
from bslang.runtime import by_row
from bslang.runtime.capacity import capacity
from bslang.runtime.checks import autocast, check_tangents
from bslang.runtime.padding import Rows, padded_queries, without_lost
from bslang.runtime.plan import DevicePlan
from bslang.runtime.registry import LAYOUTS
from bslang.runtime.runnable import Runnable
from bslang.runtime.target import Target, all_of
from bslang.sinks import as_keys, gradient


def _found(
    layout: Runnable,
    target: Target,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    call: Call,
    *,
    backward: bool = False,
) -> tuple[Target, DevicePlan, Call]:
    """The kernels of a call and their tables, and what the call says to them; target: the layout's own."""
    if call.padding is not None:
        layout, call = layout._with_padding, call.padding_as_label(q.shape[2])
        target = layout._target(q, v)
    plan = _plan_of(layout, target, q, k, call, backward)
    return target, plan, plan.selected(call, layout.inputs)


def _plan_of(
    layout: Runnable,
    target: Target,
    q: torch.Tensor,
    k: torch.Tensor,
    call: Call,
    backward: bool,
) -> DevicePlan:
    _, heads, len_q, _ = q.shape
    len_k = call.len_k(k)
    shape = len_q, len_k, q.device, heads
    if call.lengths is not None:
        plan = layout._plan_by_place(*shape) or layout._plan_by_place(*shape, rounded=False)
        assert plan is not None, "a prefix-stable layout has tables of a capacity"
        return plan
    # A step of decoding has the tables of a capacity, or of a step before it.
    few = len_q < len_k and len_q <= layout.block[0]
    if few and not backward and call.align == "end":
        plan = layout._plan_by_place(*shape) if target.by_place else layout._plan_of_step(*shape)
        if plan is not None:
            return plan
    return layout._plan(len_q, len_k, call.align, q.device, heads)


def _by_row(target: Target, call: Call) -> bool:
    """Whether rows of a batch that end at different places are calls of their own."""
    return call.lengths is not None and (not target.by_place or bool(call.selections))


def _check_lengths(layout: Runnable, len_k: int, heads: int) -> None:
    """Raise ValueError unless rows of a batch may end at different places."""
    try:
        if layout._is_prefix_stable(capacity(len_k), heads):  # of all lengths up to there
            return
    except BslangError:  # it is not defined there
        pass
    try:
        layout.require_prefix_stable(len_k, heads)
    except ValueError as error:
        raise ValueError(f"lengths: {error}. Call each row by itself, with its own keys") from None


def _is_empty(q: torch.Tensor, k: torch.Tensor, call: Call) -> bool:
    """Whether a call has no pairs, whatever its layout says."""
    return q.shape[0] == 0 or q.shape[2] == 0 or call.len_k(k) == 0 or k.shape[0] == 0


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
    found = LAYOUTS.find(layout)
    return attend(found, found._target(q, v), q, k, v, Call.unpack(tensors, numbers, about))


def attend(
    layout: Runnable,
    target: Target,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    call: Call,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the operator does, of a layout, its target and a call as they are."""
    if _is_empty(q, k, call):
        out, lse = (
            torch.zeros(shape, dtype=dtype, device=q.device) for shape, dtype in _results(q, v)
        )
        return out, lse.fill_(-torch.inf)
    if call.lengths is not None:
        _check_lengths(layout, call.len_k(k), q.shape[1])
        if _by_row(target, call):
            return by_row.forward(partial(attend, layout, target), q, k, v, call)
    target, plan, call = _found(layout, target, q, k, v, call)
    if not torch.is_autocast_enabled(q.device.type):
        return target.forward(q, k, v, plan, call)
    with torch.autocast(q.device.type, enabled=False):  # targets choose their own precision
        return target.forward(q, k, v, plan, call)


def is_watched(*tensors: torch.Tensor) -> bool:
    """Whether torch has to see a call as an operator: to record a program or a profile of it, or to hand it
    to a mode, a transform or a subclass of tensors. A call costs half as much where it need not."""
    for x in tensors:
        if type(x) is not torch.Tensor and type(x) is not torch.nn.Parameter:
            return True
    return (
        torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._len_torch_function_stack() > 0
        or torch._C._get_tracing_state() is not None
        or torch._C._autograd._profiler_enabled()
    )


def attend_recorded(
    layout: Runnable,
    target: Target,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    call: Call,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same as `attend`, with gradients where torch records them."""
    tensors = call.tensors
    needed = q.requires_grad or k.requires_grad or v.requires_grad
    if (needed or any(x.requires_grad for x in tensors)) and torch.is_grad_enabled():
        found: tuple[torch.Tensor, torch.Tensor] = _Attend.apply(  # type: ignore[no-untyped-call]
            layout, target, call, q, k, v, *tensors
        )
        return found
    return attend(layout, target, q, k, v, call)


class _Attend(torch.autograd.Function):
    """The operator for calls that torch need not see: what its dispatcher does with an operator of Python
    takes longer than the kernels of most calls."""

    @staticmethod
    def forward(
        ctx: Any,
        layout: Runnable,
        target: Target,
        call: Call,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        *tensors: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        out, lse = attend(layout, target, q, k, v, call)
        ctx.layout, ctx.target, ctx.call = layout, target, call
        ctx.save_for_backward(q, k, v, out, lse, *tensors)
        return out, lse

    @staticmethod
    def backward(ctx: Any, grad_out: torch.Tensor, grad_lse: torch.Tensor) -> tuple[Any, ...]:
        q, k, v, out, lse, *_ = ctx.saved_tensors
        given = grad_out, grad_lse, q, k, v, out, lse
        call: Call = ctx.call
        if torch.is_grad_enabled() or is_watched(*given):
            _, ctx.numbers, ctx.about = call.pack()
            ctx.key = ctx.layout._key
            dq, dk, dv, _, of_tensors, *_ = _backward(ctx, grad_out, grad_lse)
        else:
            dq, dk, dv = gradients(ctx.layout, ctx.target, *given, call)
            of_tensors = _of_tensors(call, call.tensors, *given)
        return None, None, None, dq, dk, dv, *of_tensors


def _results(q: torch.Tensor, v: torch.Tensor) -> tuple[tuple[tuple[int, ...], torch.dtype], ...]:
    """Shape and dtype of out and lse."""
    return ((*q.shape[:3], v.shape[3]), q.dtype), (q.shape[:3], lse_dtype(q.dtype))


def _attention_fake(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layout: str,
    tensors: Sequence[torch.Tensor],
    numbers: Sequence[float],
    about: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    out, lse = (torch.empty(shape, dtype=dtype, device=q.device) for shape, dtype in _results(q, v))
    return out, lse


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
    found = LAYOUTS.find(layout)
    given = grad_out, grad_lse, q, k, v, out, lse
    return gradients(found, found._target(q, v), *given, Call.unpack(tensors, numbers, about))


def gradients(
    layout: Runnable,
    target: Target,
    grad_out: torch.Tensor,
    grad_lse: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    call: Call,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What its backward pass does, of a layout, its target and a call as they are."""
    if _is_empty(q, k, call):
        dq, dk, dv = (torch.zeros(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
        return dq, dk, dv
    if call.sinks is not None:
        lse, grad_lse = as_keys(lse, grad_lse, call.sinks)
    of, lost = without_lost(Rows(grad_out, grad_lse, q, out, lse), call)
    given = of.grad_out, of.grad_lse, of.q, k, v, of.out, of.lse
    if not torch.is_autocast_enabled(q.device.type):
        dq, dk, dv = _gradients(layout, target, *given, call)
    else:
        with torch.autocast(q.device.type, enabled=False):
            dq, dk, dv = _gradients(layout, target, *given, call)
    return dq if lost is None else dq.masked_fill(lost[..., None], torch.nan), dk, dv


def _gradients(
    layout: Runnable,
    target: Target,
    grad_out: torch.Tensor,
    grad_lse: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    call: Call,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(dq, dk, dv) of a target."""
    given = grad_out, grad_lse, q, k, v, out, lse
    if _is_empty(q, k, call):
        dq, dk, dv = (torch.zeros_like(x) for x in (q, k, v))
        return dq, dk, dv
    if _by_row(target, call):
        return by_row.backward(partial(_gradients, layout, target), given, call)
    target, plan, call = _found(layout, target, q, k, v, call, backward=True)
    return all_of(target.backward(*given, plan, call))


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
    given = (grad_out, grad_lse, q, k, v, out, lse)
    # The torch target is made of torch's operators: run as they are, these have gradients in turn.
    plain = torch.is_grad_enabled() and ctx.layout._target(q, v).name == "torch"
    grads = (_attention_backward if plain else attention_backward)(*given, *packed)
    return (*grads, None, _of_tensors(Call.unpack(*packed[1:]), tensors, *given), None, None)


def _of_tensors(
    call: Call,
    tensors: Sequence[torch.Tensor],
    grad_out: torch.Tensor,
    grad_lse: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
) -> list[torch.Tensor | None]:
    """The gradients of a call's tensors: of its sinks."""
    if call.sinks is None or not call.sinks.requires_grad:
        return [None] * len(tensors)
    of_sinks = gradient(grad_out, out, lse, call.sinks, padded_queries(call, q.shape[2]))
    return [of_sinks if each is call.sinks else None for each in tensors]


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


def refuse_vmap(name: str, what: str) -> None:
    """Have an operator of ours refuse torch.func.vmap; what: that which users call."""

    def refuse(info: Any, in_dims: Any, *given: Any) -> Any:
        raise RuntimeError(
            f"torch.func.vmap over {what} is not supported; put the mapped dimension into the batch"
        )

    torch.library.register_vmap(f"bslang::{name}", refuse)


def define(name: str, function: Callable[..., Any], fake: Callable[..., Any]) -> Any:
    """An operator of a function; fake: what it gives for tensors without data. torch.library.custom_op would
    load torch's compiler when it is first called, which takes longer than anything else that a new process
    does; register_fake would look at the file of every module that is loaded."""
    qualified = f"bslang::{name}"
    torch.library.define(qualified, torch.library.infer_schema(function, mutates_args=()))
    torch.library.impl(qualified, "CompositeExplicitAutograd", function)
    torch.library.impl(qualified, "Meta", fake)
    return getattr(torch.ops.bslang, name).default


attention = define("attention", _attention, _attention_fake)
"""(out, lse) of q, k, v, a layout's key, and a packed call; it has gradients."""

attention_backward = define("attention_backward", _attention_backward, _attention_backward_fake)
"""(dq, dk, dv) of grad_out, grad_lse, q, k, v, out, lse, a layout's key, and a packed call."""

torch.library.register_autograd("bslang::attention", _backward, setup_context=_setup_context)
torch.library.register_autograd("bslang::attention_backward", _no_second_derivatives)
for _key in _AUTOCAST:
    torch.library.impl("bslang::attention", _key, _attention_autocast)
for _name in ("attention", "attention_backward"):
    refuse_vmap(_name, "a bslang layout")


def lse_dtype(dtype: torch.dtype) -> torch.dtype:
    """Log-sum-exps are fp32, or fp64 beside fp64 tensors."""
    return torch.float64 if dtype == torch.float64 else torch.float32
