"""Rotary position embedding."""

from __future__ import annotations

import torch
from torch import nn


class Rotary(nn.Module):
    """Rotary position embedding (Su 2021, arXiv 2104.09864), with the halves of a head as the two
    coordinates, as GPT-NeoX and Llama have it.

    Coordinates i and i + dim / 2 of the token at position p are turned by the angle
    p * base ** (-2 i / dim). It has no parameters and no buffers, so that nothing of it is rounded when
    a model changes its dtype, and layers can share one.
    """

    def __init__(self, base: float = 10_000.0) -> None:
        """Raises ValueError unless base is a number above 1."""
        super().__init__()
        if isinstance(base, bool) or not isinstance(base, int | float) or not base > 1:
            raise ValueError(f"the base of rotary positions must be a number above 1, not {base!r}")
        self.base = float(base)

    def forward(
        self,
        x: torch.Tensor,
        start: int | torch.Tensor = 0,
        positions: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """x: (batch, heads, length, dim), dim even. start: the position of the first token, or int64
        (batch,), that of each row. positions: instead, integers (length,) or (batch, length), that of each
        token, such as those of a rank's shard (`bslang.distributed.Sharding.positions`). Returns the same
        shape and dtype. Angles are computed in fp32, for fp64 tensors in fp64.
        """
        length, dim = x.shape[-2:]
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        half = torch.arange(0, dim, 2, device=x.device, dtype=dtype) / dim
        if positions is not None:
            position = (positions if positions.dim() == 1 else positions[:, None]).to(
                x.device, dtype
            )
        elif isinstance(start, torch.Tensor):
            count = torch.arange(length, device=x.device, dtype=torch.int64)
            position = (start[:, None, None] + count).to(dtype)
        else:
            position = torch.arange(start, start + length, device=x.device, dtype=dtype)
        angle = position[..., None] * self.base**-half
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        a, b = x.chunk(2, dim=-1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)

    def extra_repr(self) -> str:
        """The base."""
        return f"base={self.base:g}"
