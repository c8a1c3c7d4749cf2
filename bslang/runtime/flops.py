"""Floating-point operations of a call, for torch.utils.flop_counter.FlopCounterMode.

Counted are the pairs of the blocks that kernels visit, without what lies beyond the ends of the sequences:
2 operations per pair, head and dimension for each product, two forward and five backward (one of them scores
again), as torch counts its own attention. Labels, padding and lengths are not looked at: what they skip
is counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from torch.utils.flop_counter import flop_registry, register_flop_formula

from bslang.runtime.registry import LAYOUTS


def _edges(axis: Any) -> Any:
    """Where each block begins, and where the last one ends, among the positions of a call."""
    return np.clip(np.arange(axis.blocks + 1) * axis.block, axis.start, axis.stop)


def _area(graph: Any) -> int:
    """The token pairs of the visited blocks of a `bslang.graph.BlockGraph`."""
    tall, edge = np.diff(_edges(graph.grid.q))[graph.row], _edges(graph.grid.k)
    return int((tall * (edge[graph.stop] - edge[graph.start])).sum())


def _operations(
    of_keys: int,
    of_values: int,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layout: str,
    about: str,
) -> int:
    """Operations of some products of the dimension of keys and of that of values, over batch and heads."""
    batch, heads, len_q, dim = q.shape
    if not batch * heads * len_q * k.shape[2]:
        return 0
    align, *given = about.split()
    if "lengths" in given:
        len_q = min(len_q, k.shape[2])
    schedule = LAYOUTS.find(layout)._schedule(len_q, k.shape[2], align, heads)
    areas = np.array([_area(graph) for graph in schedule.graphs], dtype=np.int64)
    one = schedule.head_graph is None
    pairs = heads * int(areas[0]) if one else int(areas[schedule.head_graph].sum())
    return 2 * batch * pairs * (of_keys * dim + of_values * v.shape[3])


def _forward(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: str, *packed: Any, **out: Any
) -> int:
    return _operations(1, 1, q, k, v, layout, packed[2])


def _backward(
    grad_out: torch.Tensor,
    grad_lse: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    layout: str,
    *packed: Any,
    **out_val: Any,
) -> int:
    return _operations(3, 2, q, k, v, layout, packed[2])


_FORMULAS = {
    torch.ops.bslang.attention: register_flop_formula(torch.ops.bslang.attention, get_raw=True)(
        _forward
    ),
    torch.ops.bslang.attention_backward: register_flop_formula(
        torch.ops.bslang.attention_backward, get_raw=True
    )(_backward),
}


def tell_counters() -> None:
    """Give the formulas to counters that were made before these were registered."""
    for mode in _get_current_dispatch_mode_stack():
        registry = getattr(getattr(mode, "counter", None), "flop_registry", None)
        if registry is not None and registry is not flop_registry:
            registry.update(_FORMULAS)
