"""Rows of a batch that end at different places: how many keys each has, and where its queries stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bslang.labels import require_within

# torch is imported where there are tensors: the compiler reads the options of calls, and starts without it.
if TYPE_CHECKING:
    import torch


def take_lengths(
    given: Any, q: torch.Tensor, k: torch.Tensor, align: str, key_padding: Any
) -> torch.Tensor | None:
    """The lengths of a call, int64 (batch,); None for none.

    Raises TypeError or ValueError where they do not fit q (batch, heads, len_q, dim) and k (batch, key
    heads, len_k, dim), or the other options, align and key_padding.
    """
    import torch

    if given is None:
        return None
    if not isinstance(given, torch.Tensor):
        number = "; an int goes with pages" if isinstance(given, int) else ""
        raise TypeError(f"lengths must be a torch.Tensor, not {type(given).__name__}{number}")
    if given.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"lengths must be int32 or int64, not {given.dtype}")
    if given.device != q.device:
        raise ValueError(
            f"lengths must be on the device of the tensors, {q.device}, not {given.device}"
        )
    if given.dim() != 1 or given.shape[0] != q.shape[0]:
        raise ValueError(
            f"lengths must have shape ({q.shape[0]},), the keys of each row of the batch; their shape is "
            f"{tuple(given.shape)}"
        )
    check_align(align)
    if key_padding is not None:
        raise TypeError(
            "lengths say which keys a row has: leave out key_padding, and let each row begin at its first key"
        )
    told = given.detach().to(torch.int64)
    require_within(told, 0, k.shape[2], "lengths must be from 0 to the number of keys")
    return told


def check_align(align: str) -> None:
    """Raise ValueError where queries are to be elsewhere than at the end of keys that end somewhere."""
    if align == "start":
        raise ValueError(
            'lengths make the queries of each row the last of its keys: leave out align="start"'
        )


def last_positions(lengths: torch.Tensor, len_q: int) -> torch.Tensor:
    """int64 (batch, len_q), where the queries of each row stand, which are the last of its keys; below 0
    where there are fewer keys."""
    import torch

    count = torch.arange(-len_q, 0, dtype=torch.int64, device=lengths.device)
    return lengths[:, None] + count
