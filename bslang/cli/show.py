"""bslang show: a picture of a layout in the terminal."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from bslang import compiler
from bslang.cli.common import (
    BlockOption,
    HeadOption,
    LayerOption,
    LengthOption,
    ParameterOption,
    SpecArgument,
    resolve_spec,
)

if TYPE_CHECKING:
    from bslang.graph.blockgraph import BlockGraph
    from bslang.resolve.program import Resolved

_PLAIN = ".-+*#"
_SHADED = "·░▒▓█"
_LETTERS = "abcdefghijklmnopqrstuvwxyz?"
_DEFAULT_ROWS = 24


def show(
    spec: SpecArgument,
    seq_len: LengthOption = None,
    define: ParameterOption = None,
    block: BlockOption = None,
    head: HeadOption = 0,
    layer: LayerOption = 0,
    terms: Annotated[
        bool, typer.Option("--terms", help="Letters for the term that brings in each block.")
    ] = False,
    plain: Annotated[
        bool, typer.Option("--ascii", help="Plain ASCII, also on a terminal.")
    ] = False,
) -> None:
    """Draw a layout: rows are blocks of queries, columns blocks of keys."""
    resolved = resolve_spec(spec, define, block)
    length = seq_len or _DEFAULT_ROWS * max(resolved.block)
    graph = compiler.lower(resolved, length, length, head=head, layer=layer)
    rows, columns = resolved.block
    shaded = not plain and sys.stdout.isatty() and (sys.stdout.encoding or "").lower() == "utf-8"
    print(f"{resolved.name}: {resolved.pattern}")
    print(f"{length:,} tokens, block {rows}x{columns}: {graph.grid.n} x {graph.grid.m} blocks\n")
    size = shutil.get_terminal_size((80, 40))
    height, width = max(8, size.lines - 6), max(8, size.columns // 2)
    if terms:
        print(terms_picture(resolved, graph, height, width))
    else:
        print(picture(graph, height, width, shaded))


def picture(graph: BlockGraph, height: int, width: int, shaded: bool) -> str:
    """The layout in characters, two to a cell, at most `height` x `width` cells.

    A cell is one block where they fit, and a group of blocks otherwise; the darker, the fuller.
    """
    from bslang.graph.stats import coverage

    filled = coverage(graph, height, width)
    # None only where nothing is visited, full only where everything is: others round between.
    level = np.where(filled <= 0, 0, np.where(filled >= 1, 4, 1 + np.floor(filled * 3))).astype(int)
    ink = _SHADED if shaded else _PLAIN
    lines = ["".join(ink[cell] * 2 for cell in row) for row in level]
    key = "  ".join(
        f"{ink[i] * 2} {text}" for i, text in ((0, "empty"), (2, "partial"), (4, "full"))
    )
    return "\n".join([*lines, "", f"{cells(graph, filled)}:  {key}"])


def terms_picture(resolved: Resolved, graph: BlockGraph, height: int, width: int) -> str:
    """The layout in letters, two to a cell: of the first term that brings in a block of the cell."""
    from bslang.graph.blockgraph import BlockGraph
    from bslang.graph.provenance import provenance
    from bslang.graph.stats import coverage

    parts = provenance(resolved.pattern, graph.grid)
    ink: np.ndarray[Any, np.dtype[np.str_]] | None = None
    for place, (_, runs) in reversed([*enumerate(parts)]):
        own = coverage(BlockGraph.of_classes(graph.grid, runs, (), {}), height, width)
        ink = np.full(own.shape, ".") if ink is None else ink
        ink[own > 0] = _LETTERS[min(place, len(_LETTERS) - 1)]
    assert ink is not None
    lines = ["".join(cell * 2 for cell in row) for row in ink.tolist()]
    key = [
        f"{_LETTERS[min(place, len(_LETTERS) - 1)] * 2} {term}: {runs.size:,} blocks"
        for place, (term, runs) in enumerate(parts)
    ]
    return "\n".join([*lines, "", f"{cells(graph, own)}, .. empty", *key])


def cells(graph: BlockGraph, drawn: np.ndarray[Any, Any]) -> str:
    """How many blocks stand behind each cell of a picture, in words."""
    grid = graph.grid
    down, across = drawn.shape
    blocks = max(-(-(grid.n - grid.q.first) // down), -(-grid.m // across))
    each = "a block" if blocks == 1 else f"up to {blocks} x {blocks} blocks"
    return f"each cell {each}"
