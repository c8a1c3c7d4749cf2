"""Shards as pages: a tensor (batch, heads, length, ...) as blocks where they lie, and blocks out of it."""

from __future__ import annotations

import torch


def per_row(x: torch.Tensor, block: int) -> int:
    """Pages between two rows of the batch of a contiguous tensor (batch, heads, length, ...)."""
    return x.shape[1] * (x.shape[2] // block)


def fitting(x: torch.Tensor, block: int) -> torch.Tensor:
    """A tensor whose blocks are pages as it lies: itself, or a copy of one with other strides."""
    if x.dim() < 4 or x.stride(3) != 1:
        return x.contiguous()
    whole = per_row(x, block) * block * x.stride(2)
    return x if x.shape[0] == 1 or x.stride(0) == whole else x.contiguous()


def as_pages(x: torch.Tensor, block: int) -> torch.Tensor:
    """A view (pages, heads, block, ...) of a tensor that fits: block j of row b is page
    b * per_row(x, block) + j."""
    batch, heads, length = x.shape[:3]
    pages = (batch - 1) * per_row(x, block) + length // block if batch else 0
    strides = (block * x.stride(2), x.stride(1), x.stride(2), *x.stride()[3:])
    return x.as_strided((pages, heads, block, *x.shape[3:]), strides)


def blocks_of(x: torch.Tensor, block: int) -> torch.Tensor:
    """(batch, heads, length, ...) as a view (batch, heads, blocks, block, ...)."""
    return x.view(*x.shape[:2], -1, block, *x.shape[3:])


def tokens_of(x: torch.Tensor, places: torch.Tensor, block: int) -> torch.Tensor:
    """Some blocks of all heads as tokens, (blocks * heads * batch * block, ...) in row-major order,
    contiguous; x: (batch, heads, length, ...); places: int64 (blocks,)."""
    return blocks_of(x, block)[:, :, places].transpose(0, 2).flatten(0, 3).contiguous()


def put_tokens(x: torch.Tensor, places: torch.Tensor, block: int, tokens: torch.Tensor) -> None:
    """The inverse of `tokens_of`: write blocks to their places."""
    batch, heads = x.shape[:2]
    blocks = tokens.view(places.shape[0], heads, batch, block, *x.shape[3:])
    blocks_of(x, block)[:, :, places] = blocks.transpose(0, 2).to(x.dtype)


def tokens_as_pages(tokens: torch.Tensor, heads: int, batch: int, block: int) -> torch.Tensor:
    """A view (pages, heads, block, ...) of what `tokens_of` gives: block i of row b is page
    i * heads * batch + b."""
    rest = tokens.shape[1:]
    blocks = tokens.shape[0] // (heads * batch * block)
    step = tokens.stride(0)
    pages = (blocks - 1) * heads * batch + batch
    strides = (block * step, batch * block * step, step, *tokens.stride()[1:])
    return tokens.as_strided((pages, heads, block, *rest), strides)


def items_of(
    tensors: tuple[torch.Tensor, ...],
    heads: torch.Tensor,
    places: torch.Tensor,
    block: int,
    into: torch.Tensor,
) -> None:
    """Write blocks of single heads into (items, batch, block, sum of dims), one tensor's beside another's;
    heads, places: int64 (items,)."""
    start = 0
    for x in tensors:
        part = into[..., start : start + x.shape[3]]
        part.copy_(blocks_of(x, block)[:, heads, places].transpose(0, 1))
        start += x.shape[3]


def add_items(
    x: torch.Tensor,
    heads: torch.Tensor,
    places: torch.Tensor,
    block: int,
    items: torch.Tensor,
) -> None:
    """Add (items, batch, block, dim) to blocks of single heads, each of them once, in the dtype of x."""
    blocks_of(x, block)[:, heads, places] += items.transpose(0, 1).to(x.dtype)


def put_items(
    x: torch.Tensor,
    heads: torch.Tensor,
    places: torch.Tensor,
    block: int,
    items: torch.Tensor,
) -> None:
    """Write (items, batch, block, dim) to blocks of single heads."""
    blocks_of(x, block)[:, heads, places] = items.transpose(0, 1).to(x.dtype)


def of_all_heads(pages: torch.Tensor, heads: int) -> torch.Tensor:
    """Pages of single heads (pages, block, dim) as (pages, heads, block, dim), the same for all heads."""
    return pages[:, None].expand(-1, heads, -1, -1)


def merged(out: torch.Tensor, lse: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(out, lse) of queries whose keys were parted: out (parts, ..., dim), lse (parts, ...); both in the
    dtype of lse. A query without keys has out 0 and lse -inf. Parts are added in their order."""
    peak = lse.amax(0)
    finite = torch.where(peak == -torch.inf, 0, peak)
    weight = torch.exp(lse - finite)
    total = added(weight, lse.dtype)
    whole = added(weight[..., None] * out, lse.dtype)
    some = total != 0  # NaN too: it is not hidden
    whole = torch.where(some[..., None], whole / total[..., None], 0)
    return whole, finite + torch.log(total)


def added(parts: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The sum of parts (parts, ...), in their order and in a dtype."""
    total = parts[0].to(dtype)
    for part in parts[1:]:
        total = total + part.to(dtype)
    return total
