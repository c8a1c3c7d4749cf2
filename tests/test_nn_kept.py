"""KVCache(layout): what it keeps, and that results have the bits of a cache that keeps all."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from strategies import examples, programs

import bslang
from bslang.errors import BslangError
from bslang.nn import BlockSparseAttention, KVCache, PagePool, kept

WINDOW = "(last(20t) | cols(0:4t)) & causal"
BY_HEAD = "heads { 0:2 -> (last(20t) | cols(0:4t)) & causal; 2: -> causal }"
GONE = "cols(0:20t) & causal"  # no token sees itself later on
SPECS = [(WINDOW, 8), (BY_HEAD, 16), (GONE, 16), ("causal", (16, 24))]
LENGTH = 150


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def module(
    spec: str, block: Any = 8, target: str = "torch", **options: Any
) -> BlockSparseAttention:
    layout = bslang.compile(spec, block=block, target=target)
    return BlockSparseAttention(32, 4, layout, num_kv_heads=2, rotary=100.0, **options)


def poison(cache: KVCache) -> None:
    """Fill the free pages with NaN: whoever reads one is found out."""
    assert cache._kept is not None
    pool = cache._kept.pool
    free = torch.from_numpy(np.flatnonzero(pool.holders == 0))
    for x in (pool.keys, pool.values):
        assert x is not None
        x[free] = torch.nan


def held(cache: KVCache) -> int:
    assert cache._kept is not None
    return cache._kept.pool.used


def check(made: BlockSparseAttention, x: torch.Tensor, steps: list[int], **options: Any) -> KVCache:
    full, small = KVCache(), KVCache(made.layout, **options)
    for part in x.split(steps, 1):
        wanted = made(part, cache=full)
        assert torch.equal(made(part, cache=small), wanted)
        poison(small)
    assert small.length == full.length
    return small


@pytest.mark.parametrize("target", ["torch", "cpu"])
@pytest.mark.parametrize(("spec", "block"), SPECS, ids=lambda x: str(x))
@torch.no_grad()
def test_steps_and_chunks(spec: str, block: Any, target: str) -> None:
    made = module(spec, block, target)
    x = torch.randn(2, LENGTH, 32)
    check(made, x, [40] + [1] * 60 + [50], max_length=LENGTH)
    check(made, x, [70, 1, 1, 30, 17, 31])
    check(made, x, [149, 1])


@examples(3)
@given(programs())
def test_random_programs(spec: str) -> None:
    layout = bslang.compile(f"({spec}) & causal", block=(4, 4), target="torch")
    try:
        assume(layout.prefix_stable(96, 2).holds)
    except BslangError:
        assume(False)
    made = BlockSparseAttention(16, 2, layout)
    with torch.no_grad():
        check(made, torch.randn(2, 60, 16), [20, 1, 19, 1, 9, 1, 8, 1], max_length=70)


@torch.no_grad()
def test_memory_is_that_of_the_window() -> None:
    made = module(WINDOW)
    cache = KVCache(made.layout, max_length=2000)
    most, before = 0, 0
    for part in torch.randn(1, 2000, 32).split(20, 1):
        made(part, cache=cache)
        most = max(most, held(cache))
        before = max(before, cache.nbytes)
    # The sinks, and 40 tokens from the beginning of a block on: at most 4 pages of 16.
    assert most <= 5
    full = KVCache(max_length=2000)
    made(torch.randn(1, 1, 32), cache=full)
    assert full.nbytes == 2000 * 2 * 2 * 8 * 4
    pages, table = 8 * 2 * 2 * 16 * 8 * 4, 2 * 4 * 125
    assert before <= pages + table


@torch.no_grad()
def test_a_long_prompt_leaves_no_memory_behind() -> None:
    made = module(WINDOW)
    cache = KVCache(made.layout)
    made(torch.randn(1, 4000, 32), cache=cache)
    after_prompt = cache.nbytes
    made(torch.randn(1, 1, 32), cache=cache)
    assert held(cache) <= 4 and cache.nbytes < after_prompt / 5


@torch.no_grad()
def test_a_layout_that_forgets_nothing_keeps_all() -> None:
    made = module("causal")
    cache = check(made, torch.randn(1, 200, 32), [1] * 200)
    assert held(cache) == 13


@torch.no_grad()
def test_key_heads_drop_what_their_own_queries_do_not_read() -> None:
    made = module(BY_HEAD, 16)
    cache = check(made, torch.randn(1, 320, 32), [10] * 32)
    assert held(cache) == 20 + 4, "all of one key head, a window with sinks of the other"


@torch.no_grad()
def test_a_step_within_a_page_changes_no_table() -> None:
    made = module(WINDOW, 16)
    cache = KVCache(made.layout)
    made(torch.randn(1, 33, 32), cache=cache)
    made(torch.randn(1, 1, 32), cache=cache)
    table = cache.options["pages"]
    for _ in range(14):
        made(torch.randn(1, 1, 32), cache=cache)
        assert cache.options["pages"] is table
    made(torch.randn(1, 1, 32), cache=cache)
    assert cache.options["pages"] is not table


# ---- rows and lengths ----------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [WINDOW, BY_HEAD])
@torch.no_grad()
def test_rows_of_different_lengths_and_drafts(spec: str) -> None:
    made = module(spec, 16)
    full, small = KVCache(), KVCache(made.layout)
    prompt, x = torch.randn(3, 90, 32), torch.randn(3, 60, 32)
    for cache in (full, small):
        made(prompt, cache=cache)
        cache.truncate(torch.tensor([90, 37, 0]))
    for start, stop in ((0, 1), (1, 2), (2, 9), (9, 40), (40, 41), (41, 60)):
        wanted = made(x[:, start:stop], cache=full)
        assert torch.equal(made(x[:, start:stop], cache=small), wanted)
        poison(small)
        kept = full.lengths
        for cache in (full, small):  # drafts that are not taken
            made(x[:, :9], cache=cache)
            cache.truncate(kept)
        poison(small)
    assert small.lengths is not None and small.lengths.tolist() == [150, 97, 60]


@torch.no_grad()
def test_what_is_gone_does_not_come_back() -> None:
    made = module(WINDOW, 16)
    cache, full = KVCache(made.layout), KVCache()
    x = torch.randn(1, LENGTH, 32)
    for part in x.split([100, 40, 10], 1):
        made(part, cache=cache)
    reason = "positions cannot go back to 60: .* It can go back to the 140 that it held before"
    with pytest.raises(ValueError, match=reason):
        cache.truncate(60)
    assert cache.length == LENGTH, "nothing has changed"
    cache.truncate(140)
    made(x[:, :140], cache=full)
    assert torch.equal(made(x[:, 140:], cache=cache), made(x[:, 140:], cache=full))
    cache.truncate(0)
    assert held(cache) == 0 and cache.length == 0
    full.truncate(0)
    for start in range(0, 100, 50):
        part = x[:, start : start + 50]
        assert torch.equal(made(part, cache=cache), made(part, cache=full))
    with pytest.raises(ValueError, match="holds 100 positions, and cannot keep 101"):
        cache.truncate(101)


@pytest.mark.parametrize("spec", [WINDOW, BY_HEAD])
@torch.no_grad()
def test_beams_share_pages_until_they_write(spec: str) -> None:
    made = module(spec, 16)
    full, small = KVCache(), KVCache(made.layout)
    x = torch.randn(2, 45, 32)
    for cache in (full, small):
        made(x, cache=cache)
        made(x[:, :1], cache=cache)
        cache.select(torch.tensor([1, 1, 0, 1]))
    shared = held(small)
    rows = 4
    for chosen in ([0, 1, 2, 3], [3, 3, 2, 0], [2, 1], [0, 1, 1]):
        x = torch.randn(rows, 7, 32)
        assert torch.equal(made(x, cache=small), made(x, cache=full))
        assert shared < held(small) or rows < 4
        poison(small)
        rows = len(chosen)
        for cache in (full, small):
            cache.select(torch.tensor(chosen))
    small.truncate(0)
    assert held(small) == 0, "every page was given back"


# ---- without a max_length ------------------------------------------------------------------------

LATER = "{q, k : q < 600 & q - k < 20 | q >= 600 & k < 40 | q == k} & causal"


@torch.no_grad()
def test_longer_sequences_may_read_what_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_UNTIL", 512)
    made = module(LATER, 16)
    cache, x = KVCache(made.layout), torch.randn(1, 700, 32)
    for part in x[:, :500].split(50, 1):
        made(part, cache=cache)
    assert held(cache) < 10
    with pytest.raises(ValueError, match=r"beyond 512 tokens, queries of .* give it a max_length"):
        made(x[:, 500:550], cache=cache)
    assert cache.length == 500
    check(made, x, [50] * 14, max_length=700)
    monkeypatch.undo()
    check(made, x, [50] * 14)


def test_what_is_not_known_of_a_layout() -> None:
    made = module("grid(16t, 16t, radius=2, causal=(true, false)) & causal", 16)
    with (
        torch.no_grad(),
        pytest.raises(ValueError, match=r"131072 tokens: error\[E401\](.|\n)*the max_length"),
    ):
        made(torch.randn(1, 20, 32), cache=KVCache(made.layout))


# ---- what is refused -----------------------------------------------------------------------------


def test_what_caches_with_a_layout_refuse() -> None:
    x, made = torch.randn(2, 20, 32), module(WINDOW)
    with pytest.raises(RuntimeError, match="holds no gradients"):
        made(x, cache=KVCache(made.layout))
    with torch.no_grad():
        other = KVCache("causal")
        with pytest.raises(
            ValueError, match=r"drops positions by `causal`.*KVCache\(module\.layout\)"
        ):
            made(x, cache=other)
        labelled, labels = module("same(doc) & causal"), torch.arange(21) // 8
        cache, full = KVCache(labelled.layout), KVCache()
        for part, stop in ((x, 20), (x[:, :1], 21)):
            wanted = labelled(part, cache=full, labels=labels[:stop])
            assert torch.equal(labelled(part, cache=cache, labels=labels[:stop]), wanted)
        cache.truncate(torch.tensor([3, 4]))
        with pytest.raises(ValueError, match=r"takes no 'doc': use KVCache\(\)"):
            labelled(x, cache=cache, labels=labels)
        cache = KVCache(made.layout, max_length=24)
        made(x, cache=cache)
        with pytest.raises(ValueError, match="max_length 24, too few for 25 positions"):
            made(x[:, :5], cache=cache)
        with pytest.raises(ValueError, match=r"holds \(batch 2, heads 2, dim 8\).*its own cache"):
            made(x[:1, :4], cache=cache)
        with pytest.raises(ValueError, match="pages cannot be used with a cache"):
            made(x[:, :4], cache=cache, pages=torch.zeros(2, 2, dtype=torch.int32))
        assert cache.length == 20
        with pytest.raises(ValueError, match="query 0 sees key 7, which comes later"):
            window = module("window(3)")
            window(x, cache=KVCache(window.layout))
        for wrong in (torch.zeros(2), torch.zeros(1, 2, dtype=torch.int64)):
            with pytest.raises(TypeError, match=r"rows must be int32 or int64 \(rows,\)"):
                cache.select(wrong)
    assert repr(cache).startswith("<bslang.nn.KVCache length=20, max_length=24, layout='")
    with pytest.raises(
        TypeError, match="layout must be a layout, the text of a spec or None, not 3"
    ):
        KVCache(3, max_length=4)
    with pytest.raises(bslang.SpecError):
        KVCache("windw(3)")


@torch.no_grad()
def test_compiled_steps_break_at_the_cache() -> None:
    made = module(WINDOW)
    x, cache = torch.randn(2, 60, 32), KVCache(made.layout, max_length=70)
    full = KVCache(max_length=70)
    outs = [made(x[:, :20], cache=cache), *_steps(torch.compile(made, backend="eager"), x, cache)]
    wanted = [made(x[:, :20], cache=full), *_steps(made, x, full)]
    assert all(map(torch.equal, outs, wanted))
    torch._dynamo.reset()
    with pytest.raises(Exception, match="decided on the host; compile without fullgraph"):
        torch.compile(made, backend="eager", fullgraph=True)(x[:, :1], cache=cache)
    torch._dynamo.reset()


def _steps(made: Any, x: torch.Tensor, cache: KVCache) -> list[torch.Tensor]:
    return [made(x[:, t : t + 1], cache=cache) for t in range(20, 26)]


# ---- pools ---------------------------------------------------------------------------------------


def test_pools_of_pages() -> None:
    pool = PagePool(16, max_pages=3)
    k, v = torch.randn(2, 1, 2, 20, 8), torch.randn(1, 2, 20, 4)
    pool.start(k[0], v)
    assert (
        pool.keys is not None
        and pool.keys.shape == (3, 2, 16, 8)
        and pool.nbytes == 3 * 2 * 16 * 12 * 4
    )
    first, second = pool.take(2).tolist()
    pool.share(np.array([first]))
    pool.write(
        torch.tensor([[first, second]]), torch.tensor([[15, 0]]), k[0, :, :, :2], v[:, :, :2]
    )
    copy = pool.own(first)
    assert copy != first and pool.own(second) == second and pool.used == 3
    assert torch.equal(pool.keys[copy, :, 15], k[0, 0, :, 0])
    with pytest.raises(MemoryError, match=re.escape("all 3 pages of the pool are in use")):
        pool.take(1)
    pool.release(np.array([first, second]))
    assert pool.used == 1 and sorted(pool.take(2).tolist()) == sorted([first, second])
    for wrong, reason in (((24,), "multiple of 16, not 24"), ((16, 0), "max_pages must be")):
        with pytest.raises(ValueError, match=reason):
            PagePool(*wrong)
