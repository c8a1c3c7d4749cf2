"""Layouts as the block lists of FlashAttention 4, for its forward and its backward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from bslang.compiler import block_sides
from bslang.errors import PatternError, TargetError
from bslang.exchange.cute import THROUGH_FLEX, source
from bslang.exchange.tiling import Tiling, block_lists, on_device
from bslang.graph.blockgraph import BlockGraph
from bslang.inputs import Inputs
from bslang.ir.bounds import Interval
from bslang.ir.expr import Number, Op, Var, evaluate
from bslang.ir.grid import At
from bslang.ir.mask import Masks
from bslang.ir.ordered import order_of
from bslang.ir.pattern import Pattern
from bslang.ir.predicate import holds
from bslang.ir.runs import Bools
from bslang.patterns.constant import All
from bslang.resolve.program import Resolved

BLOCKS = {"sm90": (128, 128), "sm100": (256, 128)}
"""The architectures whose kernels read the lists, and their usual block (query, key)."""

_DROPPED = {
    "sm80": "computes dense attention without an error",
    "sm86": "computes dense attention without an error",
    "sm89": "computes dense attention without an error",
    "sm120": "has no block-sparse kernels",
}
"""What FlashAttention 4 does with the lists elsewhere."""


class BlockLists(NamedTuple):
    """The fields of FlashAttention 4's `BlockSparseTensorsTorch`, int32 tensors.

    mask_block_cnt: (1, heads or 1, rows), the partial blocks of each row, to whose pairs mask_mod applies;
    mask_block_idx: (1, heads or 1, rows, columns), which, ascending, then zeros. full_block_cnt and
    full_block_idx: those all of whose pairs belong. block_size: (query, key), in tokens. Forward, rows are
    blocks of queries and columns blocks of keys; backward the other way round.
    """

    mask_block_cnt: torch.Tensor
    mask_block_idx: torch.Tensor
    full_block_cnt: torch.Tensor
    full_block_idx: torch.Tensor
    block_size: tuple[int, int]


class Fa4(NamedTuple):
    """What `flash_attn.cute.flash_attn_func` takes: `block_sparse_tensors=BlockSparseTensorsTorch(
    **forward._asdict())`, the same of `backward` as `block_sparse_tensors_bwd`, and `mask_mod`.

    mask_mod: the source of a Python file with a function of that name, for the pairs of partial blocks; None
    where no block is partial. Without the lists of `backward`, gradients are wrong and nothing says so.
    """

    forward: BlockLists
    backward: BlockLists
    mask_mod: str | None


def to_fa4(
    resolved: Resolved,
    layer: int,
    graphs: Sequence[BlockGraph],
    order: Sequence[int],
    arch: str,
    sizes: tuple[tuple[int, int] | None, tuple[int, int] | None],
    device: torch.device,
) -> Fa4:
    """The lists of a call with the given graph of each head; see `Layout.to_fa4`. sizes: of blocks, forward
    and backward."""
    if arch in _DROPPED:
        raise TargetError(
            f"given block lists, FlashAttention 4 on {arch} {_DROPPED[arch]}; they are for {_known()}"
        )
    if arch not in BLOCKS:
        raise ValueError(f"arch must be one of {_known()}, not {arch!r}")
    forward = BLOCKS[arch] if sizes[0] is None else block_sides(sizes[0])
    backward = forward if sizes[1] is None else block_sides(sizes[1])
    if arch == "sm100" and (forward[0] % 256 or backward[0] % 256):
        raise ValueError(
            "FlashAttention 4 on sm100 takes two tiles of 128 queries at a time: the block of queries must "
            f"be a multiple of 256, not {(forward if forward[0] % 256 else backward)[0]}"
        )
    tilings = {
        block: [Tiling.of(graph, block) for graph in graphs] for block in (forward, backward)
    }
    partial = {block: [_partial(tiling) for tiling in made] for block, made in tilings.items()}
    masked = any(marks.any() for found in partial.values() for marks in found)
    mask_mod = None
    if masked:
        marked = [
            (graph, tiling, marks)
            for block, made in tilings.items()
            for graph, tiling, marks in zip(graphs, made, partial[block], strict=True)
        ]
        mask_mod = _mask_mod(resolved, layer, graphs, marked)

    def lists(block: tuple[int, int], transposed: bool) -> BlockLists:
        full = [
            tiling.full & ~marks
            for tiling, marks in zip(tilings[block], partial[block], strict=True)
        ]

        def listed(marks: Sequence[Bools]) -> tuple[torch.Tensor, torch.Tensor]:
            turned = [mark.T if transposed else mark for mark in marks]
            return on_device(block_lists(turned, order, turned[0].shape[1]), device)

        return BlockLists(*listed(partial[block]), *listed(full), block)

    return Fa4(lists(forward, False), lists(backward, True), mask_mod)


def _known() -> str:
    return " or ".join(map(repr, BLOCKS))


def _partial(tiling: Tiling) -> Bools:
    """The tiles that need a mask. Short ones do: the mask leaves out what is beyond the end."""
    found: Bools = tiling.visited & ~tiling.full
    q, k = tiling.graph.grid.q, tiling.graph.grid.k
    if (q.stop - q.start) % tiling.sides[0]:
        found[-1] = tiling.visited[-1]
    if k.stop % tiling.sides[1]:
        found[:, -1] = tiling.visited[:, -1]
    return found


_Marked = Sequence[tuple[BlockGraph, Tiling, Bools]]


def _mask_mod(resolved: Resolved, layer: int, graphs: Sequence[BlockGraph], marked: _Marked) -> str:
    """The source of a mask that says of every pair of the marked tiles whether it belongs.

    The layout's formula, where it has one. Where blocks are drawn, or heads differ, the formula that is
    left of one of its partial blocks may do for all.
    """
    grid = graphs[0].grid
    drawn = any(primitive.drawn for primitive in resolved.pattern.primitives())
    if drawn or len(graphs) > 1:
        # The short tiles at an end may be full up to it.
        candidates = [(graph, each) for graph in graphs for each in (All(), *graph.residuals)]
        chosen = next((each for each in candidates if _serves(*each, marked)), None)
        if chosen is None:
            raise PatternError(
                "FlashAttention 4 takes one mask for all partial blocks, and those of this layout need "
                f"{'a table of blocks' if drawn else 'another for each head'}; {THROUGH_FLEX}"
            )
    else:
        chosen = graphs[0], resolved.pattern.at({"head": 0, "layer": layer})
    if (order := order_of(chosen[1])) is not None:
        raise PatternError(
            f"the tokens have an order, `{order}`, and the masks of FlashAttention 4 that are written here "
            f"look up no positions; {THROUGH_FLEX}"
        )
    predicate = _predicate(*chosen)
    names: dict[str, Interval] = {}
    for name, axis, place in (("q", grid.q, 0), ("k", grid.k, 1)):
        sides = [tiling.sides[place] for _, tiling, _ in marked]
        names[name] = (axis.start, axis.stop + max(sides))
        if any((axis.stop - axis.start) % side for side in sides):
            predicate = Op("&", (predicate, Op("<", (Var(name), axis.stop))))
    return source(predicate, grid.q.start, names)


def _predicate(graph: BlockGraph, pattern: Pattern) -> Number:
    """What a pattern says of the pair (q, k), with the numbers of the graph's length and head."""
    grid = graph.grid
    masks = Masks.of((pattern,), (grid.q.block, grid.k.block), Inputs())
    env = grid.env()
    numbers = {f"p{place}": evaluate(each, env) for place, each in enumerate(masks.parameters)}
    return evaluate(masks.masks[0], numbers)


def _serves(graph: BlockGraph, residual: Pattern, marked: _Marked) -> bool:
    """Whether a residual of one head's graph says of every pair of the marked tiles whether it belongs."""
    return all(_agree(graph, residual, tiling, marks) for _, tiling, marks in marked)


def _agree(graph: BlockGraph, residual: Pattern, tiling: Tiling, marks: Bools) -> bool:
    parts: Iterator[tuple[np.ndarray, np.ndarray, Bools]] = tiling.masked(marks)
    for row, column, pairs in parts:
        q, k, inside = tiling.positions(row, column)
        said = holds(residual, At.positions(graph.grid, q, k, labels={}), graph.grid.env())
        if not np.array_equal(said & inside, pairs):
            return False
    return True
