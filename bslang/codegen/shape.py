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
"""Full blocks that no strip covers are listed one by one where their runs are shorter on average, and tiles
do not divide them."""

LONG = 16
"""Strips and runs of full blocks have a loop each where they are longer on average. In such a loop a tile's
address follows from the last one's, which takes 5 to 10% fewer instructions than finding it. But the loads
of each loop begin anew, which takes about the time of two tiles."""


@dataclass(frozen=True)
class Shape:
    """The strips of block rows (or of block columns, over the transposed graph).

    texts: what each strip comes from, in bsl; rest: whether a row that has the strips has other full
    blocks too; streams: whether one loop goes over the tiles of all strips and runs of full blocks.
    """

    rules: Rules
    texts: tuple[str, ...]
    rest: bool = True
    streams: bool = False


def shapes(
    pattern: Pattern,
    block: tuple[int, int],
    skipped: frozenset[int],
    divided: tuple[bool, bool] = (False, False),
) -> list[Shape]:
    """The shape of the block rows, and that of the block columns.

    skipped: residuals that have no strips; divided: whether tiles divide the keys of blocks, and the queries.
    """
    found = [] if _may_be_empty(pattern) else _graphs(pattern, block)
    if not found:
        return [Shape(Rules(), ())] * 2
    graphs, terms = [graph for graph, _ in found], found[0][1]
    made = []
    for turned, divides in zip((False, True), divided, strict=True):
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
        kept = rules.kept(graphs[0])
        (_, left), *_ = rules.left(graphs[0], kept)
        rows = left.rows()[0]
        scattered = bool(left) and left.size < SCATTERED * rows.size
        rest, count = bool(kept[rows].any()), sum(strip.kind == FULL for strip in strips)
        parts = rows.size + count * graphs[0].grid.n
        short = graphs[0].of_kind(FULL).size < LONG * parts and (rest or count > 1)
        rules = Rules(strips, scattered and not divides)
        made.append(Shape(rules, texts, rest, streams=short and divides))
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
