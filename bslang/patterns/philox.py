"""Philox4x32-10, the counter-based generator behind `random`.

Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC11).
docs/random.md says how the words become blocks.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bslang.ir.grid import Ints

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
_MASK = 0xFFFFFFFF


def philox_block(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, ...]:
    """Four 32-bit words of one counter and key, in plain integers."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        left, right = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (right >> 32) ^ c1 ^ k0,
            right & _MASK,
            (left >> 32) ^ c3 ^ k1,
            left & _MASK,
        )
        k0, k1 = (k0 + WEYL[0]) & _MASK, (k1 + WEYL[1]) & _MASK
    return c0, c1, c2, c3


def word(seed: int, row: int, step: int) -> int:
    """The 64-bit word of draw number `step` of a block row."""
    words = philox_block((step, row, 0, 0), (seed & _MASK, seed >> 32 & _MASK))
    return words[0] | words[1] << 32


def philox(seed: int, row: Ints, step: Ints) -> npt.NDArray[np.uint64]:
    """`word` for arrays that broadcast: uint64 of their common shape."""
    mask, half = np.uint64(_MASK), np.uint64(32)
    c0 = np.broadcast_to(step, np.broadcast_shapes(row.shape, step.shape)).astype(np.uint64)
    c1 = np.broadcast_to(row, c0.shape).astype(np.uint64)
    c2 = c3 = np.zeros_like(c0)
    k0, k1 = seed & _MASK, seed >> 32 & _MASK
    for _ in range(ROUNDS):
        left, right = c0 * np.uint64(MULTIPLIERS[0]), c2 * np.uint64(MULTIPLIERS[1])
        c0, c1, c2, c3 = (
            (right >> half) ^ c1 ^ np.uint64(k0),
            right & mask,
            (left >> half) ^ c3 ^ np.uint64(k1),
            left & mask,
        )
        k0, k1 = (k0 + WEYL[0]) & _MASK, (k1 + WEYL[1]) & _MASK
    words: npt.NDArray[np.uint64] = c0 | c1 << half
    return words
