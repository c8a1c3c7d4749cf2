"""Hugging Face's BigBird attention (`transformers`), and the layout that it draws, as a workload of ours.

Its random blocks are drawn by a plan of its own, anew in every call, for each head another. The plan
of one seed becomes tables in a spec, so that both compute the very same pairs.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from benchmarks.peers import Attend, NotRun, Peer, afford
from benchmarks.workloads import Pattern, Workload

RANDOM_BLOCKS = 3
"""A row: the default of the published configuration."""

SEED = 7
NAME = "BigBird of Hugging Face"


def workload(length: int, block: int = 64, dim: int = 64, heads: int = 4) -> Workload:
    """The layout that the module draws for this shape. Raises NotRun where it cannot be had."""
    module = module_for(length, block, dim, heads)
    with tempfile.TemporaryDirectory(prefix="bslang-bench-") as folder:
        spec = spec_of([c > 0 for c in counts_of(module, length, block)], Path(folder))
        found = Workload(Pattern(NAME, spec, folder=Path(folder)), length, block, dim, heads)
        found.layout(), found.layout("torch")  # they keep the tables; the folder goes
    return found


def counts_of(module: Any, length: int, block: int) -> list[Any]:
    """How often a row attends to a block, int (rows, rows), for each head: 0, 1, or 2.

    At 1,024 tokens it draws blocks that a row has anyway, and counts them twice in the softmax.
    """
    found = []
    for plan in _plan(module, length, block, module.num_attention_heads):
        at = np.arange(length // block)
        counts = (np.abs(at[:, None] - at) <= 1).astype(int)
        counts[[0, -1]], counts[:, [0, -1]] = 1, 1
        for blocks in plan.T:
            counts[at[1:-1], blocks] += 1
        found.append(counts)
    return found


def spec_of(tables: list[Any], folder: Path) -> str:
    """A layout of one table (rows, columns) for each head, written to files in a folder."""
    for head, table in enumerate(tables):
        np.save(folder / f"head{head}.npy", table)
    branches = " ; ".join(f'{head} -> table("head{head}.npy")' for head in range(len(tables)))
    return f"heads {{ {branches} }}"


def module_for(length: int, block: int, dim: int, heads: int) -> Any:
    """The module, in training mode. Raises NotRun where transformers is not installed."""
    try:
        from transformers import BigBirdConfig
        from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention
    except ImportError:
        raise NotRun("the package transformers is not installed (pip install '.[bench]')") from None
    config = BigBirdConfig(
        hidden_size=heads * dim,
        num_attention_heads=heads,
        block_size=block,
        num_random_blocks=RANDOM_BLOCKS,
        max_position_embeddings=length,
    )
    # Training mode: in evaluation it draws no blocks, and sees the first one several times instead.
    made: Any = BigBirdBlockSparseAttention
    return made(config, seed=SEED).train()


def attention_of(module: Any, length: int, block: int) -> Attend:
    """The module's attention without the projections around it."""
    rows, heads, dim = (
        length // block,
        module.num_attention_heads,
        module.attention_head_size,
    )
    ones = torch.ones(1, length)
    masks = (
        torch.ones(1, 1, rows - 4, block, 3 * block),
        ones.view(1, 1, length, 1),
        ones.view(1, 1, 1, length),
        ones.view(1, rows, block),
        ones.view(1, rows, block),
    )

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        sizes = (heads, RANDOM_BLOCKS, dim, block, block, 1, length, length)
        out, _ = module.bigbird_block_sparse_attention(
            q, k, v, *masks, *sizes,
            seed=module.seed, plan_from_length=None, plan_num_rand_blocks=None,
        )  # fmt: skip
        attended: torch.Tensor = out.transpose(1, 2)
        return attended

    return attend


def _plan(module: Any, length: int, block: int, heads: int) -> list[Any]:
    """Random blocks of each head, as the module draws them: int (rows - 2, RANDOM_BLOCKS) each."""
    seen = []
    use = module._create_rand_mask_from_inputs

    def watch(of_queries: Any, of_keys: Any, plan: torch.Tensor, *sizes: int) -> Any:
        seen.append(plan[0].numpy())
        return use(of_queries, of_keys, plan, *sizes)

    module._create_rand_mask_from_inputs = watch
    q = torch.zeros(1, heads, length, module.attention_head_size)
    with torch.no_grad(), _NoProbabilities(length):
        attention_of(module, length, block)(q, q, q)
    module._create_rand_mask_from_inputs = use
    return list(seen[0])


class _NoProbabilities(TorchFunctionMode):
    """Leaves out the dense (length, length) matrix of probabilities, which the module fills besides."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.sides = (length, length)

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is torch.zeros and args[-2:] == self.sides:
            return torch.empty(args, device="meta")
        if function in (torch.Tensor.__setitem__, torch.Tensor.scatter_) and args[0].is_meta:
            return args[0]
        return function(*args, **(kwargs or {}))


def _as_it_is(workload: Workload, phase: str) -> Attend:
    afford(4.0 * workload.heads * workload.length**2)
    shape = (workload.length, workload.block, workload.dim, workload.heads)
    return attention_of(module_for(*shape), workload.length, workload.block)


def _arithmetic(workload: Workload, phase: str) -> Attend:
    length, block = workload.length, workload.block
    module = module_for(length, block, workload.dim, workload.heads)
    plan = _plan(module, length, block, workload.heads)
    heads = itertools.cycle(plan)
    # Two ways to draw, one for lengths of the paper, head by head, and one for others.
    module._bigbird_block_rand_mask = lambda *a, **k: next(heads)
    module._bigbird_block_rand_mask_with_head = lambda *a, **k: plan
    attend = attention_of(module, length, block)

    def bare(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        with _NoProbabilities(length):
            return attend(q, k, v)

    return bare


HUGGING_FACE = Peer("Hugging Face BigBird", _as_it_is)
HUGGING_FACE_BARE = Peer("Hugging Face BigBird, products alone", _arithmetic)
"""Without drawing the blocks anew and without the dense matrix of probabilities: less than it does."""
