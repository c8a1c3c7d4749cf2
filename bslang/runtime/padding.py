"""Queries that stand at padding: what in them is no number adds nothing to the gradients of keys.

A padded query sees keys as others do, and its gradients count while they are numbers. Buffers that nobody
cleared may hold anything there, which is not to reach the keys of the sequence.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bslang.call import Call


@dataclass(frozen=True, eq=False)
class Rows:
    """What a backward pass takes of its queries: q (batch, heads, len_q, dim), grad_out and out
    (batch, heads, len_q, value dim), grad_lse and lse (batch, heads, len_q)."""

    grad_out: torch.Tensor
    grad_lse: torch.Tensor
    q: torch.Tensor
    out: torch.Tensor
    lse: torch.Tensor


def padded_queries(call: Call, len_q: int) -> torch.Tensor | None:
    """The queries that stand at padding, bool (batch, 1, len_q); None where a call knows of none."""
    if call.padding is None or call.align != "end":
        return None
    return call.padding[:, None, call.padding.shape[1] - len_q :]


def without_lost(rows: Rows, call: Call) -> tuple[Rows, torch.Tensor | None]:
    """The rows with those left out that are padding and not finite, and which these are, bool (batch, heads,
    len_q); None for none. A row that is left out has weights, and so gradients, of 0."""
    padded = padded_queries(call, rows.q.shape[2])
    if padded is None:
        return rows, None
    lost = padded & ~(_finite(rows.q) & _finite(rows.grad_out) & rows.grad_lse.isfinite())
    # Of a GPU no answer is waited for.
    if lost.device.type == "cpu" and not lost.any():
        return rows, None
    whole = lost[..., None]
    return Rows(
        rows.grad_out.masked_fill(whole, 0),
        rows.grad_lse.masked_fill(lost, 0),
        rows.q.masked_fill(whole, 0),
        rows.out.masked_fill(whole, 0),
        rows.lse.masked_fill(lost, torch.inf),
    ), lost


def _finite(x: torch.Tensor) -> torch.Tensor:
    """Whether each row (batch, heads, length) is finite: its sum is, which takes a tenth of the time."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    return x.sum(-1, dtype=wide).isfinite()
