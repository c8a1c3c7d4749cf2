"""Layouts as the block lists of cuDNN's block-sparse attention, with an interval of keys per masked row."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch

from bslang.errors import PatternError
from bslang.exchange.tiling import Tiling, block_lists, on_device
from bslang.graph.blockgraph import BlockGraph

SIDES = (64, 128)
"""The blocks that cuDNN's kernels have, square."""


class CudnnBlocks(NamedTuple):
    """The sparse arguments of `cudnn.BSA.block_sparse_attention_forward` and `..._backward`.

    q2k_block_index: int32 (1, heads or 1, query blocks, most), the blocks of keys of each block of queries,
    ascending, then zeros. q2k_block_nums: int32 (1, heads or 1, query blocks), how many. cuDNN wants one for
    each batch row and query head: expand them. Where one is 0, pass `allow_empty_block_nums=True`.
    block_sizes: int32 (key blocks,), the tokens of each block of keys; None where all are whole.
    sparse_block_size: the side of a block.

    With `intervals=True` also, for a kernel that takes them (None without):
    partial: int32 like q2k_block_index, the number of a listed block among those with intervals; -1 for a
    block all of whose pairs belong. intervals: int32 (blocks with intervals, side, 2): row r of such a block
    sees its keys lo .. hi - 1, counted from the block's first, and none if both are 0. A short block of keys
    has intervals then, and block_sizes is None.
    """

    q2k_block_index: torch.Tensor
    q2k_block_nums: torch.Tensor
    block_sizes: torch.Tensor | None
    sparse_block_size: int
    partial: torch.Tensor | None
    intervals: torch.Tensor | None


def to_cudnn(
    graphs: Sequence[BlockGraph],
    order: Sequence[int],
    side: int,
    intervals: bool,
    device: torch.device,
) -> CudnnBlocks:
    """The lists of a call with the given graph of each head; see `Layout.to_cudnn`."""
    len_k = graphs[0].grid.k.stop
    short = len_k % side
    tilings = [Tiling.of(graph, (side, side)) for graph in graphs]
    most = max(1, *(int(tiling.visited.sum(axis=1).max(initial=0)) for tiling in tilings))
    counts, indices = block_lists([tiling.visited for tiling in tilings], order, most)

    def tensor(array: Any) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int32)).to(device)

    nums, index = on_device((counts, indices), device)
    if intervals:
        numbers, rows = _intervals(tilings, short)
        at = np.arange(most)[None, :] < counts[0, :, :, None]
        partial = np.stack(
            [np.take_along_axis(numbers[g], indices[0, h], axis=1) for h, g in enumerate(order)]
        )
        return CudnnBlocks(
            index, nums, None, side, tensor(np.where(at, partial, -1)[None]), tensor(rows)
        )
    for graph, tiling in enumerate(tilings):
        open_tiles = tiling.visited & ~tiling.full
        if open_tiles.any():
            row, column = np.argwhere(open_tiles)[0].tolist()
            head = f" of head {order.index(graph)}" if len(order) > 1 else ""
            raise PatternError(
                f"cuDNN's block-sparse attention computes whole blocks, and the block of queries "
                f"{row * side}:{(row + 1) * side} by keys {column * side}:{(column + 1) * side}{head} is "
                "partial; pass intervals=True for a kernel that takes an interval of keys for each query of "
                "a block, or use `to_flex`"
            )
    sizes = np.full(-(-len_k // side), side)
    if short:
        sizes[-1] = short
    return CudnnBlocks(index, nums, tensor(sizes) if short else None, side, None, None)


def _intervals(tilings: Sequence[Tiling], short: int) -> tuple[list[Any], Any]:
    """The number of each tile among those with intervals, or -1, for each graph; and their intervals."""
    numbers, parts, count = [], [], 0
    for tiling in tilings:
        side = tiling.sides[0]
        number = np.full(tiling.visited.shape, -1, dtype=np.int64)
        whole = tiling.full.copy()
        if short:
            whole[:, -1] = False
        for row, column, pairs in tiling.masked(tiling.visited & ~whole):
            edges = np.diff(pairs.astype(np.int8), prepend=0, append=0, axis=-1)
            several = (edges == 1).sum(axis=-1) > 1
            if several.any():
                tile, line = np.argwhere(several)[0].tolist()
                keys = (pairs[tile, line].nonzero()[0] + column[tile] * side).tolist()
                gap = next(k for k, after in pairwise(keys) if after > k + 1) + 1
                raise PatternError(
                    f"cuDNN takes one interval of keys for each query and block, and query "
                    f"{row[tile] * side + line} sees keys {keys[0]} and {keys[-1]} of a block, but not "
                    f"{gap}; use `to_flex`"
                )
            lo, hi = (edges == 1).argmax(axis=-1), (edges == -1).argmax(axis=-1)
            number[row, column] = np.arange(count, count + row.size)
            count += row.size
            parts.append(np.stack((lo, hi), axis=-1))
        numbers.append(number)
    side = tilings[0].sides[0]
    return numbers, np.concatenate([np.zeros((0, side, 2), dtype=np.int64), *parts])
