"""The mask function of transformers: what the attention function is to know of a call.

    None                      all keys are there, and the queries are the last of them
    bool (batch, keys)        True where a key is there; the queries are the last of the keys
    int8 (batch, length)      the same of a cache with room: its keys past the length are unfilled
    uint8 (batch, length)     the same of a cache that has dropped keys: it has the last ones of the length
    int16 (batch, keys)       True where a key is there, and the queries may be other tokens
    int8 (batch, 1, keys)     1 where a key is there; the queries are the last of these
    int32 (1, 1, 1)           how many of the keys are there, in all rows; the queries are the last of these
    int64 (sequences + 1,)    where packed sequences begin, all rows of the batch end to end

The second is what transformers itself takes as `attention_mask`; `generate` passes what it got through twice.
Those before the last are of caches with room in programs that torch.compile traces, which know no length.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers.masking_utils import causal_mask_function

from bslang.integrations.transformers import positions

Tensor = torch.Tensor

ROOM = torch.int8
"""The dtype of a mask whose length is less than the number of keys."""

FILLED = torch.int32
"""The dtype of the length of a cache, which is all that is known of its keys."""

DROPPED = torch.uint8
"""The dtype of a mask whose length is more than the number of keys."""

OTHERS = torch.int16
"""The dtype of a mask of keys that only cross-attention takes."""

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
    compiling = torch.compiler.is_compiling()
    if compiling and isinstance(q_offset, Tensor) and _is_plain(mask_function, kwargs):
        return _with_room(q_length, q_offset + q_length, kv_length, attention_mask)
    if compiling and (allow_is_causal_skip or allow_is_bidirectional_skip):
        causal, packed = allow_is_causal_skip, None
    else:
        causal, packed = _read(mask_function)
    length, kept = int(q_offset) + q_length, kv_length
    kv_length += kv_offset
    if not causal and attention_mask is None and q_length == kv_length:
        packed = positions.packed(batch_size, q_length) if packed is None else packed
    if packed is not None and not torch.compiler.is_exporting():
        return _offsets(packed)  # type: ignore[no-any-return]  # as below
    if packed is not None:  # transformers cannot tell whether any are, since nothing runs yet
        torch._assert_async((packed == 0).all(), "exported models take no packed sequences")
    if not causal and length != kept:  # the keys may be other tokens than the queries
        if attention_mask is None:
            return torch.ones((batch_size, kept), dtype=OTHERS, device=device)
        if length > kept and attention_mask.shape == (batch_size, kept):
            return attention_mask.to(OTHERS)
    if length > kv_length:
        raise ValueError(f"{length} tokens, but the mask has room for only {kv_length} keys")
    if attention_mask is None:
        if length == kept:
            return None
        dtype = ROOM if length < kv_length else DROPPED
        return torch.ones((batch_size, length), dtype=dtype, device=device)
    if attention_mask.dim() != 2 or attention_mask.shape[1] < length:
        raise ValueError(
            f"attention_mask must be (batch, {length}), one entry per token so far; "
            f"it is {tuple(attention_mask.shape)}"
        )
    attention_mask = attention_mask.bool()
    if length < kv_length and not causal and (compiling or attention_mask[:, length:].any()):
        # Keys that no query stands at, as of a prefix: where they lie, only their number says.
        if attention_mask.shape[1] != kv_length:
            raise ValueError(REST.format(length=length, keys=kv_length))
        return attention_mask
    mask = attention_mask[:, :length]
    if length < kv_length or kept < kv_length:
        return mask.to(ROOM if length < kv_length else DROPPED)
    if not compiling and mask.all():
        return None
    return mask


def _is_plain(mask_function: Callable[..., Any] | None, given: dict[str, Any]) -> bool:
    """Whether a decoder's mask is causal, or a window, and no more, as far as a traced program can see."""
    plain = mask_function is causal_mask_function or _maker(mask_function) == "and_masks"
    causal = getattr(given.get("config"), "is_causal", True)
    return plain and causal and not given.get("use_vmap", True)


