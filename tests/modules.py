"""Modules over layouts beside torch's own, with the layout as a dense mask."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import bslang
from bslang import compiler
from bslang.ir import oracle
from bslang.layouts import Layout
from bslang.nn import BlockSparseEncoderLayer

BIGBIRD = "window(3) | global(0, -1) | random(2, seed=7)"
STREAMING = "(last(20t) | cols(0:4t)) & causal"
MIXED = "heads { 0 -> last(20t) & causal; 1: -> causal }"
SPECS = ("all", "causal", BIGBIRD, MIXED)
LENGTH = 45


def layout(spec: str, target: str = "torch") -> Layout:
    return bslang.compile(spec, block=8, target=target)


def mask(made: Layout, heads: int, batch: int) -> torch.Tensor:
    """What torch calls attn_mask: bool (batch * heads, LENGTH, LENGTH), True where nothing is seen."""
    grids = (compiler.grid(made._resolved, LENGTH, LENGTH, head=head) for head in range(heads))
    seen = [torch.from_numpy(oracle.dense(made._resolved.pattern, grid)) for grid in grids]
    return ~torch.stack(seen).repeat(batch, 1, 1)


def check_equal(mine: Any, other: Any, given: torch.Tensor) -> None:
    """The outputs of two functions, their gradients in the input, and in all parameters.

    Sums of many products: their rounding goes by the largest numbers of a tensor, and by the processor.
    """
    results = []
    for module, call in (mine, other):
        x = given.clone().requires_grad_()
        out = call(x)
        module.zero_grad()
        (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
        grads = {name: p.grad for name, p in module.named_parameters()}
        results.append({"out": out, "x": x.grad, **grads})
    found, expected = results
    assert found.keys() == expected.keys()
    for name, truth in expected.items():
        allowed = 2e-5 * (1 + float(truth.detach().abs().max()))
        torch.testing.assert_close(
            found[name], truth, atol=allowed, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
        )


def encoder_layers(spec: str, **options: Any) -> tuple[Any, Any, torch.Tensor]:
    made = layout(spec)
    options = {"dim_feedforward": 48, "dropout": 0.0, **options}
    theirs = nn.TransformerEncoderLayer(32, 4, **options)
    mine = BlockSparseEncoderLayer(32, 4, made, **options)
    assert mine.load_state_dict(theirs.state_dict()) and theirs.load_state_dict(mine.state_dict())
    return mine, theirs, mask(made, 4, 2)
