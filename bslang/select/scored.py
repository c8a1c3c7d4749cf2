"""Choices by scores that the caller has, such as those of learned gates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bslang.select import checks
from bslang.select.choice import Placed, Rule
from bslang.select.operator import rule

if TYPE_CHECKING:
    from typing_extensions import Unpack


@rule
def top(
    scores: torch.Tensor,
    count: int,
    *,
    len_q: int,
    len_k: int,
    rows: int = 64,
    cols: int = 64,
    **placed: Unpack[Placed],
) -> torch.Tensor:
    """The cells with the best scores of each row.

    SeerAttention (arXiv 2410.13276, and 2506.08889 for decoding) takes the scores of a learned gate. As no
    gradient flows to a choice, a gate is trained by a loss of its scores: SeerAttention's is the KL
    divergence between their softmax and the attention weights of a dense layer, max-pooled by cell.

    scores: (batch, lists, rows, columns) of cells; rows are those that hold queries, by position. count:
    cells per row, forced ones included. len_q, len_k: tokens. rows, cols: tokens of a cell. placed: `Placed`.

    Returns int32 (batch, lists, rows, min(count, columns)), ascending, then -1. Equal scores go to the
    smaller column, scores of -inf or NaN are not chosen. Raises TypeError or ValueError that names the
    argument, SpecError for an invalid pattern.
    """
    checks.positive("count", count)
    return _chosen(scores, (len_q, len_k, rows, cols), False, {**placed, "top": count})


@rule
def mass(
    scores: torch.Tensor,
    share: float,
    *,
    len_q: int,
    len_k: int,
    rows: int = 64,
    cols: int = 64,
    softmax: bool = True,
    **placed: Unpack[Placed],
) -> torch.Tensor:
    """The smallest set of cells of each row with a share of its weights.

    NABLA (arXiv 2507.13546) on the softmax of pooled scores; the last step of XAttention (arXiv
    2503.16428, section 2.2), whose weights come as they are (softmax=False).

    scores, len_q, len_k, rows, cols, placed: as for `top`. share: above 0, up to 1; forced cells count first.
    softmax: whether scores are logits, of which softmax makes weights over the cells that may be chosen;
    otherwise they are weights of at least 0.

    Returns bool (batch, lists, rows, columns). Weights are counted in units of 2**-40 of the row's sum, so
    that the result does not depend on the order of a sum. Errors as for `top`.
    """
    checks.fraction("share", share)
    return _chosen(scores, (len_q, len_k, rows, cols), softmax, {**placed, "mass": share})


def _chosen(
    scores: torch.Tensor, sizes: tuple[int, int, int, int], logits: bool, choice: dict[str, object]
) -> torch.Tensor:
    checks.tensor("scores", scores, "(batch, lists, rows, columns)")
    for name, length in zip(("len_q", "len_k"), sizes[:2], strict=True):
        if isinstance(length, bool) or not isinstance(length, int):
            raise TypeError(f"{name} must be an integer of at least 0, not {length!r}")
        if length < 0:
            raise ValueError(f"{name} must be an integer of at least 0, not {length}")
    chosen = Rule.of(sizes, **choice)  # type: ignore[arg-type]  # the options of Placed, and one more
    cells = chosen.cells
    if scores.shape[2] != cells.count or scores.shape[3] != cells.columns:
        raise ValueError(
            f"scores must have {cells.count} rows and {cells.columns} columns of cells; they have "
            f"{scores.shape[2]} and {scores.shape[3]}"
        )

    def score(first: int, count: int) -> torch.Tensor:
        return scores[:, :, first : first + count].float()

    batch, lists = scores.shape[:2]
    return chosen.choose(score, scores, (batch, lists, lists), cells.columns, logits)
