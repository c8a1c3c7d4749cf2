"""`bslang import` of DeepSpeed's `sparse_attention`, against the classes' definitions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imported import blocks, resolved, tokens

from bslang.configs import deepspeed, spec_of
from bslang.ir.runs import Bools


def tiled(n: int, widths: list[int], causal: bool) -> Bools:
    """Windows side by side, the last width again and again."""
    window = np.zeros(n, dtype=int)
    at, number = 0, 0
    while at < n:
        width = widths[min(number, len(widths) - 1)]
        window[at : at + width] = number
        at, number = at + width, number + 1
    same = window[:, None] == window[None, :]
    return same & np.tri(n, dtype=bool) if causal else same


def fixed(n: int, o: Mapping[str, Any], head: int) -> Bools:
    local, width = o["num_local_blocks"], o["num_global_blocks"]
    causal = o["attention"] == "unidirectional"
    seen = tiled(n, [local], causal)
    first = local - width * (1 + head % o["num_different_global_patterns"])
    whole = n // local * local
    starts = [*range(first, whole, local)]
    if whole < n:
        starts.append(min(whole + first, n - width))
    for start in starts:
        seen[start if causal else 0 :, start : start + width] = True
        if o["horizontal_global_attention"]:
            seen[start : start + width] = True
    return seen


def global_ranges(n: int, o: Mapping[str, Any]) -> list[slice]:
    starts, stops = o["global_block_indices"], o["global_block_end_indices"]
    if stops is None:
        stops = [None if at == -1 else at + 1 for at in starts]
    return [
        slice(a, b if b is None else min(b, n)) for a, b in zip(starts, stops, strict=True) if a < n
    ]


def variable(n: int, o: Mapping[str, Any], head: int) -> Bools:
    causal = o["attention"] == "unidirectional"
    seen = tiled(n, o["local_window_blocks"], causal)
    for at in global_ranges(n, o):
        seen[at.start if causal else 0 :, at] = True
        if o["horizontal_global_attention"]:
            seen[at] = True
    return seen


def sliding(n: int, o: Mapping[str, Any]) -> Bools:
    i, j = np.indices((n, n))
    near: Bools = abs(i - j) <= o["num_sliding_window_blocks"] // 2
    return near


def lower_only(seen: Bools, o: Mapping[str, Any]) -> Bools:
    return np.tril(seen) if o["attention"] == "unidirectional" else seen


def bigbird(n: int, o: Mapping[str, Any], head: int) -> Bools:
    seen = sliding(n, o)
    seen[: o["num_global_blocks"]] = seen[:, : o["num_global_blocks"]] = True
    return lower_only(seen, o)


def bslongformer(n: int, o: Mapping[str, Any], head: int) -> Bools:
    seen = sliding(n, o)
    for at in global_ranges(n, o):
        seen[at] = seen[:, at] = True
    return lower_only(seen, o)


def local_sliding_window(n: int, o: Mapping[str, Any], head: int) -> Bools:
    return lower_only(sliding(n, o), o)


LAYOUTS: dict[str, Callable[[int, Mapping[str, Any], int], Bools]] = {
    "dense": lambda n, o, head: np.ones((n, n), dtype=bool),
    "fixed": fixed,
    "variable": variable,
    "bigbird": bigbird,
    "bslongformer": bslongformer,
    "local_sliding_window": local_sliding_window,
}

DEFAULTS: dict[str, Any] = {
    "block": 16,
    "different_layout_per_head": False,
    "num_local_blocks": 4,
    "num_global_blocks": 1,
    "attention": "bidirectional",
    "horizontal_global_attention": False,
    "num_different_global_patterns": 1,
    "num_random_blocks": 0,
    "local_window_blocks": [4],
    "global_block_indices": [0],
    "global_block_end_indices": None,
    "num_sliding_window_blocks": 3,
}


def test_all_modes_and_options_are_known_here() -> None:
    assert LAYOUTS.keys() == deepspeed._MODES.keys()
    assert DEFAULTS.keys() == {*deepspeed.OPTIONS}


@st.composite
def sections(draw: st.DrawFn) -> dict[str, Any]:
    """Sections that DeepSpeed takes, without random blocks; some options are left to their defaults."""
    mode = draw(st.sampled_from(sorted(LAYOUTS)))
    attention = draw(st.sampled_from(["unidirectional", "bidirectional"]))
    width = draw(st.integers(1, 3))
    count = draw(st.integers(1, 4))
    patterns = draw(st.integers(1, count))
    ranges = draw(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 4)), max_size=3))
    with_ends = draw(st.booleans())
    starts = [start for start, _ in ranges]
    starts += [] if with_ends else draw(st.sampled_from([[], [-1]]))
    section = {
        "block": draw(st.sampled_from([1, 4])),
        "different_layout_per_head": patterns > 1 or draw(st.booleans()),
        "num_local_blocks": width * count,
        "num_global_blocks": width,
        "attention": attention,
        "horizontal_global_attention": attention == "bidirectional" and draw(st.booleans()),
        "num_different_global_patterns": patterns,
        "num_random_blocks": 0,
        "local_window_blocks": draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)),
        "global_block_indices": starts,
        "global_block_end_indices": [a + b for a, b in ranges] if with_ends else None,
        "num_sliding_window_blocks": draw(st.integers(1, 6)),
    }
    return {"mode": mode, **section}


@settings(max_examples=120, deadline=None)
@given(sections(), st.integers(1, 14), st.integers(0, 5))
def test_deepspeed_layouts(section: dict[str, Any], n: int, head: int) -> None:
    mode = section["mode"]
    text = spec_of({"train_batch_size": 8, "sparse_attention": section}, "ds_config.json")
    expected = LAYOUTS[mode](n, section, head)
    np.testing.assert_array_equal(blocks(text, mode, n, head), expected)
    size = section["block"]
    if section["attention"] == "unidirectional" and mode != "dense":
        whole = expected.repeat(size, 0).repeat(size, 1)
        found = tokens(text, f"{mode}_causal", n * size, head=head)
        np.testing.assert_array_equal(found, np.tril(whole))
    else:
        assert f"{mode}_causal" not in text


@pytest.mark.parametrize("mode", LAYOUTS)
def test_deepspeed_defaults(mode: str) -> None:
    text = spec_of({"mode": mode}, "section.json")
    options = DEFAULTS | ({"attention": "unidirectional"} if mode.startswith("local") else {})
    assert resolved(text, mode).block == (16, 16)
    for n in (3, 8, 11):
        np.testing.assert_array_equal(blocks(text, mode, n), LAYOUTS[mode](n, options, 0))
    assert mode != "fixed" or spec_of({"sparse_attention": {}}, "section.json") == text


@pytest.mark.parametrize("attention", ["unidirectional", "bidirectional"])
@pytest.mark.parametrize("mode", ["variable", "bigbird"])
@pytest.mark.parametrize("per_head", [False, True])
def test_deepspeed_random_blocks(mode: str, attention: str, per_head: bool) -> None:
    """As many blocks per row as DeepSpeed draws, from where it draws them, on top of all others."""
    options = DEFAULTS | {"attention": attention, "num_random_blocks": 3, "block": 1}
    options["different_layout_per_head"] = per_head
    text = spec_of({"mode": mode, **options}, "section.json")
    assert "so the same draw cannot be repeated" in text.replace("\n# ", " ")
    n = 40
    base = LAYOUTS[mode](n, options, 0)
    heads = [blocks(text, mode, n, head) for head in range(2)]
    assert np.array_equal(*heads) != per_head
    drawn = heads[0] & ~base
    assert (base <= heads[0]).all() and drawn.sum(axis=1).max() == 3
    ahead = drawn & ~np.tri(n, dtype=bool)
    # DeepSpeed's variable mode draws ahead of the query even where it is unidirectional.
    assert ahead.any() == (attention == "bidirectional" or mode == "variable")


def test_options_of_other_modes_are_named() -> None:
    text = spec_of({"sparse_attention": {"mode": "dense", "num_local_blocks": 4}}, "ds_config.json")
    assert "Options that this mode does not use: num_local_blocks." in text
