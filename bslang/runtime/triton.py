"""The Triton target at run time: grids, tiles and launches of a generated module's kernels.

Triton itself is imported by the generated module; here it is only called through its kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from bslang.runtime.plan import DevicePlan, DeviceTable


@dataclass(frozen=True)
class Launch:
    """What one kernel is compiled for beside its dtypes: its tile and its share of the machine."""

    tile_q: int
    tile_k: int
    num_warps: int
    num_stages: int

    def options(self) -> dict[str, Any]:
        """Options of the compiler. Scores and their scale are meant to meet in one FMA."""
        return {
            "num_warps": self.num_warps,
            "num_stages": self.num_stages,
            "enable_fp_fusion": True,
        }


def padded(head_dim: int) -> int:
    """Columns of a tile: a power of two, at least what a matrix instruction takes."""
    return max(16, 1 << (head_dim - 1).bit_length())


def forward_launch(tile: tuple[int, int], pad: int, itemsize: int, hip: bool = False) -> Launch:
    """The forward pass holds a tile of q and of the sums, and streams tiles of k and v."""
    tile_q = min(tile[0], 128, _rows(32, pad, itemsize))
    tile_k = min(tile[1], 64, _rows(16, pad, itemsize))
    return Launch(tile_q, tile_k, 8 if tile_q * pad >= 128 * 128 else 4, _stages(itemsize, hip))


def dq_launch(tile: tuple[int, int], pad: int, itemsize: int, hip: bool = False) -> Launch:
    """dQ holds tiles of q, of grad_out and of the sums, and streams tiles of k and v."""
    tile_q = min(tile[0], 64, _rows(16, pad, itemsize))
    tile_k = min(tile[1], 64, _rows(16, pad, itemsize))
    return Launch(tile_q, tile_k, 8 if pad > 128 else 4, _stages(itemsize, hip))


def dkdv_launch(tile: tuple[int, int], pad: int, itemsize: int, hip: bool = False) -> Launch:
    """dK and dV hold tiles of k, v and two of sums, and stream tiles of q and grad_out."""
    tile_q = min(tile[0], 64, _rows(16, pad, itemsize))
    tile_k = min(tile[1], 64, _rows(16, pad, itemsize))
    return Launch(tile_q, tile_k, 8 if pad > 64 else 4, _stages(itemsize, hip))


def _rows(kib: int, pad: int, itemsize: int) -> int:
    """How many rows of a tile fit in so much memory; at least 16."""
    return max(16, kib * 1024 // (pad * itemsize))


def _stages(itemsize: int, hip: bool) -> int:
    return 2 if hip or itemsize == 4 else 3


@dataclass(frozen=True)
class TritonTarget:
    """The kernels of one generated module.

    forward, delta, backward_dq, backward_dkdv: jit functions, as templates/triton writes them;
    tile: the largest (query, key) tile that the layout's blocks allow.
    """

    forward_kernel: Any
    delta_kernel: Any
    dq_kernel: Any
    dkdv_kernel: Any
    tile: tuple[int, int]

    name = "triton"
    dtypes = (torch.float32, torch.float16, torch.bfloat16)

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, plan: DevicePlan, scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `bslang.runtime.target.Target`."""
        batch, heads, len_q, dim = q.shape
        q, scale, _ = _positive(q, scale)
        q, k, v = _rows_together(q), _rows_together(k), _rows_together(v)
        out = torch.empty((batch, heads, len_q, dim), dtype=q.dtype, device=q.device)
        lse = torch.empty((batch, heads, len_q), dtype=torch.float32, device=q.device)
        launch = forward_launch(self.tile, padded(dim), q.itemsize, _hip())
        _run(
            self.forward_kernel,
            _programs(plan.rows, plan.block_q, launch.tile_q) * batch * heads,
            (q, k, v, out, lse, *_tables(plan.rows, plan), *_strides(q, k, v)),
            (*_shape(q, k, plan), scale),
            launch,
        )
        return out, lse

    def backward(
        self,
        grad_out: torch.Tensor,
        grad_lse: torch.Tensor,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        out: torch.Tensor,
        lse: torch.Tensor,
        plan: DevicePlan,
        scale: float,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See `bslang.runtime.target.Target`."""
        batch, heads, len_q, dim = q.shape
        ...
