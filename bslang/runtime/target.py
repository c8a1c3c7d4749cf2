"""What the runtime asks of a target."""

from __future__ import annotations

import os
from functools import cache
from typing import Protocol, TypeAlias

import torch

from bslang.call import Call
from bslang.runtime.plan import DevicePlan

Outputs: TypeAlias = tuple[torch.Tensor, torch.Tensor]
"""out and lse."""

Gradients: TypeAlias = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""dq, dk and dv."""

SomeGradients: TypeAlias = tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]
"""The same, None for those that are not asked for: dk and dv are together."""


def all_of(grads: SomeGradients) -> Gradients:
    """Gradients that were all asked for."""
    dq, dk, dv = grads
    assert dq is not None and dk is not None and dv is not None
    return dq, dk, dv


def wrong_device(name: str, device: torch.device) -> str:
    """Why a target cannot run tensors on a device, as far as its name tells; "" where it may.

    So that kernels for GPUs, which take long to import, are not imported for tensors elsewhere.
    """
    if name == "cpu" and device.type != "cpu":
        return "runs tensors on the CPU only"
    if name == "triton" and device.type != "cuda" and not _interpreted():
        return "needs a GPU"
    return ""


@cache
def _interpreted() -> bool:
    """Whether Triton's kernels run on the CPU: read at the first call of a process, and not again, as Triton
    reads it when it is imported."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on", "y")


class Target(Protocol):
    """Kernels for one kind of device. Tensors have passed the checks of `bslang.runtime.checks`.

    q: (batch, heads, len_q, dim); k: (batch, key heads, len_k, dim); v: (batch, key heads, len_k, value dim),
    where key heads divide heads and query head h reads key head h // (heads / key heads). Any strides; one
    dtype. call: what the call says beside them (`bslang.call.Call`). Its labels are those of the layout; its
    alignment is in the plan, and padding has become a label.

    Tensors of a side that has pages (`Call.q_pages`, `Call.k_pages`) are (pages, heads, page size, dim), as
    are the results of that side, and log-sum-exps (pages, heads, page size). A page of queries is a block;
    one of keys is a block where gradients of them are asked for, else any multiple of 16 tokens. The lengths
    are those of the plan. into: results to write, of sides with pages, of any strides whose last dimension is
    dense and of dtypes of their own: in blocks that have programs in the plan, and nowhere else.
    """

    name: str
    dtypes: tuple[torch.dtype, ...]
    largest_dim: int | None
    """The largest head dimension of keys and of values; None for any."""
    by_place: bool
    """Whether its kernels find the block rows of queries by position, in the tables of a capacity, and
    queries of each row of the batch at places of their own."""

    def missing(self, device: torch.device) -> str:
        """Why tensors on a device cannot be run here, as what follows the target's name; "" if they can."""
        ...

    def forward(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        plan: DevicePlan,
        call: Call,
        into: Outputs | None = None,
    ) -> Outputs:
        """(out, lse): out (batch, heads, len_q, value dim), contiguous; lse (batch, heads, len_q), the
        natural logarithm of the softmax's denominator. A query without keys has out 0 and lse -inf.
        Returns `into` where it is given, as it has to be for queries with pages."""
        ...

    def backward(
        self,
        grad_out: torch.Tensor,
        grad_lse: torch.Tensor,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        out: torch.Tensor,
        lse: torch.Tensor,
        plan: DevicePlan,
        call: Call,
        into: SomeGradients | None = None,
    ) -> SomeGradients:
        """(dq, dk, dv), contiguous, each like its tensor; the same bits on every run. Returns `into` where it
        is given, as it has to be for tensors with pages."""
        ...
