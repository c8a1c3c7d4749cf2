"""Rows of a batch that end at different places, one after another: each is a call of its own length.

For targets whose kernels do not find the rows of queries by position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import torch
from torch.nn.functional import pad

from bslang.call import Call
from bslang.runtime.plan import is_capturing

Tensors: TypeAlias = tuple[torch.Tensor, ...]


def forward(
    attend: Callable[..., Tensors], q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, call: Call
) -> tuple[torch.Tensor, torch.Tensor]:
    """(out, lse) of a call with lengths; attend(q, k, v, call): those of a call without."""
    outs, lses = [], []
    for one, before, keys in _rows(call, q.shape[2]):
        given = q[one, :, before:], *(_keys_of(x, call, one, keys) for x in (k, v))
        out, lse = attend(*given, call.row(one.start, q.shape[2] - before, keys))
        outs.append(pad(out, (0, 0, before, 0)))
        lses.append(pad(lse, (before, 0), value=-torch.inf))
    return torch.cat(outs), torch.cat(lses)


def backward(
    attend: Callable[..., Tensors], given: Sequence[torch.Tensor], call: Call
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(dq, dk, dv) of a call with lengths; given: the tensors of a backward pass, grad_out, grad_lse, q, k,
    v, out and lse; attend(*given, call): those of a call without."""
    grads: tuple[list[torch.Tensor], ...] = ([], [], [])
    len_q, len_k = given[2].shape[2], given[3].shape[2]
    for one, before, keys in _rows(call, len_q):
        queries, some = slice(before, None), slice(keys)
        cuts = (queries, queries, queries, some, some, queries, queries)
        # Results of a call of its own, which out and lse are here, are contiguous.
        parts = (x[one, :, cut].contiguous() for x, cut in zip(given, cuts, strict=True))
        dq, dk, dv = attend(*parts, call.row(one.start, len_q - before, keys))
        after = (0, 0, 0, len_k - keys)
        padded = pad(dq, (0, 0, before, 0)), pad(dk, after), pad(dv, after)
        for of_rows, x in zip(grads, padded, strict=True):
            of_rows.append(x)
    dq, dk, dv = map(torch.cat, grads)
    return dq, dk, dv


def _keys_of(x: torch.Tensor, call: Call, one: slice, keys: int) -> torch.Tensor:
    """Of k or v what a row of the batch reads: with pages, all of them."""
    return x if call.k_pages is not None else x[one, :, :keys]


def _rows(call: Call, len_q: int) -> Iterator[tuple[slice, int, int]]:
    """Each row of the batch, as an index, how many of its queries are before position 0, and its keys."""
    assert call.lengths is not None
    if is_capturing(call.lengths.device):
        raise RuntimeError(
            "lengths on a GPU are read by the host, which cannot be while a CUDA graph is captured"
        )
    for number, keys in enumerate(call.lengths.tolist()):
        yield slice(number, number + 1), max(len_q - keys, 0), keys
