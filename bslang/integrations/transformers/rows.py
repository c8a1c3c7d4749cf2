"""Attention of the rows of a batch: whole, padded, packed, or the last ones of a cache."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import torch

from bslang.analysis.pairs import count_pairs
from bslang.analysis.properties import is_causal
from bslang.errors import BslangError
from bslang.integrations.transformers.mask import ROOM
from bslang.layouts import Layout

Tensor = torch.Tensor


class Decoder(NamedTuple):
    """Whether a model is a decoder, and whether its queries may see later keys all the same."""

    causal: bool
    allow_noncausal: bool


@torch.compiler.disable  # type: ignore[untyped-decorator]  # torch does not type it
def packed(
    layout: Layout,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    offsets: Tensor,
    model: Decoder,
    options: dict[str, Any],
) -> Tensor:
    """Attention inside packed sequences; offsets as the mask function gives them."""
    if model.causal and not model.allow_noncausal:
        for length in {stop - start for start, stop in pairwise(offsets.tolist()) if stop > start}:
            _require_causal(layout, length, q.shape[1])
    batch, heads, length, dim = q.shape
    q, k, v = (x.transpose(0, 1).reshape(1, x.shape[1], -1, dim) for x in (q, k, v))
    out = _tensor(layout.packed(q, k, v, offsets, **options))
    return out.reshape(heads, batch, length, dim).transpose(0, 1)


def padded(
    layout: Layout,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    model: Decoder,
    options: dict[str, Any],
) -> Tensor:
    """Attention of queries that are the last of the keys; mask: as the mask function gives it."""
    queries, keys = q.shape[2], k.shape[2]
    if mask is not None and mask.dtype == ROOM and mask.shape[1] < keys:
        keys = mask.shape[1]
        k, v = k[:, :, :keys], v[:, :, :keys]
    if queries > keys or not (mask is None or mask.shape[1] == keys):
        places = "" if mask is None else f" and a mask of {mask.shape[1]}"
        raise ValueError(
            f"{queries} queries came with {keys} keys{places}: layouts are for self-attention, with a cache "
            "that keeps every key, and masks for all of them"
        )
    mask = None if mask is None else mask.bool()
    if torch.compiler.is_compiling():  # what depends on values cannot be asked here
        if queries < keys:
            _require(layout, queries, keys, q.shape[1], model)
        if mask is None:
            return _tensor(layout(q, k, v, **options))
        torch._assert_async(mask[:, 0].all(), "torch.compile takes padding on the right only")
        return _tensor(layout(q, k, v, key_padding=_hidden(mask, queries), **options))
    if mask is None or mask.all():
        _require(layout, queries, keys, q.shape[1], model)
        return _tensor(layout(q, k, v, **options))
    if queries < keys:
        _require_order(layout, mask, queries, q.shape[1])
    starts = mask.int().argmax(1).tolist()  # 0 in a row of padding alone
    if not any(starts):
        _require(layout, queries, keys, q.shape[1], model)
        return _tensor(layout(q, k, v, key_padding=_hidden(mask, queries), **options))
    return _left_padded(layout, q, k, v, mask, starts, model, options)


def _left_padded(
    layout: Layout,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    starts: list[int],
    model: Decoder,
    options: dict[str, Any],
) -> Tensor:
    """Each row from its first token on, so that the layout's positions are the sequence's own; a call for
    each of the starts. Queries before them have output 0."""
    before = k.shape[2] - q.shape[2]
    outs: list[Tensor] = []
    order: list[int] = []
    for start in sorted(set(starts)):
        rows = [row for row, its in enumerate(starts) if its == start]
        skipped = max(start - before, 0)  # queries that are padding
        if skipped < q.shape[2]:
            missing = _hidden(mask[rows, start:], q.shape[2] - skipped)
            padding = missing if missing.any() else None
            sliced = q[rows, :, skipped:], k[rows, :, start:], v[rows, :, start:]
            _require(layout, sliced[0].shape[2], sliced[1].shape[2], q.shape[1], model)
            out = _tensor(layout(*sliced, key_padding=padding, **options))
            outs.append(torch.nn.functional.pad(out, (0, 0, skipped, 0)))
        else:
            outs.append(torch.zeros_like(q[rows]))
        order += rows
    back = torch.tensor(order, dtype=torch.int64, device=q.device).argsort()
    return torch.cat(outs)[back]


def _hidden(mask: Tensor, queries: int) -> Tensor:
    """The keys that are padding. Where all tokens of a chunk are, so is the row: nobody reads what they
    give, and calls refuse padding in the place of queries."""
    return ~mask if queries == 1 else ~(mask & mask[:, -queries:].any(1, keepdim=True))


def _tensor(out: Any) -> Tensor:
    assert isinstance(out, Tensor)
    return out


# ---- what a layout must be --------------------------------------------------------------------


def _require(layout: Layout, queries: int, keys: int, heads: int, model: Decoder) -> None:
    """Raise ValueError where the layout is not for a model's queries, the last of the keys."""
    if not queries:
        return
    if queries < keys:
        _require_prefix_stable(layout, queries, keys, heads, model)
    elif model.causal and not model.allow_noncausal:
        _require_causal(layout, keys, heads)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # torch does not type it
