"""The verifier of block graphs: what everything after lowering may take for granted.

Runs are sorted and disjoint, lie inside the grid, and their kinds are known; so no block is both full and
partial, or partial for two residuals.
"""

from __future__ import annotations

import numpy as np

from bslang.errors import VerifierError
from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.ir.runs import Bools


def verify(graph: BlockGraph) -> None:
    """Raises VerifierError for a graph that lowering must never make."""
    grid, indptr = graph.grid, graph.indptr
    sizes = {graph.start.size, graph.stop.size, graph.kind.size}
    if indptr.size != grid.n + 1 or np.any(np.diff(indptr, prepend=0) < 0):
        raise _broken("indptr has an ascending entry for each block row, and one more")
    if sizes != {int(indptr[-1])}:
        raise _broken("every run has a start, a stop and a kind, and indptr counts the runs")
    _hold(graph, graph.start < graph.stop, "a run has blocks")
    inside = (graph.start >= grid.k.first) & (graph.stop <= grid.m) & (graph.row >= grid.q.first)
    _hold(graph, inside, "a run lies inside the grid")
    known = (graph.kind >= FULL) & (graph.kind < len(graph.residuals))
    _hold(graph, known, "a run is full, or has one of the residuals")
    after = np.ones(graph.start.size, dtype=bool)
    after[1:] = (graph.row[1:] != graph.row[:-1]) | (graph.start[1:] >= graph.stop[:-1])
    _hold(graph, after, "the runs of a row are sorted and disjoint")


def _hold(graph: BlockGraph, holds: Bools, what: str) -> None:
    broken = np.flatnonzero(~holds)
    if broken.size:
        run = int(broken[0])
        columns = f"{graph.start[run]}:{graph.stop[run]}"
        raise _broken(
            what, f"block row {graph.row[run]}, columns {columns}, kind {graph.kind[run]}"
        )


def _broken(what: str, where: str = "") -> VerifierError:
    return VerifierError("graph", what, where)
