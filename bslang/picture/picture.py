"""Picture: heads of a layout side by side, cell by cell, whatever draws it then."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from bslang.analysis.cells import Cells
from bslang.analysis.provenance import provenance
from bslang.graph.blockgraph import BlockGraph
from bslang.ir.grid import Ints
from bslang.ir.pattern import Pattern
from bslang.ir.runs import Runs

Shares: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"

MOST_TERMS = 64
"""Terms of a layout that a picture tells apart; those beyond count as one."""

NO_TERM = -1
"""The term of a cell without blocks."""

MOST_ENTRIES = 24
"""Terms that the legend of a file names."""

PANELS = 4
"""Heads side by side in a file; further ones go below."""

_LABEL = 64  # characters of a term in a legend


@dataclass(frozen=True, eq=False)
class Panel:
    """What one head has in each cell, int64 (down, across) each.

    full, partial: its blocks of either kind; term: the one of the legend that brings in most of them
    (of equals the first), NO_TERM where there are none.
    """

    head: int
    cells: Cells
    full: Ints
    partial: Ints
    term: Ints

    @cached_property
    def filled(self) -> Shares:
        """float64 (down, across): how much of each cell is filled, 0 to 1; partial blocks count half."""
        shares: Shares = (self.full + self.partial / 2) / self.cells.area
        return shares


@dataclass(frozen=True, eq=False)
class Division:
    """What a picture tells apart in place of terms.

    parts: of a graph, disjoint sets of its blocks, with names for the legend. rows: for each block row what
    stands beside it; where it changes a new stretch of rows begins. lines: below the legend.
    """

    parts: Callable[[BlockGraph], Sequence[tuple[str, Runs]]]
    rows: tuple[str, ...]
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """A term in the legend, and the blocks that it is the first to bring in, of all heads drawn."""

    text: str
    blocks: int

    def __str__(self) -> str:
        return f"{self.text}: {self.blocks:,} block{'s' * (self.blocks != 1)}"


@dataclass(frozen=True, eq=False)
class Picture:
    """One panel a head, all cut into the same cells, and the legend that they share.

    beside: for each row of cells what stands beside it, "" for nothing. lines: below the legend.
    """

    cells: Cells
    panels: tuple[Panel, ...]
    legend: tuple[Entry, ...]
    beside: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()

    @property
    def fullest(self) -> float:
        """How much of the fullest cell of all panels is filled, 0 to 1; 1 where all are empty."""
        return max(float(panel.filled.max()) for panel in self.panels) or 1.0

    @property
    def scale(self) -> str:
        """What a cell stands for, in words, and how full the fullest is where none of many blocks is full."""
        fullest = f", at most {100 * self.fullest:.3g}% full" if self.fullest < 1 else ""
        return self.cells.scale + (fullest if self.cells.many else "")

    def tone(self, panel: Panel) -> Shares:
        """float64 (down, across): how strongly each cell is drawn, 0 to 1: as it is filled, where it is a
        block. Of many blocks a sparse layout may fill a hundredth: the fullest cell of all is drawn in full
        strength then, and the square root keeps the others apart."""
        return np.sqrt(panel.filled / self.fullest) if self.cells.many else panel.filled

    @classmethod
    def of(
        cls,
        graphs: Sequence[BlockGraph],
        height: int,
        width: int,
        pattern: Pattern | None = None,
        division: Division | None = None,
    ) -> Picture:
        """The picture of graphs, each of a head of one layout at one length.

        At most `height` x `width` cells a head, one a block where that is enough. pattern: the layout;
        without it the legend is empty, and no terms are told apart. division: what is told apart in place
        of terms. Costs what the runs cost. Raises as `provenance`.
        """
        cells = Cells.of(graphs[0].grid, height, width)
        legend: dict[str, int] = {}
        panels = []
        for graph in graphs:
            full, partial = (cells.count_kind(graph, kind) for kind in (True, False))
            term = np.where(full + partial > 0, 0, NO_TERM)
            if division is not None:
                term = _term(division.parts(graph), cells, legend)
            elif pattern is not None:
                found = provenance(pattern, graph.grid, MOST_TERMS)
                term = _term([(str(each), runs) for each, runs in found], cells, legend)
            panels.append(Panel(graph.grid.head, cells, full, partial, term))
        entries = tuple(Entry(*item) for item in legend.items())
        if division is None:
            return cls(cells, tuple(panels), entries)
        beside = tuple(_beside(division.rows, cells))
        return cls(cells, tuple(panels), entries, beside, division.lines)


def _beside(rows: Sequence[str], cells: Cells) -> Iterator[str]:
    """For each row of cells what begins in it, of what stands beside its block rows."""
    last = ""
    for first in range(0, cells.shape[0], cells.per_row):
        here = rows[first : first + cells.per_row]
        begins = [here[0]] * (here[0] != last)
        begins += [b for a, b in pairwise(here) if a != b]
        last = here[-1]
        yield f"{begins[0]} ..." if len(begins) > 1 else "".join(begins)


def _term(parts: Sequence[tuple[str, Runs]], cells: Cells, legend: dict[str, int]) -> Ints:
    """The part of each cell; adds the parts to the legend, where other heads may have them already."""
    most = np.zeros((cells.down, cells.across), dtype=np.int64)
    chosen = np.full_like(most, NO_TERM)
    for name, runs in parts:
        text = label(name)
        legend[text] = legend.get(text, 0) + runs.size
        blocks = cells.count_runs(runs)
        chosen[blocks > most] = list(legend).index(text)
        most = np.maximum(most, blocks)
    return chosen


def level(shares: Shares, steps: int) -> Ints:
    """int64, as `shares`: 0 where a share is 0, `steps` where it is 1, and 1 to `steps` - 1 in between,
    each for an equal range of shares."""
    between = np.minimum(1 + np.floor(shares * (steps - 1)), steps - 1)
    chosen = np.select([shares <= 0, shares >= 1], [0, steps], between)
    return chosen.astype(np.int64)


def label(text: str, room: int = _LABEL) -> str:
    """Text for a legend or a file: on one line, without control characters, of at most `room` characters."""
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text if len(text) <= room else f"{text[: room - 3]}..."
