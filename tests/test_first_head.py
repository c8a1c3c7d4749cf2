"""Some heads of a model: their layouts are those of their numbers in the model, or the call is refused."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from calls import Call
from small_models import model, tokens
from torch import nn

import bslang
from bslang.integrations.transformers import attach
from bslang.nn import BlockSparseAttention, MultiheadAttention
from bslang.runtime.registry import LAYOUTS, Key

SPECS = [
    "heads { 0:2 -> last(3t); 2: -> causal }",
    "last((head + 1) * 4t)",
    "segments(4, rate=3)",  # reads `head` without a word
]
FEW: dict[str, Any] = {"block": 8, "target": "torch"}


def attended(layout: Any, given: tuple[torch.Tensor, ...], **options: Any) -> list[torch.Tensor]:
    """out, lse, dq, dk and dv; given: q, k, v and the gradient of out."""
    leaves = [x.detach().clone().requires_grad_() for x in given[:3]]
    out, lse = layout(*leaves, return_lse=True, **options)
    out.backward(given[3])
    return [out.detach(), lse.detach(), *(leaf.grad for leaf in leaves)]


def check_some_heads(target: str, spec: str) -> None:
    layout, given = Call(spec).layout(target), Call(spec).inputs()
    whole = (given.q, given.k, given.v, given.grad_out)
    some = tuple(
        x[:, x.shape[1] // 2 :].clone() for x in whole
    )  # two of four, and one of two key heads
    padding = torch.zeros(2, 40, dtype=torch.bool)
    padding[1, 30:] = True
    for options in ({}, {"key_padding": padding}):
        truth = [x[:, x.shape[1] // 2 :] for x in attended(layout, whole, **options)]
        for found in (
            attended(layout, some, first_head=2, **options),
            attended(layout.at_heads(2), some, **options),
        ):
            for mine, other in zip(found, truth, strict=True):
                torch.testing.assert_close(mine, other, rtol=0, atol=1e-6)
        assert not torch.allclose(attended(layout, some, **options)[0], truth[0], atol=1e-3)


@pytest.mark.parametrize("spec", SPECS)
def test_some_heads_are_those_of_the_whole(spec: str, on: Callable[..., None]) -> None:
    on(check_some_heads, spec)


# ---- other ways to call ------------------------------------------------------------------------------


@pytest.fixture
def mixed() -> bslang.Layout:
    return bslang.compile(SPECS[0], **FEW)


@pytest.fixture
def q() -> torch.Tensor:
    return torch.randn(1, 4, 40, 16, generator=torch.Generator().manual_seed(1))


def test_packed_compiled_and_exported(mixed: bslang.Layout, q: torch.Tensor) -> None:
    half, ends = q[:, 2:].clone(), [0, 25, 40]
    truth = mixed(q, q, q)[:, 2:]  # type: ignore[index]  # no lse
    packed = mixed.packed(half, half, half, ends, first_head=2)
    assert torch.equal(packed, mixed.packed(q, q, q, ends)[:, 2:])  # type: ignore[arg-type,index]

    class Half(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return mixed(x, x, x, first_head=2)

    compiled = torch.compile(Half(), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(half), truth)
    assert torch.equal(torch.export.export(Half(), (half,)).module()(half), truth)
    torch._dynamo.reset()


def test_layouts_of_some_heads_are_known_by_it(mixed: bslang.Layout, q: torch.Tensor) -> None:
    half = mixed.at_heads(2)
    assert half is mixed.at_heads(2) and half.at_heads(2) is half and half is not mixed
    key = Key.parse(half._key)
    assert key.first_head == 2 and Key.parse(mixed.at_layer(3).at_heads(2)._key).layer == 3
    assert half.at_layer(3).first_head == 2
    assert LAYOUTS.rebuild is not None and LAYOUTS.rebuild(key).first_head == 2
    again = pickle.loads(pickle.dumps(half))
    assert again.first_head == 2 and torch.equal(again(q, q, q), half(q, q, q))
    assert "heads from 2" in str(half) and "heads from 2" in repr(BlockSparseAttention(32, 2, half))
    assert torch.equal(half.to_dense(40), mixed.to_dense(40, head=2))
    assert half.prefix_stable(40, 2).holds
    with pytest.raises(ValueError, match=r"starts at head 2: export `at_heads\(0\)`"):
        half.to_flex(40, heads=2)
    assert half.at_heads(0).to_flex(40, heads=2) is not None
    same = bslang.compile("causal", **FEW)
    assert same.at_heads(2) is same
    for wrong in (-1, 1.0, True):
        with pytest.raises(ValueError, match="first_head must be an integer of at least 0"):
            mixed(q, q, q, first_head=wrong)  # type: ignore[arg-type]


def test_heads_without_a_pattern_are_an_error(q: torch.Tensor) -> None:
    layout = bslang.compile("heads { 0:4 -> causal }", **FEW)
    layout(q, q, q)
    with pytest.raises(bslang.SpecError, match="no pattern for head 4"):
        layout(q, q, q, first_head=2)


# ---- modules that have some of the heads ---------------------------------------------------------------


def pruned(module: Any) -> Any:
    """With two of its four heads, as pruning leaves them."""
    for name in ("q_proj", "k_proj", "v_proj"):
        old = getattr(module, name)
        new = nn.Linear(old.in_features, old.out_features // 2, old.bias is not None)
        setattr(module, name, new)
    return module


def test_pruned_modules_are_refused(mixed: bslang.Layout) -> None:
    """Nothing says which of the heads are left."""
    x = torch.randn(1, 40, 32)
    module = pruned(BlockSparseAttention(32, 4, mixed))
    module.o_proj = nn.Linear(16, 32)
    with pytest.raises(
        ValueError, match="with 2 heads, and the model has 4: the layout differs by head"
    ):
        module(x)
    module(x, first_head=2)
    module.layout = bslang.compile("causal", **FEW)
    module(x)
    torch_like = MultiheadAttention(32, 4, mixed)
    torch_like.num_heads = 8
    with pytest.raises(ValueError, match="with 4 heads, and the model has 8"):
        torch_like(x, x, x)


def test_pruned_models_are_refused() -> None:
    made = model("Bert", num_hidden_layers=1)
    attention = made.encoder.layer[0].attention
    for name in ("query", "key", "value"):
        setattr(attention.self, name, nn.Linear(32, 16))
    attention.output.dense = nn.Linear(16, 32)
    attach(made, SPECS[0], allow_noncausal=True, **FEW)
    with pytest.raises(
        ValueError, match="BertSelfAttention calls the layout with 2 heads, and the model has 4"
    ):
        made(tokens())
    attach(made, "all", **FEW)
    made(tokens())


RANK = """
import sys
sys.path.insert(0, {tests!r})
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.testing._internal.distributed.fake_pg import FakeStore
from small_models import model, tokens