def _require_prefix_stable(
    layout: Layout, queries: int, keys: int, heads: int, model: Decoder
) -> None:
    """Raise ValueError where positions cannot be told from the end of the keys, with the reason.

    A longer length is asked first, since decoding would ask anew for each token. In an encoder, keys before
    the first query are a prefix; a layout in which each query sees all keys does not ask where they are.
    """
    for at in (1 << (keys - 1).bit_length(), keys):
        try:
            if layout.prefix_stable(at, heads).holds:
                return
        except BslangError:  # it is undefined at this length, or is too large there
            continue
    if model.causal or _pairs(layout, queries, keys, heads) != {queries * keys}:
        layout.require_prefix_stable(keys, heads)


@lru_cache(maxsize=256)
def _require_causal(layout: Layout, length: int, heads: int) -> None:
    """Raise ValueError where a query sees a later key, with the pair."""
    for head in range(heads if layout.by_head else 1):
        answer = is_causal(layout._resolved.pattern, layout.graph(length, head=head))
        if not answer.holds:
            raise ValueError(
                f"the model is a decoder, and in `{layout.spec}` {answer.because}: intersect it with "
                "`causal`, or pass allow_noncausal=True to attach or register"
            )


def _require_order(layout: Layout, mask: Tensor, queries: int, heads: int) -> None:
    """Raise ValueError where a row has padding between its keys, or ends before the queries: they are not
    where the layout has them then, unless each sees all keys before it.

    mask: bool (batch, keys).
    """
    keys = mask.shape[1]
    first = mask.int().argmax(1)
    stop = keys - mask.flip(1).int().argmax(1)
    odd = mask.any(1) & ((stop - first != mask.sum(1)) | (stop <= keys - queries))
    every = queries * keys
    if odd.any() and not _pairs(layout, queries, keys, heads) <= {
        every,
        every - queries * (queries - 1) // 2,
    }:
        raise ValueError(
            f"row {int(odd.int().argmax())} of attention_mask has padding between its tokens, so that "
            f"positions in `{layout.spec}` are not those of the sequence: pad on the left"
        )


@lru_cache(maxsize=256)
def _pairs(layout: Layout, queries: int, keys: int, heads: int) -> frozenset[int]:
    """How many pairs each head has where the queries are the last of the keys, or -1 where they are too
    many to count."""
    try:
        return frozenset(
            count_pairs(layout.graph(queries, keys, head=head))
            for head in range(heads if layout.by_head else 1)
        )
    except BslangError:
        return frozenset({-1})
