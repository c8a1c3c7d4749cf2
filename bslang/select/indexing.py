"""Scores of a small model beside attention, token by token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bslang.select import checks
from bslang.select.cells import split
from bslang.select.choice import Choice, Rule, lists_of
from bslang.select.operator import rule
from bslang.select.pooling import products

if TYPE_CHECKING:
    from typing import Literal

    from typing_extensions import Unpack


@rule
def indexer(
    q: torch.Tensor,
    k: torch.Tensor,
    weights: torch.Tensor | None = None,
    *,
    cols: int = 1,
    activation: str = "relu",
    pool: str = "max",
    scope: Literal["query", "key", "all"] = "all",
    **choice: Unpack[Choice],
) -> torch.Tensor:
    """Cells by the scores of an indexer: sum over its heads j of w[t, j] * ReLU(q[t, j] . k[s]).

    DeepSeek-V3.2 (its report, section 2.1, equation 1): 64 heads, one of keys, cols=1, top=2048, one list for
    all heads of attention. MiniMax's MSA: cols=128, activation="identity", pool="max", scope="query", an
    indexer with as many heads as attention has key heads, top=16.

    q: queries of the indexer, (batch, heads, len_q, dim). k: (batch or 1, key heads, len_k, dim). weights:
    (batch, heads, len_q); None means 1. cols: tokens of a cell, which is one query by cols keys. activation:
    "relu" or "identity". pool: "max" or "mean" of a cell's scores, of the keys up to the query if causal.
    scope: "all" adds the scores of all heads; "query" and "key" make a list for each head, or key head, of
    the indexer. choice: `Choice` without mass, as these scores are not weights.

    The result and the errors are those of `pooled` with rows=1. Memory: k in fp32, and some 60 bytes for
    each of up to 2**22 scores at a time, of which there are len_q * len_k for each head of the indexer.
    """
    checks.pair(q, k)
    checks.one_of("activation", activation, "relu", "identity")
    checks.one_of("pool", pool, "max", "mean")
    if choice.get("mass") is not None:
        raise TypeError("mass is not for the scores of an indexer; give top or share")
    if weights is not None:
        checks.tensor("weights", weights, "(batch, heads, len_q)")
        if weights.shape != q.shape[:3] or weights.device != q.device:
            raise ValueError(
                f"weights must have shape {tuple(q.shape[:3])} on {q.device}; it has "
                f"{tuple(weights.shape)} on {weights.device}"
            )
    chosen = Rule.of((q.shape[2], k.shape[2], 1, cols), **choice)
    cells = chosen.cells
    batch, heads, key_heads = q.shape[0], q.shape[1], k.shape[1]
    lists = lists_of(scope, heads, key_heads)
    of_k = k.float().transpose(2, 3)
    place = torch.arange(cells.len_k, dtype=torch.int64, device=q.device)

    def score(first: int, count: int) -> torch.Tensor:
        rows = slice(first, first + count)
        found = products(q[:, :, rows].float(), of_k)
        if activation == "relu":
            found = found.relu()
        if weights is not None:
            found = found * weights[:, :, rows].float()[..., None]
        found = split(found, 1, lists, heads // lists).sum(2)
        if cols == 1:
            return found
        counts = place >= 0
        if chosen.causal:
            counts = place <= cells.last_positions(first, count, q.device)[:, None]
        return _by_cell(found, counts, pool, cells.columns, cols)

    # Heads are added in there, so that `choose` sees as many as there are lists.
    width = -(-heads // lists) * cells.len_k
    return chosen.choose(score, q, (batch, lists, lists), width, logits=False)


def _by_cell(
    scores: torch.Tensor, counts: torch.Tensor, pool: str, columns: int, cols: int
) -> torch.Tensor:
    """The max or mean of the scores of each cell's tokens that count; -inf where none does."""
    after = (0, columns * cols - scores.shape[-1])
    counts = torch.nn.functional.pad(counts.expand(scores.shape[-2:]), after)
    scores = torch.nn.functional.pad(scores, after)
    scores = split(scores, 3, columns, cols)
    counts = split(counts, 1, columns, cols)
    if pool == "max":
        return scores.masked_fill(~counts, -torch.inf).amax(-1)
    some = counts.sum(-1)
    mean = scores.masked_fill(~counts, 0).sum(-1) / some.clamp_min(1)
    return mean.masked_fill(some == 0, -torch.inf)
