"""A view: a layout at one length, as plain values that a page draws from."""

from __future__ import annotations

from typing import Any

import numpy as np

from bslang import compiler
from bslang.analysis.properties import decided, is_causal
from bslang.analysis.provenance import provenance
from bslang.analysis.reach import reach
from bslang.analysis.square import Square
from bslang.analysis.stats import Stats
from bslang.errors import LimitError
from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.limits import MAX_PAGE_RUNS
from bslang.picture.picture import MOST_TERMS, label
from bslang.resolve.program import Resolved
from bslang.syntax.diagnostics import Diagnostic

LAYERS = 16
"""Layers whose coverage a view has."""

DIM = 64
"""Head dimension that FLOPs and bytes are counted for."""

View = dict[str, Any]


def view(resolved: Resolved, length: int, head: int = 0, layer: int = 0) -> View:
    """What a page shows of a layout at a length, in tokens.

    `runs` is a list for all rows, one after another: the number of runs of the row, and for each run how
    many columns lie before it (after the run before), how many it has, and its look: twice its term, plus 1
    for partial blocks. `coverage`: the share of pairs of blocks reached after 1, 2, ... layers, until
    nothing is added. Raises LimitError for more than MAX_PAGE_RUNS runs; as `compiler.lower`.
    """
    bounded(length // max(resolved.block))  # before anything is lowered: most rows have a run
    graph = compiler.lower(resolved, length, length, head=head, layer=layer)
    bounded(graph.start.size)
    causal = decided(is_causal, resolved.pattern, graph).holds is True
    found, square = Stats.of(graph, DIM, causal), Square.of(graph)
    terms, runs = _looks(resolved, graph)
    followed = reach(square, LAYERS)
    rows, columns = resolved.block
    return {
        "spec": f"block {rows}x{columns}\n{resolved.pattern}\n",
        "block": [rows, columns],
        "tokens": length,
        "rows": graph.grid.n,
        "columns": graph.grid.m,
        "terms": terms,
        "runs": runs,
        "figures": {
            "blocks": found.blocks,
            "full": found.full,
            "partial": found.partial,
            "density": round(found.density, 6),
            "pairs": found.pairs,
            "longest": found.rows.most,
            "shortest": found.rows.least,
            "flops": [found.flops_forward, found.flops_dense],
            "bytes": list(found.kv_bytes),
            "baseline": found.baseline,
            "speedup": found.speedup and [round(times, 3) for times in found.speedup],
        },
        "node": square.tokens,
        "coverage": [round(share, 6) for share in _until_ended(followed.coverage)],
        "hops": followed.hops,
        "ended": followed.ended,
        "followed": [followed.followed, followed.blocks],
    }


def diagnostic(found: Diagnostic) -> dict[str, Any]:
    """A diagnostic as plain values; `marks`: (line, first column, column after the last), all from 0."""
    return {
        "code": found.code,
        "severity": found.severity,
        "message": found.message,
        "hint": found.hint,
        "file": found.source.name,
        "marks": _marks(found),
        "text": found.render(),
    }


def message(text: str) -> dict[str, Any]:
    """An error that concerns no place, in the form of a diagnostic."""
    about = {"code": "", "severity": "error", "message": text, "hint": "", "file": "", "marks": []}
    return about | {"text": f"error: {text}"}


def bounded(runs: int) -> None:
    """Raise LimitError for more runs than a page draws."""
    if runs > MAX_PAGE_RUNS:
        what = f"{runs:,} runs of blocks in a picture that a page draws"
        hint = "a shorter length or larger blocks have fewer; `bslang show` draws any number"
        raise LimitError("MAX_PAGE_RUNS", MAX_PAGE_RUNS, what, hint)


def _looks(resolved: Resolved, graph: BlockGraph) -> tuple[list[tuple[str, int]], list[int]]:
    """The terms, each with how many blocks it is the first to bring in; and `runs`."""
    full = graph.of_kind(FULL)
    partial = graph.visited - full
    terms: list[tuple[str, int]] = []
    parts = []
    for term, brought in provenance(resolved.pattern, graph.grid, MOST_TERMS):
        for kind, blocks in enumerate((full, partial)):
            row, start, stop = (brought & blocks).rows()
            parts.append((row, start, stop, np.full_like(row, 2 * len(terms) + kind)))
        terms.append((label(str(term)), brought.size))
    row, start, stop, look = (np.concatenate(part) for part in zip(*parts, strict=True))
    bounded(row.size)
    order = np.lexsort((start, row))
    row, start, stop, look = row[order], start[order], stop[order], look[order]
    before = np.where(np.diff(row, prepend=-1) == 0, np.roll(stop, 1), 0)
    runs = np.stack([start - before, stop - start, look], axis=1).ravel()
    count = np.bincount(row, minlength=graph.grid.n)
    return terms, np.insert(runs, 3 * (np.cumsum(count) - count), count).tolist()


def _until_ended(coverage: tuple[float, ...]) -> list[float]:
    """Without layers that reach no more than the one before."""
    return [now for now, before in zip(coverage, (0.0, *coverage), strict=False) if now > before]


def _marks(found: Diagnostic) -> list[tuple[int, int, int]]:
    if found.span is None:
        return []
    source, stop = found.source, max(found.span.stop, found.span.start + 1)
    first, column = source.position(found.span.start)
    last, end = source.position(stop)
    lines = range(first, last + 1)
    return [
        (
            line - 1,
            column - 1 if line == first else 0,
            end - 1 if line == last else len(source.line(line)),
        )
        for line in lines
    ]
