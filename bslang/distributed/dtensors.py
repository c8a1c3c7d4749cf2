"""DTensors as shards: what they must be, and their results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.tensor import DTensor


@dataclass(frozen=True, eq=False)
class Held:
    """How the tensors of a call were held. mesh, placements: as DTensors have them; heads: the dimension of
    the mesh over which heads are sharded, None for none."""

    mesh: Any
    placements: tuple[Any, ...]
    heads: int | None

    def first_head(self, heads: int) -> int:
        """The number of the first of this rank's query heads."""
        return 0 if self.heads is None else int(self.mesh.get_local_rank(self.heads)) * heads

    def put_together(self, x: torch.Tensor) -> DTensor:
        """A result (batch, heads, local length, ...) as a DTensor."""
        return DTensor.from_local(x, self.mesh, self.placements, run_check=False)


def taken_apart(
    group: str, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
) -> tuple[Held, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """The shards that DTensors hold on this rank. group: the name of the group that the sequence is cut over.

    Raises TypeError or ValueError unless they are Shard(2) over this group, and over the rest of one mesh
    Shard(1), evenly, or replicated.
    """
    shards: list[DTensor] = []
    for name, x in (("q", q), ("k", k), ("v", v)):
        if not isinstance(x, DTensor):
            raise TypeError(f"q, k and v must all be DTensors, or none; {name} is not one")
        shards.append(x)
        of_q = shards[0]
        if x.device_mesh != of_q.device_mesh or x.placements != of_q.placements:
            raise ValueError(
                f"q, k and v must have one mesh and the same placements; q has {of_q.placements}, "
                f"{name} {x.placements}"
            )
    mesh, placements = shards[0].device_mesh, shards[0].placements
    over = [axis for axis in range(mesh.ndim) if mesh.get_group(axis).group_name == group]
    heads = None
    for axis, placement in enumerate(placements):
        if axis in over:
            if not placement.is_shard(2):
                raise ValueError(
                    f"over the ranks of the sharding, q, k and v must be Shard(2), not {placement}"
                )
        elif placement.is_shard(1) and heads is None:
            heads = axis
        elif not placement.is_replicate():
            raise ValueError(
                "q, k and v may be Shard(2) over the ranks of the sharding and Shard(1) over one other "
                f"dimension of their mesh; they are {placement} over dimension {axis}"
            )
    if not over:
        raise ValueError("q, k and v are DTensors of a mesh without the group of the sharding")
    if heads is not None:
        for name, x in (("q", q), ("k and v", k)):
            if x.shape[1] % mesh.size(heads):
                raise ValueError(
                    f"the {x.shape[1]} heads of {name} must be a multiple of the {mesh.size(heads)} ranks "
                    "that they are sharded over"
                )
    q, k, v = (shard.to_local() for shard in shards)
    return Held(mesh, tuple(placements), heads), (q, k, v)
