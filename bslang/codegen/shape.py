"""Shape: what of a layout follows from the block row alone, found on the graphs of some lengths."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest

from bslang.errors import LimitError, PatternError
from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.graph.lower import lower_with_terms
from bslang.ir.grid import Grid
from bslang.ir.pattern import Intersection, Pattern, Primitive
from bslang.ir.runs import Runs
from bslang.schedule.strips import Rules, Strip, find, middle

BLOCKS = (391, 97)
"""Lengths that are looked at, in the larger side of a block, the longest first: enough rows for wide windows
to show."""

SCATTERED = 4
"""Full blocks that no strip covers are listed one by one where their runs are shorter on average."""


@dataclass(frozen=True)
class Shape:
    """The strips of block rows (or of block columns, over the transposed graph).

    texts: what each strip comes from, in bsl.
    """

    rules: Rules
    texts: tuple[str, ...]


def shapes(pattern: Pattern, block: tuple[int, int], skipped: frozenset[int]) -> list[Shape]:
    """The shape of the block rows, and that of the block columns.

    skipped: residuals that have no strips.
    """
    found = [] if _may_be_empty(pattern) else _graphs(pattern, block)
    if not found:
        return [Shape(Rules(), ())] * 2
    graphs, terms = [graph for graph, _ in found], found[0][1]
    made = []
    for turned in (False, True):
        if turned:
            terms = {text: full.transpose(graphs[0].grid.n) for text, full in terms.items()}
            graphs = [graph.transpose() for graph in graphs]
        kinds = [FULL, *(r for r in range(len(graphs[0].residuals)) if r not in skipped)]
        strips = find(graphs, kinds)
        texts = tuple(
            _text(strip, pattern, graphs[0], terms)
            if strip.kind == FULL
            else str(graphs[0].residuals[strip.kind])
            for strip in strips
        )
        rules = Rules(strips)
        (_, left), *_ = rules.left(graphs[0], rules.kept(graphs[0]))
        scattered = bool(left) and left.size < SCATTERED * left.rows()[0].size
        made.append(Shape(Rules(strips, scattered), texts))
    return made


def _may_be_empty(pattern: Pattern) -> bool:
    """Whether labels of the call may leave no pair of any block: no block is full, and no residual has
    strips."""
    parts = pattern.parts if isinstance(pattern, Intersection) else (pattern,)
    return any(isinstance(p, Primitive) and p.awaits_call for p in parts)


def _graphs(pattern: Pattern, block: tuple[int, int]) -> list[tuple[BlockGraph, dict[str, Runs]]]:
    """A pattern at some lengths, with the full blocks of its terms; none where it is undefined there."""
    try:
        lengths = [count * max(block) for count in BLOCKS]
        heads = range(2) if "head" in pattern.names() else range(1)
        return [
            lower_with_terms(pattern, Grid.of(length, length, block, head=head))
            for length in lengths
            for head in heads
        ]
    except (PatternError, LimitError):
        return []


def _text(strip: Strip, pattern: Pattern, graph: BlockGraph, terms: dict[str, Runs]) -> str:
    """The terms of a union that hold a strip by themselves, or all of the pattern."""
    row = graph.grid.n // 2
    start, stop = middle(strip, graph)
    found = []
    for text, term in terms.items():
        at, first, last = term.rows()
        if ((at == row) & (first <= start) & (stop <= last)).any():
            found.append(text)
    return " | ".join(found) or str(pattern)


def literal(name: str, shape: Shape, row: str, column: str) -> list[str]:
    """Lines of Python that state the rules, each strip of full blocks with what it comes from."""
    lines = shape.rules.lines(row, column)
    if not lines:
        return [f"{name} = ()"]
    full = [
        text
        for strip, text in zip(shape.rules.strips, shape.texts, strict=True)
        if strip.kind == FULL
    ]
    if len(lines) == 1 and not full:  # as formatters have it
        return [f'{name} = ("{lines[0]}",)']
    notes = [f"  # {text}" for text in full]
    found = [f'    "{line}",{note}' for line, note in zip_longest(lines, notes, fillvalue="")]
    return [f"{name} = (", *found, ")"]
