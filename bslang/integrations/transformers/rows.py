"""Attention of the rows of a batch: whole, padded, packed, or the last ones of a cache."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch

from bslang.integrations.transformers.mask import (
    DROPPED,
    OTHERS,
    PADDING_FIRST,
    REST,
    ROOM,
)
from bslang.integrations.transformers.needs import (
    Decoder,
    is_prefix_stable,
    require,
    require_causal,
    require_order,
    require_window,
    shift,
)
from bslang.layouts import Layout

Tensor = torch.Tensor


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
            require_causal(layout, length, q.shape[1])
    batch, heads, length = q.shape[:3]
    q, k, v = (x.transpose(0, 1).reshape(1, x.shape[1], -1, x.shape[3]) for x in (q, k, v))
    out = _tensor(layout.packed(q, k, v, offsets, **options))
    return out.reshape(heads, batch, length, v.shape[3]).transpose(0, 1)


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
    rows = _Rows(layout, model, options)
    traced = mask is not None and mask.dim() == 3
    if mask is not None and (mask.dtype == OTHERS or (traced and not model.causal)):
        raise ValueError(REST.format(length=queries, keys=keys))
    if mask is not None and traced:
        return rows.in_room(q, k, v, mask)
    dropped = 0  # keys that the cache no longer has
    if mask is not None and mask.dtype == ROOM and mask.shape[1] < keys:
        keys = mask.shape[1]
        k, v = k[:, :, :keys], v[:, :, :keys]
    elif mask is not None and mask.dtype == DROPPED:
        dropped = max(mask.shape[1] - keys, 0)
    if queries > keys or not (mask is None or mask.shape[1] == dropped + keys):
        places = "" if mask is None else f" and a mask of {mask.shape[1]}"
        raise ValueError(
            f"{queries} queries came with {keys} keys{places}: layouts are for self-attention, with a cache "
            "that keeps every key, and masks for all of them"
        )
    if mask is None:
        return rows.attend(q, k, v, None, dropped)
    mask = mask.bool()
    if torch.compiler.is_compiling():  # what depends on values cannot be asked here
        return rows.compiled(q, k, v, mask, dropped)
    if mask.all():
        return rows.attend(q, k, v, None, dropped)
    starts = mask.int().argmax(1).tolist()  # 0 in a row of padding alone
    apart = len(set(starts)) > 1
    between = queries < dropped + keys and bool((mask[:, 1:] < mask[:, :-1]).any())
    if apart and not between and _shift(layout, q) == 1:
        starts = [0] * len(starts)  # padding is hidden, and nothing else changes
    elif (apart or between) and rows.may_end_apart(q, mask, dropped):
        return rows.end_apart(q, k, v, mask, dropped)
    elif between:
        require_order(layout, mask, queries, q.shape[1])
    if not any(starts):
        return rows.attend(q, k, v, mask[:, dropped:], dropped)
    return rows.left_padded(q, k, v, mask, starts)


_ON_THE_RIGHT = (
    "it matters in `{}` where a sequence begins, and torch.compile cannot ask: compiled models take padding "
    "on the right only"
)


class _Rows:
    """Calls of a layout for rows of a batch, whose queries are the last of their keys."""

    def __init__(self, layout: Layout, model: Decoder, options: dict[str, Any]) -> None:
        self.layout, self.model, self.options = layout, model, options

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropped: int = 0
    ) -> Tensor:
        """Attention of rows that begin at one place.

        mask: bool (batch, keys), True where a key is there; dropped: how many keys of the rows, the first
        ones, are not given. They are left out if the layout moves along with the rest, else zeros stand in
        for them: no query sees them.
        """
        queries, keys, heads = q.shape[2], k.shape[2], q.shape[1]
        compiling = torch.compiler.is_compiling()
        if not compiling or queries < dropped + keys:
            require(self.layout, queries, dropped + keys, heads, self.model)
        if dropped:
            require_window(self.layout, keys - queries + 1, dropped + keys, heads)
            step = _shift(self.layout, q)
            before = dropped % step if step else dropped
            k, v = (torch.nn.functional.pad(x, (0, 0, before, 0)) for x in (k, v))
            mask = None if mask is None else torch.nn.functional.pad(mask, (before, 0), value=True)
        padding = None
        if mask is not None and (compiling or not mask.all()):
            padding = _hidden(mask, queries)
        return _tensor(self.layout(q, k, v, key_padding=padding, **self.options))

    def may_end_apart(self, q: Tensor, mask: Tensor, dropped: int) -> bool:
        """Whether `end_apart` gives each row what it has alone: no row depends on the length, queries that
        are padding come before the others of their row, and so does padding that a cache has kept in the
        place of tokens."""
        if not is_prefix_stable(self.layout, mask.shape[1], q.shape[1]):
            return False
        if dropped and _shift(self.layout, q) != 1:
            return False
        return bool(_is_placed(mask, q.shape[2], dropped))

    def end_apart(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, dropped: int) -> Tensor:
        """Rows whose keys are moved together, so that each begins at its first token and ends at a place of
        its own. Queries before the first token have output 0.

        mask: bool (batch, tokens), of the keys and those before them that were dropped.
        """
        queries, keys = q.shape[2], k.shape[2]
        if dropped:
            require_window(self.layout, keys - queries + 1, dropped + keys, q.shape[1])
            mask = mask[:, dropped:]
        return self.moved_together(q, k, v, mask & mask[:, keys - queries :].any(1, keepdim=True))

    def moved_together(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """Attention of queries that are the last of the keys which are there; mask: bool (batch, keys)."""
        order = mask.logical_not().to(torch.int8).argsort(dim=1, stable=True)
        row = torch.arange(k.shape[0], dtype=torch.int64, device=k.device)[:, None]
        k, v = (x.transpose(1, 2)[row, order].transpose(1, 2) for x in (k, v))
        return _tensor(self.layout(q, k, v, lengths=mask.sum(1), **self.options))

    def in_room(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """As `padded`, with a cache that has room, in a program that torch.compile traces."""
        if mask.dtype == ROOM:
            return self.moved_together(q, k, v, mask[:, 0].bool())
        lengths = mask[0, 0].expand(k.shape[0])
        return _tensor(self.layout(q, k, v, lengths=lengths, **self.options))

    def compiled(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, dropped: int) -> Tensor:
        """As `padded`, in a program that torch.compile traces."""
        moves = _shift(self.layout, q) == 1
        if self.model.causal and q.shape[2] < k.shape[2] and (moves or not dropped):
            torch._assert_async(_is_placed(mask, q.shape[2], dropped), PADDING_FIRST)
            return self.end_apart(q, k, v, mask, dropped)
        if not moves:
            torch._assert_async(mask[:, 0].all(), _ON_THE_RIGHT.format(self.layout.spec))
        return self.attend(q, k, v, mask[:, dropped:], dropped)

    def left_padded(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, starts: list[int]
    ) -> Tensor:
        """Each row from its first token on, so that the layout's positions are the sequence's own; a call
        for each of the starts. Queries before them have output 0.

        mask: bool (batch, tokens), of the keys and those before them that were dropped.
        """
        queries, keys, tokens = q.shape[2], k.shape[2], mask.shape[1]
        outs: list[Tensor] = []
        order: list[int] = []
        for start in sorted(set(starts)):
            rows: Any = [row for row, its in enumerate(starts) if its == start]
            first = max(start - (tokens - keys), 0)  # of the keys
            skipped = max(start - (tokens - queries), 0)  # queries that are padding
            if skipped < queries:
                given = q[rows, :, skipped:], k[rows, :, first:], v[rows, :, first:]
                there = mask[rows, tokens - keys + first :]
                out = self.attend(*given, there, max(tokens - keys - start, 0))
                outs.append(torch.nn.functional.pad(out, (0, 0, skipped, 0)))
            else:
                outs.append(q.new_zeros((len(rows), *q.shape[1:3], v.shape[3])))
            order += rows
        back = torch.tensor(order, dtype=torch.int64, device=q.device).argsort()
        return torch.cat(outs)[back]


def _shift(layout: Layout, q: Tensor) -> int | None:
    step: int | None = shift(layout, q.shape[1] if layout.by_head else 1)
    return step


def _is_placed(mask: Tensor, queries: int, dropped: int) -> Tensor:
    """bool (), whether in all rows padding among the queries comes first, and a cache that has dropped tokens
    of a row has kept as many as it has room for."""
    own = mask[:, mask.shape[1] - queries :]
    whole = mask[:, dropped:].all(1) | ~mask[:, :dropped].any(1)
    return ((own[:, 1:] >= own[:, :-1]).all(1) & (whole | (dropped == 0))).all()


def _hidden(mask: Tensor, queries: int) -> Tensor:
    """The keys that are padding. Where all tokens of a chunk are, so is the row: nobody reads what they
    give, and calls refuse padding in the place of queries."""
    return ~mask if queries == 1 else ~(mask & mask[:, -queries:].any(1, keepdim=True))


def _tensor(out: Any) -> Tensor:
    assert isinstance(out, Tensor)
    return out
