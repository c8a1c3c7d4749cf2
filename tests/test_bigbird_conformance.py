"""Hugging Face's BigBird, and the blocks that it draws as a `table` layout: the same outputs and gradients.

In training mode, dropout 0, fp32, blocks of 64. It draws by one plan at the lengths of the paper (1,024,
3,072 and 4,096) and by another at all others. At 1,024 it draws blocks that a row has anyway, and attends
to them twice, as no set of pairs can: there, keys are given twice, and the second time only those blocks.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference import TOLERANCE

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # benchmarks/ is not installed
import bslang
from benchmarks import bigbird
from bslang.errors import BuildError
from bslang.runtime.cpu import build

transformers = pytest.importorskip("transformers")

BLOCK, DIM, HEADS = 64, 16, 2
LENGTHS = (1024, 1536, 3072, 4096)

try:
    build.find_compiler()
    TARGETS = ("torch", "cpu")
except BuildError:
    TARGETS = ("torch",)


def near(found: torch.Tensor, expected: torch.Tensor, layers: int = 1) -> bool:
    size = 1 + float(expected.detach().abs().max())
    return (
        float((found - expected).detach().abs().max()) <= layers * TOLERANCE[torch.float32] * size
    )


def layout_of(
    module: Any, length: int, folder: Path, target: str, more: int | None = None
) -> tuple[bslang.Layout, bool]:
    """The blocks that a module draws as a layout, and whether it takes the keys twice.

    more: a column that every row sees besides.
    """
    counts = bigbird.counts_of(module, length, BLOCK)
    twice = max(c.max() for c in counts) > 1
    tables = [np.concatenate((c > 0, c > 1), 1) if twice else c > 0 for c in counts]
    if more is not None:
        for table in tables:
            table[:, more] = True
    spec = bigbird.spec_of(tables, folder)
    return bslang.compile(spec, block=BLOCK, folder=folder, target=target), twice


def attend(
    layout: bslang.Layout, twice: bool, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
) -> torch.Tensor:
    if twice:
        k, v = torch.cat((k, k), 2), torch.cat((v, v), 2)
    out = layout(q, k, v, align="start")
    assert isinstance(out, torch.Tensor)
    return out


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("length", LENGTHS)
def test_attention(length: int, target: str, tmp_path: Path) -> None:
    module = bigbird.module_for(length, BLOCK, DIM, HEADS)
    layout, twice = layout_of(module, length, tmp_path, target)
    assert twice == (length == 1024)
    one, other = (layout.graph(length, length * (1 + twice), "start", head) for head in (0, 1))
    assert one.blocks_by_row.sum() and one.visited.start.tolist() != other.visited.start.tolist()
    generator = torch.Generator().manual_seed(0)
    shape = (1, HEADS, length, DIM)
    q, k, v, grad = (torch.randn(shape, generator=generator) for _ in range(4))
    given = tuple(x.requires_grad_() for x in (q, k, v))

    def results(out: torch.Tensor) -> list[torch.Tensor]:
        return [out.detach(), *torch.autograd.grad(out, given, grad)]

    expected = results(bigbird.attention_of(module, length, BLOCK)(q, k, v))
    found = results(attend(layout, twice, q, k, v))
    assert all(near(*pair) for pair in zip(found, expected, strict=True))
    # With one column more, nothing agrees any longer.
    found = results(attend(*layout_of(module, length, tmp_path, target, more=1), q, k, v))
    assert not any(near(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("length", LENGTHS[:2])
def test_whole_model(length: int, tmp_path: Path) -> None:
    """Each layer draws blocks of its own; a layout in the place of each changes nothing but rounding."""
    torch.manual_seed(0)
    config = transformers.BigBirdConfig(
        vocab_size=70, hidden_size=HEADS * DIM, num_attention_heads=HEADS, num_hidden_layers=2,
        intermediate_size=32, max_position_embeddings=4096, block_size=BLOCK,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = transformers.BigBirdModel(config, add_pooling_layer=False).train()
    ours = copy.deepcopy(model)
    digests = set()
    for number, layer in enumerate(ours.encoder.layer):
        module, folder = layer.attention.self, tmp_path / str(number)
        folder.mkdir()
        layout, twice = layout_of(module, length, folder, "torch")
        module.bigbird_block_sparse_attention = in_place(layout, twice)
        digests.add(layout.digest)
    assert len(digests) == 2
    ids = torch.randint(0, 70, (2, length), generator=torch.Generator().manual_seed(1))
    found, expected = (each(ids).last_hidden_state for each in (ours, model))
    assert near(found, expected, 10)
    grad = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    for out in (found, expected):
        out.backward(grad)
    pairs = list(zip(ours.named_parameters(), model.parameters(), strict=True))
    assert len(pairs) > 30
    largest = max(float(theirs.grad.abs().max()) for _, theirs in pairs)
    for (name, mine), theirs in pairs:
        off = float((mine.grad - theirs.grad).abs().max())
        assert off <= 10 * TOLERANCE[torch.float32] * largest, name


def in_place(layout: bslang.Layout, twice: bool) -> Any:
    """A layout as the method of the module: tensors in, (batch, length, heads, dim) out."""

    def method(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *_: Any, **__: Any) -> Any:
        return attend(layout, twice, q, k, v).transpose(1, 2), None

    return method
