"""The verifier of tables: what kernels may take for granted.

The programs cover every row once, the parts of a split row join up, and merges name their slots in the
order of their blocks; pointers ascend; and what strips compute and tables hold is together the graph,
every block once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bslang.errors import VerifierError
from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.ir.grid import Ints
from bslang.ir.runs import Bools, Runs
from bslang.schedule.programs import Programs
from bslang.schedule.schedule import EDGE, PARTIAL, Table
from bslang.schedule.strips import Rules, intervals, whole


def verify(
    table: Table, graphs: Sequence[BlockGraph], rules: Rules, only: Ints | None = None
) -> None:
    """Raises VerifierError for a table of some graphs that scheduling must never make; only: the block rows
    that have programs, None for all."""
    grid = graphs[0].grid
    rows = np.arange(grid.q.first, grid.n) if only is None else only
    _programs(table.programs, rows, grid.m)
    _pointers(table, len(graphs), PARTIAL + len(graphs[0].residuals))
    for number, graph in enumerate(graphs):
        _blocks(table, number, graph, rules)


def _programs(programs: Programs, rows: Ints, width: int) -> None:
    program = programs.program.astype(np.int64)
    row, first, last, slot = program[np.lexsort((program[:, 1], program[:, 0]))].T
    begins = np.diff(row, prepend=-1) > 0
    ends = np.append(begins[1:], True)
    if not np.array_equal(row[begins], rows):
        raise _broken("every block row has a program, and no other has", "the programs")
    before = np.where(begins, 0, np.concatenate(([0], last[:-1])))
    _hold(first == before, row, "the parts of a row join up, from its first block on")
    _hold(
        (first < last) & (~ends | (last == width)), row, "the parts of a row reach its last block"
    )
    split = ~(begins & ends)
    _hold(split | (slot == -1), row, "a row that one program handles has no slot")
    # Slots count the parts of split rows in the order of rows and blocks.
    _hold(~split | (slot == np.cumsum(split) - 1), row, "the slots of a row follow its blocks")
    merges = programs.merges.astype(np.int64)
    several, end = row[split & ends], slot[split & ends] + 1
    start = slot[split & begins]
    if not np.array_equal(merges, np.stack((several, start, end), axis=1)):
        raise _broken("merges name the slots of every split row, in order", "the merges")


def _pointers(table: Table, graphs: int, classes: int) -> None:
    pointer, count = table.pointer, table.programs.program.shape[0]
    if pointer.size != graphs * count * classes + 1 or table.ruled.size != count:
        raise _broken("each program of each graph has a pointer for each class", "the pointers")
    steps = np.diff(pointer, prepend=0)
    if pointer[0] != 0 or np.any(steps < 0) or pointer[-1] != len(table.runs):
        where = f"pointer {int(np.argmax(steps < 0))}" if np.any(steps < 0) else "the ends"
        raise _broken("pointers ascend, from the first run to the last", where)


def _blocks(table: Table, number: int, graph: BlockGraph, rules: Rules) -> None:
    """Whether strips and the runs of a graph's programs are its blocks, each once and in its class."""
    program, classes = table.programs.program.astype(np.int64), PARTIAL + len(graph.residuals)
    pointer = table.pointer[number * len(program) * classes :][: len(program) * classes + 1]
    lists = np.repeat(np.arange(pointer.size - 1), np.diff(pointer))
    of, kind = lists // classes, lists % classes
    start, stop = table.runs[pointer[0] : pointer[-1]].astype(np.int64).T
    row, first, last, _ = program[of].T
    inside = (first <= start) & (start < stop) & (stop <= last)
    _hold(inside, row, "a run lies inside the part of its program")
    ascending = np.append(True, (lists[1:] != lists[:-1]) | (start[1:] >= stop[:-1]))[: lists.size]
    _hold(ascending, row, "the runs of a class are sorted and disjoint")
    low, high = whole(graph.grid.k)
    ragged = (start < low) | (stop > high)
    _hold(
        (kind >= PARTIAL) | (ragged == (kind == EDGE)),
        row,
        "full blocks that end early are a class",
    )
    of_kind = np.maximum(kind - PARTIAL, FULL)
    for residual in range(FULL, len(graph.residuals)):
        mine = of_kind == residual
        listed = [(row[mine], start[mine], stop[mine])]
        parts = listed + _strips(table, graph, rules, residual)
        rows, starts, stops = (np.concatenate(column) for column in zip(*parts, strict=True))
        found = Runs.of_rows(graph.grid.m, rows, starts, stops)
        wanted = graph.of_kind(residual)
        if found != wanted:
            raise _broken(
                "strips and tables are the graph", _first(found ^ wanted, graph, residual)
            )
        if int((stops - starts).sum()) != found.size:
            raise _broken("no block is visited twice", f"graph {number}, kind {residual}")


def _strips(
    table: Table, graph: BlockGraph, rules: Rules, kind: int
) -> list[tuple[Ints, Ints, Ints]]:
    """What kernels compute of one kind: row, start and stop of each run."""
    row = np.unique(table.order[table.ruled].astype(np.int64))
    low, high = whole(graph.grid.k) if kind == FULL else (graph.grid.k.first, graph.grid.m)
    first, last = np.full_like(row, low), np.full_like(row, max(low, high))
    strips = [strip for strip in rules.strips if strip.kind == kind]
    return [(row, *part) for part in intervals(strips, row, first, last, graph.grid.m)]


def _first(cells: Runs, graph: BlockGraph, kind: int) -> str:
    row, column = divmod(int(cells.start[0]), graph.grid.m)
    return f"block row {row}, column {column}, kind {kind}"


def _hold(holds: Bools, row: Ints, what: str) -> None:
    broken = np.flatnonzero(~holds)
    if broken.size:
        raise _broken(what, f"block row {row[broken[0]]}")


def _broken(what: str, where: str) -> VerifierError:
    return VerifierError("schedule", what, where)
