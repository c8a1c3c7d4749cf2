"""Attention sinks: a logit per query head that takes part in the softmax's denominator and has no value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# torch is imported where there are tensors: the compiler reads the options of calls, and starts without it.
if TYPE_CHECKING:
    import torch

_FAR = 80.0
"""How far a sink may lie above a query's log-sum-exp for their ratio to be a number of fp32."""


def take_sinks(given: Any, q: torch.Tensor) -> torch.Tensor | None:
    """The sinks of a call, (heads,) in the dtype of log-sum-exps; None for none.

    Raises TypeError or ValueError where they do not fit q (batch, heads, len_q, dim).
    """
    import torch

    if given is None:
        return None
    if not isinstance(given, torch.Tensor):
        raise TypeError(f"sinks must be a torch.Tensor, not {type(given).__name__}")
    if not given.is_floating_point():
        raise TypeError(f"sinks must be real numbers, not {given.dtype}")
    heads = q.shape[1]
    if given.dim() != 1 or given.shape[0] != heads:
        raise ValueError(
            f"sinks must have shape ({heads},), a logit for each head of q; their shape is "
            f"{tuple(given.shape)}"
        )
    if given.device != q.device:
        raise ValueError(
            f"sinks must be on the device of q, {q.device}; they are on {given.device}"
        )
    return given.to(torch.float64 if q.dtype == torch.float64 else torch.float32)


def by_query(sinks: torch.Tensor, len_q: int) -> torch.Tensor:
    """Sinks (heads,), or of each query, as a view (heads, len_q)."""
    return sinks if sinks.dim() == 2 else sinks[:, None].expand(-1, len_q)


def kept(lse: torch.Tensor, sinks: torch.Tensor) -> torch.Tensor:
    """What the sinks leave to the keys of each query's weights, (batch, heads, len_q); 1 without keys.

    lse: (batch, heads, len_q), of the keys alone; sinks: (heads,).
    """
    import torch

    return torch.where(lse == -torch.inf, 1, torch.sigmoid(lse - sinks[:, None]))


def shares(lse: torch.Tensor, sinks: torch.Tensor) -> torch.Tensor:
    """The weight of each query's sink, (batch, heads, len_q): the rest of `kept`, exact where it is small."""
    import torch

    return torch.where(lse == -torch.inf, 0, torch.sigmoid(sinks[:, None] - lse))


def as_keys(
    lse: torch.Tensor, grad_lse: torch.Tensor, sinks: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """lse and its gradient as a backward pass takes them whose weights are exp(s - lse): the log-sum-exp
    with the sink, and the gradient of that of the keys alone, whose weights are larger.

    Where a sink is more than 80 above the lse, exp(80) stands for their ratio.
    """
    import torch

    above = sinks[:, None] - lse
    some = lse != -torch.inf
    whole = torch.where(some, torch.logaddexp(lse, sinks[:, None]), lse)
    return whole, grad_lse * torch.where(some, 1 + torch.exp(above.clamp_max(_FAR)), 1)


def gradient(
    grad_out: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    sinks: torch.Tensor,
    padded: torch.Tensor | None,
) -> torch.Tensor:
    """The gradient of the sinks, (heads,).

    grad_out, out: (batch, heads, len_q, value dim); padded: queries that are padding, bool (batch, 1, len_q),
    whose gradients count while they are numbers; None for none.
    """
    import torch

    each = (grad_out.to(lse.dtype) * out.to(lse.dtype)).sum(-1) * shares(lse, sinks)
    if padded is not None:
        each = torch.where(padded & ~each.isfinite(), 0, each)
    return -each.sum((0, 2))
