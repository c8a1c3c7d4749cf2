"""Which heads of a model a module computes, where it has only some of them."""

from __future__ import annotations

import torch
from torch import nn

from bslang.runtime.runnable import Runnable


def needs_first_head(layout: Runnable, heads: int, of: int) -> bool:
    """Whether a layout has to know which `heads` of the `of` heads of a model it is called with."""
    return layout.by_head and heads != of and not layout.first_head


def first_head(module: nn.Module, heads: int, of: int, dim: int) -> int:
    """The number in the model of the first of the heads that a module computes.

    heads: as many as it computes, of `of` that the model has; dim: of a head. Its projections say which:
    DTensors whose rows are split evenly over one dimension of a mesh, as tensor parallelism has them.
    Raises ValueError where they do not.
    """
    if torch.distributed.is_available():
        from torch.distributed.tensor import DTensor

        for weight in module.parameters():
            if not isinstance(weight, DTensor) or weight.shape[0] != of * dim:
                continue
            mesh, shards = weight.device_mesh, []
            for axis, placement in enumerate(weight.placements):
                if placement.is_shard(0):
                    shards.append(axis)
            if len(shards) == 1 and heads * mesh.size(shards[0]) == of:
                return int(mesh.get_local_rank(shards[0])) * heads
    raise ValueError(
        f"{type(module).__name__} calls the layout with {heads} heads, and the model has {of}: the layout "
        "differs by head, and which heads these are is not known. Call the layout with first_head, the "
        "number of the first, or use a layout without `head`"
    )
