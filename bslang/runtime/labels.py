"""Run-time labels: what a call gives for `same(name)`, checked and laid out for kernels.

Kernels compare labels and know nothing else of them. Blocks are skipped, or run without a mask, by the
least and the greatest label that each holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F

from bslang.runtime.plan import DevicePlan

Label: TypeAlias = "torch.Tensor | tuple[torch.Tensor, torch.Tensor]"
"""Integers (batch, length) or (length,): of the key positions, or of (queries, keys)."""

LabelsOfCall: TypeAlias = "Label | Mapping[str, Label]"
"""One label by itself, or labels by name."""

_NARROW = (torch.int32, torch.int16, torch.int8, torch.uint8)
"""What int32 holds as it is."""

_LIMITS = torch.iinfo(torch.int32)


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of a call, in the order of the layout's names.

    q: int32 (labels, batch, len_q), k: int32 (labels, batch, len_k).
    q_ranges: int32 (labels, batch, block rows, 2), the least and the greatest label of each block of
        queries from the first on; k_ranges: int32 (labels, batch, block columns, 2), of keys.
    """

    q: torch.Tensor
    k: torch.Tensor
    q_ranges: torch.Tensor
    k_ranges: torch.Tensor

    @classmethod
    def of(cls, q: torch.Tensor, k: torch.Tensor, plan: DevicePlan) -> Labels:
        """Find the ranges of labels (labels, batch, length)."""
        q, k = q.contiguous(), k.contiguous()
        before = plan.q_start % plan.block_q
        return cls(q, k, _ranges(q, before, plan.block_q), _ranges(k, 0, plan.block_k))


def _blocks(x: torch.Tensor, before: int, block: int, fill: int) -> torch.Tensor:
    """(..., length) cut into blocks (..., blocks, block), with `before` places and a short end filled."""
    after = -(before + x.shape[-1]) % block
    padded = F.pad(x, (before, after), value=fill)
    return padded.reshape(*x.shape[:-1], padded.shape[-1] // block, block)


def _ranges(x: torch.Tensor, before: int, block: int) -> torch.Tensor:
    least = _blocks(x, before, block, _LIMITS.max).amin(-1)
    return torch.stack((least, _blocks(x, before, block, _LIMITS.min).amax(-1)), -1)


def take_labels(
    given: Any, names: tuple[str, ...], q: torch.Tensor, k: torch.Tensor, align: str
) -> tuple[torch.Tensor, torch.Tensor] | tuple[None, None]:
    """The labels of a call as int32 (labels, batch, len_q) and (labels, batch, len_k).

    given: what a call got as `labels`; (None, None) for a layout without labels. Raises TypeError or
    ValueError where they do not fit q (batch, heads, len_q, dim) and k (batch, key heads, len_k, dim).
    """
    if not names:
        if given is not None:
            raise TypeError("this layout has no labels; leave `labels` out")
        return None, None
    known = ", ".join(names)
    if given is None:
        example = ", ".join(f"{name!r}: tensor" for name in names)
        raise TypeError(f"this layout needs labels: pass labels={{{example}}}")
    if not isinstance(given, Mapping):
        if len(names) > 1:
            raise TypeError(f"this layout has several labels; pass a mapping with {known}")
        given = {names[0]: given}
    if unknown := [name for name in given if name not in names]:
        raise ValueError(f"this layout has no label {unknown[0]!r}; its labels: {known}")
    if missing := [name for name in names if name not in given]:
        raise ValueError(f"label {missing[0]!r} is missing; the layout's labels: {known}")
    pairs = [_pair(given[name], name, q, k, align) for name in names]
    return torch.stack([pair[0] for pair in pairs]), torch.stack([pair[1] for pair in pairs])


def _pair(
    given: Any, name: str, q: torch.Tensor, k: torch.Tensor, align: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """One label of the queries and of the keys, int32 (batch, length)."""
    batch, len_q, len_k = q.shape[0], q.shape[2], k.shape[2]
    if align == "end":
        if isinstance(given, tuple | list):
            raise TypeError(
                f"label {name!r} must be one tensor, of the keys: the queries are the last of them. "
                'A pair is for align="start"'
            )
        of_k = _narrow(_checked(given, f"label {name!r}", batch, len_k, k.device))
        return of_k[:, len_k - len_q :], of_k
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise TypeError(
            f'with align="start", label {name!r} must be a pair (labels of queries, labels of keys)'
        )
    of_q = _checked(given[0], f"label {name!r} of the queries", batch, len_q, q.device)
    of_k = _checked(given[1], f"label {name!r} of the keys", batch, len_k, k.device)
    both = _narrow(torch.cat((of_q, of_k), -1))
    return both[:, :len_q], both[:, len_q:]


def _checked(given: Any, what: str, batch: int, length: int, device: torch.device) -> torch.Tensor:
    """A tensor of labels as (batch, length)."""
    if not isinstance(given, torch.Tensor):
        raise TypeError(f"{what} must be a torch.Tensor, not {type(given).__name__}")
    if given.dtype not in (*_NARROW, torch.int64):
        raise TypeError(
            f"{what} must be integers (int64, int32, int16, int8 or uint8), not {given.dtype}"
        )
    if given.device != device:
        raise ValueError(
            f"{what} must be on the device of the tensors, {device}, not {given.device}"
        )
    if given.shape not in ((length,), (batch, length)):
        raise ValueError(
            f"{what} must have shape ({length},) or ({batch}, {length}); it has {tuple(given.shape)}"
        )
    return given.detach().expand(batch, length)


def _narrow(x: torch.Tensor) -> torch.Tensor:
    """Labels (batch, length) as int32 that are equal where they are.

    Wider ones may not fit, and become the position at which each first stands: that needs no look at
    the values, so no wait for the device.
    """
    if x.dtype in _NARROW:
        return x.to(torch.int32)
    value, order = x.sort(dim=-1, stable=True)
    new = value.diff(dim=-1, prepend=value[:, :1] - 1) != 0
    place = torch.arange(x.shape[1], device=x.device)
    start = torch.where(new, place, 0).cummax(-1).values
    return torch.empty_like(order).scatter(-1, order, order.gather(-1, start)).to(torch.int32)
