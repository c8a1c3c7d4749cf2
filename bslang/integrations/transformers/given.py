"""What a model passes to its attention as the mask, as layouts take it."""

from __future__ import annotations

from typing import Any

import torch

from bslang.integrations.transformers.mask import DROPPED, FILLED, OTHERS, ROOM

Tensor = torch.Tensor

_HIDDEN = -1000.0
"""Masks that are added to scores hide a pair by this, or less."""


def take(mask: Any, query: Tensor, key: Tensor) -> tuple[Tensor | None, bool | None]:
    """(what `mask.mask` gives, whether the model is a decoder, or None where the mask does not tell).

    mask: that, a mask (batch, keys) of a model that did not ask for it, or one of all pairs, (batch, 1, 1 or
    queries, keys), if it is padding alone, or padding and causality. Raises ValueError for any other.
    """
    if mask is None:
        return None, None
    if isinstance(mask, Tensor):
        if mask.dim() <= 2 and not mask.is_floating_point():
            known = mask.dim() == 1 or mask.dtype in (torch.bool, ROOM, DROPPED, OTHERS)
            return (mask if known else mask.bool()), None
        if mask.dim() == 3 and mask.dtype in (ROOM, FILLED):
            return mask, None
        if mask.dim() == 4 and mask.shape[-1] == key.shape[2]:
            found = _of_pairs(mask, query)
            if found is not None:
                return found
    shape = tuple(mask.shape) if hasattr(mask, "shape") else type(mask).__name__
    raise ValueError(
        "attention_mask must be (batch, length), 0 for padding, or a mask of all pairs that holds only "
        f"padding or causality: which other pairs count is up to the layout. Its shape is {shape}"
    )


def _of_pairs(mask: Tensor, query: Tensor) -> tuple[Tensor | None, bool | None] | None:
    """What a mask (batch, 1, 1 or queries, keys) says, if it is padding, or padding and causality."""
    queries, keys = query.shape[2], mask.shape[3]
    padding_alone = mask.shape[1:3] == (1, 1) and queries > 1
    if torch.compiler.is_compiling():  # values cannot be asked
        if not padding_alone:
            return None
        seen = mask if mask.dtype == torch.bool else mask > _HIDDEN
        return seen[:, 0, 0].expand(query.shape[0], keys), False
    if mask.dtype == torch.bool:
        seen = mask
    elif mask.is_floating_point() and ((mask == 0) | (mask <= _HIDDEN)).all():
        seen = mask == 0
    else:
        return None
    if not (seen == seen[:, :1]).all():  # heads have masks of their own
        return None
    seen = seen[:, 0].expand(query.shape[0], -1, keys)
    if seen.all():
        return None, (False if queries > 1 else None)
    if padding_alone:
        return seen[:, 0], False
    if seen.shape[1] != queries or (queries == 1 and keys > 1):  # one row may be that of a window
        return None
    there = seen.any(1)
    of_padding = ~seen.any(2) & ~there[:, keys - queries :]  # queries that are padding see nothing
    every = seen.new_ones((queries, keys))
    for pairs, causal in ((every.tril(keys - queries), True), (every, False)):
        if ((seen == (pairs & there[:, None])).all(2) | of_padding).all():
            return (None if there.all() else there), causal
    return None


def with_offsets(
    mask: Tensor | None, query: Tensor, cu_seq_lens_q: Tensor | None, cu_seq_lens_k: Tensor | None
) -> Tensor | None:
    """What the mask function gave, or the offsets that the caller of the model did."""
    if cu_seq_lens_q is None and cu_seq_lens_k is None:
        return mask
    one = cu_seq_lens_q is cu_seq_lens_k
    if (
        cu_seq_lens_q is None
        or cu_seq_lens_k is None
        or not (one or torch.equal(cu_seq_lens_q, cu_seq_lens_k))
    ):
        raise ValueError(
            "cu_seq_lens_q and cu_seq_lens_k must be equal: a layout is for self-attention"
        )
    if mask is not None and (mask.dim() == 2 or mask.tolist() != cu_seq_lens_q.tolist()):
        raise ValueError(
            "cu_seq_lens_q must agree with position_ids, and come without attention_mask"
        )
    if query.shape[0] != 1:
        raise ValueError(f"cu_seq_lens_q is for a batch of one row, not {query.shape[0]}")
    return cu_seq_lens_q
