"""The torch operator that puts shards together: every rank gets the whole tensor."""

from __future__ import annotations

from typing import Any

import torch

from bslang.distributed.transport import all_gather, resolved
from bslang.runtime.op import define


def part(
    x: torch.Tensor, dim: int, positions: torch.Tensor, valid: torch.Tensor, fill: float
) -> torch.Tensor:
    """Some positions of a dimension, and a number where they are not valid."""
    shape = [1] * x.dim()
    shape[dim] = valid.shape[0]
    return torch.where(valid.view(shape), x.index_select(dim, positions), fill)


def _joined(
    x: torch.Tensor,
    dim: int,
    ranks: int,
    places: torch.Tensor,
    positions: torch.Tensor,
    valid: torch.Tensor,
    group: str,
) -> torch.Tensor:
    """The tensor of the whole sequence, of this rank's shard of it along a dimension.

    places: int64 (length,), where the tokens are in the shards of all ranks, one after another; positions,
    valid: int64 and bool (local length,), as a `Sharding` has them.
    """
    mine = x.movedim(dim, 0).contiguous()
    shards = mine.new_empty((ranks * mine.shape[0], *mine.shape[1:]))
    all_gather(shards, mine, group=resolved(group))
    return shards.index_select(0, places).movedim(0, dim).contiguous()


def _fake(
    x: torch.Tensor,
    dim: int,
    ranks: int,
    places: torch.Tensor,
    positions: torch.Tensor,
    valid: torch.Tensor,
    group: str,
) -> torch.Tensor:
    return x.new_empty((*x.shape[:dim], places.shape[0], *x.shape[dim + 1 :]))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    _, ctx.dim, _, _, positions, valid, _ = inputs
    ctx.save_for_backward(positions, valid)


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    positions, valid = ctx.saved_tensors
    return part(grad, ctx.dim, positions, valid, 0), *(None,) * 6


joined = define("join_shards", _joined, _fake)
"""The whole of a shard; it has gradients: each rank's part of its own."""

torch.library.register_autograd("bslang::join_shards", _backward, setup_context=_setup_context)