from bslang.integrations.transformers import attach
from bslang.nn import BlockSparseAttention

dist.init_process_group("fake", rank=1, world_size=2, store=FakeStore())
mesh = init_device_mesh("cpu", (2,))
spec = "heads {{ 0:2 -> last(3t); 2: -> causal }}"
seen = []


def joined(module, args):
    seen.append(args[0].detach())


def halves(module):
    for name in ("q_proj", "k_proj", "v_proj"):
        parallelize_module(getattr(module, name), mesh, ColwiseParallel(), src_data_rank=None)
    parallelize_module(module.o_proj, mesh, RowwiseParallel(), src_data_rank=None)


made = model(num_hidden_layers=1)
attach(made, spec, block=8, target="torch")
module = BlockSparseAttention(32, 4, spec, num_kv_heads=2)
attention = made.model.layers[0].self_attn
x = torch.randn(1, 130, 32)
for run, part in ((lambda: made(tokens(), use_cache=False), attention), (lambda: module(x), module)):
    for _ in range(2):
        handle = part.o_proj.register_forward_pre_hook(joined)
        run()
        handle.remove()
        if len(seen) % 2:
            halves(part)
for whole, half in (seen[:2], seen[2:]):
    half = half.to_local() if hasattr(half, "to_local") else half
    assert half.shape[-1] * 2 == whole.shape[-1], (half.shape, whole.shape)
    torch.testing.assert_close(half, whole[..., half.shape[-1] :])
print("two halves agree")
"""


def test_ranks_of_tensor_parallelism_take_theirs() -> None:
    """As the second of two ranks, with a process group that sends nothing."""
    program = RANK.format(tests=str(Path(__file__).parent))
    found = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
    )
    assert found.stdout.strip() == "two halves agree", found.stderr[-2000:]
