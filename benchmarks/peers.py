"""What else computes attention in PyTorch, each called as `attend(q, k, v)`.

A peer is a function from a workload to such a call. It raises NotRun where it cannot take the
workload: a package is missing, the memory would not do, or it has no such layout.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.machine import memory
from benchmarks.workloads import BACKWARD, CAUSAL, DENSE, FORWARD, Workload
from bslang.graph.blockgraph import FULL
from bslang.ir.runs import Bools

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

MEMORY_SHARE = 0.4
"""Of the machine's memory: what a peer may hold at once."""


class NotRun(Exception):
    """Why a peer is not measured on a workload."""


@dataclass(frozen=True)
class Peer:
    """name, as tables have it; build: from a workload to its call, where `phase` is what will be timed.

    dense: it attends to all pairs, whatever the layout (dense causal: to the causal ones).
    """

    name: str
    build: Callable[[Workload, str], Attend]
    dense: bool = False

    def computes(self, workload: Workload) -> Workload:
        """The workload that it really computes."""
        if self.dense and workload.pattern != CAUSAL:
            return replace(workload, pattern=DENSE)
        return workload


def afford(size: float, device: str = "cpu") -> None:
    """Raise NotRun where so many bytes are more than a peer may hold on a device."""
    if size > MEMORY_SHARE * memory(device):
        raise NotRun(f"would hold about {size / 1e9:,.0f} GB")


# ---- torch's own ---------------------------------------------------------------------------------


def _dense(workload: Workload, phase: str) -> Attend:
    causal = workload.pattern == CAUSAL
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=causal)


def _backend(backend: SDPBackend) -> Callable[[Workload, str], Attend]:
    """Dense attention by one of torch's implementations, or not at all."""

    def build(workload: Workload, phase: str) -> Attend:
        dense = _dense(workload, phase)

        def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            with sdpa_kernel(backend):
                return dense(q, k, v)

        return attend

    return build


def _boolean_mask(workload: Workload, phase: str) -> Attend:
    # torch turns the mask into one of floats, and holds both.
    afford(5 * workload.length**2, workload.device)
    mask = token_mask(workload)
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def _flex(workload: Workload, phase: str, options: dict[str, bool | int] | None = None) -> Attend:
    if workload.device == "cpu" and phase != FORWARD:
        raise NotRun("FlexAttention has no backward on the CPU")
    # One process compiles; a pool of them would go on beside what is measured.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    from torch._functorch import config as functorch
    from torch.nn.attention.flex_attention import BlockMask, flex_attention

    full, partial = block_masks(workload)
    mask = workload.pattern.mask
    blocks = BlockMask.from_kv_blocks(
        *_indices(partial, workload.device),
        *_indices(full, workload.device),
        BLOCK_SIZE=workload.block,
        mask_mod=mask and (lambda b, h, q, k: mask(q, k)),
        seq_lengths=(workload.length, workload.length),
        compute_q_blocks=phase != FORWARD,
    )
    functorch.donated_buffer = phase != BACKWARD  # a graph that is kept gives no buffer away
    compiled = torch.compile(flex_attention, dynamic=False, fullgraph=True)
    return lambda q, k, v: compiled(q, k, v, block_mask=blocks, kernel_options=options)


def _flex_tuned(workload: Workload, phase: str) -> Attend:
    """With the options that its authors give to whoever knows the layout, as far as they hold here.

    PRESCALE_QK rounds the scaled queries once more, which the check of the result allows for.
    Smaller blocks than its tiles' 128 tokens need smaller tiles.
    """
    options: dict[str, bool | int] = {
        "PRESCALE_QK": True,
        "ROWS_GUARANTEED_SAFE": rows_are_safe(workload),
    }
    if workload.block < 128:
        options |= {"fwd_BLOCK_M": workload.block, "fwd_BLOCK_N": workload.block}
    return _flex(workload, phase, options)


def rows_are_safe(workload: Workload) -> bool:
    """Whether every query sees a key in every block that its block row visits, and visits one.

    A key somewhere is not enough for FlexAttention to leave out its guard: where the first block of a
    row has nothing for a query, it would subtract infinity from infinity.
    """
    full, partial = block_masks(workload)
    if not (full | partial).any(axis=1).all():
        return False
    mask, at = workload.pattern.mask, torch.arange(workload.block)
    if mask is None:
        return not partial.any()
    return all(
        bool(mask(row * workload.block + at[:, None], column * workload.block + at).any(1).all())
        for row, column in np.argwhere(partial).tolist()
    )


