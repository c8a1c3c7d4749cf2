"""Rules that choose cells, against the published rules as loops (tests/chosen.py)."""

from __future__ import annotations

from functools import partial
from typing import Any

import chosen
import pytest
import torch
from chosen import Shape, as_weights, check
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples

from bslang import select

SCOPES = {"query": lambda s: s.heads, "key": lambda s: s.key_heads, "all": lambda s: 1}


@st.composite
def shapes(draw: st.DrawFn, row_cells: bool, sizes: tuple[int, ...] = (1, 3, 4)) -> Shape:
    """Shapes whose sizes divide nothing, and some with whole numbers, whose cells are whole."""
    whole = draw(st.booleans())
    step = 4 if whole else 1
    sizes = (1, 2, 4) if whole and sizes == (1, 3, 4) else sizes
    rows = draw(st.sampled_from(sizes)) if row_cells else 1
    cols = draw(st.sampled_from(sizes[1:]))
    align = draw(st.sampled_from(["end", "end", "start"]))
    len_k = draw(st.integers(1, 20 // step)) * step
    most = len_k // step if align == "end" else 20 // step
    len_q = draw(st.integers(1, most)) * step
    key_heads = draw(st.sampled_from([1, 2]))
    return Shape(
        len_q,
        len_k,
        rows,
        cols,
        batch=draw(st.sampled_from([1, 2])),
        heads=key_heads * draw(st.sampled_from([1, 2])),
        key_heads=key_heads,
        align=align,
        causal=draw(st.booleans()),
        whole=whole,
        seed=draw(st.integers(0, 9)),
    )


FORCES = [None, "last(1t)", "cols(0) | last(1t)"]
WITHINS = [None, None, "last(9t)", "{q, k : k >= 5}"]


@st.composite
def choices(draw: st.DrawFn, mass: bool = True) -> dict[str, Any]:
    options: dict[str, Any] = {
        "force": draw(st.sampled_from(FORCES)),
        "within": draw(st.sampled_from(WITHINS)),
    }
    if mass and draw(st.booleans()):
        options["mass"] = draw(st.sampled_from([0.3, 0.9, 1.0]))
    else:
        options["top"] = draw(st.integers(1, 4))
    return options


def held(rule: Any, shape: Shape, lists: int, scores: torch.Tensor, **options: Any) -> None:
    """Asks a rule, and checks what it chose; where too many cells are forced, it has to say so."""
    amount = {name: options.get(name) for name in ("top", "mass")}
    most = int((shape.touched(options["force"]) & ~shape.ahead()).sum(1).max())
    q, k = shape.tensors()
    if amount["top"] is not None and min(amount["top"], shape.columns) < most:
        with pytest.raises(ValueError, match=r"top .* allows"):
            rule(q, k, align=shape.align, causal=shape.causal, **options)
        return
    found = rule(q, k, align=shape.align, causal=shape.causal, **options)
    assert found.shape[:3] == (shape.batch, lists, shape.row_count)
    if amount["top"] is not None:
        assert found.shape[3] == min(amount["top"], shape.columns)
    check(found, scores, shape, options["force"], **amount)


@given(shapes(True), choices(), st.sampled_from(list(SCOPES)), st.sampled_from(["mean", "max"]))
@examples(60)
def test_pooled(shape: Shape, choice: dict[str, Any], scope: str, pool: str) -> None:
    lists = SCOPES[scope](shape)
    if shape.whole and lists != shape.heads:
        return  # weights are not whole
    score = partial(chosen.pooled, pool=pool)
    scores = chosen.by_list(score, shape, lists, True, choice["force"], choice["within"])
    if "mass" in choice and lists == shape.heads:
        scores = as_weights(scores)
    rule = partial(select.pooled, rows=shape.rows, cols=shape.cols, pool=pool, scope=scope)
    held(rule, shape, lists, scores, **choice)


@given(shapes(False), choices(), st.sampled_from(list(SCOPES)))
@examples(60)
def test_bounds(shape: Shape, choice: dict[str, Any], scope: str) -> None:
    lists = SCOPES[scope](shape)
    if shape.whole and lists != shape.heads:
        return
    scores = chosen.by_list(chosen.bounds, shape, lists, True, choice["force"], choice["within"])
    if "mass" in choice and lists == shape.heads:
        scores = as_weights(scores)
    rule = partial(select.bounds, cols=shape.cols, scope=scope)
    held(rule, shape, lists, scores, **choice)


@given(shapes(True, (2, 4, 6)), choices(), st.sampled_from(list(SCOPES)))
@examples(60)
def test_antidiagonal(shape: Shape, choice: dict[str, Any], scope: str) -> None:
    shape = Shape(**{**vars(shape), "whole": False})
    lists = SCOPES[scope](shape)
    score = partial(chosen.antidiagonal, stride=2)
    scores = chosen.by_list(score, shape, lists, False, choice["force"], choice["within"])
    rule = partial(select.antidiagonal, stride=2, rows=shape.rows, cols=shape.cols, scope=scope)
    held(rule, shape, lists, scores, **choice)


@given(
    shapes(False),
    choices(),
    st.sampled_from(list(SCOPES)),
    st.sampled_from(["overlap", "max"]),
    st.sampled_from([(4, 2), (3, 2), (2, 2), (5, 1)]),
)
@examples(60)
def test_compressed(
    shape: Shape, choice: dict[str, Any], scope: str, pool: str, sizes: tuple[int, int]
) -> None:
    shape = Shape(**{**vars(shape), "whole": False})
    lists = SCOPES[scope](shape)
    kernel, stride = sizes
    scores = chosen.compressed(shape, lists, kernel, stride, pool)
    some = chosen.allowed(shape, choice["force"], choice["within"])
    scores = scores.masked_fill(~some, -torch.inf)
    rule = partial(
        select.compressed, kernel=kernel, stride=stride, cols=shape.cols, pool=pool, scope=scope
    )
    held(rule, shape, lists, scores, **choice)


@given(
    shapes(False, (1, 1, 4)),
    choices(mass=False),
    st.sampled_from(list(SCOPES)),
    st.booleans(),
    st.sampled_from(["max", "mean"]),
    st.booleans(),
)
@examples(60)
def test_indexer(
    shape: Shape, choice: dict[str, Any], scope: str, relu: bool, pool: str, weighted: bool
) -> None:
    weights = None
    if pool == "mean":  # of up to three tokens that count
        shape = Shape(**{**vars(shape), "whole": False})
    if weighted:
        generator = torch.Generator().manual_seed(3)
        size = (shape.batch, shape.heads, shape.len_q)
        weights = torch.randint(-2, 3, size, generator=generator).float()
    lists = SCOPES[scope](shape)
    scores = chosen.indexer(shape, lists, weights, relu, pool)
    some = chosen.allowed(shape, choice["force"], choice["within"])
    scores = scores.masked_fill(~some, -torch.inf)
    rule = partial(
        select.indexer,
        weights=weights,
        cols=shape.cols,
        activation="relu" if relu else "identity",
        pool=pool,
        scope=scope,
    )
    held(rule, shape, lists, scores, **choice)


@given(shapes(True), choices(), st.booleans())
@examples(60)
def test_scores_of_the_caller(shape: Shape, choice: dict[str, Any], logits: bool) -> None:
    generator = torch.Generator().manual_seed(shape.seed)
    size = (shape.batch, shape.heads, shape.row_count, shape.columns)
    values = torch.randint(0, 4, size, generator=generator).float()
    if not shape.whole:
        values = values + torch.rand(size, generator=generator)
    some = chosen.allowed(shape, choice["force"], choice["within"])
    scores = values.double().masked_fill(~some, -torch.inf)
    if "mass" in choice and logits:
        scores = as_weights(scores)
    sizes = {"len_q": shape.len_q, "len_k": shape.len_k, "rows": shape.rows, "cols": shape.cols}

    def rule(q: torch.Tensor, k: torch.Tensor, **options: Any) -> torch.Tensor:
        if (count := options.pop("top", None)) is not None:
            return select.top(values, count, **sizes, **options)
        return select.mass(values, options.pop("mass"), softmax=logits, **sizes, **options)

    held(rule, shape, shape.heads, scores, **choice)


def test_nsa_s_equation_9_is_the_overlap() -> None:
    """Its double sum over m and n, with kernel 32, stride 16 and blocks of 64 tokens."""
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(1, 1, 1, 8, generator=generator)
    k = torch.randn(1, 1, 512, 8, generator=generator)
    keys = torch.stack([k[0, 0, 16 * i : 16 * i + 32].mean(0) for i in range(31)])
    weights = (keys @ q[0, 0, 0] / 8**0.5).softmax(0)
    scores = torch.zeros(8)
    for j in range(8):
        for m in range(4):
            for n in range(2):
                if 0 <= 4 * j + m - n < 31:
                    scores[j] += weights[4 * j + m - n]
    for count in range(1, 9):
        expected = sorted(scores.topk(count).indices.tolist())
        assert select.compressed(q, k, top=count)[0, 0, 0].tolist() == expected


def test_keys_compressed_by_a_learned_function() -> None:
    q, k, keys = torch.randn(1, 4, 40, 8), torch.randn(1, 2, 40, 8), torch.randn(1, 2, 9, 8)
    sizes = {"kernel": 8, "stride": 4, "cols": 8, "top": 2}
    means = k.unfold(2, 8, 4).mean(-1)
    assert torch.equal(
        select.compressed(q, k, **sizes), select.compressed(q, k, keys=means, **sizes)
    )
    assert not torch.equal(
        select.compressed(q, k, **sizes), select.compressed(q, k, keys=keys, **sizes)
    )


def test_a_share_counts_all_columns() -> None:
    q, k = torch.randn(2, 1, 2, 40, 8)
    for share, count in ((0.3, 3), (0.31, 4), (1.0, 10), (0.001, 1), (1 - 0.9, 1)):
        found = select.pooled(
            q[None, :1, 0], k[None, :1, 0], rows=4, cols=4, share=share, causal=False
        )
        assert found.shape == (1, 1, 10, count)


@pytest.mark.parametrize("force", [None, "last(1)"])
def test_the_weights_of_a_head_together(force: str | None) -> None:
    """FlexPrefill's query-aware index: the softmax of pooled scores by row, sorted over the whole head."""
    for mass in (0.23, 0.53, 0.9, 0.97):
        shape = Shape(20, 23, 4, 4, batch=2, heads=2, key_heads=2)
        scores = as_weights(chosen.by_list(chosen.pooled, shape, 2, True, force, None))
        options = {"mass": mass, "over": "head", "rows": 4, "cols": 4, "force": force}
        found = select.pooled(*shape.tensors(), **options)
        forced = shape.touched(force)
        for batch in range(2):
            for head in range(2):
                weight = scores[batch, head].clamp_min(0)
                order = sorted(
                    (scores[batch, head] > -torch.inf).nonzero().tolist(),
                    key=lambda at: (not forced[tuple(at)], -float(weight[tuple(at)])),
                )
                taken, expected = 0.0, torch.zeros_like(forced)
                for at in order:
                    if taken < mass * float(weight.sum()) - 1e-9 or forced[tuple(at)]:
                        expected[tuple(at)] = True
                        taken += float(weight[tuple(at)])
                assert torch.equal(found[batch, head], expected)
