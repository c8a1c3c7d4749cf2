"""What the labels of a batch leave of a layout's graphs, where a sharding is made for that batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from bslang.graph.blockgraph import BlockGraph
from bslang.inputs import ROW, by_name
from bslang.labels import take_labels
from bslang.placement.called import at_call
from bslang.runtime.runnable import Runnable


def labels_of(layout: Runnable, labels: Any) -> Any:
    """Of labels of a whole model, those that a layout has; None for none. One alone needs no name."""
    if not layout.inputs.label_names or not isinstance(labels, Mapping):
        return labels if layout.inputs.label_names else None
    return {name: labels[name] for name in layout.inputs.label_names if name in labels}


def left(
    layout: Runnable,
    graphs: Sequence[BlockGraph],
    labels: Any,
    heads: int,
    key_heads: int,
    seq_len: int,
) -> tuple[BlockGraph, ...]:
    """The graphs without the blocks that labels leave empty in every row of the batch. Raises as a call."""
    given = None if labels is None else labels_of(layout, labels)
    if given is None:
        return tuple(graphs)
    names = by_name(given, layout.inputs.label_names, "label", "labels")
    tensors = [
        (label, side)
        for label in layout.inputs.labels
        for side in _sides(names[label.name])
        if isinstance(side, torch.Tensor)
    ]
    device = tensors[0][1].device if tensors else torch.device("cpu")
    rows = (x.shape[0] for label, x in tensors if x.dim() > 1 or label.sides == ROW)
    batch = max(rows, default=1)
    q, k = (
        torch.empty((1,), dtype=torch.float32, device=device).expand(batch, h, seq_len, 1)
        for h in (heads, key_heads)
    )
    taken = take_labels(given, layout.inputs.labels, q, k, "end")
    assert taken is not None
    sides = (x.reshape(x.shape[0], -1, seq_len).cpu().numpy() for x in (taken.q, taken.k))
    of_each = dict(zip(layout.inputs.label_names, zip(*sides, strict=True), strict=True))
    return tuple(at_call(graph, of_each) for graph in graphs)


def _sides(given: Any) -> Sequence[Any]:
    """The tensors of a label, of which it may have one for queries and one for keys."""
    return given if isinstance(given, tuple | list) else [given]