def _with_room(queries: int, length: Tensor, keys: int, attention_mask: Tensor | None) -> Tensor:
    """What is known of a static cache while tracing, where its length is not: that, or a mask as wide as the
    cache, and nowhere True from the length on."""
    if attention_mask is None:
        return length.to(FILLED).reshape(1, 1, 1)
    there = torch.arange(keys, dtype=torch.int64, device=length.device) < length
    enough = length <= attention_mask.shape[1]
    torch._assert_async(enough, "attention_mask must have one entry per token so far")
    given = attention_mask.bool()
    own = given[:, torch.arange(-queries, 0, dtype=torch.int64, device=length.device) + length]
    torch._assert_async((own[:, 1:] >= own[:, :-1]).all(), PADDING_FIRST)
    given = torch.nn.functional.pad(given, (0, max(keys - given.shape[1], 0)))[:, :keys]
    return (given & there)[:, None].to(ROOM)


PADDING_FIRST = "padding must come before the tokens of a row, or before its queries"

REST = (
    "the queries are {length} tokens, and there are {keys} keys that they may see: pass a mask of all "
    "tokens (attention_mask), which says whether the others belong to the sequence"
)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # torch does not type it
def _offsets(packed: Tensor) -> Tensor:
    """int64 (sequences + 1,), on the CPU, where layouts read it: where packed sequences begin; packed: the
    number of each token's sequence, (batch, length)."""
    first = torch.ones_like(packed, dtype=torch.bool)
    first[:, 1:] = packed[:, 1:] != packed[:, :-1]
    starts = first.flatten().nonzero().flatten().cpu()
    return torch.cat((starts, starts.new_tensor([packed.numel()])))


# ---- the model's own mask ------------------------------------------------------------------------


@torch.compiler.disable(  # type: ignore[untyped-decorator,no-untyped-call]  # torch does not type it
    reason="which sequences are packed is read from position_ids; pass attention_mask where none are"
)
def _read(mask_function: Callable[..., Any] | None) -> tuple[bool, Tensor | None]:
    """(whether no query sees a later key, the number of each token's packed sequence or None) of the mask
    that the model would have.

    Raises ValueError where it has a part that depends on the tokens, and is no packing.
    """
    packed = None
    for part in _leaves(mask_function):
        made_by = _maker(part)
        if made_by == "packed_sequence_mask_function":
            packed = inspect.getclosurevars(part).nonlocals["packed_sequence_mask"]
        elif made_by not in _REPLACED and not _is_pattern(part):
            raise ValueError(
                f"the model adds pairs of its own to its mask ({made_by}), which a layout cannot follow"
            )
    return mask_function is None or _is_causal(mask_function), packed


def _maker(part: Any) -> str:
    """The function of transformers that made a mask function."""
    return str(getattr(part, "__qualname__", type(part).__name__)).split(".")[0]


def _parts(mask_function: Callable[..., Any]) -> list[Callable[..., Any]]:
    """What transformers put a mask function together of, less what adds nothing; empty if of nothing."""
    made_by = _maker(mask_function)
    if made_by not in ("and_masks", "or_masks", "remap_positions_for_packed_sequence"):
        return []
    inside = inspect.getclosurevars(mask_function).nonlocals
    if made_by == "or_masks":
        return [part for part in inside["mask_functions"] if not _adds_nothing(part)]
    return list(inside["mask_functions"]) if made_by == "and_masks" else [inside["mask_function"]]


def _leaves(mask_function: Callable[..., Any] | None) -> Iterator[Callable[..., Any]]:
    """The functions that a mask function is made of in the end."""
    if mask_function is not None:
        parts = _parts(mask_function)
        for part in parts:
            yield from _leaves(part)
        if not parts:
            yield mask_function


def _is_causal(mask_function: Callable[..., Any]) -> bool:
    """Whether no query sees a later key, as far as the names of the parts tell."""
    parts = map(_is_causal, _parts(mask_function))
    if _maker(mask_function) == "or_masks":
        return all(parts)
    return getattr(mask_function, "__name__", "") == "causal_mask_function" or any(parts)


def _adds_nothing(part: Callable[..., Any]) -> bool:
    """Whether a mask function is that of blocks of tokens, images say, where there are none."""
    if _maker(part) != "blockwise_overlay":
        return False
    return bool((inspect.getclosurevars(part).nonlocals["block_sequence_ids"] < 0).all())


def _is_pattern(part: object) -> bool:
    """Whether a mask function knows positions only: a pattern, in whose place the layout stands."""
    if isinstance(part, functools.partial):
        return all(map(_is_pattern, (part.func, *part.args, *part.keywords.values())))
    if inspect.isfunction(part):
        return all(map(_is_pattern, inspect.getclosurevars(part).nonlocals.values()))
    if isinstance(part, tuple | list):
        return all(map(_is_pattern, part))
    return part is None or isinstance(part, bool | int | float | str)
