"""Tables: what GPU kernels are told of a layout at one length, beside what they compute themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.ir.grid import Ints
from bslang.schedule.programs import Ints32, Programs, programs
from bslang.schedule.schedule import PARTIAL, WHOLE, cut_edges
from bslang.schedule.strips import Rules


@dataclass(frozen=True, eq=False)
class Tables:
    """The programs of a kernel and what each visits.

    programs: int32 (programs, 4): block row, first and last block that strips may cover (0 and 0 in
        rows that do not follow the rules), slot. merges, slots: as in `Programs`.
    pointer, runs: as in `bslang.schedule.schedule.Table`, of what no strip covers. A run of the class of
        full blocks is a single block where the rules say `listed`; one run more than there are ends them.
    """

    programs: Ints32
    merges: Ints32
    slots: int
    pointer: Ints32
    runs: Ints32

    @classmethod
    def of(cls, graphs: Sequence[BlockGraph], weights: Ints, rules: Rules) -> Tables:
        """Build from the graphs of the heads, or their transposes; weights: how many heads have each."""
        made = programs(graphs, weights)
        kept = np.logical_and.reduce([rules.kept(graph) for graph in graphs])
        pieces = [_pieces(graph, rules, kept) for graph in graphs]
        classes = PARTIAL + len(graphs[0].residuals)
        pointer, runs = made.table(pieces, classes, graphs[0].grid.m)
        lines = made.program.copy()
        lines[~kept[lines[:, 0]], 1:3] = 0
        end = np.zeros((1, 2), dtype=np.int32)
        return cls(lines, made.merges, made.slots, pointer, np.concatenate((runs, end)))


def _pieces(
    graph: BlockGraph, rules: Rules, kept: np.ndarray
) -> tuple[Ints, Ints, Ints, Ints]:
    parts = []
    for kind, runs in rules.left(graph, kept):
        row, start, stop = runs.rows()
        number = np.full_like(row, WHOLE if kind == FULL else kind + PARTIAL)
        row, start, stop, number = cut_edges(row, start, stop, number, graph.grid.k)
        if rules.listed and kind == FULL:
            row, start, stop, number = _one_by_one(row, start, stop, number)
        parts.append((row, start, stop, number))
    row, start, stop, number = (np.concatenate(part) for part in zip(*parts, strict=True))
    return row, start, stop, number


def _one_by_one(row: Ints, start: Ints, stop: Ints, number: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    count = stop - start
    run = np.repeat(np.arange(row.size), count)
    column = start[run] + np.arange(run.size) - (np.cumsum(count) - count)[run]
    return row[run], column, column + 1, number[run]
