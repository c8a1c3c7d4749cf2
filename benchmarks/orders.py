"""Neighbourhoods on a video: what it is worth that the tokens of a tile lie together.

    python -m benchmarks.orders [--rounds 3] [--sides 32 64 64] [--radius 4] [--tile 4 4 4]

Prints a Markdown table for docs/performance.md. A layout of tokens in rows and the same one in tiles take
turns, a call each, with one head; permuting is not in the times.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from math import prod

import torch

import bslang
from benchmarks.markdown import spec, spread, table
from benchmarks.timing import CLOCK, Watch, alternate, ratio

DIM, BLOCK = 64, 64
PASSES = "forward", "forward and backward"
HEAD = ("layout", "blocks", "blocks per row, at most", "pass", "time, of that in rows")


def measured(
    sides: Sequence[int],
    radius: int,
    tile: Sequence[int],
    rounds: int,
    target: str = "cpu",
    watch: Watch = CLOCK,
) -> list[list[str]]:
    """The lines of the table. Raises AssertionError where results differ."""
    near = f"grid({', '.join(f'{side}t' for side in sides)}, radius={radius})"
    order = f"tiles({', '.join(map(str, sides))}; {', '.join(map(str, tile))})"
    rows, tiles = (
        bslang.compile(near, block=BLOCK, order=each, target=target) for each in (None, order)
    )
    length = prod(sides)
    of_rows = tuple(torch.randn(1, 1, length, DIM, requires_grad=True) for _ in range(3))
    of_tiles = tuple(tiles.permute(x.detach()).requires_grad_() for x in of_rows)
    grad = torch.randn(1, 1, length, DIM)

    def call(layout: bslang.Layout, tensors: tuple[torch.Tensor, ...], both: bool) -> object:
        if not both:
            with torch.no_grad():
                return layout(*tensors)
        return torch.autograd.grad(layout(*tensors), tensors, grad)

    with torch.no_grad():
        torch.testing.assert_close(tiles.unpermute(tiles(*of_tiles)), rows(*of_rows))
    counts = [layout.graph(length).blocks_by_row for layout in (rows, tiles)]
    lines = [[spec(near), f"{counts[0].sum():,}", str(counts[0].max()), "", ""]]
    for both, passes in enumerate(PASSES):
        times = alternate(
            {
                "rows": partial(call, rows, of_rows, bool(both)),
                "tiles": partial(call, tiles, of_tiles, bool(both)),
            },
            rounds,
            watch,
        )
        found = spread(ratio(times, "tiles", "rows"))
        lines.append(
            [
                f"the same, `order {order}`",
                f"{counts[1].sum():,}",
                str(counts[1].max()),
                passes,
                found,
            ]
        )
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", type=int, nargs="+", default=[32, 64, 64])
    parser.add_argument("--radius", type=int, default=4)
    parser.add_argument("--tile", type=int, nargs="+", default=[4, 4, 4])
    given = parser.parse_args()
    print(table(HEAD, measured(given.sides, given.radius, given.tile, given.rounds)))


if __name__ == "__main__":
    main()
