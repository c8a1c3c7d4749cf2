"""Context parallelism over four processes and gloo: calls, training steps, DTensors, and what ranks say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ranks
import torch
import torch.distributed as dist
import torch.nn.functional as F
from ranks import mesh
from simulated import one, tensors
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.utils.checkpoint import checkpoint

import bslang
from bslang.distributed import Sharding, context_parallel, shard_sequence, transport
from bslang.errors import BslangError
from bslang.nn import BlockSparseAttention

Tensors = list[torch.Tensor]


@pytest.fixture(scope="module")
def four() -> Iterator[ranks.Ranks]:
    with ranks.started() as made:
        yield made


def sharded(
    layout: bslang.Layout,
    sharding: Sharding,
    given: Tensors,
    keep: bool | None = None,
    **options: Any,
) -> Tensors:
    """out, lse, dq, dk, dv of the whole sequence."""
    attention = context_parallel(layout, sharding, keep=keep)
    leaves = [sharding.shard(x, 2).requires_grad_() for x in given[:3]]
    out, lse = attention(*leaves, return_lse=True, **options)
    torch.autograd.backward((out, lse), [sharding.shard(x, 2) for x in given[3:]])
    parts = [out.detach(), lse.detach(), *(leaf.grad for leaf in leaves)]
    return [sharding.unshard(x, 2) for x in parts]  # type: ignore[arg-type]


def close(found: Tensors, truth: Tensors, tolerance: float = 1e-9) -> None:
    for mine, other in zip(found, truth, strict=True):
        torch.testing.assert_close(mine, other, rtol=tolerance, atol=tolerance)


# ---- calls -------------------------------------------------------------------------------------------

SPECS = [
    "last(40t) & causal",
    "window(3) | global(0, -1) | random(1, seed=7)",
    "causal",
    "heads { 0 -> last(20t) & causal; 1 -> strided(5) & causal; 2: -> rows(3) | window(3) }",
    "random(1, seed=3) - causal",
    "same(doc) & causal",
]
LENGTHS = [33, 147, 2]


def serves_any(layout: bslang.Layout, length: int) -> Sharding:
    return shard_sequence(layout, length, mesh(4), heads=4, key_heads=2)


def check_calls(spec: str) -> int:
    """All kinds of calls of a layout: how many."""
    layout, done = bslang.compile(spec, block=8, target="torch"), 0
    for length in LENGTHS:
        if length == 2 and ("rows" in spec or "global" in spec):
            continue
        labels = {"doc": torch.arange(length) // 50} if layout.labels else None
        of_batch = shard_sequence(layout, length, mesh(4), heads=4, key_heads=2, labels=labels)
        for sharding in [of_batch] if labels is None else [of_batch, serves_any(layout, length)]:
            for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 3e-2)):
                for batch, keep in ((1, None), (2, True), (2, False)):
                    given = tensors(length, batch=batch, dtype=dtype)
                    options: dict[str, Any] = {}
                    if keep:
                        options["key_padding"] = torch.tensor([length, length // 2])
                    if keep is False:
                        options["sinks"] = torch.linspace(-1, 1, 4)
                    own = {"labels": labels} if labels and sharding.labels is None else {}
                    whole = {"labels": labels} if labels else {}
                    found = sharded(layout, sharding, given, keep, **options, **own)
                    done += 1
                    if dist.get_rank() == 0:  # all have the same
                        close(found, one(layout, given, **options, **whole), tolerance)
    return done


@pytest.mark.parametrize("spec", SPECS)
def test_calls_are_those_of_one_process(four: ranks.Ranks, spec: str) -> None:
    assert min(four.run(check_calls, spec)) >= 12


def check_bytes() -> None:
    layout = bslang.compile(SPECS[1], block=8, target="torch")
    sharding = shard_sequence(layout, 300, mesh(4), heads=4, key_heads=2)
    given, sent = tensors(300, dtype=torch.float32), [0]

    def hear(request: Any) -> None:
        sent[0] += request.sent(sharding.rank)

    transport.HEARS.append(hear)
    sharded(layout, sharding, given, keep=True)
    transport.HEARS.remove(hear)
    (plan,) = sharding._plans._values.values()
    from bslang.placement.traffic import Sizes

    passes = plan.part.traffic(Sizes(8, 8, 1, 4, 4), keep=True)
    assert sent[0] == sum(int(each.total.sent) for each in passes) > 0
    reruns = [sharded(layout, sharding, given) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*reruns, strict=True))


def test_bytes_are_those_of_the_plan_and_reruns_have_the_same_bits(four: ranks.Ranks) -> None:
    four.run(check_bytes)


# ---- training ----------------------------------------------------------------------------------------

LENGTH, WIDTH = 150, 32


class Model(nn.Module):
    """Two layers, of which the second has a layout that differs from head to head."""

    def __init__(self, attentions: list[Any], checkpoints: bool, sinks: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        made: dict[str, Any] = {"dtype": torch.float64}
        self.embed = nn.Embedding(17, WIDTH, **made)
        self.layers = nn.ModuleList(
            BlockSparseAttention(
                WIDTH, 4, each, num_kv_heads=2, rotary=10_000, sinks=sinks, bias=False, **made
            )
            for each in attentions
        )
        self.head = nn.Linear(WIDTH, 17, **made)
        self.checkpoints = checkpoints

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        for layer in self.layers:
            x = x + (checkpoint(layer, x, use_reentrant=False) if self.checkpoints else layer(x))
        return self.head(x)  # type: ignore[no-any-return]


def steps(
    model: nn.Module, ids: torch.Tensor, labels: torch.Tensor, factor: float, average: bool
) -> list[float]:
    """Losses of three steps: the sum over tokens, times a factor. average: the gradients over ranks, as FSDP2
    does."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, foreach=False)
    losses = []
    for _ in range(3):
        logits = model(ids)
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") * factor
        loss.backward()
        for parameter in model.parameters() if average else ():
            dist.all_reduce(parameter.grad)
            parameter.grad /= dist.get_world_size()  # type: ignore[operator]
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def check_training(way: str) -> None:
    layouts = [
        bslang.compile(spec, block=16, target="torch")
        for spec in ("last(40t) & causal", "heads { 0:2 -> cols(0) | diagonals(0); 2: -> causal }")
    ]
    ids = torch.randint(0, 17, (1, LENGTH + 1), generator=torch.Generator().manual_seed(3))
    ids, labels = ids[:, :-1], ids[:, 1:]
    layouts = layouts[:1] if way == "compiled" else layouts
    sinks = way != "tp"  # whose gradients each rank has of its own heads
    alone = Model(layouts, False, sinks)
    truth = steps(alone, ids, labels, 1 / LENGTH, False)

    world = mesh(2, 2) if way == "tp" else mesh(4)
    cp = world["cp"]
    sharding = shard_sequence(layouts, LENGTH, cp, heads=4, key_heads=2)
    attentions = [context_parallel(layout, sharding) for layout in layouts]
    model: nn.Module = Model(attentions, way == "checkpointed", sinks)
    if way == "tp":
        for layer in model.layers:  # type: ignore[union-attr]
            plan = dict.fromkeys(("q_proj", "k_proj", "v_proj"), ColwiseParallel())
            parallelize_module(layer, world["tp"], plan | {"o_proj": RowwiseParallel()})
    if way in ("tp", "fsdp"):
        for layer in model.layers:  # type: ignore[union-attr]
            fully_shard(layer, mesh=cp)
        fully_shard(model, mesh=cp)
    run = torch.compile(model, fullgraph=True, backend="aot_eager") if way == "compiled" else model
    # The mean over ranks of their sums, times the ranks, over the tokens of all.
    given = sharding.shard(ids, 1), sharding.shard(labels, 1, fill=-100)
    its = steps(run, *given, cp.size() / LENGTH, way not in ("tp", "fsdp"))  # type: ignore[arg-type]
    mean = torch.tensor(its, dtype=torch.float64)
    dist.all_reduce(mean)
    assert (mean / 4).tolist() == pytest.approx(truth, rel=1e-9)
    for (name, mine), other in zip(model.named_parameters(), alone.parameters(), strict=True):
        whole = mine.full_tensor() if isinstance(mine, DTensor) else mine
        torch.testing.assert_close(whole, other, rtol=1e-8, atol=1e-8, msg=name)


