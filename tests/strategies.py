"""Random programs on grids: one strategy for all property tests, of the texts of `tests/grammar.py`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from bslang import compiler
from bslang.errors import BslangError
from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.inputs import ROW, Inputs
from bslang.ir.awaited import inputs
from bslang.ir.grid import At, Grid
from bslang.ir.oracle import Labels, Selections, dense, expanded
from bslang.ir.predicate import holds
from bslang.ir.runs import Bools
from bslang.resolve.program import Resolved
from bslang.selections import cells
from bslang.syntax.source import Source
from grammar import Forms, definitions, programs

__all__ = ["FACTOR", "Case", "cases", "examples", "mask_of", "programs", "value_dims"]

FACTOR = float(os.environ.get("BSLANG_EXAMPLES", "1"))
"""How many times as many programs as usual: `make fuzz` takes more, `make mutation` fewer."""

_Test = TypeVar("_Test", bound=Callable[..., None])


def examples(count: int, slow: bool = False) -> Callable[[_Test], _Test]:
    """A property of random programs, held on `count` of them, times FACTOR.

    A slow one builds or interprets kernels, and takes at most a fourth of what FACTOR adds.
    """
    factor = 1 + (FACTOR - 1) / 4 if slow and FACTOR > 1 else FACTOR
    most = settings(max_examples=max(round(count * factor), 5))
    return lambda test: pytest.mark.programs(most(test))


value_dims = st.sampled_from((8, 5, 20))
"""Head dimensions of values beside keys of 8: the same, fewer, more."""


GRID = 24
"""Tokens on the grids that are drawn: `cases` draws sequences of this length where it matters."""


_FOLDER = tempfile.TemporaryDirectory(prefix="bslang-tables-")


@cache
def tables(n: int, m: int) -> Path:
    """A folder whose `mask.npy` is a random matrix of n x m blocks, always the same."""
    folder = Path(_FOLDER.name) / f"{n}x{m}"
    folder.mkdir()
    np.save(folder / "mask.npy", np.random.default_rng(n * 1000 + m).random((n, m)) < 0.4)
    return folder


@dataclass(frozen=True)
class Case:
    """A program on a grid."""

    spec: str
    block: tuple[int, int]
    len_q: int
    len_k: int
    align: str

    @property
    def folder(self) -> Path | None:
        """Where the table of the program lies, if it has one."""
        return tables(self.grid.n, self.grid.m) if "table(" in self.spec else None

    @cached_property
    def resolved(self) -> Resolved:
        source = Source("<case>", self.spec, self.folder)
        return compiler.resolve(source, block=self.block)

    @cached_property
    def grid(self) -> Grid:
        return Grid.of(self.len_q, self.len_k, self.block, self.align)

    @cached_property
    def _lowered(self) -> dict[int, BlockGraph]:
        return {}

    def lowered(self, head: int = 0) -> BlockGraph:
        """The blocks of a head, lowered once. Raises BslangError where the program means nothing."""
        if head not in self._lowered:
            self._lowered[head] = compiler.lower(
                self.resolved, self.len_q, self.len_k, self.align, head=head
            )
        return self._lowered[head]

    @cached_property
    def inputs(self) -> Inputs:
        """What a call gives, as the spec names it."""
        return inputs(self.block, self.resolved.pattern)

    @cached_property
    def labels(self) -> Labels:
        """Labels of the queries and keys by name: documents one after another, or in any order."""
        random = np.random.default_rng(self.len_k)
        found = {}
        for label in sorted(self.inputs.labels, key=lambda label: label.name):
            most = 3 if label.name in ("doc", "part") else self.len_k
            of_q, of_k = (random.integers(0, most, length) for length in (self.len_q, self.len_k))
            if label.name in ("doc", "time"):
                of_q, of_k = np.sort(of_q), np.sort(of_k)
            if label.sides == ROW:
                of_q, of_k = of_q * 0 + of_k[0], of_k * 0 + of_k[0]
            elif self.align == "end":
                of_q = of_k[-self.len_q :]
            found[label.name] = (of_q, of_k)
        return found

    @cached_property
    def selections(self) -> Selections:
        """Which cells each selection lists."""
        random = np.random.default_rng(self.len_k)
        found = {}
        for each in self.inputs.selections:
            start = self.grid.q.start
            found[each.name] = random.random(cells(each, start, self.len_q, self.len_k)) < 0.4
        return found

    def mask(self) -> Bools:
        """The truth of head 0, bool (len_q, len_k), from the dense oracle."""
        return self._mask(self.grid)

    def _mask(self, grid: Grid) -> Bools:
        of = self.resolved
        return dense(of.row_major, grid, self.labels, self.selections, of.order)

    def masks(self, heads: int) -> Bools:
        """The truth of each head, bool (1, heads, len_q, len_k)."""
        return np.stack([self._mask(replace(self.grid, head=head)) for head in range(heads)])[None]

    def has_meaning(self, heads: int = 1) -> bool:
        """Whether the program means something on the grid: an index may lie outside of it."""
        try:
            for head in range(heads):
                self.lowered(head)
        except BslangError:
            return False
        return True


def mask_of(
    graph: BlockGraph, labels: Labels | None = None, selections: Selections | None = None
) -> Bools:
    """The tokens that a graph says belong: full blocks whole, partial ones by their residual."""
    grid = graph.grid
    q = np.arange(grid.q.start, grid.q.stop)[:, None]
    k = np.arange(grid.k.start, grid.k.stop)[None, :]
    pairs = {name: (x[:, None], y[None]) for name, (x, y) in (labels or {}).items()}
    at = At.positions(grid, q, k, labels=pairs, cells=expanded(grid, selections or {}))
    block = (q // grid.q.block, k // grid.k.block)
    mask = graph.of_kind(FULL).dense(grid.n)[block]
    for kind, residual in enumerate(graph.residuals):
        inside = graph.of_kind(kind).dense(grid.n)[block]
        belongs = holds(residual, at, grid.env())
        assert not (mask & inside).any(), "a block has two kinds"
        mask = mask | (inside & belongs)
    return mask


ORDERS = ("tiles(24; 5)", "tiles(4, 6; 2, 4)", "tiles(2, 3, 4; 2, 2, 2)", "tiles(3, 8; 3, 4)")
ORDERS += ("morton(4, 6)", "morton(3, 8)", "morton(2, 3, 4)")
"""Orders of GRID tokens."""


@st.composite
def ordered_cases(draw: st.DrawFn, terms: int = 5, labels: bool = False) -> Case:
    """Programs that count tokens, of tokens in an order, on their grid."""
    block = draw(st.sampled_from(((4, 4), (8, 8), (5, 3), (1, 1), (2, 7))))
    spec = draw(programs(terms=terms, forms=Forms(False, labels=labels, tokens=True)))
    return Case(f"order {draw(st.sampled_from(ORDERS))}\n{spec}", block, GRID, GRID, "end")


@st.composite
def cases(
    draw: st.DrawFn,
    blocks: tuple[tuple[int, int], ...] = ((4, 4), (8, 8), (5, 3), (1, 1), (2, 7)),
    longest: int = 40,
    terms: int = 5,
    labels: bool = False,
    one_length: bool = True,
) -> Case:
    """Programs on grids of all kinds: ragged lengths, rectangular blocks, few queries, cross-attention.

    labels: with labels and selections. one_length: with `table`, which fits no other length.
    """
    block = draw(st.sampled_from(blocks))
    forms = Forms(square=block[0] == block[1], labels=labels, tables=one_length)
    lines, calls = draw(definitions(forms)) if draw(st.integers(0, 5)) == 5 else ("", ())
    spec = draw(programs(terms=terms, forms=replace(forms, named=calls)))
    if calls:
        spec = f"{lines}{draw(st.sampled_from(calls))} {draw(st.sampled_from('|&-^'))} {spec}"
    lengths = [st.integers(longest // 4, longest), st.integers(1, longest)]
    len_k = draw(st.integers(GRID - 1, GRID) if "grid(" in spec else st.one_of(lengths))
    composed = "@" in spec or "**" in spec  # of one sequence
    align = "end" if composed else draw(st.sampled_from(["end", "start"]))
    len_q = draw(st.one_of(st.just(len_k), st.integers(1, len_k if align == "end" else longest)))
    return Case(spec, block, len_q, len_k, align)
