"""Orders of tokens: in which order the tokens of a grid lie in memory, so that near ones share a block.

A *position* is a token's number row by row, the last coordinate the fastest; every number of a spec counts
positions. A *place* is its number in memory. Without an order both are one number.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import zip_longest
from math import gcd, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from bslang.errors import PatternError

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Order:
    """`tiles(sides; tile)` or `morton(sides)`.

    tiles: tile after tile, row by row, and row by row inside each; tiles at the far ends of the sides are
    short where a side is no multiple of the tile's. morton: along the Z-curve, by the bits of all
    coordinates in turn; where sides are no powers of two, what the curve has outside of the grid is left out.
    """

    name: str
    sides: tuple[int, ...]
    tile: tuple[int, ...] = ()

    def __str__(self) -> str:
        """As it is written after the word `order`."""
        lists = [", ".join(map(str, sizes)) for sizes in (self.sides, self.tile) if sizes]
        return f"{self.name}({'; '.join(lists)})"

    @property
    def length(self) -> int:
        """Tokens of the grid, which a sequence has exactly."""
        return prod(self.sides)

    def rank(self, position: Any) -> Any:
        """Numbers that ascend with the place of the token at each position; of arrays, or of tensors."""
        strides = [prod(self.sides[axis + 1 :]) for axis in range(len(self.sides))]
        axes = [position // s % side for s, side in zip(strides, self.sides, strict=True)]
        return _tiled(axes, self.sides, self.tile) if self.tile else _interleaved(axes, self.sides)

    @cached_property
    def positions(self) -> Ints:
        """int64 (length,): the position of the token at each place."""
        rank = self.rank(np.arange(self.length, dtype=np.int64))
        found: Ints = np.argsort(rank, kind="stable").astype(np.int64)
        found.setflags(write=False)
        return found

    @cached_property
    def places(self) -> Ints:
        """int64 (length,): the place of the token at each position."""
        found = np.empty_like(self.positions)
        found[self.positions] = np.arange(self.length)
        found.setflags(write=False)
        return found

    def unit(self, *blocks: int) -> int:
        """A number of tokens, a divisor of the blocks' sides: runs of so many positions, from multiples of it
        on, lie side by side within a block."""
        inner = self.tile[-1] if self.tile else 2
        return gcd(inner, self.sides[-1], *blocks)

    def boxes(self, *blocks: int) -> bool:
        """Whether the tokens of every block, of these sides, are all those of a box of the grid."""
        return all(_are_boxes(self, block) for block in blocks)

    def fits(self, queries: int, keys: int, first: int) -> None:
        """Refuse sequences of other tokens than those of the order, and queries from a later token on
        (PatternError)."""
        if first > 0:
            raise PatternError(
                f"`order {self}` is of whole sequences, and the {queries - first} queries are the last of "
                f"{keys} keys",
                hint="pass all queries, or remove the order",
            )
        for length, noun in ((keys, "keys"), (queries, "queries")):
            if length != self.length:
                shape = " x ".join(map(str, self.sides))
                raise PatternError(
                    f"`order {self}` is of {shape} = {self.length} tokens, and there are {length} {noun}",
                    hint="write the sides of the grid that the sequence has",
                )


@lru_cache(maxsize=32)
def _are_boxes(order: Order, block: int) -> bool:
    edges = np.arange(0, order.length, block)
    sizes = np.ones_like(edges)
    for axis in np.unravel_index(order.positions, order.sides):
        sizes *= np.maximum.reduceat(axis, edges) - np.minimum.reduceat(axis, edges) + 1
    return bool(np.array_equal(sizes, np.diff(edges, append=order.length)))


def _tiled(axes: list[Any], sides: tuple[int, ...], tile: tuple[int, ...]) -> Any:
    """The number of a position's tile, then its own inside the tile."""
    counts = [-(-side // size) for side, size in zip(sides, tile, strict=True)]
    of_tile, inside = 0, 0
    for x, size, count in zip(axes, tile, counts, strict=True):
        of_tile, inside = of_tile * count + x // size, inside * size + x % size
    return of_tile * prod(tile) + inside


def _interleaved(axes: list[Any], sides: tuple[int, ...]) -> Any:
    """The bits of the coordinates in turn, the lowest one that of the last coordinate."""
    each = zip(reversed(axes), reversed(sides), strict=True)
    bits = [[x >> bit & 1 for bit in range((side - 1).bit_length())] for x, side in each]
    found = axes[0] * 0
    for shift, bit in enumerate(
        bit for level in zip_longest(*bits) for bit in level if bit is not None
    ):
        found = found | bit << shift
    return found
