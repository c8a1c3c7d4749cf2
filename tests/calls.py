"""Calls of layouts that depend on the head, the layer or run-time labels; the same for every target."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from reference import TOLERANCE, Inputs, agrees, inputs

import bslang
from bslang import compiler
from bslang.ir.awaited import label_names
from bslang.ir.grid import Grid
from bslang.ir.oracle import dense
from bslang.ir.pattern import Pattern
from bslang.ir.runs import Bools
from bslang.labels import Given
from bslang.runtime.op import lse_dtype
from bslang.syntax.source import Source

BY_HEAD = [
    "every(4t, offset=head * 1t)",
    "random(2, seed=head)",
    "last(head + 1)",
    "strided(head + 2) & causal",
    "last((head % 2 + 1) * 7t) | cols(layer * 5t)",  # two graphs for four heads
    "rows(head * 9t:head * 9t + 20t)",  # queries without keys, other ones in each head
    "heads { 0:2 -> window(3); 2 -> causal - cols(3t); 3: -> cols(0:3t) | last(9t) }",
    "window(3) ^ every(2 ** min(head, 3) * 1t)",
]
PREDICATES = [
    "{q, k : 0 <= q - k < 13}",
    "{q, k : (q * 3 + k) % 5 < 2 & k <= q}",
    "{q, k : max(q, k) // 7 == abs(q - 2 * k) % 9}",
    "{q, k : isqrt(q + 3 * k) % 2 == 0 & log2(q + k + 1) >= 4}",
    "{q, k : (q - k) // 4 % 3 == head % 3}",
    "{q, k : head % 2 == 0 & (q + k) % 3 == 0 | q == k}",  # of the head, a truth value
    "{q, k : q * (k + len_k) % 7 < 3}",  # beyond 32 bits at long lengths
    "{q, k : (5 - q) % 8 >= min(n, 3) ^ k % 2 == 0}",
    "{q, k : k < len_k // 2 ^ q % 3 == len_q % 3} | last(len_k // 9 + 1t)",
    "grid(4t, 5t, radius=(1, 2), wrap=(false, true), offset=3t) ^ global(0t:3t)",
    "grid(3t, 4t, radius=(inf, 1), clamp=(false, true), causal=(true, false), offset=9t) | last(2t)",
]
"""Masks with arithmetic of their own."""

FAR = "{q, k : q * (k + len_k) % 7 < 3 & 0 <= q - k < 100}"
"""A mask whose numbers pass 32 bits at the end of 47,000 tokens."""

LABELLED = [
    "same(doc)",
    "same(doc) & causal",
    "same(doc) | cols(0:4t)",
    "~same(doc)",
    "same(a) & same(b)",
    "same(a) | same(b)",
    "(same(a) - same(b)) & last(20t)",
    "(same(doc) & window(3)) | global(0)",
    "same(doc).T & (causal - cols(5t))",
    "same(doc) & last(head * 7t + 3t)",  # both at once
    "same(doc) & none | causal",  # a label that no block asks
]
KINDS = ("sorted", "shuffled", "equal", "wide")
"""Labels of a sequence: documents one after another, all mixed, one document, beyond 32 bits."""

SHAPES = [(40, 40, "end"), (7, 61, "end"), (50, 30, "start")]


@dataclass(frozen=True)
class Call:
    """A layout with tensors to call it on; batch rows have other labels."""

    spec: str
    block: tuple[int, int] = (8, 8)
    len_q: int = 40
    len_k: int = 40
    align: str = "end"
    kind: str = "sorted"
    heads: int = 4
    key_heads: int = 2
    layer: int = 0
    batch: int = 2

    @property
    def pattern(self) -> Pattern:
        return _pattern(self.spec, self.block)

    def layout(self, target: str) -> bslang.Layout:
        return bslang.compile(self.spec, block=self.block, target=target).at_layer(self.layer)

    def inputs(
        self, dtype: torch.dtype = torch.float32, dim: int = 16, value_dim: int | None = None
    ) -> Inputs:
        sizes = {"heads": self.heads, "key_heads": self.key_heads, "batch": self.batch}
        return inputs(self.len_q, self.len_k, dtype=dtype, dim=dim, value_dim=value_dim, **sizes)

    def labels(self) -> dict[str, Given] | None:
        """Those of every label of the spec, as a call takes them; None for no label."""
        generator = torch.Generator().manual_seed(len(self.spec))

        def some(length: int) -> torch.Tensor:
            x = torch.randint(-2, 3, (self.batch, length), generator=generator)
            if self.kind == "shuffled":
                return x.to(torch.int8)
            if self.kind == "equal":
                return torch.full((length,), 3, dtype=torch.int32)
            x = x.sort(-1).values
            return x * 2**61 if self.kind == "wide" else x.to(torch.int32)

        def label() -> Given:
            return (
                (some(self.len_q), some(self.len_k)) if self.align == "start" else some(self.len_k)
            )

        return {name: label() for name in label_names(self.pattern)} or None

    def mask(self) -> Bools:
        """The truth, bool (batch, heads, len_q, len_k), from the dense oracle."""
        given = {}
        for name, label in (self.labels() or {}).items():
            of_q, of_k = label if isinstance(label, tuple) else (label, label)
            shape = (self.batch, -1)
            given[name] = (
                of_q.expand(*shape)[:, -self.len_q :].numpy(),
                of_k.expand(*shape).numpy(),
            )
        return np.array(
            [
                [
                    dense(
                        self.pattern,
                        self.grid(head),
                        {n: (q[row], k[row]) for n, (q, k) in given.items()},
                    )
                    for head in range(self.heads)
                ]
                for row in range(self.batch)
            ]
        )

    def grid(self, head: int) -> Grid:
        return Grid.of(self.len_q, self.len_k, self.block, self.align, head=head, layer=self.layer)

    def check(
        self, target: str, dtype: torch.dtype = torch.float32, softcap: float | None = None,
        sinks: bool = False,
    ) -> None:  # fmt: skip
        """Assert that a target's results are those of dense attention."""
        logits = 4 * torch.randn(self.heads, generator=torch.Generator().manual_seed(1)).to(
            lse_dtype(dtype)
        )
        agrees(
            self.layout(target), self.inputs(dtype), self.mask(), TOLERANCE[dtype],
            align=self.align, labels=self.labels(), softcap=softcap,
            sinks=logits if sinks else None,
        )  # fmt: skip

    def others_are_not_visited(self, target: str) -> None:
        """Assert that a document neither sees nor feels the next one, all of whose numbers are NaN.

        Documents end with a block. A visited block that a mask hides would leave 0 * NaN.
        """
        end = 2 * self.block[0]
        doc = (torch.arange(self.len_k) >= end).int()
        given = self.inputs()
        for x in (given.q, given.k, given.v, given.grad_out):
            x[:, :, end:] = torch.nan
        q, k, v = (x.requires_grad_() for x in (given.q, given.k, given.v))
        out = self.layout(target)(q, k, v, labels=doc)
        assert isinstance(out, torch.Tensor)
        for x in (out, *torch.autograd.grad(out, (q, k, v), given.grad_out)):
            assert x[:, :, :end].isfinite().all() and x[:, :, end:].isnan().all()


@cache
def _pattern(spec: str, block: tuple[int, int]) -> Pattern:
    return compiler.resolve(Source("<call>", spec), block=block).pattern


def few(spec: str) -> list[Call]:
    """Calls for a target that runs slowly: every kind of labels, numbers of key heads and shapes in turn.

    Rows of a batch differ by their labels; without any, one row will do.
    """
    square = "window" in spec or "global" in spec or spec in (*BY_HEAD, *PREDICATES)
    made = []
    for place, kind in enumerate(KINDS if spec in LABELLED else KINDS[:3]):
        block, share = ((16, 16), 1) if square or place % 2 else ((5, 3), 2)
        heads, key_heads = (4, (1, 2, 4)[place % 3]) if "head" in spec else (2, 1 + place % 2)
        len_q, len_k, align = SHAPES[place % 3]
        lengths = (len_q // share, len_k // share)  # about as many blocks of either size
        batch = 2 if spec in LABELLED else 1
        made.append(Call(spec, block, *lengths, align, kind, heads, key_heads, 2, batch))
    return made
