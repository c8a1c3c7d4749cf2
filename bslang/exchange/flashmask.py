"""Layouts as FlashMask's row indices: the queries that do not see a key, as one or two intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from bslang.errors import PatternError
from bslang.exchange.lines import Lines, columns_of
from bslang.graph.blockgraph import BlockGraph
from bslang.ir.grid import Ints
from bslang.ir.runs import Bools


class FlashMask(NamedTuple):
    """The mask arguments of FlashMask's `flashmask_attention`.

    startend_row_indices: int32 (1, key heads or 1, len_k, 1, 2 or 4), rows being queries of the call.
    causal: whether queries before a key are masked besides. For a key, with causal: (a,) masks the queries
    from a on, (a, b) those of a .. b - 1. Without: (a, b) masks those from a on and those before b,
    (a, b, c, d) those of a .. b - 1 and c .. d - 1.
    """

    startend_row_indices: torch.Tensor
    causal: bool


class _Masked(NamedTuple):
    """The queries that do not see keys, in intervals [start, stop) that do not touch, sorted by key."""

    key: Ints
    start: Ints
    stop: Ints

    @classmethod
    def of(cls, seen: Lines, len_q: int, len_k: int) -> _Masked:
        """What intervals of queries that see each key leave: before, between and after them."""
        key = np.concatenate((np.arange(len_k), seen.line))
        start = np.concatenate((np.zeros(len_k, dtype=np.int64), seen.stop))
        order = np.lexsort((start, key))
        key, start = key[order], start[order]
        last = np.append(key[1:] != key[:-1], True)
        stop = np.full(key.size, len_q, dtype=np.int64)
        stop[~last] = seen.start
        keep = start < stop
        return cls(key[keep], start[keep], stop[keep])

    def within(self, first: Ints) -> _Masked:
        """Those of the queries from first[key] on."""
        start = np.maximum(self.start, first[self.key])
        keep = start < self.stop
        return _Masked(self.key[keep], start[keep], self.stop[keep])

    def single(self, keys: int, absent: int) -> tuple[Ints, Ints] | None:
        """The interval of each key, [absent, absent) where there is none; None if a key has several."""
        if np.bincount(self.key, minlength=keys).max(initial=0) > 1:
            return None
        return self.spread(np.ones(self.key.size, dtype=bool), keys, absent)

    def spread(self, chosen: Bools, keys: int, absent: int) -> tuple[Ints, Ints]:
        """The chosen interval of each key, [absent, absent) where there is none."""
        start, stop = (np.full(keys, absent, dtype=np.int64) for _ in range(2))
        start[self.key[chosen]], stop[self.key[chosen]] = self.start[chosen], self.stop[chosen]
        return start, stop


_Columns = tuple[Ints, ...]


def to_flashmask(
    graphs: Sequence[BlockGraph], order: Sequence[int], device: torch.device
) -> FlashMask:
    """The row indices of a call with the given graph of each head; see `Layout.to_flashmask`."""
    q, k = graphs[0].grid.q, graphs[0].grid.k
    len_q, len_k = q.stop - q.start, k.stop
    seen = [columns_of(graph) for graph in graphs]
    masked = [_Masked.of(lines, len_q, len_k) for lines in seen]
    causal = len_q == len_k and all((lines.start >= lines.line).all() for lines in seen)
    forms: list[tuple[bool, Callable[[_Masked, int, int], _Columns | None]]] = [
        (False, _outer),
        (False, _two),
    ]
    if causal:
        forms[:0] = [(True, _from), (True, _one)]
    for is_causal, form in forms:
        found = [form(part, len_q, len_k) for part in masked]
        if all(part is not None for part in found):
            columns = [np.stack(part, axis=-1) for part in found if part is not None]
            made = np.stack([columns[graph] for graph in order])[None].astype(np.int32)
            return FlashMask(torch.from_numpy(made).to(device), is_causal)
    raise PatternError(f"{_reason(masked)}; `to_flex` and `to_ranges` have no such limit")


def _from(masked: _Masked, len_q: int, len_k: int) -> _Columns | None:
    """Causal, one column: from a query on, all others are masked."""
    inner = masked.within(np.arange(len_k))
    found = inner.single(len_k, len_q)
    return None if found is None or (inner.stop < len_q).any() else found[:1]


def _one(masked: _Masked, len_q: int, len_k: int) -> _Columns | None:
    """Causal, two columns: an interval."""
    return masked.within(np.arange(len_k)).single(len_k, len_q)


def _outer(masked: _Masked, len_q: int, len_k: int) -> _Columns | None:
    """Not causal, two columns: what is before a query, and from another one on."""
    before, after = masked.start == 0, masked.stop == len_q
    if not (before | after).all():
        return None
    low, high = np.full(len_k, len_q, dtype=np.int64), np.zeros(len_k, dtype=np.int64)
    low[masked.key[after]] = masked.start[after]
    high[masked.key[before]] = masked.stop[before]
    return low, high


def _two(masked: _Masked, len_q: int, len_k: int) -> _Columns | None:
    """Not causal, four columns: two intervals, the later one first."""
    count = np.bincount(masked.key, minlength=len_k)
    if count.max(initial=0) > 2:
        return None
    # The only one of a key is the earlier one if it begins with the first query.
    early = (count[masked.key] == 1) & (masked.start == 0)
    early[:-1] |= masked.key[1:] == masked.key[:-1]
    return masked.spread(~early, len_k, len_q) + masked.spread(early, len_k, 0)


def _reason(masked: Sequence[_Masked]) -> str:
    """The first key that has too many intervals; or that one head needs another form than another."""
    for head in masked:
        count = np.bincount(head.key)
        if count.max(initial=0) > 2:
            key = int((count > 2).argmax())
            mine = head.key == key
            parts = zip(head.start[mine].tolist(), head.stop[mine].tolist(), strict=True)
            listed = ", ".join(f"{start}:{stop}" for start, stop in parts)
            text = listed if len(listed) < 60 else f"{listed[:57]}..."
            return (
                f"FlashMask holds two intervals of masked queries for each key, and key {key} has "
                f"{int(count[key])}: {text}"
            )
    raise AssertionError("two intervals fit every key")