@pytest.mark.parametrize("way", ["plain", "fsdp", "tp", "checkpointed", "compiled"])
def test_training_steps_equal_those_of_one_process(four: ranks.Ranks, way: str) -> None:
    four.run(check_training, way)


def check_other_ways() -> None:
    layout = bslang.compile(SPECS[1], block=8, target="torch")
    sharding = shard_sequence(layout, 100, mesh(4), heads=4, key_heads=2)
    attention, whole = context_parallel(layout, sharding), tensors(100, dtype=torch.float32)[:3]
    q, k, v = (sharding.shard(x, 2) for x in whole)
    with torch.autocast("cpu", torch.bfloat16):
        out, truth = attention(q, k, v), layout(*whole)
    assert out.dtype == torch.bfloat16
    close([sharding.unshard(out, 2)], [truth], 3e-2)
    with torch.inference_mode():
        close([sharding.unshard(attention(q, k, v), 2)], [layout(*whole)], 1e-5)

    none = [x[:0].requires_grad_() for x in (q, k, v)]
    attention(*none).sum().backward()
    assert all(x.grad is not None and x.grad.shape == x.shape for x in none)

    leaf = q.requires_grad_()
    (first,) = torch.autograd.grad(attention(leaf, k, v).sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivatives over several processes"):
        first.sum().backward()


def test_other_ways_to_call(four: ranks.Ranks) -> None:
    four.run(check_other_ways)


# ---- DTensors ----------------------------------------------------------------------------------------


def check_dtensors() -> None:
    """Heads over one dimension of a mesh, the sequence over the other, and a layout that knows its heads."""
    layout = bslang.compile(SPECS[3], block=8, target="torch")
    world, given = mesh(2, 2), tensors(100)
    sharding = shard_sequence(layout, 100, world["cp"], heads=4, key_heads=2)
    attention, head = context_parallel(layout, sharding), world["tp"].get_local_rank()
    leaves = []
    for x in given[:3]:
        mine = sharding.shard(x, 2).chunk(2, 1)[head].contiguous()
        leaves.append(DTensor.from_local(mine, world, [Shard(2), Shard(1)]).requires_grad_())
    out, lse = attention(*leaves, return_lse=True)
    assert isinstance(out, DTensor) and out.placements == (Shard(2), Shard(1))
    grads = [sharding.shard(x, 2).chunk(2, 1)[head].contiguous() for x in given[3:]]
    torch.autograd.backward((out.to_local(), lse.to_local()), grads)
    parts = [out.detach(), lse.detach(), *(leaf.grad for leaf in leaves)]
    close([sharding.unshard(x, 2) for x in parts], one(layout, given))  # type: ignore[arg-type]

    for placements, message in (
        ([Shard(1), Shard(2)], r"must be Shard\(2\), not"),
        ([Shard(2), Shard(0)], r"Shard\(1\) over one other"),
        ([Replicate(), Shard(1)], r"must be Shard\(2\), not"),
    ):
        wrong = [DTensor.from_local(x.to_local(), world, placements) for x in leaves]
        with pytest.raises(ValueError, match=message):
            attention(*wrong)
    with pytest.raises(TypeError, match="must all be DTensors, or none"):
        attention(leaves[0], leaves[1].to_local(), leaves[2])


def test_dtensors_go_in_and_out(four: ranks.Ranks) -> None:
    four.run(check_dtensors)


def check_ulysses() -> None:
    """Heads in the place of the length, around a layout that knows nothing of it."""
    layout = bslang.compile(SPECS[1], block=8, target="torch")
    cp, given = mesh(4), tensors(64, heads=(4, 4))
    leaves = [
        DTensor.from_local(x.chunk(4, 2)[cp.get_local_rank()], cp, [Shard(2)]) for x in given[:3]
    ]
    leaves = [x.requires_grad_() for x in leaves]
    heads = [x.redistribute(cp, [Shard(1)]).to_local() for x in leaves]
    out = DTensor.from_local(layout(*heads, first_head=cp.get_local_rank()), cp, [Shard(1)])
    out = out.redistribute(cp, [Shard(2)])
    out.to_local().backward(given[3].chunk(4, 2)[cp.get_local_rank()])
    truth = one(layout, [*given[:4], torch.zeros_like(given[4])])
    found = [out, *(leaf.grad for leaf in leaves)]
    for mine, other in zip(found, (truth[0], *truth[2:]), strict=True):
        assert torch.equal(mine.full_tensor().detach(), other)  # type: ignore[union-attr]


def test_heads_in_the_place_of_the_length(four: ranks.Ranks) -> None:
    four.run(check_ulysses)


# ---- what ranks say, and errors ----------------------------------------------------------------------


def check_disagreement() -> None:
    layout = bslang.compile("last(20t) & causal", block=8, target="torch")
    other = bslang.compile("last(21t) & causal", block=8, target="torch")
    sharding, rank = shard_sequence(layout, 64, mesh(4)), mesh(4).get_local_rank()
    q = torch.zeros(1, 2, sharding.local_len, 8)
    with pytest.raises(BslangError, match=r"ranks 0 and 2 .* the layout is block 8x8; .*20.*21"):
        context_parallel(other if rank == 2 else layout, sharding)(q, q, q)
    with pytest.raises(
        BslangError, match=r"ranks 0 and 3 .* the dtype is torch.float32 there, and torch.bf"
    ):
        x = q.bfloat16() if rank == 3 else q
        context_parallel(layout, sharding)(x, x, x)
    with pytest.raises(BslangError, match=r"query heads .* \(1, 2, 2\) there, and \(1, 1, 1\)"):
        x = q[:, :1] if rank == 1 else q
        context_parallel(layout, sharding)(x, x, x)
    with pytest.raises(BslangError, match=r"ranks 0 and 1 .* the length is 64 there, and 63 here"):
        its = shard_sequence(layout, 63, mesh(4)) if rank == 1 else sharding
        context_parallel(layout, its)(q, q, q)
    with pytest.MonkeyPatch.context() as patch:
        if rank == 1:
            patch.setattr("bslang.distributed.agree.__version__", "9.9")
        with pytest.raises(BslangError, match=r"ranks 0 and 1 .* bslang is .* and 9\.9"):
            context_parallel(layout, sharding)(q, q, q)
    assert context_parallel(layout, sharding)(q, q, q).shape == q.shape  # all is as it was
    with pytest.raises(BslangError, match=r"ranks 0 and 2 .* the layout is block 8x8; .*20.*21"):
        context_parallel(other if rank == 2 else layout, sharding)(
            q, q, q
        )  # after a call that agreed


def test_ranks_that_disagree_all_say_so(four: ranks.Ranks) -> None:
    four.run(check_disagreement)


def check_shards() -> None:
    sharding = shard_sequence("causal", 100, mesh(4))
    x = torch.randn(2, 100, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    mine = sharding.shard(x, 1, fill=7)
    assert mine.shape == (2, sharding.local_len, 3)
    assert (mine[:, ~sharding.valid] == 7).all()
    assert torch.equal(mine[:, sharding.valid], x[:, sharding.positions[sharding.valid]])
    whole = sharding.unshard(mine, 1)
    assert torch.equal(whole, x)
    weights = torch.randn(2, 100, 3, generator=torch.Generator().manual_seed(1))
    (whole * weights).sum().backward()
    own = torch.zeros(100, dtype=torch.bool).index_fill(0, sharding.positions[sharding.valid], True)
    assert torch.equal(x.grad, weights * own[:, None])  # type: ignore[arg-type]
    for given, dim in ((x, 0), (mine, 1)):
        with pytest.raises(ValueError, match="must have the 100 tokens of the sequence"):
            sharding.shard(given, dim)
    with pytest.raises(ValueError, match="places of a shard"):
        sharding.unshard(x, 1)


def test_shards_are_cut_and_put_together(four: ranks.Ranks) -> None:
    four.run(check_shards)


# ---- transformers ------------------------------------------------------------------------------------


def check_transformers() -> None:
    from small_models import SPARSE, model, tokens

    from bslang.integrations.transformers import attach, shards

    layout = bslang.compile(SPARSE, block=8, target="torch")
    ids = tokens(2, 37)
    labels = ids.masked_fill(torch.arange(37) < torch.tensor([[0], [9]]), -100)
    alone = model().double()
    attach(alone, layout)
    truth = alone(ids, labels=labels, use_cache=False)
    truth.loss.backward()

    sharding = shard_sequence(layout, 37, mesh(4), heads=4, key_heads=2)
    made = model().double()
    attach(made, layout, sharding=sharding)
    given = shards(sharding, ids, labels)
    found = made(**given, use_cache=False)
    torch.testing.assert_close(sharding.unshard(found.logits, 1), truth.logits)
    found.loss.backward()
    loss = found.loss.detach().clone()
    dist.all_reduce(loss)
    torch.testing.assert_close(loss / 4, truth.loss)
    for mine, other in zip(made.parameters(), alone.parameters(), strict=True):
        dist.all_reduce(mine.grad)
        torch.testing.assert_close(mine.grad / 4, other.grad)

    with pytest.raises(ValueError, match="call the model with the position_ids of its sharding"):
        made(given["input_ids"], use_cache=False)
    with pytest.raises(ValueError, match="takes no attention_mask"):
        mask = torch.arange(sharding.local_len).expand(2, -1) > 2
        made(**given, attention_mask=mask.long(), use_cache=False)


def test_a_model_of_transformers_over_ranks(four: ranks.Ranks) -> None:
    pytest.importorskip("transformers")
    four.run(check_transformers)


# ---- the page ----------------------------------------------------------------------------------------


def check_page(blocks: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLD_SIZE", str(dist.get_world_size()))
        names: dict[str, Any] = {}
        for block in blocks:  # C++ is built in tests/test_docs.py
            exec(block.replace("block=64)", "block=64, target='torch')"), names)
    assert names["ranks"] == 4 and names["loss"].isfinite()


def test_the_programs_of_the_page(four: ranks.Ranks) -> None:
    """On four ranks; tests/test_docs.py runs them on one."""
    page = Path(__file__).parent.parent / "docs" / "distributed.md"
    text = page.read_text(encoding="utf-8")
    four.run(check_page, re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
