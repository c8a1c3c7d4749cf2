"""What a layout has to be for the queries of a model: causal, prefix-stable, or within a cache's window."""

from __future__ import annotations

from functools import lru_cache
from math import lcm
from typing import NamedTuple

import torch

from bslang import api, compiler
from bslang.analysis.pairs import Pair, combined, count_pairs, first_pair, settled
from bslang.analysis.properties import is_causal
from bslang.analysis.steady import steady
from bslang.errors import BslangError
from bslang.graph.residual import fold_difference
from bslang.layouts import Layout

Tensor = torch.Tensor


class Decoder(NamedTuple):
    """Whether a model is a decoder, and whether its queries may see later keys all the same."""

    causal: bool
    allow_noncausal: bool


def require(layout: Layout, queries: int, keys: int, heads: int, model: Decoder) -> None:
    """Raise ValueError where the layout is not for a model's queries, the last of the keys."""
    if not queries:
        return
    if queries < keys:
        _require_prefix_stable(layout, queries, keys, heads, model)
    elif model.causal and not model.allow_noncausal:
        require_causal(layout, keys, heads)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # torch does not type it
def _require_prefix_stable(
    layout: Layout, queries: int, keys: int, heads: int, model: Decoder
) -> None:
    """Raise ValueError where positions cannot be told from the end of the keys, with the reason.

    In an encoder, keys before the first query are a prefix; a layout in which each query sees all keys does
    not ask where they are.
    """
    if is_prefix_stable(layout, keys, heads):
        return
    if model.causal or _pairs(layout, queries, keys, heads) != {queries * keys}:
        layout.require_prefix_stable(keys, heads)


def is_prefix_stable(layout: Layout, length: int, heads: int) -> bool:
    """Whether no row depends on the length, up to this one, and no key lies ahead of its query.

    A longer length is asked first, since decoding would ask anew for each token.
    """
    for at in (1 << (length - 1).bit_length(), length):
        try:
            if layout.prefix_stable(at, heads).holds:
                return True
        except BslangError:  # it is undefined at this length, or is too large there
            continue
    return False


@lru_cache(maxsize=256)
def require_causal(layout: Layout, length: int, heads: int) -> None:
    """Raise ValueError where a query sees a later key, with the pair."""
    for head in range(heads if layout.by_head else 1):
        answer = is_causal(layout._resolved.pattern, layout.graph(length, head=head))
        if not answer.holds:
            raise ValueError(
                f"the model is a decoder, and in `{layout.spec}` {answer.because}: intersect it with "
                "`causal`, or pass allow_noncausal=True to attach or register"
            )


def require_order(layout: Layout, mask: Tensor, queries: int, heads: int) -> None:
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


# ---- caches that drop keys ---------------------------------------------------------------------


@torch.compiler.disable  # type: ignore[untyped-decorator]  # torch does not type it
def require_window(layout: Layout, window: int, length: int, heads: int) -> None:
    """Raise ValueError where a query sees a key that is not among the last `window` tokens, itself included:
    a cache that keeps no others has dropped it.

    A longer length is asked first, as for decoding.
    """
    for at in (1 << (length - 1).bit_length(), length):
        try:
            pair = _outside(layout, window, at, heads)
        except BslangError:
            continue
        if pair is None:
            return
        break
    else:
        raise ValueError(_DROPS.format(window, f"`{layout.spec}` may see others"))
    raise ValueError(
        _DROPS.format(window, f"in `{layout.spec}` query {pair[0]} sees key {pair[1]}")
    )


_DROPS = (
    "the model's cache keeps the last {} tokens, and {}: pass a cache that keeps all, "
    "past_key_values=DynamicCache(), or a layout within the window of the model's configuration "
    "(sliding_window or attention_chunk_size)"
)


@lru_cache(maxsize=256)
def _outside(layout: Layout, window: int, length: int, heads: int) -> Pair | None:
    """A pair of the layout whose key is not among the last ones; None if there is none."""
    last = api.compile(f"last({window}t)", block=layout.block, target="torch").graph(length)
    for head in range(heads if layout.by_head else 1):
        others = combined(layout.graph(length, head=head), last, fold_difference)
        if (pair := first_pair(settled(others))) is not None:
            return pair
    return None


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # torch does not type it
def shift(layout: Layout, heads: int) -> int | None:
    """By how many tokens pairs of the layout may move along the diagonal, and the length with them, and stay
    in it; None where that is not known."""
    return _shift(layout, heads)


@lru_cache(maxsize=256)
def _shift(layout: Layout, heads: int) -> int | None:
    moves = []
    for head in range(heads if layout.by_head else 1):
        resolved, number = layout._resolved, layout.first_head + head
        grid = compiler.grid(resolved, 1, 1, head=number, layer=layout.layer)
        found = steady(resolved.pattern, grid)
        if found is None or found.shift is None:
            return None
        moves.append(found.shift)
    return lcm(*moves)
