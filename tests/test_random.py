"""`random`, held against docs/random.md: a generator written from that page alone, in plain integers.

tests/data/random.json pins draws for good: the same on every platform and in every release.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from strategies import mask_of

from bslang import compiler
from bslang.graph.lower import lower
from bslang.ir.grid import Grid
from bslang.ir.oracle import dense, dense_blocks
from bslang.ir.runs import Bools
from bslang.syntax.source import Source

PINNED = Path(__file__).parent / "data" / "random.json"
SPECS = {
    "random(2)": 40,
    "random(3, seed=7)": 40,
    "random(5, seed=2147483647)": 33,
    "random(30, seed=1)": 36,
    "random(2, seed=3, within=last(inf))": 40,
    "random(4, seed=11, within=last(inf) - window(3))": 40,
    "random(1, seed=-5)": 24,
    "random(2, within=cols(0:3))": 24,
}
"""Specs with the number of blocks that they are drawn for."""


def drawn(spec: str, blocks: int, block: int = 1) -> Bools:
    found = compiler.resolve(Source("<spec>", spec), block=block)
    return compiler.lower(found, blocks * block, blocks * block).visited.dense(blocks)


# ---- docs/random.md, in code ---------------------------------------------------------------------


def philox(seed: int, row: int, t: int) -> int:
    """x_t of block row `row`."""
    mask = 2**32 - 1
    c0, c1, c2, c3 = t, row, 0, 0
    k0, k1 = seed % 2**32, seed // 2**32 % 2**32
    for _ in range(10):
        a, b = 0xCD9E8D57 * c2, 0xD2511F53 * c0
        c0, c1, c2, c3 = (a >> 32) ^ c1 ^ k0, a & mask, (b >> 32) ^ c3 ^ k1, b & mask
        k0, k1 = (k0 + 0x9E3779B9) & mask, (k1 + 0xBB67AE85) & mask
    return c0 + 2**32 * c1


def columns(k: int, seed: int, row: int, candidates: list[int]) -> list[int]:
    c = len(candidates)
    if c <= k:
        return candidates
    f = min(k, c - k)
    ranks: list[int] = []
    t = 0
    while len(ranks) < f:
        rank = philox(seed, row, t) * c >> 64
        ranks += [rank] * (rank not in ranks)
        t += 1
    chosen = {candidates[rank] for rank in ranks}
    return sorted(chosen) if f == k else [x for x in candidates if x not in chosen]


@pytest.mark.parametrize(
    ("spec", "k", "seed", "within"),
    [
        ("random(2)", 2, 0, "all"),
        ("random(3, seed=7)", 3, 7, "all"),
        ("random(29, seed=7)", 29, 7, "all"),
        ("random(1, seed=-5)", 1, -5, "all"),
        ("random(2, seed=2147483647, within=last(inf))", 2, 2147483647, "last(inf)"),
        ("random(4, seed=1, within=last(inf) - window(3))", 4, 1, "last(inf) - window(3)"),
        ("random(3, seed=1, within=window(1) | cols(4:20))", 3, 1, "window(1) | cols(4:20)"),
    ],
)
def test_the_page_alone_gives_the_draws(spec: str, k: int, seed: int, within: str) -> None:
    blocks = 30
    held = dense_blocks(
        compiler.resolve(Source("<spec>", within), block=1).pattern,
        Grid.of(blocks, blocks, (1, 1)),
    )
    matrix = drawn(spec, blocks)
    for row in range(blocks):
        wanted = columns(k, seed, row, np.flatnonzero(held[row]).tolist())
        assert np.flatnonzero(matrix[row]).tolist() == wanted


def test_draws_are_pinned(request: pytest.FixtureRequest) -> None:
    rows = {
        spec: [np.flatnonzero(row).tolist() for row in drawn(spec, blocks)]
        for spec, blocks in SPECS.items()
    }
    if request.config.getoption("--update-golden"):
        text = ",\n".join(f"{json.dumps(spec)}: {json.dumps(row)}" for spec, row in rows.items())
        PINNED.write_text(f"{{\n{text}\n}}\n", encoding="utf-8")
    assert rows == json.loads(PINNED.read_text(encoding="utf-8"))


# ---- distribution --------------------------------------------------------------------------------


def test_columns_are_equally_likely() -> None:
    """Chi-square over columns. 99.99% of fair draws stay below the bound; these are always the same."""
    rows, m, k = 4096, 64, 3
    found = compiler.resolve(Source("<spec>", f"random({k}, seed=12)"), block=1)
    counts = np.zeros(m)
    for offset in range(0, rows, 1024):
        # 64 columns and many rows: queries of a long sequence, keys of a short one.
        grid = Grid.of(rows, m, (1, 1), "start")
        cells = lower(found.pattern, grid).visited.dense(rows)[offset : offset + 1024]
        counts += cells.sum(0)
    expected = rows * k / m
    chi_square = ((counts - expected) ** 2 / expected).sum()
    # Without replacement, columns of a row repel: the statistic is (m - k) / (m - 1) of chi-square's.
    chi_square *= (m - 1) / (m - k)
    degrees, deviations = m - 1, 3.72
    # Wilson and Hilferty's approximation of the quantile
    bound = degrees * (1 - 2 / (9 * degrees) + deviations * (2 / (9 * degrees)) ** 0.5) ** 3
    assert chi_square < bound
    assert chi_square > degrees / 3  # nor more even than draws are


@pytest.mark.parametrize("k", [1, 2, 31, 40, 63])
def test_draws_of_a_row_are_distinct_and_as_many_as_asked(k: int) -> None:
    matrix = drawn(f"random({k}, seed=3)", 64)
    assert (matrix.sum(1) == k).all()


def test_neighbouring_rows_and_seeds_are_independent() -> None:
    """How often two draws of 8 of 512 blocks share one: about 8 * 8 / 512 a pair."""
    matrices = [drawn(f"random(8, seed={seed})", 512) for seed in range(4)]
    shared = [(a & b).sum() for i, a in enumerate(matrices) for b in matrices[i + 1 :]]
    shared += [(m[1:] & m[:-1]).sum() for m in matrices]
    for count in shared:
        assert abs(count - 64) < 5 * 64**0.5


@pytest.mark.parametrize(
    "within",
    ["causal", "last(inf)", "causal - window(3)", "last(inf) - last(2)", "cols(0:9) & causal"],
)
def test_a_longer_sequence_keeps_the_rows_of_a_shorter_one(within: str) -> None:
    spec = f"random(2, seed=5, within={within})"
    longest = drawn(spec, 48, block=4)
    for blocks in (1, 2, 7, 31, 47):
        np.testing.assert_array_equal(drawn(spec, blocks, block=4), longest[:blocks, :blocks])


@pytest.mark.parametrize(
    ("within", "candidates"),
    [
        ("cols(-5t:-1t)", [[0, 1], [0, 1]]),  # tokens 15 to 18
        ("cols(-4t:)", [[1], [1]]),
        ("cols(-2t)", [[1], [1]]),
        ("cols(22t:30t)", [[1], [1]]),  # only where the block is filled up
        ("rows(-2t)", [[], [0, 1]]),
        ("rows(24t:)", [[], [0, 1]]),
        ("window(left=-2t, right=2t, wrap=true)", [[0, 1], [0, 1]]),  # 20 tokens round
        ("window(left=-20t, right=20t, wrap=true)", [[0, 1], [0, 1]]),
        ("window(3t, clamp=true) & rows(19t) & cols(0:17t)", [[], []]),  # its keys are 17 to 19
    ],
)
def test_filling_up_adds_positions_and_no_length(within: str, candidates: list[list[int]]) -> None:
    """Blocks of 16, the second with 4 tokens. The random draw takes all of two candidates."""
    found = compiler.resolve(Source("<spec>", within), block=16).pattern
    grid = Grid.of(20, 20, (16, 16))
    for seen in (dense_blocks(found, grid), lower(found, grid.whole()).visited.dense(2)):
        assert [np.flatnonzero(row).tolist() for row in seen] == candidates
    drawn_within = compiler.resolve(
        Source("<spec>", f"random(2, seed=0, within={within})"), block=16
    )
    mask, drawn_mask = (dense(pattern, grid) for pattern in (found, drawn_within.pattern))
    np.testing.assert_array_equal(drawn_mask, mask)
    graph = compiler.lower(drawn_within, 20, 20)
    np.testing.assert_array_equal(mask_of(graph), mask)


def test_a_draw_never_repeats_what_it_is_kept_out_of() -> None:
    both = "window(3) & random(4, within=causal - window(3))"
    assert not drawn(both, 40).any()
