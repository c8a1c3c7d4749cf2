"""Upper bounds of scores, from the least and greatest keys of a block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bslang.select import checks
from bslang.select.cells import pool
from bslang.select.choice import Choice, Rule, lists_of
from bslang.select.operator import rule
from bslang.select.pooling import factor, products

if TYPE_CHECKING:
    from typing import Literal

    from typing_extensions import Unpack


@rule
def bounds(
    q: torch.Tensor,
    k: torch.Tensor,
    *,
    cols: int = 16,
    scale: float | None = None,
    scope: Literal["query", "key", "all"] = "query",
    **choice: Unpack[Choice],
) -> torch.Tensor:
    """Cells by the largest score that any of their keys can have.

    Quest (arXiv 2406.10774, algorithm 1): the sum over dimensions i of max(q_i * m_i, q_i * M_i). m_i and M_i
    are the least and the greatest value of a dimension among the keys of a page. A cell is one query by cols
    keys; 16 is Quest's page.

    q: (batch, heads, len_q, dim). k: (batch or 1, key heads, len_k, dim). scale, scope, choice, the result,
    its memory and the errors are those of `pooled` with rows=1.
    """
    checks.pair(q, k)
    chosen = Rule.of((q.shape[2], k.shape[2], 1, cols), **choice)
    cells = chosen.cells
    batch, heads, key_heads = q.shape[0], q.shape[1], k.shape[1]
    lists = lists_of(scope, heads, key_heads)
    least = pool(k, 0, cols, cells.columns, "min").transpose(2, 3)
    greatest = pool(k, 0, cols, cells.columns, "max").transpose(2, 3)
    by = factor(scale, q)

    def score(first: int, count: int) -> torch.Tensor:
        part = q[:, :, first : first + count].float() * by
        return products(part.clamp_min(0), greatest) + products(part.clamp_max(0), least)

    return chosen.choose(score, q, (batch, heads, lists), 2 * cells.columns, logits=True)
