"""Attention to compressed keys, whose weights say which blocks matter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bslang.select import checks
from bslang.select.cells import Cells, split
from bslang.select.choice import Choice, Rule, lists_of, softmax
from bslang.select.operator import rule
from bslang.select.pooling import factor, products

if TYPE_CHECKING:
    from typing import Literal

    from typing_extensions import Unpack


@rule
def compressed(
    q: torch.Tensor,
    k: torch.Tensor,
    *,
    kernel: int = 32,
    stride: int = 16,
    cols: int = 64,
    keys: torch.Tensor | None = None,
    pool: str = "overlap",
    scale: float | None = None,
    scope: Literal["query", "key", "all"] = "key",
    **choice: Unpack[Choice],
) -> torch.Tensor:
    """Cells by the attention weights of compressed keys that overlap them.

    NSA (arXiv 2502.11089, equations 7 to 10): compressed key i stands for `kernel` tokens from i * stride on.
    A query sees those whose tokens are all at or before it. Their softmax weights are added for the heads of
    a group (scope="key", the default here). The score of a cell is the sum of the weights of the compressed
    keys that overlap it, each times the number of tokens in common, over the stride. Published with top=16
    and force="cols(0) | last(65t)": the first block, the query's own and the one before. InfLLM-v2 (arXiv
    2509.24663; MiniCPM4): pool="max", the largest weight of the compressed keys that overlap.

    q: (batch, heads, len_q, dim). k: (batch or 1, key heads, len_k, dim), compressed by their mean. keys:
    those compressed otherwise, as by NSA's learned function, (batch or 1, key heads, count, dim) with count =
    (len_k - kernel) // stride + 1, or 0; k then gives the length. cols: tokens of a cell, which is one query
    by cols keys. pool: "overlap" or "max". scale: 1/sqrt(dim) for None. within has no part in the softmax.
    A cell that no complete key overlaps has the score 0.

    scope, choice, the result and the errors are those of `pooled` with rows=1. Memory: the compressed keys in
    fp32, and some 60 bytes for each of up to 2**22 weights at a time, of which there are len_q * len_k /
    stride for each head.
    """
    checks.pair(q, k)
    checks.one_of("pool", pool, "overlap", "max")
    checks.positive("kernel", kernel)
    checks.positive("stride", stride)
    chosen = Rule.of((q.shape[2], k.shape[2], 1, cols), **choice)
    cells = chosen.cells
    batch, heads, key_heads = q.shape[0], q.shape[1], k.shape[1]
    lists = lists_of(scope, heads, key_heads)
    count_k = max(0, (cells.len_k - kernel) // stride + 1)
    if keys is None:
        keys = compress(k, kernel, stride)
    else:
        checks.pair(q, keys, "keys")
        if keys.shape[1] != key_heads or keys.shape[2] != count_k:
            raise ValueError(
                f"keys must have {key_heads} heads and {count_k} compressed keys; it has "
                f"{keys.shape[1]} and {keys.shape[2]}"
            )
    of_k = keys.float().transpose(2, 3)
    last = torch.arange(count_k, dtype=torch.int64, device=q.device) * stride + kernel - 1
    by = factor(scale, q)

    def score(first: int, count: int) -> torch.Tensor:
        found = products(q[:, :, first : first + count].float() * by, of_k)
        if chosen.causal:
            complete = last <= cells.last_positions(first, count, q.device)[:, None]
            found = found.masked_fill(~complete, -torch.inf)
        weights = split(softmax(found), 1, lists, heads // lists).sum(2)
        return _by_cell(weights, cells, kernel, stride, pool)

    width = 2 * -(-heads // lists) * max(count_k, cells.columns)
    return chosen.choose(score, q, (batch, lists, lists), width, logits=False)


def compress(k: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """The mean of every `kernel` keys from a multiple of the stride on, fp32 (batch, heads, count, dim)."""
    if k.shape[2] < kernel:
        return k.new_zeros((*k.shape[:2], 0, k.shape[3]), dtype=torch.float32)
    return k.float().unfold(2, kernel, stride).mean(-1)


def _by_cell(
    weights: torch.Tensor, cells: Cells, kernel: int, stride: int, pool: str
) -> torch.Tensor:
    """The weights of compressed keys (..., count) by cells (..., columns)."""
    count = weights.shape[-1]
    begin = torch.arange(cells.columns, dtype=torch.int64, device=weights.device) * cells.cols
    lowest = (begin - kernel) // stride + 1  # the first compressed key that reaches into the cell
    found = weights.new_zeros((*weights.shape[:-1], cells.columns))
    if count == 0:
        return found
    for index in range(-(-(cells.cols + kernel - 1) // stride)):
        key = lowest + index
        start = key * stride
        shared = (start + kernel).clamp_max(begin + cells.cols) - start.maximum(begin)
        shared = torch.where((key >= 0) & (key < count), shared.clamp_min(0), 0)
        part = weights[..., key.clamp(0, count - 1)]
        if pool == "max":
            found = found.maximum(torch.where(shared > 0, part, 0))
        else:
            found = found + part * (shared / stride)
    return found
