"""Scheduling: the block graphs of a layout's heads to the tables that kernels walk.

A kernel program handles one block row (or, in the backward pass, one block column), or on a GPU a
part of a heavy one (`bslang.schedule.programs`). Its runs come in classes, and each class has a loop
of its own in the kernel:

    class 0      full blocks; the loop has no mask at all
    class 1      full blocks at a ragged end of the axis that the loop walks; bounds are checked
    class 2 + r  partial blocks of residual r; bounds are checked and the residual's mask applies

Heads with other sets have other graphs. Program p handles the same row in all of them, since a
program of dK and dV meets every query head that reads its key head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np

from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.ir.awaited import inputs
from bslang.ir.bounds import LARGEST
from bslang.ir.expr import evaluate
from bslang.ir.grid import Axis, Ints
from bslang.ir.mask import Masks
from bslang.ir.ordered import order_of
from bslang.ir.pattern import Pattern
from bslang.ir.runs import Bools, Runs
from bslang.limits import MAX_NUMBER
from bslang.schedule.programs import Ints32, Pieces, Programs, each, programs
from bslang.schedule.strips import Rules

WHOLE, EDGE, PARTIAL = 0, 1, 2
"""Classes of blocks; residual r is class PARTIAL + r."""


@dataclass(frozen=True, eq=False)
class Table:
    """The runs of every program of a kernel over block rows (or columns).

    programs: what each of them handles: a row, or, in the tables of split rows, a part of one.
    ruled: bool (programs,), whether the rules' strips cover what they say of its row. The runs are what
        is left then; else they are all.
    pointer: int32 (graphs * programs * classes + 1,); in graph g, program p finds its runs of class c at
        pointer[s * classes + c] .. pointer[s * classes + c + 1], where s = g * programs + p.
    runs: int32 (runs, 2), [start, stop) in blocks of the other axis, ascending in each class. Where the
        rules say so, full blocks stand one by one.
    """

    programs: Programs
    ruled: Bools
    pointer: Ints32
    runs: Ints32

    @property
    def order(self) -> Ints32:
        """int32 (programs,), the block row of each program, heaviest first."""
        return np.ascontiguousarray(self.programs.program[:, 0])

    def unruled(self) -> Table:
        """The same of rules without strips, for kernels that have some."""
        return replace(self, ruled=np.zeros_like(self.ruled))


Verifier: TypeAlias = Callable[[Table, Sequence[BlockGraph], Rules, "Ints | None"], None]
"""Looks at a table that was made of some graphs, of all block rows or of some; raises VerifierError."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """What kernels need of a layout at one length.

    graphs: the distinct ones of the heads, on grids that differ in the head alone.
    head_graph: int32 (heads,), the graph of each query head; None where the layout is one for all heads.
    parameters: int64 (graphs, parameters), the values of the masks' `p0`, `p1`, ... at this length.
    order: int32 (length,), the position of the token at each place, which masks ask for; None where both are
    one number.

    Tables are made when they are asked for: rows for the forward pass and dQ, cols for dK and dV over
    the transposed graphs; `split_rows` and `split_cols` with heavy ones in parts, and without what
    kernels compute by rules, for GPUs. verifier: looks at each of them. in_order: programs come in the
    order of their blocks rather than the heaviest first, so that a call at a shorter length finds its own
    among them. only: the block rows, and the block columns, that have programs, ascending, None for all;
    whole: what this one was cut from.
    """

    graphs: tuple[BlockGraph, ...]
    head_graph: Ints32 | None
    parameters: Ints
    order: Ints32 | None = None
    verifier: Verifier | None = None
    in_order: bool = False
    only: tuple[Ints | None, Ints | None] = (None, None)
    whole: Schedule | None = None

    def as_capacity(self) -> Schedule:
        """The same with programs in the order of their blocks."""
        return replace(self, in_order=True)

    def cut(
        self, cells: Sequence[Runs], *, rows: Ints | None = None, cols: Ints | None = None
    ) -> Schedule:
        """A part of the work: of each graph the blocks in some cells, in some block rows for the forward pass
        and dQ, and in some block columns for dK and dV; ascending, None for all.

        A row whose blocks are all among the cells is computed to the bit as in the whole schedule.
        """
        graphs = tuple(
            graph.within(of_graph) for graph, of_graph in zip(self.graphs, cells, strict=True)
        )
        return replace(self, graphs=graphs, only=(rows, cols), whole=self)

    @cached_property
    def rows(self) -> Table:
        return self._rows(Rules(), split=False)

    @cached_property
    def cols(self) -> Table:
        return self._cols(Rules(), split=False)

    def split_rows(self, rules: Sequence[str] = ()) -> Table:
        """rules: as `Rules.lines` writes them; generated modules hold those of their kernels."""
        return self._rows(Rules.read(rules), split=True)

    def split_cols(self, rules: Sequence[str] = ()) -> Table:
        """As `split_rows`."""
        return self._cols(Rules.read(rules), split=True)

    def rows_in_order(self, rules: Sequence[str] = (), *, alone: bool = False) -> Table:
        """For GPU calls of any length up to that of the graphs: whole rows, or in parts for those of a few
        rows (alone)."""
        found = Rules.read(rules)
        if not found.from_end:
            return self._rows(found, split=alone, alone=alone)
        # The keys of these calls end elsewhere.
        return self._rows(found.listing(), split=alone, alone=alone).unruled()

    def cols_in_order(self, rules: Sequence[str] = ()) -> Table:
        """The same of whole columns. The queries of these calls begin and end inside of blocks, so that full
        ones are all in the class of those that are cut short, and no strip has any."""
        made = self._cols(Rules.read(rules).listing(), split=False).unruled()
        pointer = made.pointer.copy()
        begins = pointer[:-1].reshape(-1, PARTIAL + len(self.graphs[0].residuals))
        begins[:, EDGE] = begins[:, WHOLE]
        return replace(made, pointer=pointer)

    def _rows(self, rules: Rules, *, split: bool, alone: bool = False) -> Table:
        whole = None if self.whole is None else self.whole.graphs
        return self._table(self.graphs, whole, self.only[0], rules, split=split, alone=alone)

    def _cols(self, rules: Rules, *, split: bool) -> Table:
        whole = None if self.whole is None else self.whole._transposed
        return self._table(self._transposed, whole, self.only[1], rules, split=split)

    def _table(
        self,
        graphs: Sequence[BlockGraph],
        whole: Sequence[BlockGraph] | None,
        only: Ints | None,
        rules: Rules,
        *,
        split: bool,
        alone: bool = False,
    ) -> Table:
        if only is not None:
            graphs = tuple(graph.in_rows(only) for graph in graphs)
        made = _table_of(
            graphs,
            self._weights,
            rules,
            split=split,
            in_order=self.in_order,
            alone=alone,
            rows=only,
            whole=whole,
        )
        if self.verifier is not None:
            self.verifier(made, graphs, rules, only)
        return made

    @cached_property
    def _transposed(self) -> tuple[BlockGraph, ...]:
        return tuple(graph.transpose() for graph in self.graphs)

    @property
    def _weights(self) -> Ints:
        """int64 (graphs,), how many heads have each."""
        return np.bincount(
            [0] if self.head_graph is None else self.head_graph, minlength=len(self.graphs)
        )


def schedule(
    *graphs: BlockGraph,
    head_graph: Sequence[int] | None = None,
    verifier: Verifier | None = None,
) -> Schedule:
    """The schedule of the graphs of some heads; head_graph and verifier as in `Schedule`."""
    grid, residuals = graphs[0].grid, graphs[0].residuals
    block = grid.q.block, grid.k.block
    masks = Masks.of(residuals, block, inputs(block, *residuals))
    wide = any(p.wide for residual in residuals for p in residual.primitives())
    largest = LARGEST if wide else MAX_NUMBER
    exact = [[evaluate(p, graph.grid.env()) for p in masks.parameters] for graph in graphs]
    return Schedule(
        graphs,
        None if head_graph is None else np.array(head_graph, dtype=np.int32),
        # What lies beyond 32 bits lies beyond every position, and so does the largest number of them;
        # masks that compute beyond them have numbers that 64 bits hold.
        np.array(exact, dtype=object).clip(-largest, largest).astype(np.int64),
        _positions(residuals),
        verifier,
    )


def _positions(residuals: Sequence[Pattern]) -> Ints32 | None:
    """The positions that masks ask for, at each place; None where these are one number."""
    order = order_of(*residuals)
    return None if order is None else order.positions.astype(np.int32)


def _table_of(
    graphs: Sequence[BlockGraph],
    weights: Ints,
    rules: Rules,
    *,
    split: bool,
    in_order: bool,
    alone: bool,
    rows: Ints | None,
    whole: Sequence[BlockGraph] | None,
) -> Table:
    """The table of the block rows of graphs, or of transposed ones of the block columns; rows, whole: as of
    `programs`."""
    across, residuals = graphs[0].grid.k, graphs[0].residuals
    # Strips say what a row of the whole graph has, so that a part of it has all blocks in its tables.
    kept = np.logical_and.reduce([rules.kept(graph) for graph in graphs])
    pieces = [_pieces(graph, rules, kept) for graph in graphs]
    found = programs(
        graphs, weights, split=split, in_order=in_order, alone=alone, rows=rows, whole=whole
    )
    ruled = kept[found.program[:, 0]]
    return Table(found, ruled, *found.lay_out(pieces, PARTIAL + len(residuals), across.blocks))


def _pieces(graph: BlockGraph, rules: Rules, kept: Bools) -> Pieces:
    """The runs of a graph that the rules leave, with their classes."""
    if not rules.strips:
        kind = np.where(graph.kind == FULL, WHOLE, graph.kind + PARTIAL)
        row, start, stop = graph.row, graph.start, graph.stop
    else:
        parts = []
        for of_kind, runs in rules.left(graph, kept):
            found = runs.rows()
            kinds = np.full_like(found[0], WHOLE if of_kind == FULL else of_kind + PARTIAL)
            parts.append((*found, kinds))
        row, start, stop, kind = (np.concatenate(part) for part in zip(*parts, strict=True))
    row, start, stop, kind = _cut_edges(row, start, stop, kind, graph.grid.k)
    if not rules.listed:
        return row, start, stop, kind
    run, number = each(np.where(kind == WHOLE, stop - start, 1))
    start = start[run] + number
    return row[run], start, np.where(kind[run] == WHOLE, start + 1, stop[run]), kind[run]


def _cut_edges(
    row: Ints, start: Ints, stop: Ints, kind: Ints, across: Axis
) -> tuple[Ints, Ints, Ints, Ints]:
    """Cut the short blocks at the ends of an axis off the full runs that hold them."""
    short = []
    if across.start % across.block:
        short.append(across.first)
    if across.stop % across.block:
        short.append(across.blocks - 1)
    for block in dict.fromkeys(short):
        cut = np.flatnonzero((kind == WHOLE) & (start <= block) & (block < stop))
        edge = np.full_like(cut, block)
        # before the short block, the short block, after it; empty pieces are dropped below
        row = np.concatenate((row, row[cut], row[cut]))
        kind = np.concatenate((kind, np.full_like(cut, EDGE), kind[cut]))
        after = stop[cut]
        start = np.concatenate((start, edge, edge + 1))
        stop = np.concatenate((stop, edge + 1, after))
        stop[cut] = block
        keep = start < stop
        row, start, stop, kind = row[keep], start[keep], stop[keep], kind[keep]
    return row, start, stop, kind
