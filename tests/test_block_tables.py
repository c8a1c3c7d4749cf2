"""`pages`: keys and values in a pool, found by the block tables of a serving engine."""

from __future__ import annotations

import pickle
import re
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

import pytest
import torch
from calls import Call
from hypothesis import assume, given
from reference import inputs
from strategies import examples, programs
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

import bslang
from bslang import layouts
from bslang.errors import BslangError
from bslang.runtime.capacity import capacity

Tensor = torch.Tensor

SPEC = "(last(20t) | cols(0:4t)) & causal"
CALLS = [
    (Call(SPEC, (8, 8), 1, 61, batch=4), 16, False),  # decoding: heads of a key head in one tile
    (Call("causal", (16, 16), 7, 61, batch=4), 48, False),
    (Call("causal", (16, 16), 40, 40, batch=4, key_heads=1), 16, False),
    (Call("last(head * 7t + 3t)", (8, 8), 3, 61, batch=4), 32, True),
    (Call("same(doc) & causal", (16, 16), 12, 61, batch=4), 16, False),
]
TARGETS = ("torch", "cpu")


def lengths_of(call: Call) -> Tensor:
    """A row without keys, one with fewer than queries, one between, one with all."""
    n = call.len_k
    return torch.tensor([0, min(call.len_q, n) // 2 + 1, n // 2 + 3, n])[: call.batch]


def paged(
    k: Tensor, v: Tensor, lengths: Tensor, size: int, by_head: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Pools of keys and values (batch, key heads, length, dim), and the pages of each row in these, in any
    order: -1 after the end of a row, and NaN where there is nothing of one."""
    batch, heads, length = k.shape[:3]
    columns = -(-length // size)
    groups = heads if by_head else 1
    needed = (-(-lengths // size))[:, None, None] > torch.arange(columns)
    generator = torch.Generator().manual_seed(length)
    pages = torch.randperm(batch * groups * columns + 3, generator=generator)
    pages = pages[: batch * groups * columns].view(batch, groups, columns)
    pages = pages.where(needed, -1).int()
    pools = []
    for x in (k, v):
        pool = x.new_full(
            (batch * groups * columns + 3, heads // groups, size, x.shape[3]), torch.nan
        )
        for row, keys in enumerate(lengths.tolist()):
            for start in range(0, keys, size):
                part = x[row, :, start : min(start + size, keys)].unflatten(0, (groups, -1))
                pool[pages[row, :, start // size].long(), :, : part.shape[2]] = part
        pools.append(pool.expand(-1, heads, -1, -1))
    return *pools, (pages if by_head else pages[:, 0])  # type: ignore[return-value]  # two pools


def check(target: str, call: Call, size: int, by_head: bool, **options: Any) -> None:
    """Results have the bits of those of keys in one piece."""
    layout, lengths, given = call.layout(target), lengths_of(call), call.inputs()
    k, v, pages = paged(given.k, given.v, lengths, size, by_head)
    columns = pages.shape[-1] * size
    short = (0, 0, 0, columns - call.len_k)
    whole = [nn.functional.pad(x, short) for x in (given.k, given.v)]
    labels = call.labels()
    if labels is not None:
        labels = {name: nn.functional.pad(x, short[2:]) for name, x in labels.items()}  # type: ignore[arg-type]  # of keys
    options = {"lengths": lengths.int(), "labels": labels, "return_lse": True, **options}
    for strides in (lambda x: x, lambda x: x.transpose(1, 2).contiguous().transpose(1, 2)):
        found = layout(given.q, strides(k), strides(v), pages=pages, **options)
        assert all(map(torch.equal, found, layout(given.q, *whole, **options)))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", CALLS, ids=lambda case: case[0].spec)
def test_results(target: str, case: tuple[Call, int, bool]) -> None:
    check(target, *case)


def test_interpreted(interpreting: Executor) -> None:
    """The triton target, with pages of key heads."""
    interpreting.submit(check, "triton", Call(SPEC, (8, 8), 1, 30, batch=3), 16, True).result()
    interpreting.submit(test_a_page_that_is_not_there_is_nobody_elses, "triton").result()


@pytest.mark.parametrize("target", TARGETS)
def test_with_other_options(target: str) -> None:
    check(target, *CALLS[0], sinks=torch.arange(4) - 2.0, softcap=2.0, scale=0.1)


@examples(10)
@given(programs())
def test_random_programs(spec: str) -> None:
    call = Call(f"({spec}) & causal", (4, 4), 5, 24, batch=2, heads=2, key_heads=1)
    try:
        assume(call.layout("torch").prefix_stable(capacity(32), 2).holds)
    except BslangError:
        assume(False)
    check("torch", call, 16, False)


@pytest.mark.parametrize("target", TARGETS)
def test_rows_share_the_pages_of_a_prefix(target: str) -> None:
    layout, given = Call(SPEC).layout(target), inputs(1, 60, batch=1)
    k, v, pages = paged(given.k, given.v, torch.tensor([60]), 16)
    q = given.q.expand(3, -1, -1, -1)
    lengths = torch.tensor([60, 33, 48])
    out = layout(q, k, v, pages=pages.expand(3, -1), lengths=lengths)
    for row, keys in enumerate(lengths.tolist()):
        alone = layout(given.q, given.k[:, :, :keys], given.v[:, :, :keys])
        torch.testing.assert_close(out[row : row + 1], alone)


@pytest.mark.parametrize("target", TARGETS)
@torch.no_grad()
def test_one_length_of_all_rows(target: str) -> None:
    """The bits of a call without pages, of any layout; in a traced program as lengths of rows."""
    for spec, block, queries in ((SPEC, 8, 1), (SPEC, 8, 33), ("window(3) | cols(0, -1)", 16, 61)):
        layout = bslang.compile(spec, block=block, target=target)
        given = inputs(61, 61, batch=2)
        k, v, pages = paged(given.k, given.v, torch.tensor([61, 61]), 16)
        q = given.q[:, :, -queries:]
        room = torch.nn.functional.pad(pages, (0, 3), value=-1)
        assert torch.equal(layout(q, k, v, pages=room, lengths=61), layout(q, given.k, given.v))
    stable = bslang.compile(SPEC, block=8, target=target)
    labelled = bslang.compile(f"same(doc) & {SPEC}", block=8, target=target)
    labels = torch.arange(61) // 20
    wanted = labelled(q, given.k, given.v, labels=labels)
    assert torch.equal(labelled(q, k, v, pages=pages, lengths=61, labels=labels), wanted)
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(stable, fullgraph=True, backend=counter, dynamic=True)
    for keys in (61, 50, 33):
        found = compiled(q[:, :, :2], k, v, pages=pages, lengths=keys)
        wanted = stable(q[:, :, :2], given.k[:, :, :keys], given.v[:, :, :keys])
        torch.testing.assert_close(found, wanted)
    assert counter.frame_count == 1


@pytest.mark.parametrize("target", TARGETS)
def test_a_page_that_is_not_there_is_nobody_elses(target: str) -> None:
    """Not read: as if nothing were missing. Read: NaN, in that row alone."""
    layout, given = Call(SPEC, (8, 8)).layout(target), inputs(1, 60, batch=2)
    lengths = torch.tensor([60, 60])
    k, v, pages = paged(given.k, given.v, lengths, 16)
    wanted = layout(given.q, k, v, pages=pages, lengths=lengths)
    pages[0, 1] = -1  # keys 16 to 31: the window begins at 40
    assert torch.equal(layout(given.q, k, v, pages=pages, lengths=lengths), wanted)
    pages[0, 2] = -1
    out = layout(given.q, k, v, pages=pages, lengths=lengths)
    assert out[0].isnan().all() and torch.equal(out[1], wanted[1])


def test_without_pages_rows_and_queries() -> None:
    for target in TARGETS:
        layout = Call(SPEC).layout(target)
        for batch, len_q, columns, pages in [
            (0, 3, 2, 4),
            (2, 0, 2, 4),
            (2, 3, 0, 4),
            (2, 3, 2, 0),
        ]:
            out, lse = layout(
                torch.randn(batch, 4, len_q, 16), *torch.randn(2, pages, 2, 16, 16), return_lse=True,
                pages=torch.full((batch, columns), -1, dtype=torch.int32),
                lengths=torch.zeros(batch, dtype=torch.int64),
            )  # fmt: skip
            assert (
                out.shape == (batch, 4, len_q, 16) and not out.any() and (lse == -torch.inf).all()
            )


# ---- entries -------------------------------------------------------------------------------------


class Attends(nn.Module):
    def __init__(self, target: str) -> None:
        super().__init__()
        self.layout = bslang.compile(SPEC, block=8, target=target)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, pages: Tensor, lengths: Tensor) -> Tensor:
        return self.layout(q, k, v, pages=pages, lengths=lengths)


@pytest.mark.parametrize("target", TARGETS)
@torch.no_grad()
def test_compiled_exported_and_pickled(target: str) -> None:
    module, call = Attends(target), CALLS[0][0]
    given, lengths = call.inputs(), lengths_of(call)
    k, v, pages = paged(given.k, given.v, lengths, 16)
    truth = module(given.q, k, v, pages, lengths)
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(module, fullgraph=True, backend=counter)
    assert torch.equal(compiled(given.q, k, v, pages, lengths), truth)
    for less in (5, 20):
        others = (lengths - less).clamp_min(0)
        wanted = module(given.q, k, v, pages, others)
        assert torch.equal(compiled(given.q, k, v, pages, others), wanted)
    assert counter.frame_count == 1
    program = torch.export.export(module, (given.q, k, v, pages, lengths)).module()
    assert torch.equal(program(given.q, k, v, pages, lengths), truth)
    again = pickle.loads(pickle.dumps(module))
    assert torch.equal(again(given.q, k, v, pages, lengths), truth)
    with pytest.raises(
        (ValueError, RuntimeError), match="pages must be numbers of pages of k and v"
    ):
        compiled(given.q, k, v, pages + 1000, lengths)


def test_other_entries() -> None:
    call, lengths = CALLS[0][0], lengths_of(CALLS[0][0])
    given, layout = call.inputs(), call.layout("torch")
    k, v, pages = paged(given.k, given.v, lengths, 16)
    options = {"pages": pages, "lengths": lengths}
    wanted = layout(given.q, k, v, **options)
    module = layouts.module(layout._resolved, ("torch",))
    assert torch.equal(module.attention(given.q, k, v, **options), wanted)
    assert torch.equal(bslang.attention(given.q, k, v, layout, **options), wanted)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(
            layout(given.q, k, v, **options).float(), wanted, atol=2e-2, rtol=2e-2
        )
    with pytest.raises(TypeError, match="no `pages`: cu_seqlens"):
        layout.packed(given.q[:1], given.k[:1], given.v[:1], [0, 1], [0, 61], pages=pages)


# ---- what is refused -----------------------------------------------------------------------------

TABLE = torch.zeros(2, 3, dtype=torch.int32)
REFUSED: dict[str, dict[str, Any]] = {
    "pages must be a torch.Tensor, not list": {"pages": [[0]]},
    "pages must be int32, not torch.int64": {"pages": TABLE.long()},
    "on the device of the tensors, cpu, not meta": {"pages": TABLE.to("meta")},
    "(2, columns) or, where key heads have pages of their own, (2, 2, columns); their shape is (3, 3)": {
        "pages": torch.zeros(3, 3, dtype=torch.int32)
    },
    "their shape is (2, 4, 3)": {"pages": TABLE[:, None].expand(2, 4, 3)},
    "their shape is (6,)": {"pages": TABLE.view(-1)},
    "pages must be numbers of pages of k and v, or -1 where there is none": {"pages": TABLE + 8},
    "or -1 where there is none": {"pages": TABLE - 2},
    "pages need lengths, the number of keys of each row": {"lengths": None},
    "leave out key_padding beside pages": {"key_padding": torch.tensor([3, 4])},
    "lengths must be from 0 to the number of keys": {"lengths": torch.tensor([3, 49])},
    'leave out align="start"': {"align": "start"},
    'the last of its keys: leave out align="start"': {"align": "start", "lengths": 40},
    "from the number of queries, 1, to that of the keys that the pages have room for, 48; got 49": {
        "lengths": 49
    },
    "48; got 0": {"lengths": 0},
    "lengths must be a torch.Tensor, not bool": {"lengths": True},
    "the page size is a multiple of 16 tokens: that of k is 8": {"k": 8, "v": 8},
    "pass k.transpose(1, 2), which copies nothing": {"k": 2, "v": 2},
    "k and v must have one number of pages, heads and page size": {"v": 32},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_refused(message: str) -> None:
    options = {"pages": TABLE, "lengths": torch.tensor([3, 40])} | REFUSED[message]
    k, v = (torch.randn(8, 2, options.pop(name, 16), 16) for name in "kv")
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        Call(SPEC).layout("torch")(torch.randn(2, 4, 1, 16), k, v, **options)


@pytest.mark.parametrize("name", ["block_tables", "block_table", "page_table", "kv_indices"])
def test_other_names_are_told_of_it(name: str) -> None:
    layout, given = Call(SPEC).layout("torch"), inputs(1, 40)
    with pytest.raises(TypeError, match=r"write pages, int32 \(batch, columns\), beside lengths"):
        layout(given.q, given.k, given.v, **{name: TABLE})


def test_gradients_are_refused() -> None:
    layout, given = Call(SPEC).layout("torch"), inputs(1, 32, batch=2)
    sinks = nn.Parameter(torch.zeros(given.q.shape[1]))
    options = {
        "pages": TABLE[:, :1] + torch.arange(2)[:, None].int(),
        "lengths": torch.tensor([3, 4]),
    }
    for tensors, more in (
        ((given.q.clone().requires_grad_(), given.k, given.v), {}),
        ((given.q, given.k, given.v.clone().requires_grad_()), {}),
        ((given.q, given.k, given.v), {"sinks": sinks}),
    ):
        with pytest.raises(RuntimeError, match=r"no gradients: call it under torch\.no_grad"):
            layout(*tensors, **options, **more)
        with torch.no_grad():
            layout(*tensors, **options, **more)


def test_layouts_that_depend_on_the_length_are_refused() -> None:
    layout, call = Call("window(3)").layout("torch"), replace(CALLS[0][0], len_k=32)
    given = call.inputs()
    with pytest.raises(ValueError, match=r"lengths: .* cannot be decoded"):
        layout(given.q, given.k, given.v, pages=torch.zeros(4, 2, dtype=torch.int32),
               lengths=torch.full((4,), 40))  # fmt: skip
