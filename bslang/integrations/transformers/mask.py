"""The mask function of transformers: what the attention function is to know of a call.

    None                      all keys are there, and the queries are the last of them
    bool (batch, length)      True where a key is there; keys past the length are an unfilled cache
    int (sequences + 1,)      where packed sequences begin, all rows of the batch end to end

The second is what transformers itself takes as `attention_mask`: `generate` passes it through twice.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch

Tensor = torch.Tensor

_REPLACED = {
    "causal_mask_function",
    "bidirectional_mask_function",
    "sliding_window_overlay",
    "sliding_window_bidirectional_overlay",
    "chunked_overlay",
}
"""Patterns of transformers in whose place the layout stands."""


def mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | Tensor = 0,
    kv_offset: int = 0,
    mask_function: Callable[..., Any] | None = None,
    attention_mask: Tensor | None = None,
    device: torch.device | str = "cpu",
    allow_is_causal_skip: bool = False,
    allow_is_bidirectional_skip: bool = False,
    **kwargs: Any,
) -> Tensor | None:
    """What the attention function is to know of a call (see the top of this file).

    allow_...: set where transformers has put nothing of its own into mask_function; torch.compile cannot
    look into that.
    """
    if kv_offset > 0:
        raise ValueError(
            "a cache with a sliding window has dropped keys that the layout may see: generate with "
            "past_key_values=DynamicCache(), which keeps all, or set sliding_window in the model's "
            "configuration to None"
        )
    if not (allow_is_causal_skip or allow_is_bidirectional_skip):
        packed: Tensor | None = _packed(mask_function)
        if packed is not None and not torch.compiler.is_exporting():
            return _offsets(packed)  # type: ignore[no-any-return]  # as above
        if packed is not None:  # transformers cannot tell whether any are, since nothing runs yet
            torch._assert_async((packed == 0).all(), "exported models take no packed sequences")
    length = int(q_offset) + q_length
    if attention_mask is None:
        if length == kv_length:
            return None
        return torch.ones((batch_size, length), dtype=torch.bool, device=device)
    if attention_mask.dim() != 2 or attention_mask.shape[1] < length:
        raise ValueError(
            f"attention_mask must be (batch, {length}), a place for each token so far; "
            f"it is {tuple(attention_mask.shape)}"
        )
    mask = attention_mask[:, :length].bool()
    if length == kv_length and not torch.compiler.is_compiling() and mask.all():
        return None
    return mask


@torch.compiler.disable(  # type: ignore[untyped-decorator,no-untyped-call]  # torch does not type it
    reason="which sequences are packed is read from position_ids; pass attention_mask where none are"
)
def _packed(mask_function: Callable[..., Any] | None) -> Tensor | None:
    """int (batch, length), the number of each token's sequence in its row; None where the model packs none.

    Raises ValueError where the model's mask has a part that is neither that nor what the layout replaces.
    """
    packed = None
    for part in _parts(mask_function):
        made_by = part.__qualname__.split(".")[0]
        if made_by == "packed_sequence_mask_function":
            packed = inspect.getclosurevars(part).nonlocals["packed_sequence_mask"]
        elif made_by not in _REPLACED:
            raise ValueError(
                f"the model adds pairs of its own to its mask ({made_by}), which a layout cannot follow"
            )
    return packed


@torch.compiler.disable  # type: ignore[untyped-decorator]  # torch does not type it
def _offsets(packed: Tensor) -> Tensor:
    """int64 (sequences + 1,), on the CPU, where layouts read it: where packed sequences begin.

    packed: as `_packed` gives it.
    """
    first = torch.ones_like(packed, dtype=torch.bool)
    first[:, 1:] = packed[:, 1:] != packed[:, :-1]
    starts = first.flatten().nonzero().flatten().cpu()
    return torch.cat((starts, torch.tensor([packed.numel()])))


def _parts(mask_function: Callable[..., Any] | None) -> Iterator[Callable[..., Any]]:
    """The functions of which transformers put a mask function together by intersection."""
    if mask_function is None:
        return
    made_by = mask_function.__qualname__.split(".")[0]
    if made_by == "and_masks":
        for part in inspect.getclosurevars(mask_function).nonlocals["mask_functions"]:
            yield from _parts(part)
    elif made_by == "remap_positions_for_packed_sequence":
        yield from _parts(inspect.getclosurevars(mask_function).nonlocals["mask_function"])
    else:
        yield mask_function
