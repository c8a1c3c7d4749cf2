"""The triton target: launches of a generated module's kernels.

Only the generated module imports Triton; here it is met through its kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from bslang.runtime.plan import DevicePlan, DeviceTable


@dataclass(frozen=True)
class Launch:
    """How a kernel is compiled for a call: the constants of its source, and the compiler's options."""

    constants: dict[str, Any]
    options: dict[str, Any]

    @property
    def tile_q(self) -> int:
        tile: int = self.constants["TILE_Q"]
        return tile

    @property
    def tile_k(self) -> int:
        tile: int = self.constants["TILE_K"]
        return tile


def launch(
    kernel: str,
    head_dim: int,
    itemsize: int,
    tile: tuple[int, int],
    *,
    amd: bool = False,
    precision: str = "ieee",
) -> Launch:
    """What suits a kernel: "forward", "delta", "dq" or "dkdv".

    itemsize: bytes of an element; tile: the largest (query, key) tile that the layout's blocks allow;
    amd: whether the device is AMD's, which has less shared memory; precision: of fp32 products,
    "ieee" or "tf32".
    """
    pad = max(16, 1 << (head_dim - 1).bit_length())

    def rows(kib: int) -> int:
        """How many rows of a tile so much memory holds."""
        return max(16, kib * 1024 // (pad * itemsize))

    # A program keeps the tile of its own rows (queries, or keys for dK and dV) and streams the other.
    kept = min(128, rows(32)) if kernel == "forward" else min(64, rows(16))
    streamed = min(64, rows(16))
    tile_q, tile_k = (streamed, kept) if kernel == "dkdv" else (kept, streamed)
    constants = {"HEAD_DIM": head_dim, "PAD": pad, "TILE_Q": min(tile[0], tile_q)}
    if kernel != "delta":
        constants |= {"TILE_K": min(tile[1], tile_k), "PRECISION": precision}
    sums = kept * pad * (2 if kernel == "dkdv" else 1)
    options = {
        "num_warps": 8 if sums >= 128 * 128 else 4,
        "num_stages": 2 if amd or itemsize == 4 else 3,
        "enable_fp_fusion": True,  # a score meets its scale and its row's maximum in one instruction
    }
    return Launch(constants, options)


class TritonTarget:
    """The kernels of a generated module; `bslang.runtime.target.Target` for tensors on a GPU.

    Under TRITON_INTERPRET=1 they run on the CPU, for tests.
    """

    name = "triton"
    dtypes = (torch.float32, torch.float16, torch.bfloat16)

    def __init__(
        self, forward: Any, delta: Any, backward_dq: Any, backward_dkdv: Any, tile: tuple[int, int]
    ) -> None:
        """The module's jit functions; tile: the largest (query, key) tile that its blocks allow."""
        self.kernels = {"forward": forward, "delta": delta, "dq": backward_dq, "dkdv": backward_dkdv}
        self.tile = tile

    def missing(self, device: torch.device) -> str:
        kind = type(self.kernels["forward"]).__module__
        if kind == "bslang.runtime.no_triton":
            return "needs the package `triton`, which is not installed"
        if device.type != "cuda" and kind != "triton.runtime.interpreter":
            return "needs a GPU"
        return ""

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, plan: DevicePlan, scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As `Target.forward`."""
        q, scale, _ = _positive(q, scale)
        q, k, v = _readable(q), _readable(k), _readable(v)
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        lse = torch.empty(q.shape[:3], dtype=torch.float32, device=q.device)
        self._by_rows("forward", (q, k, v), (out, lse), q, k, plan, scale)
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
        """As `Target.backward`."""
        q, scale, sign = _positive(q, scale)
        q, k, v, do = _readable(q), _readable(k), _readable(v), _readable(grad_out)
        dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
        delta, lse2 = torch.empty_like(lse), torch.empty_like(lse)
        ...


def _positive(q: torch.Tensor, scale: float) -> tuple[torch.Tensor, float, int]:
    """q and a scale above 0 with the same products, and the factor that q took for it: 1, -1 or 0.

    Kernels find the maximum of a row before they scale it.
    """
    sign = (scale > 0) - (scale < 0)
    return (q if sign == 1 else q * sign), abs(scale) or 1.0, sign
