"""Published attention whose blocks are chosen at run time: rule and layout of the library, against loops.

The reference takes neither the rules nor the language: scores and choices are those of tests/chosen.py, masks
are written down pair by pair, and attention is dense.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import chosen
import pytest
import torch
from chosen import Shape, as_weights

import bslang
from bslang import select

Pairs = Callable[[int, int], bool]


@dataclass(frozen=True)
class Published:
    """A published attention, at sizes that are small.

    file: the layout and its parameters; shape: of the call; rule: makes the pick of q and k; scores: (batch,
    lists, rows, columns) of a shape, -inf for what may not be chosen; forced: cells (row position, column)
    that are always chosen, and static: pairs (query position, key) that are seen without being chosen.
    """

    file: str
    parameters: dict[str, Any]
    shape: Shape
    rule: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    scores: Callable[[Shape], torch.Tensor]
    top: int | None = None
    mass: float | None = None
    over: str = "row"
    forced: Pairs = lambda row, column: False
    static: Pairs = lambda q, k: False
    block: int = 16


def by_head(score: chosen.Scores, shape: Shape, lists: int | None = None) -> torch.Tensor:
    return chosen.by_list(score, shape, lists or shape.heads, lists is not None, None, None)


def weighed(score: chosen.Scores, shape: Shape) -> torch.Tensor:
    return as_weights(by_head(score, shape))


def ahead_left_out(scores: torch.Tensor, shape: Shape) -> torch.Tensor:
    return scores.masked_fill(shape.ahead(), -torch.inf)


def own(size: int) -> Pairs:
    return lambda q, k: q // size == k // size


LLM = {"batch": 2, "heads": 4, "key_heads": 2}
CASES = {
    "moba": Published(
        "moba.bsl",
        {"b": "8t"},
        Shape(50, 50, 1, 8, **LLM),
        lambda q, k: select.pooled(q, k, rows=1, cols=8, top=3, force="last(1t)"),
        lambda shape: by_head(chosen.pooled, shape),
        top=3,
        forced=lambda row, column: row // 8 == column,
    ),
    "nsa_selection": Published(
        "deepseek.bsl:nsa_selection",
        {"b": "8t"},
        Shape(37, 61, 1, 8, **LLM),
        lambda q, k: select.compressed(
            q, k, kernel=8, stride=4, cols=8, top=4, force="cols(0) | last(9t)"
        ),
        lambda shape: ahead_left_out(chosen.compressed(shape, 2, 8, 4, "overlap"), shape),
        top=4,
        forced=lambda row, column: column == 0 or row // 8 - column in (0, 1),
    ),
    "infllm2": Published(
        "infllm2.bsl:infllm2",
        {"b": "8t", "local": 2},
        Shape(61, 61, 1, 8, **LLM),
        lambda q, k: select.compressed(
            q, k, kernel=8, stride=4, cols=8, pool="max", top=5, force="cols(0) | last(9t)"
        ),
        lambda shape: ahead_left_out(chosen.compressed(shape, 2, 8, 4, "max"), shape),
        top=5,
        forced=lambda row, column: column == 0 or row // 8 - column in (0, 1),
    ),
    "minicpm4": Published(
        "infllm2.bsl:minicpm4",
        {"b": "8t", "local": 2, "dense": "61t"},
        Shape(61, 61, 1, 8, **LLM),
        lambda q, k: select.compressed(
            q, k, kernel=8, stride=4, cols=8, pool="max", top=4, force="cols(0) | last(9t)"
        ),
        lambda shape: ahead_left_out(chosen.compressed(shape, 2, 8, 4, "max"), shape),
        top=4,
        forced=lambda row, column: column == 0 or row // 8 - column in (0, 1),
    ),
    "minicpm4 of a short sequence": Published(
        "infllm2.bsl:minicpm4",
        {"b": "8t", "local": 2, "dense": "64t"},
        Shape(45, 45, 1, 8, **LLM),
        lambda q, k: select.compressed(
            q, k, kernel=8, stride=4, cols=8, pool="max", top=4, force="cols(0) | last(9t)"
        ),
        lambda shape: ahead_left_out(chosen.compressed(shape, 2, 8, 4, "max"), shape),
        top=4,
        forced=lambda row, column: column == 0 or row // 8 - column in (0, 1),
        static=lambda q, k: True,
    ),
    "dsa": Published(
        "deepseek.bsl:dsa",
        {},
        Shape(30, 42, 1, 1, heads=4, key_heads=1),
        lambda q, k: select.indexer(q, k, top=9),
        lambda shape: ahead_left_out(chosen.indexer(shape, 1, None, True, "max"), shape),
        top=9,
    ),
    "msa": Published(
        "msa.bsl",
        {"b": "8t"},
        Shape(40, 61, 1, 8, batch=2, heads=2, key_heads=2),
        lambda q, k: select.indexer(
            q, k, cols=8, activation="identity", scope="query", top=3, force="last(1t)"
        ),
        lambda shape: ahead_left_out(chosen.indexer(shape, 2, None, False, "max"), shape),
        top=3,
        forced=lambda row, column: row // 8 == column,
    ),
    "vsa": Published(
        "vsa.bsl",
        {"b": "8t"},
        Shape(48, 48, 8, 8, batch=2, heads=2, key_heads=2, causal=False),
        lambda q, k: select.pooled(q, k, rows=8, cols=8, share=0.3, causal=False),
        lambda shape: by_head(chosen.pooled, shape),
        top=2,
    ),
    "nabla": Published(
        "nabla.bsl",
        {"t": 3, "h": 2, "w": 2, "rt": 1, "rh": 0, "rw": 1},
        Shape(96, 96, 8, 8, heads=2, key_heads=2, causal=False),
        lambda q, k: select.pooled(q, k, rows=8, cols=8, mass=0.5, causal=False),
        lambda shape: weighed(chosen.pooled, shape),
        mass=0.5,
        static=lambda q, k: abs(q // 32 - k // 32) <= 1 and q // 16 % 2 == k // 16 % 2,
        block=8,
    ),
    "quest": Published(
        "quest.bsl",
        {"b": "4t"},
        Shape(1, 39, 1, 4, batch=2, heads=4, key_heads=4),
        lambda q, k: select.bounds(q, k, cols=4, top=3),
        lambda shape: by_head(chosen.bounds, shape),
        top=3,
        static=own(4),
    ),
    "xattention": Published(
        "xattention.bsl",
        {"b": "8t"},
        Shape(61, 61, 8, 8, heads=2, key_heads=2),
        lambda q, k: select.antidiagonal(
            q, k, stride=4, rows=8, cols=8, mass=0.6, force="cols(0) | last(1)"
        ),
        lambda shape: by_head(lambda q, k, s: chosen.antidiagonal(q, k, s, 4), shape),
        mass=0.6,
        forced=lambda row, column: column in (0, row // 8),
    ),
    "flexprefill": Published(
        "flexprefill.bsl",
        {"b": "8t"},
        Shape(61, 61, 8, 8, batch=2, heads=2, key_heads=2),
        lambda q, k: select.pooled(q, k, rows=8, cols=8, mass=0.53, over="head"),
        lambda shape: weighed(chosen.pooled, shape),
        mass=0.53,
        over="head",
        static=lambda q, k: k < 8 or q // 8 == k // 8,
    ),
    "seer": Published(
        "seer.bsl:seer",
        {"b": "8t"},
        Shape(44, 61, 8, 8, heads=2, key_heads=2),
        lambda q, k: select.pooled(q, k, rows=8, cols=8, top=3, pool="max"),
        lambda shape: by_head(lambda q, k, s: chosen.pooled(q, k, s, "max"), shape),
        top=3,
        static=own(8),
    ),
    "seer_decode": Published(
        "seer.bsl:seer_decode",
        {"b": "8t"},
        Shape(1, 61, 1, 8, batch=2, heads=4, key_heads=2),
        lambda q, k: select.pooled(q, k, rows=1, cols=8, top=3, scope="key", force="last(1t)"),
        lambda shape: by_head(chosen.pooled, shape, 2),
        top=3,
        forced=lambda row, column: row // 8 == column,
    ),
    "duo_selected": Published(
        "duo.bsl:duo_selected",
        {"full": 4, "sinks": "2t", "recent": "6t", "b": "4t"},
        Shape(21, 39, 1, 4, heads=4, key_heads=2),
        lambda q, k: select.bounds(q, k, cols=4, top=2),
        lambda shape: by_head(chosen.bounds, shape),
        top=2,
        static=lambda q, k: k < 2 or q // 4 == k // 4,
    ),
}


def cells(case: Published) -> torch.Tensor:
    """The cells that are chosen, bool (batch, lists, rows, columns)."""
    shape, scores = case.shape, case.scores(case.shape)
    found = torch.zeros(scores.shape, dtype=torch.bool)
    for batch, lists in torch.cartesian_prod(*map(torch.arange, scores.shape[:2])).tolist():
        places = [
            (row, column)
            for row in range(shape.row_count)
            for column in range(shape.columns)
            if scores[batch, lists, row, column] > -torch.inf
        ]
        rows = [[at for at in places if at[0] == row] for row in range(shape.row_count)]
        for some in [places] if case.over == "head" else rows:

            def must(at: tuple[int, int]) -> bool:
                return case.forced((at[0] + shape.first_row) * shape.rows, at[1])

            def score(at: tuple[int, int], batch: int = batch, lists: int = lists) -> float:
                return float(scores[batch, lists, at[0], at[1]])

            taken, total = 0.0, sum(score(at) for at in some)
            for number, at in enumerate(
                sorted(some, key=lambda at: (not must(at), -score(at), at))
            ):
                enough = number >= case.top if case.top else taken >= (case.mass or 0) * total
                if must(at) or not enough:
                    found[batch, lists, at[0], at[1]] = True
                    taken += score(at)
    return found


def mask(case: Published) -> torch.Tensor:
    """The pairs that are seen, bool (batch, heads, len_q, len_k)."""
    shape, listed = case.shape, cells(case)
    found = torch.zeros(shape.batch, shape.heads, shape.len_q, shape.len_k, dtype=torch.bool)
    group = shape.heads // listed.shape[1]
    for x in range(shape.len_q):
        position = shape.position(x)
        for y in range(shape.len_k):
            if shape.causal and y > position:
                continue
            cell = listed[:, :, position // shape.rows - shape.first_row, y // shape.cols]
            found[:, :, x, y] = cell.repeat_interleave(group, 1) | case.static(position, y)
    return found


@pytest.mark.parametrize("name", CASES)
def test_rule_and_layout_are_the_published_attention(name: str) -> None:
    case = CASES[name]
    layout = bslang.load(f"std/{case.file}", target="torch", block=case.block, **case.parameters)
    q, k = (x.double() for x in case.shape.tensors())
    v = torch.randn(k.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    seen = mask(case)
    whole = [[case.shape.sees(x, y) for y in range(k.shape[2])] for x in range(q.shape[2])]
    assert (seen == torch.tensor(whole)).all() == (name == "minicpm4 of a short sequence")
    grouped = (x.repeat_interleave(case.shape.heads // case.shape.key_heads, 1) for x in (k, v))
    expected = torch.nn.functional.scaled_dot_product_attention(q, *grouped, attn_mask=seen)
    found = layout(q, k, v, select={"pick": case.rule(q, k)})
    torch.testing.assert_close(found, expected)


def test_streaming_heads_of_duo_read_no_list() -> None:
    case = CASES["duo_selected"]
    parameters = case.parameters | {"full": 1}
    layout = bslang.load(f"std/{case.file}", target="torch", block=16, **parameters)
    q, k = case.shape.tensors()
    pick = case.rule(q, k)
    lists = torch.cat((pick[:, :1], torch.full_like(pick[:, 1:], -1)), 1)
    assert torch.equal(layout(q, k, k, select=pick), layout(q, k, k, select=lists))
    streaming = bslang.load(
        "std/duo.bsl:duo", target="torch", block=16, full=1, sinks="2t", recent="6t"
    )
    assert torch.equal(layout(q, k, k, select=pick)[:, 1:], streaming(q, k, k)[:, 1:])
