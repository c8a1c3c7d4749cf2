"""Blocks of queries and of keys, each pooled to one vector."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from bslang.select import checks
from bslang.select.cells import pool as pooled_tokens
from bslang.select.cells import split
from bslang.select.choice import Choice, Rule, lists_of
from bslang.select.operator import rule

if TYPE_CHECKING:
    from typing import Literal

    from typing_extensions import Unpack


@rule
def pooled(
    q: torch.Tensor,
    k: torch.Tensor,
    *,
    rows: int = 64,
    cols: int = 64,
    pool: str = "mean",
    scale: float | None = None,
    scope: Literal["query", "key", "all"] = "query",
    **choice: Unpack[Choice],
) -> torch.Tensor:
    """Cells by the product of pooled queries and pooled keys.

    MoBA (arXiv 2502.13189, section 2.2): rows=1, force="last(1t)"; its top counts the query's own block. VSA
    (arXiv 2505.13389), the tiles of its coarse stage: top, causal=False. SLA (arXiv 2509.24006): share; that
    it subtracts the mean of all keys before changes no ranking. MInference (arXiv 2407.02490, section 3.2),
    block-sparse heads: top. NABLA (arXiv 2507.13546): mass, causal=False, its static part in the layout.
    FlexPrefill (arXiv 2502.20766, algorithm 4), query-aware heads: mass, over="head".

    q: (batch, heads, len_q, dim). k: (batch or 1, key heads, len_k, dim). rows, cols: tokens of a cell; with
    rows=1, single queries have scores. pool: "mean" or "max", over the tokens that a cell has. scale: factor
    of the scores, 1/sqrt(dim) for None; it matters only where weights are made of them. scope: "query" for a
    list for each query head, "key" for each key head, "all" for one list. A list of several heads adds their
    scores, made softmax weights before over the cells that may be chosen. choice: `Choice`.

    Returns int32 (batch, lists, rows, min(top, columns)) of columns, ascending, then -1; with mass, bool
    (batch, lists, rows, columns). Both are values of `select(name, rows=, cols=)` with the same sizes. Scores
    are fp32. Memory: the pooled queries and keys in fp32, and some 60 bytes for each of up to 2**22 scores at
    a time. Nothing waits for a GPU, and no gradient flows.

    Raises TypeError or ValueError that names the argument, SpecError for an invalid pattern.
    """
    checks.pair(q, k)
    checks.one_of("pool", pool, "mean", "max")
    chosen = Rule.of((q.shape[2], k.shape[2], rows, cols), **choice)
    cells = chosen.cells
    batch, heads, key_heads = q.shape[0], q.shape[1], k.shape[1]
    lists = lists_of(scope, heads, key_heads)
    of_q = pooled_tokens(q, cells.before, rows, cells.count, pool) * factor(scale, q)
    of_k = pooled_tokens(k, 0, cols, cells.columns, pool).transpose(2, 3)

    def score(first: int, count: int) -> torch.Tensor:
        return products(of_q[:, :, first : first + count], of_k)

    return chosen.choose(score, q, (batch, heads, lists), cells.columns, logits=True)


def factor(scale: float | None, q: torch.Tensor) -> float:
    """The factor of scores. Raises TypeError where it is not a number."""
    if scale is None:
        return 1.0 / math.sqrt(q.shape[3])
    if isinstance(scale, bool) or not isinstance(scale, int | float):
        raise TypeError(f"scale must be a number, not {scale!r}")
    return float(scale)


def products(q: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """(batch, heads, count, columns) of q (batch, heads, count, dim) and keys (batch or 1, key heads, dim,
    columns), each of which serves a group of heads."""
    group, count = q.shape[1] // keys.shape[1], q.shape[2]
    together = split(q, 1, keys.shape[1], group).flatten(2, 3)  # a group's queries in one product
    return split(torch.matmul(together, keys), 2, group, count).flatten(1, 2)
