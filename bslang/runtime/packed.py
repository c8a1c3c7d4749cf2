"""Packed sequences: several in one tensor, end to end, with the pattern applied inside each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from bslang.runtime.runnable import Runnable


def attend(
    layout: Runnable,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor | Sequence[int],
    options: dict[str, Any],
) -> tuple[torch.Tensor, torch.Tensor]:
    """(out, lse) of `Layout.packed`; options: those of a call.

    One call serves all sequences of one length. Where no row of the layout depends on the length,
    sequences of similar lengths share one as well: what is padded on the right comes after all that
    it might be seen by.
    """
    if "first_head" in options:
        layout = layout.at_heads(options.pop("first_head"))
    ends = offsets(cu_seqlens, q)
    batches: dict[int, list[int]] = {}
    lengths = [stop - start for start, stop in pairwise(ends)]
    longest = max(lengths)
    stable = longest > 0 and layout.is_prefix_stable(longest, q.shape[1])
    for number, length in enumerate(lengths):
        if length:
            batches.setdefault(_rounded(length) if stable else length, []).append(number)
    if not batches:
        out, lse = layout(q, k, v, return_lse=True, **options)
        return out, lse
    places, outs, lses = [], [], []
    numbers: Any = {"dtype": torch.int64, "device": "cpu"}
    for length, members in batches.items():
        start = torch.tensor([ends[number] for number in members], **numbers)
        count = torch.tensor([lengths[number] for number in members], **numbers)
        position = torch.arange(length, **numbers)
        in_bounds = position < count[:, None]
        place = torch.where(in_bounds, start[:, None] + position, start[:, None])
        index = place.to(q.device)
        of_q, of_k, of_v = (x[0, :, index].transpose(0, 1) for x in (q, k, v))
        out, lse = layout(of_q, of_k, of_v, return_lse=True, **options)
        in_bounds = in_bounds.to(q.device)
        places.append(index[in_bounds])
        outs.append(out.transpose(1, 2)[in_bounds])
        lses.append(lse.transpose(1, 2)[in_bounds])
    order = torch.cat(places).argsort()
    out, lse = torch.cat(outs)[order], torch.cat(lses)[order]
    return out.transpose(0, 1)[None], lse.T[None]


def _rounded(length: int) -> int:
    """The length up to which a sequence is padded: at most a quarter more, four to a doubling."""
    step = 1 << max(length.bit_length() - 3, 0)
    return -(-length // step) * step


def offsets(cu_seqlens: torch.Tensor | Sequence[int], q: torch.Tensor) -> list[int]:
    """Offsets as a list. Raises TypeError or ValueError where they do not cut q (1, heads, length, dim)."""
    if isinstance(cu_seqlens, torch.Tensor):
        if (
            cu_seqlens.dim() != 1
            or cu_seqlens.is_floating_point()
            or cu_seqlens.dtype == torch.bool
        ):
            raise ValueError(
                f"cu_seqlens must be integers (sequences + 1,); it is {cu_seqlens.dtype} "
                f"{tuple(cu_seqlens.shape)}"
            )
        ends = cu_seqlens.tolist()
    else:
        ends = list(cu_seqlens)
        if not all(isinstance(end, int) and not isinstance(end, bool) for end in ends):
            raise TypeError("cu_seqlens must be a tensor of integers, or a list of them")
    if q.shape[0] != 1:
        raise ValueError(f"packed sequences are one batch row; q has batch size {q.shape[0]}")
    rises = all(a <= b for a, b in pairwise(ends))
    if len(ends) < 2 or ends[0] != 0 or ends[-1] != q.shape[2] or not rises:
        raise ValueError(
            f"cu_seqlens must rise from 0 to the length of q, {q.shape[2]}; it is {ends[:8]}"
            + ("" if len(ends) <= 8 else f" ... {ends[-1]}")
        )
    return ends
