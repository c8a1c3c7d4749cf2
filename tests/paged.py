"""Calls of targets whose blocks lie in pages, beside the same calls without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

import bslang
from bslang.call import Call
from bslang.ir.runs import Runs
from bslang.runtime.plan import DevicePlan
from bslang.runtime.target import Target

SPARE = 3
"""Pages of a pool that hold nothing."""


def shuffled(seed: int, batch: int, heads: int, blocks: int) -> torch.Tensor:
    """Pages of blocks, in any order: int32 (batch, heads, blocks)."""
    random = np.random.default_rng(seed)
    of_heads = [random.permutation(batch * blocks + SPARE)[: batch * blocks] for _ in range(heads)]
    pages = np.stack(of_heads).reshape(heads, batch, blocks).transpose(1, 0, 2)
    return torch.from_numpy(np.ascontiguousarray(pages, dtype=np.int32))


def cut(x: torch.Tensor, pages: torch.Tensor, size: int) -> torch.Tensor:
    """x (batch, heads, length, ...) in pages, NaN where nothing lies: (pages, heads, size, ...)."""
    blocks = pages.shape[2]
    short = (*(0, 0) * (x.dim() - 3), 0, blocks * size - x.shape[2])
    parts = F.pad(x, short, value=torch.nan).unflatten(2, (blocks, size))
    pool = empty(x, pages, size)
    for sequence, of_sequence in enumerate(parts):
        for head, of_head in enumerate(of_sequence):
            pool[pages[sequence, head % pages.shape[1]].long(), head] = of_head
    return pool


def empty(
    x: torch.Tensor, pages: torch.Tensor, size: int, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Room for x in pages, all NaN."""
    count = pages.shape[0] * pages.shape[2] + SPARE
    shape = (count, x.shape[1], size, *x.shape[3:])
    return torch.full(shape, torch.nan, dtype=dtype or x.dtype)


def joined(pool: torch.Tensor, pages: torch.Tensor, length: int) -> torch.Tensor:
    """The inverse of `cut`."""
    heads = range(pool.shape[1])
    rows = [
        torch.stack([pool[of_row[head % len(of_row)].long(), head].flatten(0, 1) for head in heads])
        for of_row in pages
    ]
    return torch.stack(rows)[:, :, :length]


@dataclass(frozen=True)
class Given:
    """A call of a target, and what it is to give: out, lse, dq, dk, dv."""

    layout: bslang.Layout
    target: Target
    tensors: tuple[torch.Tensor, ...]
    """q, k, v, grad_out, grad_lse"""
    call: Call
    expected: tuple[torch.Tensor, ...]

    @classmethod
    def of(
        cls,
        layout: bslang.Layout,
        target: str,
        shape: tuple[int, int, int, int],
        dims: tuple[int, int],
        dtype: torch.dtype = torch.float32,
        **options: object,
    ) -> Given:
        """shape: batch, heads, key heads, length; dims: of keys and of values."""
        random = torch.Generator().manual_seed(7)
        batch, heads, key_heads, length = shape

        def normal(heads: int, *dim: int) -> torch.Tensor:
            size = (batch, heads, length, *dim)
            return torch.randn(size, generator=random, dtype=torch.float32)

        q, k, v, grad_out = (
            normal(many, dim).to(dtype)
            for many, dim in (
                (heads, dims[0]),
                (key_heads, dims[0]),
                (key_heads, dims[1]),
                (heads, dims[1]),
            )
        )
        grad_lse = normal(heads)
        call = Call.of(q, k, layout.inputs, **options)  # type: ignore[arg-type]  # passed through
        run, plan = layout.targets[target], layout._plan(length, length, "end", q.device, heads)
        out, lse = run.forward(q, k, v, plan, call)
        grads = run.backward(grad_out, grad_lse, q, k, v, out, lse, plan, call)
        expected = tuple(x for x in (out, lse, *grads) if x is not None)
        return cls(layout, run, (q, k, v, grad_out, grad_lse), call, expected)

    def found(
        self,
        q_pages: torch.Tensor,
        k_pages: torch.Tensor,
        parts: Sequence[slice | None],
        into: torch.dtype | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """The same from pages, in parts: the block rows and the block columns of each, None for all.

        into: the dtype of results, None for that of the tensors.
        """
        q, k, v, grad_out, grad_lse = self.tensors
        out, lse = self.expected[:2]
        length, heads, (rows, cols) = q.shape[2], q.shape[1], self.layout.block
        call = replace(self.call, q_pages=q_pages, k_pages=k_pages)
        of_q = [cut(x, q_pages, rows) for x in (grad_out, grad_lse, q, out, lse)]
        of_k = [cut(x, k_pages, cols) for x in (k, v)]
        made = empty(grad_out, q_pages, rows, into), empty(grad_lse, q_pages, rows)
        dq = empty(q, q_pages, rows, into)
        dk, dv = (empty(x, k_pages, cols, into) for x in (k, v))
        schedule = self.layout._schedule(length, length, "end", heads)
        whole = [Runs.domain(graph.grid) for graph in schedule.graphs]
        for part in parts:
            some = schedule
            if part is not None:
                grid = schedule.graphs[0].grid
                some = schedule.cut(
                    whole, rows=np.arange(grid.n)[part], cols=np.arange(grid.m)[part]
                )
            plan = DevicePlan.of(some, q.device)
            self.target.forward(of_q[2], *of_k, plan, call, made)
            tensors = (*of_q[:3], *of_k, *of_q[3:])
            self.target.backward(*tensors, plan, call, (dq, None, None))
            self.target.backward(*tensors, plan, call, (None, dk, dv))
        sides = (made[0], q_pages), (made[1], q_pages), (dq, q_pages), (dk, k_pages), (dv, k_pages)
        return tuple(joined(x, pages, length) for x, pages in sides)
