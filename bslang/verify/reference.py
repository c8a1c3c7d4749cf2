"""Dense masked attention by its formula: what every target is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from bslang.runtime.layout import CallableLayout
from bslang.runtime.op import lse_dtype

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from bslang.call import Options


@dataclass(frozen=True)
class Attended:
    """The results of a call and its gradients; lse where finite, 0 for a query without keys."""

    out: torch.Tensor
    lse: torch.Tensor
    dq: torch.Tensor
    dk: torch.Tensor
    dv: torch.Tensor

    def error(self, other: Attended) -> dict[str, float]:
        """The largest difference from another, by name, both taken as fp64 on the CPU."""
        return {
            name: float((mine.cpu().double() - getattr(other, name).cpu().double()).abs().max())
            for name, mine in vars(self).items()
        }

    def relative(self, truth: Attended) -> dict[str, float]:
        """The error over the largest number of the truth, by name."""
        sizes = {name: float(true.abs().max()) or 1.0 for name, true in vars(truth).items()}
        return {name: error / sizes[name] for name, error in self.error(truth).items()}


@dataclass(frozen=True)
class AttendedWithSinks(Attended):
    """Those of a call with sinks, and the gradient of these."""

    dsinks: torch.Tensor


@dataclass(frozen=True)
class Inputs:
    """Tensors of a call and the gradients that come back to it."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    grad_out: torch.Tensor
    grad_lse: torch.Tensor

    def to(self, device: torch.device) -> Inputs:
        """The same on a device."""
        return Inputs(*(x.to(device) for x in vars(self).values()))


def inputs(
    len_q: int,
    len_k: int,
    *,
    dim: int = 16,
    value_dim: int | None = None,
    heads: int = 2,
    key_heads: int = 1,
    batch: int = 1,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Inputs:
    """Random tensors, laid out (batch, length, heads, dim) in memory, as projections leave them.

    value_dim: of v and grad_out; dim for None.
    """
    drawn: Any = {"generator": torch.Generator("cpu").manual_seed(seed), "device": "cpu"}

    def tensor(heads: int, length: int, dim: int) -> torch.Tensor:
        x = torch.randn((batch, length, heads, dim), dtype=torch.float64, **drawn)
        return x.to(dtype).transpose(1, 2)

    return Inputs(
        tensor(heads, len_q, dim),
        tensor(key_heads, len_k, dim),
        tensor(key_heads, len_k, value_dim or dim),
        tensor(heads, len_q, value_dim or dim),
        torch.randn((batch, heads, len_q), dtype=lse_dtype(dtype), **drawn),
    )


def dense(
    given: Inputs,
    mask: npt.NDArray[np.bool_],
    scale: float | None = None,
    dtype: torch.dtype = torch.float64,
    softcap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> Attended:
    """Attention by the formula over a dense mask, in fp64 (or in another dtype, to compare errors).

    mask: (len_q, len_k), or (batch, heads, len_q, len_k) where these differ; scale, softcap, sinks: as in a
    call.
    """
    inputs = [given.q, given.k, given.v, *([] if sinks is None else [sinks])]
    q, k, v, *logits = inputs = [x.detach().to(dtype).requires_grad_() for x in inputs]
    group = q.shape[1] // k.shape[1]
    allowed = torch.from_numpy(np.ascontiguousarray(mask)).to(q.device)
    scores = q @ k.repeat_interleave(group, 1).transpose(-1, -2)
    scores = scores * (q.shape[-1] ** -0.5 if scale is None else scale)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    some = allowed.any(-1)
    # A query without keys attends to everything here and is zeroed afterwards, so nothing is NaN.
    scores = scores.masked_fill(~(allowed | ~some[..., None]), -torch.inf)
    lse = torch.where(some, torch.logsumexp(scores, -1), 0)
    for logit in logits:  # one more column, which has no value
        column = logit[:, None, None].expand(*scores.shape[:3], 1)
        scores = torch.cat((scores, column), -1)
    weights = torch.softmax(scores, -1)[..., : k.shape[2]]
    out = weights @ v.repeat_interleave(group, 1) * some[..., None]
    total = (out * given.grad_out.to(dtype)).sum() + (lse * given.grad_lse.to(dtype)).sum()
    grads = torch.autograd.grad(total, inputs)
    made = Attended if sinks is None else AttendedWithSinks
    return made(out.detach(), lse.detach(), *grads)


def rounding(
    given: Inputs,
    mask: npt.NDArray[np.bool_],
    truth: Attended,
    softcap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> dict[str, float]:
    """The errors that rounding brings by itself: those of dense attention in the dtype of the tensors.

    In fp64 they are those of fp32 made smaller in proportion, twice: the truth has them too.
    """
    dtype = given.q.dtype
    if dtype != torch.float64:
        return dense(given, mask, None, dtype, softcap, sinks).relative(truth)
    errors = dense(given, mask, None, torch.float32, softcap, sinks).relative(truth)
    smaller = torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps
    return {name: 2 * smaller * error for name, error in errors.items()}


def run(
    layout: CallableLayout, given: Inputs, scale: float | None = None, **options: Unpack[Options]
) -> Attended:
    """A layout's own results on the same tensors; scale, options: as in a call."""
    q, k, v = inputs = [x.detach().requires_grad_() for x in (given.q, given.k, given.v)]
    if (sinks := options.get("sinks")) is not None:
        options["sinks"] = logits = sinks.detach().requires_grad_()
        inputs.append(logits)
    out, lse = layout(q, k, v, scale, return_lse=True, **options)
    none = lse == -torch.inf
    assert not out[none].any(), "a query without keys has output 0"
    lse = lse.masked_fill(none, 0)
    grads = torch.autograd.grad((out, lse), inputs, (given.grad_out, given.grad_lse))
    made = Attended if sinks is None else AttendedWithSinks
    return made(out.detach(), lse.detach(), *grads)
