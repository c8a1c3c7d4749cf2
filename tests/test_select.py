"""What all rules of bslang.select share: arguments, patterns over cells, dtypes, chunks, torch.compile."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import chosen
import pytest
import torch
from chosen import Shape, as_weights, check

import bslang
from bslang import select
from bslang.select import choice as choices
from bslang.select import patterns
from bslang.select.cells import Cells

Rule = Callable[..., torch.Tensor]

RULES: dict[str, Rule] = {
    "pooled": partial(select.pooled, rows=8, cols=8),
    "queries": partial(select.pooled, rows=1, cols=8, pool="max"),
    "bounds": partial(select.bounds, cols=8),
    "antidiagonal": partial(select.antidiagonal, stride=4, rows=8, cols=8),
    "indexer": partial(select.indexer, cols=8),
    "tokens": partial(select.indexer, cols=1),
    "compressed": partial(select.compressed, kernel=8, stride=4, cols=8),
}


def tensors(len_q: int = 37, len_k: int = 53, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(batch, 4, len_q, 8, generator=generator)
    return q, torch.randn(batch, 2, len_k, 8, generator=generator)


def amounts(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"top": 3, "force": "last(1t)"}, {"share": 0.4, "scope": "key"}]
    if name in ("indexer", "tokens"):
        return found
    return [*found, {"mass": 0.8, "scope": "all"}, {"mass": 0.5, "over": "head"}]


# ---- what is chosen ------------------------------------------------------------------------------


def test_zeros_of_either_sign_are_equal() -> None:
    scores = torch.tensor([[[[-0.0, 0.0, -1.0, 0.0]]]])
    sizes = {"len_q": 1, "len_k": 4, "rows": 1, "cols": 1}
    assert select.top(scores, 2, **sizes).tolist() == [[[[0, 1]]]]


def test_a_score_that_is_no_number_is_chosen_only_where_forced() -> None:
    scores = torch.tensor([[[[torch.nan, 1.0, -torch.inf, torch.inf, 2.0]]]])
    sizes = {"len_q": 1, "len_k": 5, "rows": 1, "cols": 1}
    assert select.top(scores, 5, **sizes).tolist() == [[[[1, 3, 4, -1, -1]]]]
    assert select.top(scores, 2, force="cols(0)", **sizes).tolist() == [[[[0, 3]]]]
    found = select.mass(scores.nan_to_num(posinf=1.0), 1.0, within="cols(1:3)", **sizes)
    assert found.tolist() == [[[[False, True, False, False, False]]]]
    weights = torch.tensor([[[[torch.nan, 1.0, -torch.inf, 3.0, 2.0]]]])
    found = select.mass(weights, 0.7, force="cols(0)", softmax=False, **sizes)
    assert found.tolist() == [[[[True, False, False, True, True]]]]


def test_a_nan_in_one_block_of_keys_leaves_the_others_as_they_are() -> None:
    q, k = tensors()
    clean = select.pooled(q, k, top=7, rows=8, cols=8, scope="key", within="~cols(1)")
    k[:, :, 8:16] = torch.nan
    for name in ("query", "key", "all"):
        found = select.pooled(q, k, top=7, rows=8, cols=8, scope=name)
        assert not (found == 1).any() and (found == 0).any()
    assert torch.equal(select.pooled(q, k, top=7, rows=8, cols=8, scope="key"), clean)


@pytest.mark.parametrize("align", ["end", "start"])
def test_short_rows_count_the_queries_that_they_have(align: str) -> None:
    """The first and the last row: their means, and what lies after their last query."""
    for len_q, len_k in ((5, 11), (1, 9), (6, 6)):
        shape = Shape(len_q, len_k, 4, 3, heads=2, align=align)
        scores = chosen.by_list(chosen.pooled, shape, 2, True, None, None)
        for share in (0.3, 0.5, 0.6, 0.7, 0.8):
            found = select.pooled(*shape.tensors(), mass=share, rows=4, cols=3, align=align)
            check(found, as_weights(scores), shape, None, mass=share)


def test_every_weight_counts_once() -> None:
    """A share of 1 takes each cell that has a weight, and none that has none."""
    weights = torch.tensor([[[[0.5, 0.0, 2.0**-30, 0.25]]]])
    sizes = {"len_q": 1, "len_k": 4, "rows": 1, "cols": 1}
    found = select.mass(weights, 1.0, softmax=False, **sizes)
    assert found.tolist() == [[[[True, False, True, True]]]]
    halves = torch.tensor([[[[0.5, 0.0, 0.25, 0.25]]]])
    for share, expected in ((0.5, [0]), (0.5001, [0, 2]), (0.75, [0, 2]), (0.76, [0, 2, 3])):
        found = select.mass(halves, share, softmax=False, **sizes)
        assert found[0, 0, 0].nonzero().flatten().tolist() == expected
    assert not select.mass(torch.zeros(1, 1, 1, 4), 0.5, softmax=False, **sizes).any()


# ---- patterns over cells -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rows", "cols"),
    [
        ("cols(0) | last(2)", 8, 8),
        ("last(17t)", 1, 8),
        ("window(3) & ~cols(1)", 8, 8),
        ("none", 4, 8),
        ("all", 4, 8),
        ("{q, k : (q + k) % 13 == 0}", 4, 4),
    ],
)
@pytest.mark.parametrize("align", ["end", "start"])
def test_cells_that_a_pattern_touches(text: str, rows: int, cols: int, align: str) -> None:
    shape = Shape(21, 45, rows, cols, align=align)
    cells = Cells(21, 45, rows, cols, align)
    like, spec = torch.zeros(1), patterns.Spec(text)
    whole = patterns.touched(like, spec, cells, 0, cells.count)
    assert torch.equal(whole, shape.touched(text))
    parts = [patterns.touched(like, spec, cells, row, 1) for row in range(cells.count)]
    assert torch.equal(torch.cat(parts), whole)


def test_last_of_tokens_is_the_query_s_own_cell_and_the_one_before() -> None:
    cells = Cells(256, 256, 1, 64)
    own = patterns.touched(torch.zeros(1), patterns.Spec("last(1t)"), cells, 0, 256)
    both = patterns.touched(torch.zeros(1), patterns.Spec("last(65t)"), cells, 0, 256)
    for row in range(256):
        block = row // 64
        assert own[row].nonzero().flatten().tolist() == [block]
        assert both[row].nonzero().flatten().tolist() == list(range(max(0, block - 1), block + 1))


def test_a_layout_is_a_pattern_where_its_blocks_are_the_cells() -> None:
    q, k = tensors()
    layout = bslang.compile("cols(0) | last(2)", block=8)
    options = {"top": 4, "rows": 8, "cols": 8}
    found = select.pooled(q, k, force=layout, **options)
    assert torch.equal(found, select.pooled(q, k, force="cols(0) | last(2)", **options))
    layers = bslang.compile("{i, j : j == layer}", block=8)
    for layer in (0, 2):
        found = select.pooled(q, k, force=layers.at_layer(layer), **options)
        assert torch.equal(found, select.pooled(q, k, force=f"cols({layer})", **options))


@pytest.mark.parametrize("name", ["force", "within"])
def test_patterns_that_are_no_cells(name: str) -> None:
    q, k = tensors()
    table = torch.ones(5, 7, dtype=torch.bool).numpy()
    table[0, 0] = table[3, 1] = table[2, 5] = False
    refused: list[tuple[Any, type[Exception], str]] = [
        (3, TypeError, f"{name} must be the text of a pattern or a bslang.Layout, not int"),
        ("same(doc)", ValueError, f"{name} depends on what a call gives"),
        ("heads { 0:2 -> all; 2: -> none }", ValueError, f"{name} differs between heads"),
        (bslang.compile("last(2)", block=16), ValueError, "blocks 16x16, and cells are 8x8"),
        ("globl(0)", bslang.SpecError, "globl"),
    ]
    for given, error, message in refused:
        with pytest.raises(error, match=re.escape(message)):
            select.pooled(q, k, top=7, rows=8, cols=8, **{name: given})
    with pytest.raises(bslang.SpecError, match="last"):  # not square: it wants tokens
        select.bounds(q, k, top=7, cols=8, **{name: "last(2)"})


def test_more_forced_cells_than_the_budget_are_refused() -> None:
    q, k = tensors(64, 64)
    options: dict[str, Any] = {"rows": 8, "cols": 8, "force": "cols(0) | last(3)"}
    message = "top (or share) allows 3 cells per row, and force, `cols(0) | last(3)`, has up to 4"
    for amount in ({"top": 3}, {"share": 0.3}):
        with pytest.raises(ValueError, match=re.escape(message)):
            select.pooled(q, k, **amount, **options)
    assert select.pooled(q, k, top=4, **options).shape == (2, 4, 8, 4)
    # Those after the query do not count, and neither do they where all columns are few.
    assert select.pooled(q, k, top=2, rows=8, cols=8, force="window(3)").shape[3] == 2
    assert select.pooled(q[:, :, :8], k[:, :, :8], top=1, **options).shape[3] == 1


# ---- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"top": None}, TypeError, "exactly one of top, share and mass, not none of them"),
        ({"mass": 0.5}, TypeError, "exactly one of top, share and mass, not top and mass"),
        ({"top": 0}, ValueError, "top must be an integer of at least 1, not 0"),
        ({"top": True}, TypeError, "top must be an integer"),
        ({"top": 2.0}, TypeError, "top must be an integer"),
        ({"top": None, "share": 1.5}, ValueError, "share must be a number above 0, up to 1"),
        ({"top": None, "mass": 0}, ValueError, "mass must be a number above 0, up to 1"),
        ({"top": None, "mass": "most"}, TypeError, "mass must be a number"),
        ({"over": "all"}, ValueError, "over must be 'row' or 'head'"),
        ({"over": "head"}, TypeError, 'over="head" goes with mass'),
        ({"rows": 0}, ValueError, "rows must be an integer of at least 1"),
        ({"cols": "8"}, TypeError, "cols must be an integer of at least 1"),
        ({"scope": "heads"}, ValueError, "scope must be 'query', 'key' or 'all', not 'heads'"),
        ({"align": "left"}, ValueError, "align must be 'end' or 'start'"),
        ({"causal": 1}, TypeError, "causal must be True or False, not 1"),
        ({"pool": "sum"}, ValueError, "pool must be 'mean' or 'max'"),
        ({"scale": "big"}, TypeError, "scale must be a number"),
        ({"topk": 3}, TypeError, "unexpected option 'topk'; rules take causal, within"),
        ({"q": torch.zeros(2, 4, 8)}, ValueError, "q must be (batch, heads, length, dim)"),
        ({"q": torch.zeros(2, 4, 8, 8).int()}, TypeError, "q must hold real numbers"),
        ({"k": [1]}, TypeError, "k must be a torch.Tensor, not list"),
        (
            {"k": torch.zeros(2, 3, 53, 8)},
            ValueError,
            "the heads of k, 3, must divide those of q, 4",
        ),
        ({"k": torch.zeros(3, 2, 53, 8)}, ValueError, "k must have the batch size of q, 2, or 1"),
        ({"k": torch.zeros(2, 2, 53, 4)}, ValueError, "k must have the dimension of q"),
        (
            {"k": torch.zeros(2, 2, 9, 8)},
            ValueError,
            "37 queries cannot be the last positions of 9",
        ),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, dict) else "",
)
def test_arguments_that_do_not_fit(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    q, k = tensors()
    given = {"q": q, "k": k, "top": 3, "rows": 8, "cols": 8} | change
    with pytest.raises(error, match=re.escape(message)):
        select.pooled(**given)


def test_arguments_of_single_rules() -> None:
    q, k = tensors()
    scores = torch.zeros(1, 1, 5, 7)
    sizes = {"len_q": 37, "len_k": 53, "rows": 8, "cols": 8}
    refused: list[tuple[Callable[[], object], type[Exception], str]] = [
        (
            lambda: select.antidiagonal(q, k, stride=3, top=1),
            ValueError,
            "stride must divide rows, 128",
        ),
        (
            lambda: select.antidiagonal(q, k, stride=0, top=1),
            ValueError,
            "stride must be an integer",
        ),
        (lambda: select.compressed(q, k, kernel=0, top=1), ValueError, "kernel must be an integer"),
        (
            lambda: select.compressed(q, k, pool="sum", top=1),
            ValueError,
            "pool must be 'overlap' or 'max'",
        ),
        (
            lambda: select.compressed(q, k, keys=k, top=1),
            ValueError,
            "keys must have 2 heads and 2",
        ),
        (
            lambda: select.indexer(q, k, mass=0.5),
            TypeError,
            "mass is not for the scores of an indexer",
        ),
        (
            lambda: select.indexer(q, k, q, top=1),
            ValueError,
            "weights must be (batch, heads, len_q)",
        ),
        (
            lambda: select.indexer(q, k, q[..., :5, 0], top=1),
            ValueError,
            "weights must have shape (2, 4, 37)",
        ),
        (
            lambda: select.indexer(q, k, activation="gelu", top=1),
            ValueError,
            "activation must be 'relu'",
        ),
        (
            lambda: select.top(scores, 0, **sizes),
            ValueError,
            "count must be an integer of at least 1",
        ),
        (
            lambda: select.top(scores[:, :, 1:], 1, **sizes),
            ValueError,
            "scores must have 5 rows and 7",
        ),
        (
            lambda: select.top(q[0], 1, **sizes),
            ValueError,
            "scores must be (batch, lists, rows, columns)",
        ),
        (
            lambda: select.mass(scores, 2, **sizes),
            ValueError,
            "share must be a number above 0, up to 1",
        ),
        (
            lambda: select.mass(scores, 0.5, **(sizes | {"len_k": -1})),
            ValueError,
            "len_k must be an integer",
        ),
        (
            lambda: select.mass(scores, 0.5, **(sizes | {"len_q": 4.0})),
            TypeError,
            "len_q must be an integer",
        ),
    ]
    for call, error, message in refused:
        with pytest.raises(error, match=re.escape(message)):
            call()


# ---- tensors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RULES)
def test_parts_of_the_rows_are_the_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are scored some at a time, and batch rows, strides and shared keys change nothing."""
    q, k = tensors()
    for options in amounts(name):
        whole = RULES[name](q, k, **options)
        with monkeypatch.context() as patch:
            patch.setattr(choices, "CHUNK", 700)
            assert torch.equal(RULES[name](q, k, **options), whole)
        strided = q.transpose(1, 2).contiguous().transpose(1, 2)
        assert torch.equal(RULES[name](strided, k, **options), whole)
        one = torch.cat([RULES[name](q[b : b + 1], k[b : b + 1], **options) for b in range(2)])
        assert torch.equal(one, whole)
        shared = RULES[name](q, k[:1], **options)
        assert torch.equal(shared, RULES[name](q, k[:1].expand(2, -1, -1, -1), **options))
        assert shared.shape == whole.shape


