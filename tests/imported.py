"""Specs that `bslang import` writes, as blocks and token masks by the oracle."""

from __future__ import annotations

from bslang import compiler
from bslang.ir.grid import Grid
from bslang.ir.oracle import dense, dense_blocks
from bslang.ir.runs import Bools
from bslang.resolve.program import Resolved
from bslang.syntax.format import formatted
from bslang.syntax.source import Source


def resolved(text: str, name: str, **parameters: object) -> Resolved:
    """A definition of a written spec, which must be in the one style."""
    source = Source("imported.bsl", text)
    assert formatted(source) == text
    return compiler.resolve(source, name, parameters=parameters)


def blocks(text: str, name: str, n: int, head: int = 0) -> Bools:
    """Which of n x n blocks a definition has, by the oracle."""
    layout = resolved(text, name)
    length = n * layout.block[0]
    return dense_blocks(layout.pattern, Grid.of(length, length, layout.block, head=head))


def tokens(
    text: str, name: str, length: int, layer: int = 0, head: int = 0, **given: object
) -> Bools:
    """The token mask of a definition, by the oracle."""
    layout = resolved(text, name, **given)
    grid = Grid.of(length, length, layout.block, head=head, layer=layer)
    return dense(layout.pattern, grid)
