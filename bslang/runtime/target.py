"""What the runtime asks of a target."""

from __future__ import annotations

from typing import Protocol

import torch

from bslang.call import Call
from bslang.runtime.plan import DevicePlan


class Target(Protocol):
    """Kernels for one kind of device. Tensors have passed the checks of `bslang.runtime.checks`.

    q: (batch, heads, len_q, dim); k: (batch, key heads, len_k, dim); v: (batch, key heads, len_k, value dim),
    where key heads divide heads and query head h reads key head h // (heads / key heads). Any strides; one
    dtype. call: what the call says beside them (`bslang.call.Call`). Its labels are those of the layout; its
    alignment is in the plan, and padding has become a label.
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
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, plan: DevicePlan, call: Call
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(out, lse): out (batch, heads, len_q, value dim), contiguous; lse (batch, heads, len_q), the
        natural logarithm of the softmax's denominator. A query without keys has out 0 and lse -inf."""
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
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(dq, dk, dv), contiguous, each like its tensor; the same bits on every run."""
        ...