@pytest.mark.parametrize("name", RULES)
def test_later_queries_alone_choose_the_same(name: str) -> None:
    """Causal rules do not look ahead, so a step of decoding chooses as the whole sequence does."""
    q, k = tensors(48, 48)
    for options in amounts(name)[:1]:
        whole = RULES[name](q, k, **options)
        for query in (40, 47) if name in ("pooled", "antidiagonal") else (23, 40, 47):
            stop = query + 1 if name not in ("pooled", "antidiagonal") else 48
            start = query if name not in ("pooled", "antidiagonal") else 40
            part = RULES[name](q[:, :, start:stop], k[:, :, :stop], **options)
            row = start // 8 if name in ("pooled", "antidiagonal") else start
            assert torch.equal(part, whole[:, :, row : row + part.shape[2]])


@pytest.mark.parametrize("name", RULES)
def test_other_dtypes_and_no_gradients(name: str) -> None:
    q, k = (x.round(decimals=1) for x in tensors())
    for options in amounts(name):
        for dtype in (torch.float64, torch.float16, torch.bfloat16):
            low_q, low_k = q.to(dtype).requires_grad_(), k.to(dtype).requires_grad_()
            found = RULES[name](low_q, low_k, **options)
            assert not found.requires_grad
            assert torch.equal(found, RULES[name](low_q.float(), low_k.float(), **options))
            with torch.autocast("cpu", torch.bfloat16):
                assert torch.equal(found, RULES[name](low_q, low_k, **options))


