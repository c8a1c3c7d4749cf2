"""Dense masked attention in fp64: what every target is held against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from bslang.ir.runs import Bools
from bslang.runtime.labels import LabelsOfCall
from bslang.runtime.layout import Layout


@dataclass(frozen=True)
class Attended:
    """The results of a call and its gradients; lse where finite, 0 for a query without keys."""

    out: torch.Tensor
    lse: torch.Tensor
    dq: torch.Tensor
    dk: torch.Tensor
    dv: torch.Tensor

    def error(self, other: Attended) -> dict[str, float]:
        """The largest difference from another, by name, both taken as fp64."""
        return {
            name: float((mine.double() - getattr(other, name).double()).abs().max())
            for name, mine in vars(self).items()
        }


@dataclass(frozen=True)
class Inputs:
    """Tensors of a call and the gradients that come back to it."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    grad_out: torch.Tensor
    grad_lse: torch.Tensor


def inputs(
    len_q: int,
    len_k: int,
    *,
    dim: int = 16,
    heads: int = 2,
    key_heads: int = 1,
    batch: int = 1,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Inputs:
    """Random tensors, laid out (batch, length, heads, dim) in memory, as projections leave them."""
    generator = torch.Generator().manual_seed(seed)

    def tensor(heads: int, length: int) -> torch.Tensor:
        x = torch.randn(batch, length, heads, dim, generator=generator, dtype=torch.float64)
        return x.to(dtype).transpose(1, 2)

    lse = torch.float64 if dtype == torch.float64 else torch.float32
    return Inputs(
        tensor(heads, len_q),
        tensor(key_heads, len_k),
        tensor(key_heads, len_k),
        tensor(heads, len_q),
        torch.randn(batch, heads, len_q, generator=generator, dtype=lse),
    )


def dense(
    given: Inputs,
    mask: Bools,
    scale: float | None = None,
    dtype: torch.dtype = torch.float64,
    softcap: float | None = None,
) -> Attended:
    """Attention by the formula over a dense mask, in fp64 (or in another dtype, to compare errors).

    mask: (len_q, len_k), or (batch, heads, len_q, len_k) where these differ.
    """
    q, k, v = (x.detach().to(dtype).requires_grad_() for x in (given.q, given.k, given.v))
    group = q.shape[1] // k.shape[1]
    allowed = torch.from_numpy(np.ascontiguousarray(mask))
    scores = q @ k.repeat_interleave(group, 1).transpose(-1, -2)
    scores = scores * (q.shape[-1] ** -0.5 if scale is None else scale)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    some = allowed.any(-1)
    # A query without keys attends to everything here and is zeroed afterwards, so nothing is NaN.
    scores = scores.masked_fill(~(allowed | ~some[..., None]), -torch.inf)
    lse = torch.where(some, torch.logsumexp(scores, -1), 0)
    out = torch.softmax(scores, -1) @ v.repeat_interleave(group, 1) * some[..., None]
    total = (out * given.grad_out.to(dtype)).sum() + (lse * given.grad_lse.to(dtype)).sum()
    grads = torch.autograd.grad(total, (q, k, v))
    return Attended(out.detach(), lse.detach(), *grads)


def run(
    layout: Layout,
    given: Inputs,
    scale: float | None = None,
    align: str = "end",
    labels: LabelsOfCall | None = None,
    softcap: float | None = None,
    key_padding: torch.Tensor | None = None,
) -> Attended:
    """A layout's own results on the same tensors."""
    q, k, v = (x.detach().requires_grad_() for x in (given.q, given.k, given.v))
    call = {"softcap": softcap, "align": align, "labels": labels, "key_padding": key_padding}
    out, lse = layout(q, k, v, scale, return_lse=True, **call)  # type: ignore[arg-type]
    none = lse == -torch.inf
    assert not out[none].any(), "a query without keys has output 0"
    lse = lse.masked_fill(none, 0)
    grads = torch.autograd.grad((out, lse), (q, k, v), (given.grad_out, given.grad_lse))
    return Attended(out.detach(), lse.detach(), *grads)


def agrees(layout: Layout, given: Inputs, mask: Bools, tolerance: float, **call: object) -> None:
    """Assert that a layout's results are within `tolerance` of the fp64 reference, all of them."""
    scale, softcap = call.get("scale"), call.get("softcap")
    assert scale is None or isinstance(scale, float)
    assert softcap is None or isinstance(softcap, float)
    truth = dense(given, mask, scale, softcap=softcap)
    found = run(layout, given, **call)  # type: ignore[arg-type]  # passed through
    for name, error in found.error(truth).items():
        size = 1 + float(getattr(truth, name).abs().max())
        assert error <= tolerance * size, f"{name} is off by {error:.2e} (size {size:.2f})"


TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 2e-6,
    torch.float16: 3e-3,
    torch.bfloat16: 2e-2,
}
"""Error that a dtype's rounding explains, as a share of the largest value."""
