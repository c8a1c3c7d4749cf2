"""Figures of a layout whose heads differ, head by head."""

from __future__ import annotations

from collections.abc import Sequence

from bslang.graph.blockgraph import BlockGraph
from bslang.ir.heads import told_apart
from bslang.ir.pattern import Pattern

USUAL = 8
"""Heads that are looked at where nothing says how many there are."""


def given_heads(pattern: Pattern) -> int:
    """How many heads a layout is looked at with: those that `heads` tells apart, USUAL where it names
    none, and 1 where all are alike."""
    if "head" not in pattern.names():
        return 1
    return told_apart(pattern) or USUAL


def merged(groups: Sequence[tuple[list[int], BlockGraph]]) -> list[tuple[list[int], BlockGraph]]:
    """Groups of heads and their graphs, those joined that turn out to be the same set."""
    found: dict[object, tuple[list[int], BlockGraph]] = {}
    for heads, graph in groups:
        key: object = tuple(heads)
        if not any("head" in residual.names() for residual in graph.residuals):
            columns = (graph.indptr, graph.start, graph.stop, graph.kind)
            key = tuple(column.tobytes() for column in columns)
        known = found.setdefault(key, ([], graph))[0]
        known += heads
    return [(sorted(heads), graph) for heads, graph in found.values()]


def ranges(heads: Sequence[int]) -> str:
    """Sorted heads as a spec writes them: `0:4`, `1:8:2`, or `0, 1, 5`."""
    parts = []
    left = list(heads)
    while left:
        step = left[1] - left[0] if len(left) > 1 else 1
        count = next((i for i, head in enumerate(left) if head != left[0] + i * step), len(left))
        if count < (2 if step == 1 else 3):
            count = 1
        start, stop = left[0], left[count - 1] + 1
        short = "" if step == 1 else f":{step}"
        parts.append(f"{start}" if count == 1 else f"{start}:{stop}{short}")
        del left[:count]
    return ", ".join(parts)