@pytest.mark.parametrize("name", RULES)
def test_no_queries_and_no_keys(name: str) -> None:
    q, k = tensors()
    for options in amounts(name):
        for len_q, len_k in ((0, 53), (0, 0), (1, 1)):
            found = RULES[name](q[:, :, :len_q], k[:, :, :len_k], **options)
            assert found.shape[2] == len_q
            if found.dtype == torch.bool or len_q:
                assert found.shape[3] == min(len_k, 1 if name == "tokens" or len_k < 2 else 7)


def every(q: torch.Tensor, k: torch.Tensor) -> list[torch.Tensor]:
    """All rules, and all kinds of arguments."""
    options: dict[str, Any] = {"top": 5, "force": "cols(0:1t) | last(1t)", "within": "last(40t)"}
    found = [rule(q, k, **options) for rule in RULES.values()]
    pooled, lengths = RULES["pooled"], {"len_q": q.shape[2], "len_k": k.shape[2]}
    found.append(pooled(q, k, mass=0.7, scope="key", force="cols(0)", align="start"))
    found.append(pooled(q, k, share=0.3, scope="all", causal=False, within=LAYOUT, scale=2))
    found.append(select.indexer(q, k, q[..., 0], cols=4, share=0.5))
    scores = q @ k.repeat_interleave(2, 1).transpose(2, 3)
    found.append(select.top(scores, 4, rows=1, cols=1, **lengths))
    return [*found, select.mass(scores, 0.5, rows=1, cols=1, softmax=True, **lengths)]


