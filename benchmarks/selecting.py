"""Blocks that a call selects beside the same blocks in a layout: what it costs to know them at the call only.

    python -m benchmarks.selecting [--length 4096] [--rounds 15]

Prints a Markdown table for docs/performance.md. A layout and its like with `select` take turns, a call each;
lists are made anew in each call.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import torch

import bslang
from benchmarks.markdown import spec, spread, table
from benchmarks.timing import CLOCK, Watch, alternate, ratio

HEADS, DIM, BLOCK = 8, 64, 64
FORWARD, BOTH = "forward", "forward and backward"
PAIRS = {
    "random(16)": "select(pick)",
    "(random(16) | last(3) | cols(0)) & causal": "(select(pick) | last(3) | cols(0)) & causal",
}
"""Layouts, and those in which a call lists the blocks of `random(16)`."""


def values(length: int) -> dict[str, torch.Tensor]:
    """The blocks of `random(16)` as a call lists them, by what they are."""
    graph = bslang.compile("random(16)", block=BLOCK).graph(length)
    cells = torch.from_numpy(graph.visited.dense(graph.grid.n))
    columns = torch.stack([row.nonzero()[:, 0] for row in cells])[None, None]
    return {
        "columns": columns,
        "columns of each head": columns.expand(-1, HEADS, -1, -1).contiguous(),
        "a matrix": cells[None, None],
    }


def measured(
    length: int, rounds: int, target: str = "cpu", watch: Watch = CLOCK
) -> list[list[str]]:
    """A line of the table for each layout, value and pass. Raises AssertionError where results differ."""
    q, k, v = (torch.randn(1, HEADS, length, DIM, requires_grad=True) for _ in range(3))
    grad = torch.randn(1, HEADS, length, DIM)

    def call(layout: bslang.Layout, passes: str, **options: Any) -> object:
        if passes == FORWARD:
            with torch.no_grad():
                return layout(q, k, v, **options)
        return torch.autograd.grad(layout(q, k, v, **options), (q, k, v), grad)

    lines = []
    for fixed, selecting in PAIRS.items():
        known, told = (bslang.compile(x, block=BLOCK, target=target) for x in (fixed, selecting))
        for name, value in values(length).items():
            torch.testing.assert_close(known(q, k, v), told(q, k, v, select=value))
            for passes in (FORWARD, BOTH):
                times = alternate(
                    {
                        "known": partial(call, known, passes),
                        "told": partial(call, told, passes, select=value),
                    },
                    rounds,
                    watch,
                )
                found = spread(ratio(times, "told", "known"))
                lines.append([spec(selecting), name, passes, found])
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    head = ("layout", "what is listed", "pass", "time, of the layout with `random(16)`")
    print(table(head, measured(given.length, given.rounds)))


if __name__ == "__main__":
    main()
