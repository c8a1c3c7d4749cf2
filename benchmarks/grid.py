"""Lengths times densities: layouts whose density is set by a parameter, and the contests of a GPU run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from benchmarks.peers import CUDNN, FLASH, FLEX, FLEX_TUNED, MASKED_SDPA, Peer
from benchmarks.suites import Contest
from benchmarks.workloads import BACKWARD, BOTH, CAUSAL, FORWARD, Pattern, Workload

NEAR = 0.15
"""How far from the density wanted that of a layout may be, as a share of it."""

MASKED_UP_TO = 4096
"""Tokens up to which dense attention with a boolean mask runs too: a second opinion on the tokens."""

Layout = Callable[[int, int, float], Pattern | None]
"""Of length and block, in tokens, and density: the layout that comes nearest; None where none is near."""


@cache
def window(length: int, block: int, density: float) -> Pattern | None:
    """A causal sliding window, to the token: the parameter is its width. From half on it is dense causal."""
    n = length // block
    visited = [n * (w + 1) - w * (w + 1) // 2 for w in range(n)]  # by width in blocks
    width = min(range(1, n), key=lambda w: abs(visited[w] - density * n * n), default=0)
    if not _near(visited[width] / n**2, density):
        return None
    if density >= 0.5:  # all but a corner would come nearer by less than a block a row
        return CAUSAL
    tokens = width * block
    return Pattern(
        f"sliding window {density:g}",
        f"last({tokens}t)",
        lambda q, k: (q >= k) & (q - k < tokens),
    )


@cache
def bigbird(length: int, block: int, density: float) -> Pattern | None:
    """BigBird: the parameter is the number of random blocks per row, each of which may hit another part."""
    n = length // block
    parts = 5  # a row's own: three of the window, and the first and the last block
    a_row = (density * n * n - 2 * n) / max(1, n - 2)  # the first and the last row visit all
    count = round((a_row - parts) / max(1e-9, 1 - parts / n))
    if count < 0 or not _near(
        (2 * n + (n - 2) * (parts + count * (1 - parts / n))) / n**2, density
    ):
        return None
    spec = "window(3) | global(0, -1)" + (f" | random({count}, seed=7)" if count else "")
    return Pattern(f"BigBird {density:g}", spec)


def _near(found: float, wanted: float) -> bool:
    return abs(found - wanted) <= NEAR * wanted


LAYOUTS: dict[str, Layout] = {"sliding window": window, "BigBird": bigbird}


@dataclass(frozen=True)
class Grid:
    """What a run measures: every length with every density, block and head dimension.

    lengths, blocks: tokens; densities: shares of all pairs; heads: of every call, batch 1.
    """

    lengths: tuple[int, ...] = (4096, 16_384, 65_536, 131_072)
    densities: tuple[float, ...] = (0.5, 0.2, 0.1, 0.05, 0.025, 0.0125)
    blocks: tuple[int, ...] = (128,)
    dims: tuple[int, ...] = (64, 128)
    heads: int = 8
    dtype: str = "bfloat16"
    device: str = "cuda"
    phases: tuple[str, ...] = (FORWARD, BACKWARD, BOTH)
    peers: tuple[Peer, ...] = (FLASH, CUDNN, FLEX, FLEX_TUNED)

    def workloads(self) -> list[Workload]:
        return [
            Workload(pattern, length, block, dim, self.heads, self.dtype, self.device)
            for pattern, length, block in self._layouts()
            if pattern is not None
            for dim in self.dims
        ]

    def unreached(self) -> list[str]:
        """Where no layout has the density, in words: a block a row may be more already."""
        return [
            f"{name} of density {density:g} at {length:,} tokens in blocks of {block}"
            for name, length, block, density in self._cells()
            if LAYOUTS[name](length, block, density) is None
        ]

    def contests(self) -> list[Contest]:
        """Each workload in each phase, against the peers."""
        return [
            Contest(work, phase, self.peers + (MASKED_SDPA,) * (work.length <= MASKED_UP_TO))
            for work in self.workloads()
            for phase in self.phases
        ]

    def _cells(self) -> Iterator[tuple[str, int, int, float]]:
        for length in self.lengths:
            for block in self.blocks:
                for name in LAYOUTS:
                    for density in self.densities:
                        yield name, length, block, density

    def _layouts(self) -> Iterator[tuple[Pattern | None, int, int]]:
        seen: set[tuple[Pattern | None, int, int]] = set()
        for name, length, block, density in self._cells():
            cell = LAYOUTS[name](length, block, density), length, block
            if cell not in seen:  # dense causal is the widest window of several densities
                seen.add(cell)
                yield cell


def quick() -> Grid:
    """Short, to see that all is well."""
    return Grid(lengths=(4096, 16_384), densities=(0.5, 0.1), dims=(64,))
