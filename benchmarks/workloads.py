"""What is computed: layouts, shapes and dtypes, with the work in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

import bslang
from bslang.analysis.stats import Stats
from bslang.graph.blockgraph import BlockGraph

Mask = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Of query and key positions, in shapes that broadcast: which pairs of a partial block belong."""

FORWARD, BACKWARD, BOTH = "forward", "backward", "forward and backward"
PHASES = (FORWARD, BACKWARD)
FLOPS = {FORWARD: 4, BACKWARD: 10, BOTH: 14}
"""Multiply-adds counted as two, for a pair and dimension: two products forward, five backward."""


@dataclass(frozen=True)
class Pattern:
    """A layout under the name that tables call it by.

    mask: its tokens, written down once more for the peers; None where all blocks are full, or where
    no peer needs it. targets and compile options are the workload's.
    """

    name: str
    spec: str
    mask: Mask | None = None
    folder: Path | None = None


BIGBIRD = Pattern("BigBird", "window(3) | global(0, -1) | random(2, seed=7)")
WINDOW = Pattern("sliding window", "last(512t)", lambda q, k: (q >= k) & (q - k < 512))
CAUSAL = Pattern("dense causal", "causal", lambda q, k: q >= k)
DENSE = Pattern("dense", "all")

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""What torch calls the dtypes of commands."""

TARGETS = {"cpu": "cpu", "cuda": "triton"}
"""The target that is measured on each kind of device."""


CARRIED: dict[tuple[str, int], bslang.Layout] = {}
"""By spec and block: layouts with kernels that were compiled elsewhere (benchmarks.first)."""


@dataclass(frozen=True)
class Inputs:
    """Tensors (1, heads, length, dim) of a call, and the gradient that comes back to its output."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    grad_out: torch.Tensor

    @property
    def qkv(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.q, self.k, self.v

    def to(self, dtype: torch.dtype) -> Inputs:
        """The same values as leaves of their own in another dtype."""
        q, k, v = (x.detach().to(dtype).requires_grad_() for x in self.qkv)
        return Inputs(q, k, v, self.grad_out.to(dtype))


@dataclass(frozen=True)
class Workload:
    """One call: a layout at a length, for a number of heads; block and length in tokens, batch 1.

    device: "cpu" or "cuda", where its tensors lie.
    """

    pattern: Pattern
    length: int
    block: int = 64
    dim: int = 64
    heads: int = 4
    dtype: str = "float32"
    device: str = "cpu"

    def layout(self, target: str = "") -> bslang.Layout:
        """The layout, compiled for one target: that of the device, unless another is named; one that was
        carried here (`CARRIED`) in the place of the former."""
        made = CARRIED.get((self.pattern.spec, self.block))
        if made is not None and not target:
            return made
        return _layout(self.pattern, self.block, target or TARGETS[self.device])

    def graph(self, head: int = 0) -> BlockGraph:
        found: BlockGraph = self.layout().graph(self.length, head=head)
        return found

    def inputs(self) -> Inputs:
        """Random tensors, the same for every workload of one shape (and, rounded, for every dtype)."""
        generator = torch.Generator(self.device).manual_seed(0)
        shape = (1, self.heads, self.length, self.dim)
        drawn = (torch.randn(shape, generator=generator, device=self.device) for _ in range(4))
        return Inputs(*drawn).to(getattr(torch, self.dtype))

    @property
    def visited(self) -> int:
        """Pairs of the visited blocks, of all heads."""
        return _pairs(self.pattern, self.length, self.block, self.heads)[0]

    @property
    def attended(self) -> int:
        """Pairs that are attended, exactly, of all heads."""
        return _pairs(self.pattern, self.length, self.block, self.heads)[1]

    @property
    def density(self) -> float:
        """Visited pairs of all."""
        return self.visited / (self.heads * self.length**2)

    def flops(self, phase: str) -> float:
        """Floating-point operations over the visited blocks."""
        return float(FLOPS[phase] * self.dim * self.visited)


@cache
def _layout(pattern: Pattern, block: int, target: str) -> bslang.Layout:
    return bslang.compile(pattern.spec, block=block, target=target, folder=pattern.folder)


@cache
def _pairs(pattern: Pattern, length: int, block: int, heads: int) -> tuple[int, int]:
    workload = Workload(pattern, length, block, heads=heads)
    graphs = [workload.graph(head) for head in range(heads)]
    stats = [Stats.of(graph) for graph in graphs]
    return (
        sum(s.blocks * s.block[0] * s.block[1] for s in stats),
        sum(s.pairs or 0 for s in stats),
    )
