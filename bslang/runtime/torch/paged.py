"""Pages for the torch target: blocks that lie anywhere, as tensors in the order of the sequence and back."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def gathered(
    x: torch.Tensor, pages: torch.Tensor | None, length: int, absent: float = 0
) -> torch.Tensor:
    """(pages, heads, page size, ...) as (batch, heads, length, ...), `absent` where there is no page; what
    has no pages (None) as it is. pages: int32 (batch, heads or 1, blocks)."""
    if pages is None:
        return x
    pages = pages[:, :, : -(-length // x.shape[2])]
    number, head = _places(pages, x.shape[1])
    found = x[number, head]  # (batch, heads, blocks, page size, ...)
    gone = (pages < 0).view(*pages.shape, *(1,) * (found.dim() - 3))
    return found.masked_fill(gone, absent).flatten(2, 3)[:, :, :length]


def scatter(
    into: torch.Tensor,
    pages: torch.Tensor,
    x: torch.Tensor,
    blocks: torch.Tensor,
    rest: float = 0.0,
) -> None:
    """Write some blocks of x (batch, heads, length, ...) to their pages in `into` (pages, heads, block, ...).

    blocks: integers (blocks,); pages: as in `gathered`; rest: what the last block has after the end.
    """
    blocks, size = blocks.long(), into.shape[2]
    ragged = F.pad(x, (*(0, 0) * (x.dim() - 3), 0, -x.shape[2] % size), value=rest)
    number, head = _places(pages[:, :, blocks], x.shape[1])
    cut = ragged.reshape(*x.shape[:2], -1, size, *x.shape[3:])
    if into.stride(1) == 0:  # of single heads, each with pages of its own
        into[:, 0][number] = cut[:, :, blocks].to(into.dtype)
    else:
        into[number, head] = cut[:, :, blocks].to(into.dtype)


def _places(pages: torch.Tensor, heads: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices of the first two dimensions of a tensor with pages, (batch, heads, blocks) together."""
    number = pages.long().clamp_min(0).expand(-1, heads, -1)
    head = torch.arange(heads, dtype=torch.int64, device=pages.device)
    return number, head[:, None].expand(-1, pages.shape[2])
