"""Tensors checked against what a layout takes. Every message names the argument, what came, what fits."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import forward_ad

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
"""What some target takes; fp64 is the torch target's alone."""


def autocast(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The tensors in the dtype of torch.autocast where it is on; fp64 and what is no tensor stay."""
    if not torch._C._is_any_autocast_enabled():
        return tensors
    devices = {x.device.type for x in tensors if isinstance(x, torch.Tensor)}
    on = {
        device
        for device in devices
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    }
    if not on:
        return tensors
    return tuple(
        tensor.to(torch.get_autocast_dtype(tensor.device.type))
        if isinstance(tensor, torch.Tensor)
        and tensor.dtype in (torch.float32, torch.float16, torch.bfloat16)
        and tensor.device.type in on
        else tensor
        for tensor in tensors
    )


def check_tensors(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, paged: bool = False
) -> None:
    """Raise TypeError or ValueError where q, k and v cannot be attended.

    q: (batch, heads, length, dim); k: (batch, key heads, length, dim); v: (batch, key heads, length,
    value dim). paged: k and v are pools (pages, key heads, page size, dim).
    """
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, not {type(tensor).__name__}")
        if tensor.layout != torch.strided or tensor.is_nested:
            raise TypeError(
                f"{name} must be an ordinary dense tensor; its layout is {tensor.layout}"
            )
        if tensor.dim() != 4:
            raise ValueError(
                f"{name} must have 4 dimensions (batch, heads, length, dim); "
                f"its shape is {_shape(tensor)}"
            )
        if tensor.dtype not in DTYPES:
            raise TypeError(
                f"{name} must be one of {', '.join(map(str, DTYPES))}; it is {tensor.dtype}"
            )
    dtype, device = q.dtype, q.device  # asked for once, as shapes below: small calls feel it
    for name, tensor in (("k", k), ("v", v)):
        if tensor.dtype != dtype:
            raise TypeError(f"q, k and v must share one dtype; q is {dtype}, {name} {tensor.dtype}")
        if tensor.device != device:
            raise ValueError(
                f"q, k and v must be on one device; q is on {device}, {name} on {tensor.device}"
            )
    of_q, of_k, of_v = q.shape, k.shape, v.shape
    if of_k[:3] != of_v[:3]:
        what = "batch size, number of heads and length"
        what = "number of pages, heads and page size" if paged else what
        raise ValueError(
            f"k and v must have one {what}; their shapes are {_shape(k)} and {_shape(v)}"
        )
    if not paged and of_q[0] != of_k[0] and of_k[0] != 1:
        raise ValueError(
            f"q has batch size {of_q[0]}, k and v have {of_k[0]}; theirs is that of q, or 1"
        )
    if of_q[3] != of_k[3]:
        raise ValueError(
            f"q has head dimension {of_q[3]}, k has {of_k[3]}: only v may have another one"
        )
    if of_q[3] == 0 or of_v[3] == 0:
        name = "v" if of_q[3] else "q and k"
        raise ValueError(f"the head dimension of {name} must be at least 1, not 0")
    if of_k[1] == 0 or of_q[1] % of_k[1]:
        raise ValueError(
            f"the {of_q[1]} query heads must be a multiple of the key heads, {of_k[1]}"
        )


def share_batch(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """k and v with the batch size of q, as views: one sequence of keys serves all of q's."""
    if k.shape[0] == q.shape[0]:
        return k, v
    k, v = (x.expand(q.shape[0], -1, -1, -1) for x in (k, v))
    return k, v


def check_transforms(*tensors: torch.Tensor) -> None:
    """Raise RuntimeError where torch would differentiate a call in a way that the operator does not know."""
    check_tangents(*tensors)
    if torch.compiler.is_compiling():  # traced code is stopped by torch, and cannot ask
        return
    if any(map(torch._C._functorch.is_gradtrackingtensor, tensors)):
        raise RuntimeError(_NO_TRANSFORMS)


def check_tangents(*tensors: torch.Tensor) -> None:
    """Raise RuntimeError where tensors have tangents of forward mode.

    An operator of torch.library drops these without a word.
    """
    if forward_ad._current_level < 0:  # nobody has any
        return
    tangents = (forward_ad.unpack_dual(x).tangent for x in tensors)  # type: ignore[no-untyped-call]
    if any(tangent is not None for tangent in tangents):
        raise RuntimeError(_NO_TRANSFORMS)


_NO_TRANSFORMS = (
    "forward-mode derivatives and torch.func (grad, vjp, jvp, ...) over a bslang layout are not supported; "
    "use backward() or torch.autograd.grad"
)


def _shape(tensor: torch.Tensor) -> str:
    return str(tuple(tensor.shape))


def check_padding(given: Any) -> None:
    """Raise ValueError for lengths as the key padding of tokens in an order of their own: padding on the
    right of a sequence is anywhere in that order."""
    if isinstance(given, torch.Tensor) and given.dtype != torch.bool:
        raise ValueError(
            "the tokens of this layout have an order, in which padding need not be on the right: pass "
            "key_padding as bool (batch, len_k), permuted as the keys are (layout.permute(padding, dim=-1))"
        )
