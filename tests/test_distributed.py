"""Context parallelism on simulated ranks: the same results as one process, the bytes that were planned."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from simulated import World, one, tensors
from strategies import Case, cases, examples

import bslang
from bslang.distributed import Sharding, context_parallel, shard_sequence
from bslang.errors import BuildError
from bslang.inputs import KEYS, QUERIES, ROW
from bslang.layouts import layout_of
from bslang.nn import (
    BlockSparseAttention,
    BlockSparseEncoderLayer,
    KVCache,
    MultiheadAttention,
)
from bslang.placement.placement import Placement, common_block
from bslang.runtime.cpu import build

NAMES = ("out", "lse", "dq", "dk", "dv")


def close(found: list[torch.Tensor], truth: list[torch.Tensor], tolerance: float) -> None:
    for name, mine, other in zip(NAMES, found, truth, strict=True):
        torch.testing.assert_close(
            mine,
            other,
            rtol=tolerance,
            atol=tolerance,
            msg=lambda text, name=name: f"{name}: {text}",
        )


@st.composite
def worlds(draw: st.DrawFn, case: Case) -> World:
    """Ranks with blocks in any order, of which some may have none, and any exchange."""
    ranks, block = draw(st.integers(1, 8)), common_block(case.block)
    blocks = -(-case.len_k // block)
    per = -(-blocks // ranks)
    order = draw(st.permutations(range(ranks * per)))
    owner = np.array(order[:blocks], dtype=np.int64) // per
    placement = Placement(owner, ranks, block, case.len_k)
    kind = draw(st.sampled_from(("exchange", "exchange", "gather", None)))
    rows = st.sets(st.integers(0, case.grid.n - 1), max_size=case.grid.n)
    return World(placement, kind, tuple(sorted(draw(rows))) if draw(st.booleans()) else ())


@examples(20)
@given(st.data())
def test_any_program_on_any_ranks(data: st.DataObject) -> None:
    """In fp64, so that a block too few or too many is seen."""
    case = data.draw(cases(labels=data.draw(st.booleans())))
    assume(case.len_q == case.len_k and case.align == "end" and case.has_meaning(4))
    assume(not case.inputs.selections)
    world = data.draw(worlds(case))
    layout = layout_of(case.resolved, ("torch",))
    dims = data.draw(st.sampled_from(((8, 8), (8, 5), (4, 12))))
    heads = data.draw(st.sampled_from(((4, 2), (4, 1), (2, 2))))
    batch, keep = data.draw(st.sampled_from((1, 2))), data.draw(st.booleans())
    given_ = tensors(case.len_k, heads, dims, batch)
    options: dict[str, Any] = {}
    if case.inputs.labels:
        options["labels"] = labels_of(case, batch)
        if data.draw(st.booleans()):
            world = replace(world, labels=options["labels"])
    if data.draw(st.booleans()):
        options["softcap"] = 2.0
    if data.draw(st.booleans()):
        options["sinks"] = torch.linspace(-1, 1, heads[0], dtype=torch.float64)
    if data.draw(st.integers(0, 3)) == 0:
        options["key_padding"] = (
            torch.arange(case.len_k) >= torch.tensor([[case.len_k], [1]])[:batch]
        )
    truth = one(layout, given_, **options)
    found = world.attended(layout, given_, keep=keep, **options)
    close(found.results, truth, 1e-9)
    if not found.exchange.spread.size:  # whose log-sum-exps are planned as fp32
        found.bytes_are_planned(given_[0], given_[2], keep)


def labels_of(case: Case, batch: int) -> dict[str, Any]:
    """The labels of a call."""
    found: dict[str, Any] = {}
    for label in case.inputs.labels:
        of_q, of_k = map(torch.from_numpy, case.labels[label.name])
        both = of_q[:1].expand(batch) if label.sides == ROW else (of_q, of_k)
        found[label.name] = {QUERIES: of_q, KEYS: of_k}.get(label.sides, both)
    return found


CASES = {
    "window": "last(100t) & causal",
    "bigbird": "window(3) | global(0, -1) | random(2, seed=7)",
    "dense": "causal",
    "heads": "heads { 0 -> last(60t) & causal; 1 -> strided(5) & causal; 2: -> rows(3) | window(3) }",
    "gaps": "random(1, seed=3) - causal",
    "order": "order tiles(5, 10, 10; 2, 4, 4)\ngrid(5t, 10t, 10t, radius=2)",
}


SOME = [("window", 1), ("bigbird", 8), ("heads", 50)]


@pytest.mark.parametrize(("name", "ranks"), [*((name, 4) for name in CASES), *SOME])
def test_the_exchange_that_is_chosen(name: str, ranks: int) -> None:
    layout = bslang.compile(CASES[name], block=16, target="torch")
    world = World(Placement.contiguous(500, 16, ranks))
    given_ = tensors(500, dtype=torch.float32)
    found = world.attended(layout, given_)
    close(found.results, one(layout, given_), 1e-4)
    found.bytes_are_planned(given_[0], given_[2], keep=True)


@pytest.fixture(scope="module")
def built() -> None:
    try:
        build.find_compiler()
    except BuildError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("name", ["bigbird", "heads", "dense"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kept_rows_have_the_bits_of_one_process(name: str, dtype: torch.dtype) -> None:
    """Out, log-sum-exp and dQ of queries whose keys one rank sees; and all have them again."""
    layout = bslang.compile(CASES[name], block=16, target="cpu")
    world = World(Placement.contiguous(500, 16, 4))
    given_ = tensors(500, dtype=dtype)
    found = world.attended(layout, given_)
    kept = found.kept()
    assert 0 < kept.sum() <= 500
    truth = one(layout, given_)
    for mine, other in zip(found.results[:3], truth[:3], strict=True):
        assert torch.equal(mine[:, :, kept], other[:, :, kept])
    again = world.attended(layout, given_, keep=False)
    for mine, other in zip(again.results, found.results, strict=True):
        assert torch.equal(mine, other)


def check_triton() -> None:
    """A layout whose heads differ: the bits of one process, and spread rows but for rounding."""
    spec = "heads { 0 -> last(20t) & causal; 1: -> cols(0) }"
    layout = bslang.compile(spec, block=16, target="triton")
    given_ = tensors(90, (2, 2), (16, 16), dtype=torch.float32)
    world = World(Placement.contiguous(90, 16, 3), "exchange", (1,))
    found, truth = world.attended(layout, given_), one(layout, given_)
    close(found.results, truth, 1e-5)
    kept = found.kept()
    for mine, other in zip(found.results[:3], truth[:3], strict=True):
        assert torch.equal(mine[:, :, kept], other[:, :, kept])


def test_kernels_of_triton(interpreting: Executor) -> None:
    interpreting.submit(check_triton).result()


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("reduce", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["bigbird", "dense"])
def test_errors_are_those_of_one_process(name: str, reduce: torch.dtype) -> None:
    layout, exact = (
        bslang.compile(CASES[name], block=16, target=target) for target in ("cpu", "torch")
    )
    given_ = tensors(1000, dtype=torch.bfloat16)
    truth = one(exact, [x.double() for x in given_])
    world = World(Placement.contiguous(1000, 16, 8))
    results = one(layout, given_), world.attended(layout, given_, reduce=reduce).results
    allowed = 1.1 if reduce == torch.float32 else 1.5
    for alone, mine, other in zip(*results, truth, strict=True):
        before, after = ((x.double() - other).pow(2).mean().sqrt() for x in (alone, mine))
        assert after <= allowed * before


@pytest.mark.parametrize("kind", ["exchange", "gather"])
def test_a_wrong_set_of_blocks_is_noticed(kind: Any) -> None:
    """The comparison itself: a rank that lacks one block it needs."""
    layout = bslang.compile("last(40t) & causal", block=16, target="torch")
    world = World(Placement.contiguous(128, 16, 4), kind)
    given_ = tensors(128)
    found = world.attended(layout, given_)
    job = found.jobs[2]
    pool = job.plan.tables(1).pool
    column = int(job.plan.part.far[0]) - 1
    pool[:, :, column] = pool[:, :, column + 1]
    again = world.attended(layout, given_)
    with pytest.raises(AssertionError):
        close(again.results, one(layout, given_), 1e-9)


def test_shardings_of_batches_with_one_placement_are_told_apart() -> None:
    layout = bslang.compile("same(doc) & causal", block=16, target="torch")
    given_, placement = tensors(128), Placement.contiguous(128, 16, 4)
    docs = [{"doc": torch.arange(128) // size} for size in (128, 16)]
    worlds = [World(placement, labels=each) for each in docs]
    assert worlds[0].shardings[0].key != worlds[1].shardings[0].key
    for world, labels in zip(worlds, docs, strict=True):
        found = world.attended(layout, given_, labels=labels)
        close(found.results, one(layout, given_, labels=labels), 1e-9)


def test_documents_of_a_batch_fetch_less() -> None:
    layout = bslang.compile("same(doc) & causal", block=16, target="torch")
    given_ = tensors(512, batch=2)
    doc = torch.stack((torch.arange(512) // 130, torch.arange(512) // 200))
    placement = Placement.contiguous(512, 16, 4)
    truth = one(layout, given_, labels={"doc": doc})
    sent = []
    for labels in (None, {"doc": doc}):
        world = World(placement, labels=labels)
        found = world.attended(layout, given_, labels={"doc": doc})
        close(found.results, truth, 1e-9)
        sent.append(sum(found.sent[0]))
    assert sent[1] < sent[0] / 2


@pytest.mark.parametrize("kind", ["exchange", "gather"])
def test_tokens_in_an_order_of_their_own(kind: Any) -> None:
    """Shards are cut of what `permute` gives."""
    text = "order tiles(6, 8, 8; 2, 4, 4)\ngrid(6t, 8t, 8t, radius=1)"
    layout, given_ = bslang.compile(text, block=16, target="torch"), tensors(384)
    world = World(Placement.contiguous(384, 16, 4), kind, (1, 5))
    close(world.attended(layout, given_).results, one(layout, given_), 1e-9)


def a_sharding(length: int = 64) -> Sharding:
    return Sharding(Placement.contiguous(length, 16, 4), 1, "")


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "select": ({"select": torch.ones(1, 1, 4, 4).bool()}, "takes no `select`: selections are"),
    "lengths": ({"lengths": torch.tensor([3])}, "takes no `lengths`: .* pass key_padding"),
    "pages": ({"pages": torch.zeros(1, 4).int()}, "takes no `pages`"),
    "align": ({"align": "start"}, 'align="start" is for keys of another sequence'),
    "no align": ({"align": "foo"}, 'align must be "end" or "start"'),
    "labels": ({"labels": torch.zeros(64)}, "has no labels"),
    "padding": ({"key_padding": torch.zeros(1, 16).bool()}, r"key_padding must be bool \(1, 64\)"),
    "sinks": ({"sinks": torch.zeros(3)}, r"sinks must have shape \(2,\)"),
    "unknown": ({"window_size": 3}, "unexpected option 'window_size'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_options_that_are_refused(name: str) -> None:
    layout = bslang.compile("causal", block=16, target="torch")
    options, message = WRONG[name]
    q = torch.zeros(1, 2, 16, 8)
    with pytest.raises((TypeError, ValueError), match=message):
        context_parallel(layout, a_sharding())(q, q, q, **options)


def test_tensors_and_layouts_that_are_refused() -> None:
    layout, sharding = bslang.compile("causal", block=16, target="torch"), a_sharding()
    attention, q = context_parallel(layout, sharding), torch.zeros(1, 2, 16, 8)
    with pytest.raises(ValueError, match=r"q must be shards of 16 tokens.*\(1, 2, 64, 8\)"):
        attention(q.repeat(1, 1, 4, 1), q, q)
    with pytest.raises(ValueError, match="both have one"):
        attention(q.repeat(2, 1, 1, 1), q, q)
    with pytest.raises(ValueError, match="the sharding was made for a batch"):
        labels = {"doc": torch.zeros(64, dtype=torch.int64)}
        its = Sharding(sharding.placement, 1, "", labels)
        of_doc = bslang.compile("same(doc)", block=16, target="torch")
        context_parallel(of_doc, its)(q, q, q, labels=labels)
    for given_, message in (
        (("select(pick)", sharding), "has selections .pick., which are not supported over several"),
        ((bslang.compile("causal", block=32), sharding), "blocks of 32x32 tokens .* by 16 tokens"),
        ((layout, 3), "must be what shard_sequence returns, not int"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            context_parallel(*given_)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="reduce_dtype must be"):
        context_parallel(layout, sharding, reduce_dtype=torch.float16)
    with pytest.raises(TypeError, match="keep must be True, False or None, not 'yes'"):
        context_parallel(layout, sharding, keep="yes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"q has 2 heads, the sharding was made for 4.*first_head"):
        its = Sharding(sharding.placement, 1, "", heads=4)
        context_parallel(bslang.compile("last(head + 1)", block=16, target="torch"), its)(q, q, q)
    with pytest.raises(RuntimeError, match="vmap over a sequence on several ranks"):
        torch.func.vmap(attention)(q[None], q[None], q[None])
    with pytest.raises(TypeError, match="save the state_dict"):
        pickle.dumps(attention)
    assert copy.deepcopy(attention) is attention


def test_arguments_of_shard_sequence() -> None:
    for given_, message in (
        (([], 64, None), "needs a layout"),
        (("causal", 0, None), "seq_len must be an integer of at least 1, not 0"),
        (("causal", 64, None), "a DeviceMesh of one dimension or a process group, not NoneType"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            shard_sequence(*given_)  # type: ignore[arg-type]
    for options, message in (
        ({"key_heads": 2}, "pass heads as well"),
        ({"labels": {"doc": torch.zeros(64)}}, "these read none"),
    ):
        with pytest.raises(ValueError, match=message):
            shard_sequence("causal", 64, None, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no layout reads the label 'dok'; they read doc"):
        shard_sequence("same(doc)", 64, None, labels={"dok": torch.zeros(64)})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"has selections .pick."):
        shard_sequence("select(pick)", 64, None)  # type: ignore[arg-type]


def test_modules_take_the_attention_of_a_sharding() -> None:
    layout = bslang.compile("causal", block=16, target="torch")
    attention = context_parallel(layout, a_sharding())
    for module in (
        BlockSparseAttention(32, 2, attention),
        MultiheadAttention(32, 2, attention),
        BlockSparseEncoderLayer(32, 2, attention).self_attn,
    ):
        assert module.layout is layout and "layout='causal'" in repr(module)
    with pytest.raises(ValueError, match="a sharded sequence has no cache"):
        BlockSparseAttention(32, 2, attention)(torch.zeros(1, 16, 32), cache=KVCache())
    whole, x = BlockSparseAttention(32, 2, layout, rotary=10_000), torch.randn(1, 16, 32)
    torch.testing.assert_close(whole(x, positions=torch.arange(16)), whole(x))
    torch.testing.assert_close(whole(x, positions=torch.arange(16)[None] + 5), whole(x))
    assert not torch.allclose(whole(x, positions=torch.arange(16) * 2), whole(x))
