"""What is counted of a layout at a length: at that length, or at short ones from which it follows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from bslang import compiler
from bslang.analysis.extend import Extension, extended, extension, followed
from bslang.analysis.heads import given_heads, merged
from bslang.analysis.pairs import settled
from bslang.analysis.properties import Properties
from bslang.analysis.reach import Reach, reach
from bslang.analysis.square import Square
from bslang.analysis.stats import Counts
from bslang.graph.blockgraph import BlockGraph
from bslang.ir.grid import Grid
from bslang.limits import MAX_FOLLOWED
from bslang.resolve.program import Resolved
from bslang.syntax.diagnostics import SpecError


@dataclass(frozen=True)
class Figures:
    """What is counted of one head of a layout, its properties, and what is counted of groups of heads."""

    counts: Counts
    properties: Properties
    by_head: list[tuple[list[int], Counts]]

    def on(self, grid: Grid) -> Figures:
        """The same with means on a grid."""
        by_head = [(heads, counts.on(grid)) for heads, counts in self.by_head]
        return replace(self, counts=self.counts.on(grid), by_head=by_head)


@dataclass(frozen=True)
class Asked:
    """A head of a layer of a layout, at a length in tokens. heads: how many are counted; those that the
    layout tells apart, if None."""

    resolved: Resolved
    length: int
    head: int
    layer: int
    heads: int | None

    @property
    def grid(self) -> Grid:
        """The grid of the head."""
        length = self.length
        return compiler.grid(self.resolved, length, length, head=self.head, layer=self.layer)

    def graph(self, length: int | None = None, head: int | None = None) -> BlockGraph:
        """The blocks of a head at a length; those that are asked for, if None."""
        length = self.length if length is None else length
        head = self.head if head is None else head
        return compiler.lower(self.resolved, length, length, head=head, layer=self.layer)

    def square(self, length: int | None = None) -> Square:
        """The blocks of the head at a length as nodes."""
        return Square.of(self.graph(length))

    def extension(self) -> Extension | None:
        """Short lengths from which all follows; None where there are none."""
        heads = {self.head, *(group[0] for group in self._groups())}
        return extension(self.resolved.pattern, self.grid, heads)

    def figures(self, extension: Extension | None) -> Figures:
        """Raises SpecError where the head means nothing at the length, LimitError."""
        found = extended(extension, lambda length: self._counted(length, exact=True))
        return self._counted(self.length) if found is None else found.on(self.grid)

    def reach(self, extension: Extension | None, layers: int) -> Reach:
        """What layers reach, and the coverage of so many of them."""
        found = None
        if extension is not None and not layers and self.grid.n > MAX_FOLLOWED:
            found = followed(extension, self.square)
        return reach(self.square(), layers) if found is None else found

    def _groups(self) -> list[list[int]]:
        count = self.heads or given_heads(self.resolved.pattern)
        return compiler.heads_alike(self.resolved, range(count), self.layer)

    def _counted(self, length: int, exact: bool = False) -> Figures:
        """exact: raise LimitError where blocks may be full or empty in truth."""
        graph = self.graph(length)
        if exact:
            graph = settled(graph)
        counts = Counts.of(graph)
        groups = merged(list(self._graphs(length, graph, exact)))
        by_head = [(heads, counts if one is graph else Counts.of(one)) for heads, one in groups]
        return Figures(counts, Properties.of(self.resolved.pattern, graph), by_head)

    def _graphs(
        self, length: int, own: BlockGraph, exact: bool
    ) -> Iterator[tuple[list[int], BlockGraph]]:
        """Groups of heads with their blocks; heads that mean nothing here only where they are asked for."""
        for group in self._groups():
            if self.head in group:
                yield group, own
                continue
            try:
                graph = self.graph(length, group[0])
            except SpecError:
                if self.heads is not None:
                    raise
                continue
            yield group, settled(graph) if exact else graph
