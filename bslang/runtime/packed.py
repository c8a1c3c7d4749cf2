"""Packed sequences: several in one tensor, end to end, with the pattern applied inside each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import torch

from bslang.runtime.capacity import rounded
from bslang.runtime.plan import is_capturing, sent
from bslang.runtime.runnable import Runnable

Offsets: TypeAlias = "torch.Tensor | Sequence[int]"
"""Where each sequence begins, and the last ends: integers (sequences + 1,)."""


def attend(
    layout: Runnable,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    ends: tuple[Offsets, Offsets | None],
    options: dict[str, Any],
) -> tuple[torch.Tensor, torch.Tensor]:
    """(out, lse) of `Layout.packed`; ends: of the queries, and of the keys where these are others; options:
    those of a call.

    One call serves all sequences of one length. Where no row of the layout depends on the length,
    sequences of similar lengths share one as well: what is padded on the right comes after all that
    it might be seen by.
    """
    if "first_head" in options:
        layout = layout.at_heads(options.pop("first_head"))
    of_q, of_k = _checked(ends, q, k, options.get("align", "end"))
    lengths = list(zip(_lengths(of_q), _lengths(of_k), strict=True))
    longest = max((queries for queries, keys in lengths if queries == keys), default=0)
    stable = longest > 0 and layout._is_prefix_stable(longest, q.shape[1])
    batches: dict[tuple[int, int], list[int]] = {}
    for number, (queries, keys) in enumerate(lengths):
        if queries:
            shared = rounded(keys) if stable and queries == keys else None
            batches.setdefault((shared or queries, shared or keys), []).append(number)
    if is_capturing(q.device):
        raise RuntimeError(
            "packed sequences are cut on the host, which cannot be while a CUDA graph is captured; call the "
            "layout with labels, `same(doc)`, which lie on the GPU"
        )
    outs, lses = [], []
    place, begin = torch.empty(of_q[-1], dtype=torch.int64, device="cpu"), 0
    for (queries, keys), members in batches.items():
        rows = _Rows.of(of_q, members, queries)
        of_queries = sent(rows.index, q.device)
        of_keys = of_queries
        if of_k is not of_q:
            of_keys = sent(_Rows.of(of_k, members, keys).index, q.device)
        out, lse = layout(
            _taken(q, of_queries),
            _taken(k, of_keys),
            _taken(v, of_keys),
            return_lse=True,
            **options,
        )
        numbers = torch.arange(rows.index.numel(), dtype=torch.int64, device="cpu")
        place[rows.index[rows.in_bounds]] = begin + numbers.view_as(rows.index)[rows.in_bounds]
        begin += rows.index.numel()
        outs.append(out.transpose(1, 2).flatten(0, 1))
        lses.append(lse.transpose(1, 2).flatten(0, 1))
    if not batches:  # no queries at all
        return layout(q, k, v, return_lse=True, **options)
    order = sent(place, q.device)
    out, lse = torch.cat(outs)[order], torch.cat(lses)[order]
    return out.transpose(0, 1)[None], lse.T[None]


def _taken(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """(1, heads, tokens, dim) as (sequences, heads, length, dim)."""
    return x[0, :, index].transpose(0, 1)


@dataclass(frozen=True)
class _Rows:
    """Sequences of like lengths as rows of a batch, padded on the right with the first token of each.

    index: int64 (sequences, length), tokens of the packed tensor; in_bounds: bool, those that are no padding.
    Both are on the host.
    """

    index: torch.Tensor
    in_bounds: torch.Tensor

    @classmethod
    def of(cls, ends: list[int], members: list[int], length: int) -> _Rows:
        made: Any = {"dtype": torch.int64, "device": "cpu"}
        start = torch.tensor([ends[number] for number in members], **made)[:, None]
        stop = torch.tensor([ends[number + 1] for number in members], **made)[:, None]
        place = start + torch.arange(length, **made)
        in_bounds = place < stop
        return cls(torch.where(in_bounds, place, start), in_bounds)


def _lengths(ends: list[int]) -> list[int]:
    return [stop - start for start, stop in pairwise(ends)]


def _checked(
    ends: tuple[Offsets, Offsets | None], q: torch.Tensor, k: torch.Tensor, align: str
) -> tuple[list[int], list[int]]:
    """Offsets of queries and keys as lists. Raises TypeError or ValueError where they do not fit one another,
    or q (1, heads, tokens, dim) and k."""
    if q.shape[0] != 1:
        raise ValueError(f"packed sequences are one batch row; q has batch size {q.shape[0]}")
    queries, keys = ends
    if keys is None:
        if q.shape[2] != k.shape[2]:
            raise ValueError(
                f"q has {q.shape[2]} tokens, k and v have {k.shape[2]}: pass cu_seqlens_k, where the keys of "
                "each sequence begin"
            )
        of_q = offsets(queries, "cu_seqlens", "q", q.shape[2])
        return of_q, of_q
    of_q = offsets(queries, "cu_seqlens", "q", q.shape[2])
    of_k = offsets(keys, "cu_seqlens_k", "k", k.shape[2])
    if len(of_q) != len(of_k):
        raise ValueError(
            f"cu_seqlens has {len(of_q) - 1} sequences, and cu_seqlens_k {len(of_k) - 1}"
        )
    for number, (of_queries, of_keys) in enumerate(
        zip(_lengths(of_q), _lengths(of_k), strict=True)
    ):
        if align == "end" and of_queries > of_keys > 0:
            raise ValueError(
                f"sequence {number} has {of_queries} queries, which cannot be the last positions of "
                f'{of_keys} keys; pass align="start" where queries and keys are different sequences'
            )
    return of_q, of_k


def offsets(given: Offsets, name: str, tensor: str, length: int) -> list[int]:
    """Offsets as a list. Raises TypeError or ValueError where they do not cut `length` tokens."""
    if isinstance(given, torch.Tensor):
        if given.dim() != 1 or given.is_floating_point() or given.dtype == torch.bool:
            raise ValueError(
                f"{name} must be integers (sequences + 1,); it is {given.dtype} {tuple(given.shape)}"
            )
        ends = given.tolist()
    else:
        ends = list(given)
        if not all(isinstance(end, int) and not isinstance(end, bool) for end in ends):
            raise TypeError(f"{name} must be a tensor of integers, or a list of them")
    rises = all(a <= b for a, b in pairwise(ends))
    if not ends or ends[0] != 0 or ends[-1] != length or not rises:
        raise ValueError(
            f"{name} must rise from 0 to the length of {tensor}, {length}; it is {ends[:8]}"
            + ("" if len(ends) <= 8 else f" ... {ends[-1]}")
        )
    return ends