LAYOUT = bslang.compile("cols(0) | last(2)", block=8)


@pytest.mark.parametrize("dynamic", [False, True])
def test_traced_programs_choose_the_same(dynamic: bool) -> None:
    """In one graph, which serves all lengths where they are dynamic."""
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    traced = torch.compile(every, fullgraph=True, backend=backend, dynamic=dynamic)
    for len_q, len_k in ((37, 53), (40, 61), (24, 90)) if dynamic else ((37, 53),):
        q, k = tensors(len_q, len_k)
        for found, expected in zip(traced(q, k), every(q, k), strict=True):
            assert torch.equal(found, expected)
    assert len(graphs) == 1


def test_an_exported_program_knows_the_shapes_at_any_length() -> None:
    class Rules(torch.nn.Module):
        def forward(self, q: torch.Tensor, k: torch.Tensor) -> list[torch.Tensor]:
            return every(q, k)

    shapes = tuple({2: torch.export.Dim(name, min=40, max=500)} for name in ("len_q", "len_k"))
    program = torch.export.export(Rules(), tensors(41, 53), dynamic_shapes=shapes)
    for len_q, len_k in ((44, 47), (40, 300)):
        q, k = tensors(len_q, len_k)
        for found, expected in zip(program.module()(q, k), every(q, k), strict=True):
            assert torch.equal(found, expected)


def test_a_traced_program_refuses_what_a_rule_refuses() -> None:
    q, k = tensors()
    traced = torch.compile(lambda: RULES["pooled"](q, k, top=2, force="last(3)"), backend="eager")
    with pytest.raises(ValueError, match=r"top .* allows 2 cells per row"):
        traced()


def test_select_is_there_after_import_bslang() -> None:
    assert bslang.select.pooled is select.pooled
    assert set(select.__all__) <= set(dir(select))
