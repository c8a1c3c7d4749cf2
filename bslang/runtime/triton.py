"""The triton target: launches of a generated module's kernels.

Only the generated module imports Triton; here it is met through its kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from bslang.runtime.plan import DevicePlan


@dataclass(frozen=True)
class Launch:
    """How a kernel is compiled for a call: the constants of its source, and the compiler's options."""

    constants: dict[str, Any]
    options: dict[str, Any]


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
    tile_q, tile_k = min(tile_q, tile[0]), min(tile_k, tile[1])
    constants = {"HEAD_DIM": head_dim, "PAD": pad, "TILE_Q": tile_q}
    if kernel != "delta":
        constants |= {"TILE_K": tile_k, "PRECISION": precision}
    sums = pad * (2 * tile_k if kernel == "dkdv" else tile_q)
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
        self.kernels = {
            "forward": forward,
            "delta": delta,
            "dq": backward_dq,
            "dkdv": backward_dkdv,
        }
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
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        lse = torch.empty(q.shape[:3], dtype=torch.float32, device=q.device)
        self._walk("forward", (q, k, v), (out, lse), plan, scale)
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
        do = _readable(grad_out)
        dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
        delta, lse2 = torch.empty_like(lse), torch.empty_like(lse)
        chosen = self._launch("delta", q)
        (batch, heads, len_q), tile = lse.shape, chosen.constants["TILE_Q"]
        known = (out.contiguous(), do, lse, grad_lse.contiguous())
        arguments = (*known, delta, lse2, *do.stride()[:3], heads, len_q)
        self._start("delta", chosen, batch * heads * -(-len_q // tile), arguments)
        self._walk("dq", (q, k, v, do), (delta, lse2, dq), plan, scale)
        self._walk("dkdv", (q, k, v, do), (delta, lse2, dk, dv), plan, scale)
        return (dq if sign == 1 else dq * sign), dk, dv

    def _walk(
        self,
        kernel: str,
        strided: tuple[torch.Tensor, ...],
        others: tuple[torch.Tensor, ...],
        plan: DevicePlan,
        scale: float,
    ) -> None:
        """Launch a kernel over the block rows of every head, or for dK and dV the block columns.

        strided: q, k, v and what else has strides of its own; others: contiguous tensors.
        """
        strided = tuple(map(_readable, strided))
        (batch, heads), key_heads = strided[0].shape[:2], strided[1].shape[1]
        chosen = self._launch(kernel, strided[0])
        if kernel == "dkdv":
            table, lanes = plan.cols, batch * key_heads
            tiles = -(-plan.block_k // chosen.constants["TILE_K"])
        else:
            table, lanes = plan.rows, batch * heads
            tiles = -(-plan.block_q // chosen.constants["TILE_Q"])
        tables = (table.order, table.pointer, table.runs, plan.parameters)
        strides = (stride for tensor in strided for stride in tensor.stride()[:3])
        sizes = (batch, heads, key_heads, plan.len_q, plan.len_k, plan.q_start)
        arguments = (*strided, *others, *tables, *strides, *sizes, scale)
        self._start(kernel, chosen, table.order.numel() * tiles * lanes, arguments)

    def _launch(self, kernel: str, q: torch.Tensor) -> Launch:
        amd = torch.version.hip is not None
        fast = torch.get_float32_matmul_precision() != "highest" and not amd
        precision = "tf32" if fast else "ieee"
        return launch(kernel, q.shape[3], q.itemsize, self.tile, amd=amd, precision=precision)

    def _start(
        self, kernel: str, chosen: Launch, programs: int, arguments: tuple[Any, ...]
    ) -> None:
        if programs:
            with torch.cuda.device_of(arguments[0]):
                start = self.kernels[kernel][(programs,)]
                start(*arguments, **chosen.constants, **chosen.options)


def _positive(q: torch.Tensor, scale: float) -> tuple[torch.Tensor, float, int]:
    """q and a scale above 0 with the same products, and the factor that q took for it: 1, -1 or 0.

    Kernels find the maximum of a row before they scale it.
    """
    sign = (scale > 0) - (scale < 0)
    return (q if sign == 1 else q * sign), abs(scale) or 1.0, sign


def _readable(x: torch.Tensor) -> torch.Tensor:
    """The tensor, copied if its last dimension is not dense or its rows lie too far apart.

    Kernels find a row inside a tile with 32 bits.
    """
    return x if x.stride(-1) == 1 and x.stride(-2) < 2**23 else x.contiguous()
