"""bslang show: a picture of a layout in the terminal."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from bslang import compiler
from bslang.cli.common import BlockOption, LengthOption, ParameterOption, SpecArgument, resolve_spec

if TYPE_CHECKING:
    from bslang.graph.blockgraph import BlockGraph

_PLAIN = ".-+*#"
_SHADED = "·░▒▓█"
_DEFAULT_ROWS = 24


def show(
    spec: SpecArgument,
    seq_len: LengthOption = None,
    define: ParameterOption = None,
    block: BlockOption = None,
    plain: Annotated[
        bool, typer.Option("--ascii", help="Plain ASCII, also on a terminal.")
    ] = False,
) -> None:
    """Draw a layout: rows are blocks of queries, columns blocks of keys."""
    resolved = resolve_spec(spec, define, block)
    length = seq_len or _DEFAULT_ROWS * max(resolved.block)
    graph = compiler.lower(resolved, length, length)
    rows, columns = resolved.block
    shaded = not plain and sys.stdout.isatty() and (sys.stdout.encoding or "").lower() == "utf-8"
    print(f"{resolved.name}: {resolved.pattern}")
    print(f"{length:,} tokens, block {rows}x{columns}: {graph.grid.n} x {graph.grid.m} blocks\n")
    size = shutil.get_terminal_size((80, 40))
    print(picture(graph, max(8, size.lines - 6), max(8, size.columns // 2), shaded))


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
    grid = graph.grid
    blocks = max(-(-(grid.n - grid.q.first) // len(lines)), -(-grid.m // filled.shape[1]))
    each = "a block" if blocks == 1 else f"up to {blocks} x {blocks} blocks"
    key = "  ".join(
        f"{ink[i] * 2} {text}" for i, text in ((0, "empty"), (2, "partial"), (4, "full"))
    )
    return "\n".join([*lines, "", f"each cell {each}:  {key}"])
