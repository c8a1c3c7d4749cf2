"""Which cells a pattern touches: the forced part of a rule, and what it may choose from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from bslang import compiler
from bslang.graph.blockgraph import BlockGraph
from bslang.ir.runs import Runs
from bslang.layouts import Layout
from bslang.resolve.program import Resolved
from bslang.runtime.plan import is_capturing, moved
from bslang.runtime.recent import Recent
from bslang.select.cells import Cells
from bslang.syntax.source import Source

_Tables = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Spec:
    """A pattern over cells: its text, what `layer` stands for in it, and the blocks of a layout."""

    text: str
    layer: int = 0
    block: tuple[int, int] | None = None

    @classmethod
    def of(cls, name: str, given: object, rows: int, cols: int) -> Spec | None:
        """The pattern that an option gives: text, a layout with blocks of the cells' size, or None.

        Raises TypeError or ValueError that names the option, SpecError for an invalid text.
        """
        if given is None:
            return None
        if isinstance(given, Layout):
            given = cls(given.spec, given.layer, given.block)
        elif isinstance(given, str):
            given = cls(given)
        elif not isinstance(given, cls):
            raise TypeError(
                f"{name} must be the text of a pattern or a bslang.Layout, not {type(given).__name__}"
            )
        if given.block not in (None, (rows, cols)):
            height, width = given.block
            raise ValueError(
                f"{name} is a layout with blocks {height}x{width}, and cells are {rows}x{cols}; pass its "
                f"text, or compile it with block=({rows}, {cols})"
            )
        if "table(" in given.text:
            raise ValueError(
                f"{name} reads a table; a rule takes patterns that are their text alone"
            )
        _check(name, given, rows, cols)
        return given


def _check(name: str, spec: Spec, rows: int, cols: int) -> None:
    """Raise ValueError for a pattern that has no cells of its own: by head, or of the call."""
    pattern = _resolved(spec.text, rows, cols).pattern
    if pattern.awaits_call:
        raise ValueError(f"{name} depends on what a call gives; write that part in the layout")
    if len(compiler.heads_alike(_resolved(spec.text, rows, cols), range(4))) > 1:
        raise ValueError(f"{name} differs between heads; write that part in the layout")


@lru_cache(maxsize=256)
def _resolved(text: str, rows: int, cols: int) -> Resolved:
    return compiler.resolve(Source("<cells>", text), block=(rows, cols))


@lru_cache(maxsize=64)
def _touched(spec: Spec, cells: Cells) -> Runs:
    """The cells of a pattern, on the line of `Runs` that begins at the row of position 0."""
    graph: BlockGraph = compiler.lower(
        _resolved(spec.text, cells.rows, cells.cols),
        cells.len_q,
        cells.len_k,
        cells.align,
        layer=spec.layer,
    )
    return graph.visited


@lru_cache(maxsize=64)
def most_forced(cells: Cells, force: Spec, causal: bool) -> int:
    """The most cells that a row is forced to have."""
    row, start, stop = _touched(force, cells).rows()
    if causal:
        last = np.minimum((row + 1) * cells.rows, cells.start + cells.len_q) - 1
        stop = np.clip(stop, start, np.maximum(last // cells.cols + 1, start))
    return int(np.bincount(row, stop - start).max()) if row.size else 0


_TABLES: Recent[_Tables] = Recent(64)


def _tables(spec: Spec, cells: Cells, device: torch.device) -> _Tables:
    """First and last + 1 of the runs of a pattern, int64 (runs,) on a device."""

    def made() -> _Tables:
        runs = _touched(spec, cells)
        start, stop = (moved(torch.from_numpy(x), device) for x in (runs.start, runs.stop))
        return start, stop

    # A replay of a captured CUDA graph reads its tables.
    return _TABLES.get((spec, cells, device), made, hold=is_capturing(device))


def touched(like: torch.Tensor, spec: Spec, cells: Cells, first: int, count: int) -> torch.Tensor:
    """The cells of some rows that a pattern touches, bool (count, columns) on the device of a tensor."""
    begin = (cells.first + first) * cells.columns
    size = count * cells.columns
    runs = _touched(spec, cells)
    some = slice(
        int(np.searchsorted(runs.stop, begin, "right")),
        int(np.searchsorted(runs.start, begin + size, "left")),
    )
    start, stop = (x[some] - begin for x in _tables(spec, cells, like.device))
    edges = torch.zeros(size + 1, dtype=torch.int8, device=like.device)
    edges[start.clamp_min(0)] = 1  # runs are not adjacent, so no place has both
    edges[stop.clamp_max(size)] = -1
    inside = edges[:size].cumsum(0, dtype=torch.int8) > 0
    return inside.view(count, cells.columns)