def _indices(held: Bools, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Counts (1, 1, rows) and columns (1, 1, rows, columns) of a matrix of blocks, those held first."""
    count = torch.from_numpy(held.sum(axis=1, dtype=np.int32))
    columns = torch.from_numpy(np.argsort(~held, axis=1, kind="stable").astype(np.int32))
    return count[None, None].to(device), columns[None, None].to(device)


# ---- our other targets ---------------------------------------------------------------------------


def _target(name: str) -> Callable[[Workload, str], Attend]:
    """The same layout by another target than the one that is measured."""

    def build(workload: Workload, phase: str) -> Attend:
        if name == "triton" and workload.device == "cpu":
            raise NotRun("runs on GPUs only: `make bench-gpu` measures it")
        layout = workload.layout(name)

        def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return layout(q, k, v)

        return attend

    return build


# ---- gathers -------------------------------------------------------------------------------------


def _gather(workload: Workload, phase: str) -> Attend:
    """Key blocks gathered beside each block of queries, and batched products.

    Rows are taken together that visit equally many blocks, so that nothing is padded.
    """
    full, partial = block_masks(workload)
    held, block, length = full | partial, workload.block, workload.length
    per_block = workload.heads * block * 4 * (2 * workload.dim + 3 * block)
    afford(float(held.sum()) * per_block * (1 if phase == FORWARD else 2))
    counts = held.sum(axis=1)
    groups = []
    for count in np.unique(counts):
        rows = np.flatnonzero(counts == count)
        columns = np.nonzero(held[rows])[1].reshape(rows.size, count)
        allowed = None
        if workload.pattern.mask is not None:
            at = torch.arange(block)
            query = torch.from_numpy(rows)[:, None, None, None] * block + at[:, None, None]
            key = torch.from_numpy(columns)[:, None, :, None] * block + at
            allowed = workload.pattern.mask(query, key).reshape(rows.size, block, count * block)
        groups.append((torch.from_numpy(rows), torch.from_numpy(columns), allowed))
    order = torch.argsort(torch.cat([rows for rows, _, _ in groups]))

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        batch, heads, _, dim = q.shape
        q, k, v = (x.view(batch, heads, length // block, block, dim) for x in (q, k, v))
        parts = []
        for rows, columns, allowed in groups:
            shape = (batch, heads, *columns.shape[:1], -1, dim)
            keys = k[:, :, columns].reshape(shape)
            scores = q[:, :, rows] @ keys.transpose(-1, -2) * dim**-0.5
            if allowed is not None:
                scores = scores.masked_fill(~allowed, -torch.inf)
            parts.append(torch.softmax(scores, -1) @ v[:, :, columns].reshape(shape))
        return torch.cat(parts, 2)[:, :, order].reshape(batch, heads, length, dim)

    return attend


# ---- layouts as matrices -------------------------------------------------------------------------


def block_masks(workload: Workload) -> tuple[Bools, Bools]:
    """Which blocks of the layout are full, and which partial: bool (rows, columns) each."""
    if workload.length % workload.block:
        raise NotRun("takes whole blocks only")
    graph = workload.graph()
    masks = np.zeros((2, graph.grid.n, graph.grid.m), dtype=bool)
    for row, start, stop, kind in zip(graph.row, graph.start, graph.stop, graph.kind, strict=True):
        masks[int(kind != FULL), row, start:stop] = True
    return masks[0], masks[1]


def token_mask(workload: Workload) -> torch.Tensor:
    """The layout as a matrix of tokens: bool (length, length)."""
    if workload.pattern.mask is not None:
        at = torch.arange(workload.length, device=workload.device)
        return workload.pattern.mask(at[:, None], at[None, :])
    full, _ = block_masks(workload)
    mask = torch.from_numpy(full).to(workload.device)
    return mask.repeat_interleave(workload.block, 0).repeat_interleave(workload.block, 1)


SDPA = Peer("SDPA", _dense, dense=True)
FLASH = Peer("SDPA, flash", _backend(SDPBackend.FLASH_ATTENTION), dense=True)
CUDNN = Peer("SDPA, cuDNN", _backend(SDPBackend.CUDNN_ATTENTION), dense=True)
MASKED_SDPA = Peer("SDPA, boolean mask", _boolean_mask)
FLEX = Peer("FlexAttention, compiled", _flex)
FLEX_TUNED = Peer("FlexAttention, tuned", _flex_tuned)
GATHER = Peer("gather in PyTorch", _gather)
TORCH_TARGET = Peer("bslang, torch target", _target("torch"))
TRITON_TARGET = Peer("bslang, triton target", _target("triton"))
