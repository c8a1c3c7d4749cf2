"""FlexAttention's BlockMask, from a layout and to a mask of tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask, create_mask

from bslang.errors import LimitError, PatternError
from bslang.exchange.mask import Given, mask_mod
from bslang.exchange.tiles import Tiles
from bslang.exchange.tiling import block_lists, graphs_of, on_device
from bslang.ir.awaited import inputs
from bslang.ir.runs import Bools
from bslang.limits import MAX_MASK_WORK
from bslang.resolve.program import Resolved


def block_mask(
    resolved: Resolved,
    len_q: int,
    len_k: int,
    align: str,
    heads: int | None,
    layer: int,
    given: Given,
    device: torch.device,
) -> BlockMask:
    """The BlockMask of a call; see `Layout.to_flex`."""
    pattern = resolved.pattern
    graphs, order = graphs_of(resolved, len_q, len_k, align, heads, layer)
    head_graph = None
    if len(graphs) > 1:
        head_graph = torch.tensor(order, dtype=torch.int32, device=device)
    drawn = any(primitive.drawn for primitive in pattern.primitives())
    whole = None if drawn or len(graphs) > 1 else pattern.at({"head": 0, "layer": layer})
    mod = mask_mod(whole, graphs, head_graph, inputs(resolved.block, pattern), given, device)

    tiles = [Tiles.of(graph) for graph in graphs]
    partial = block_lists([tile.visited & ~tile.full for tile in tiles], order, graphs[0].grid.m)
    full = block_lists([tile.full for tile in tiles], order, graphs[0].grid.m)
    return BlockMask.from_kv_blocks(
        *on_device(partial, device),
        *on_device(full, device),
        BLOCK_SIZE=resolved.block,
        mask_mod=mod,
        seq_lengths=(len_q, len_k),
    )


def tokens_of(mask: object) -> tuple[Bools, tuple[int, int]]:
    """The pairs that FlexAttention computes for a BlockMask, bool (heads, len_q, len_k), and its block.

    Those of its full blocks, and of its partial ones those that its mask_mod holds. Raises TypeError
    for what is no BlockMask, PatternError where batch rows have lists of their own, LimitError for
    more pairs than MAX_MASK_WORK.
    """
    if not isinstance(mask, BlockMask):
        raise TypeError(f"mask must be a BlockMask of FlexAttention, not {type(mask).__name__}")
    len_q, len_k = mask.seq_lengths
    batch, heads = mask.kv_num_blocks.shape[:2]
    if batch != 1:
        raise PatternError(
            f"this BlockMask has a mask for each of {batch} batch rows, and a layout is the same for all",
            hint="make it with B=None; documents of a batch are `same(doc)` with labels",
        )
    if heads * len_q * len_k > MAX_MASK_WORK:
        what = f"the pairs of {heads} heads with {len_q} queries and {len_k} keys"
        raise LimitError("MAX_MASK_WORK", MAX_MASK_WORK, what)
    device = mask.kv_num_blocks.device
    held = create_mask(mask.mask_mod, 1, heads, len_q, len_k, device)[0]
    found = held & _expanded(mask, mask.kv_num_blocks, mask.kv_indices)
    if mask.full_kv_num_blocks is not None and mask.full_kv_indices is not None:
        found = found | _expanded(mask, mask.full_kv_num_blocks, mask.full_kv_indices)
    made: Bools = found.cpu().numpy()
    return made, mask.BLOCK_SIZE


def _expanded(mask: BlockMask, count: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """The tokens of listed blocks, bool (heads, len_q, len_k)."""
    rows, columns = mask.BLOCK_SIZE
    len_q, len_k = mask.seq_lengths
    kind: Any = {"dtype": torch.int64, "device": indices.device}
    listed = torch.arange(indices.shape[-1], **kind) < count[0, ..., None]
    marks = torch.zeros((*indices.shape[1:3], -(-len_k // columns)), **kind)
    # Entries past the count may be anything: they add nothing to block 0.
    marks.scatter_add_(2, (indices[0] * listed).long(), listed.to(marks.dtype))
    tokens = (marks > 0).repeat_interleave(rows, 1).repeat_interleave(columns, 2)
    return tokens[:, :len_q, :len_k]
