"""Rows of a batch that end at different places (`lengths`), and decoding with the tables of a capacity."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from calls import Call
from hypothesis import assume, given
from reference import TOLERANCE, agrees, inputs
from strategies import examples, programs
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

import bslang
from bslang import compiler
from bslang.errors import BslangError
from bslang.ir.runs import Bools
from bslang.nn import BlockSparseAttention, KVCache
from bslang.runtime.capacity import capacity

SPEC = "(last(20t) | cols(0:4t)) & causal"
CALLS = [
    Call(SPEC, (8, 8), 1, 61, batch=4),  # decoding: heads of a key head in one tile
    Call("causal", (16, 16), 7, 61, batch=4),
    Call("causal", (16, 16), 40, 40, batch=4, key_heads=1),
    Call("last(head * 7t + 3t)", (8, 8), 3, 61, batch=4),
    Call("same(doc) & causal", (16, 16), 12, 61, batch=4),
    Call("same(doc) & causal", (16, 16), 1, 61, "end", "shuffled", batch=4),
    Call(
        "every(3t) & causal - cols(0:9t)", (5, 3), 9, 50, batch=4, key_heads=4
    ),  # no keys at first
]
MORE = [
    Call("last(3) & causal", (8, 8), 40, 40, batch=4),
    Call("{q, k : (q - k) // 4 % 3 == head % 3} & causal", (16, 8), 20, 61, batch=4, key_heads=1),
    Call("same(a) & last(20t) | cols(0:2t) & causal", (16, 16), 1, 61, "end", "wide", batch=4),
    Call("last(9t) | heads { 0 -> causal; 1: -> none }", (8, 8), 5, 61, batch=4),
    Call("causal", (16, 16), 80, 61, batch=4),  # no row has as many keys
]
"""Of the torch target alone: the cpu target builds for seconds."""


def lengths_of(call: Call) -> torch.Tensor:
    """A row without keys, one with fewer than queries, one between, one with all."""
    n = call.len_k
    return torch.tensor([0, min(call.len_q, n) // 2 + 1, n // 2 + 3, n])[: call.batch]


def mask_of(call: Call, lengths: torch.Tensor) -> Bools:
    """The truth, from that of the square of all keys, row by row."""
    square = replace(call, len_q=call.len_k).mask()
    mask = np.zeros((*square.shape[:2], call.len_q, call.len_k), dtype=bool)
    for row, keys in enumerate(lengths.tolist()):
        queries = min(keys, call.len_q)
        first = call.len_q - queries
        mask[row, :, first:, :keys] = square[row, :, keys - queries : keys, :keys]
    return mask


def check(target: str, call: Call, sinks: bool = False, dtype: torch.dtype = torch.float32) -> None:
    """Results are those of each row by itself, whatever k and v hold beyond it."""
    lengths, given = lengths_of(call), call.inputs(dtype)
    for row, keys in enumerate(lengths.tolist()):
        given.k[row, :, keys:] = given.v[row, :, keys:] = 1e30
    logits = torch.arange(call.heads) - 2.0
    agrees(
        call.layout(target), given, mask_of(call, lengths), TOLERANCE[dtype], lengths=lengths.int(),
        labels=call.labels(), sinks=logits if sinks else None, softcap=2.0 if sinks else None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("target", "call"),
    [("cpu", call) for call in CALLS] + [("torch", call) for call in CALLS + MORE],
)
def test_results(target: str, call: Call) -> None:
    check(target, call)


@pytest.mark.parametrize("call", [CALLS[0], CALLS[4]], ids=["decoding", "labels"])
def test_with_sinks_and_a_cap(call: Call, on: Callable[..., None]) -> None:
    on(check, replace(call, batch=3, len_k=30), True)


@pytest.mark.parametrize("target", ["torch", "cpu"])
def test_with_other_options(target: str) -> None:
    check(target, CALLS[0], sinks=True)
    check(target, CALLS[4], sinks=True)
    check(target, CALLS[1], dtype=torch.bfloat16)


@examples(10)
@given(programs())
def test_random_programs(spec: str) -> None:
    call = Call(f"({spec}) & causal", (4, 4), 5, 24, batch=2, heads=2)
    try:
        layout = call.layout("torch")
        stable = layout.prefix_stable(capacity(24), 2).holds
    except BslangError:
        assume(False)
    assume(stable)
    check("torch", call)
    lower = replace(call, len_q=1, batch=1, key_heads=1)  # by the tables of the capacity as well
    lower.check("torch")


def test_labels_of_queries_may_be_given() -> None:
    layout = Call("same(doc) & causal", (8, 8)).layout("cpu")
    given, lengths = inputs(3, 40, batch=2), torch.tensor([40, 17])
    of_k = torch.arange(40).expand(2, 40) // 13
    of_q = torch.stack([of_k[row, end - 3 : end] for row, end in enumerate(lengths.tolist())])
    tensors = given.q, given.k, given.v
    wanted = layout(*tensors, labels=of_k, lengths=lengths)
    torch.testing.assert_close(
        layout(*tensors, labels=(of_q, of_k), lengths=lengths), wanted, rtol=0, atol=0
    )


# ---- decoding ------------------------------------------------------------------------------------


def test_a_step_at_a_new_length_lowers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Call(SPEC).layout("cpu")
    lowered: list[tuple[Any, ...]] = []
    lower = compiler.lower
    monkeypatch.setattr(compiler, "lower", lambda *a, **k: lowered.append(a) or lower(*a, **k))
    given = inputs(1, 700)
    most = capacity(560)
    with torch.no_grad():
        layout(given.q, given.k[:, :, :most], given.v[:, :, :most])
        lowered.clear()
        for length in range(most - 20, most + 1):
            out = layout(given.q, given.k[:, :, :length], given.v[:, :, :length])
            mask = layout.to_dense(1, length).numpy()
            assert lowered.pop() and not lowered  # that of the mask
            keys = np.flatnonzero(mask[0])
            seen = given.k[:, :, keys], given.v[:, :, keys]
            wanted = nn.functional.scaled_dot_product_attention(given.q, *seen, enable_gqa=True)
            torch.testing.assert_close(out, wanted)
        layout(given.q, given.k, given.v, lengths=torch.tensor([650]))
        lowered.clear()
        layout(given.q, given.k, given.v, lengths=torch.tensor([3]))
        assert not lowered
        layout._capacities._values.clear()
        layout._answers._values.clear()
        layout(given.q, given.k, given.v)
        assert lowered


def check_steps(target: str) -> None:
    """Every step of two block rows: what has left the cache holds NaN, and each result is that of dense
    attention."""
    layout, given = Call("last(37t) | cols(0:4t) & causal", (16, 16)).layout(target), inputs(1, 96)
    with torch.no_grad():
        for length in range(64, 97):
            kept = np.isin(np.arange(length) // 16, layout.reachable(length - 1, 96))
            k, v = given.k[:, :, :length].clone(), given.v[:, :, :length].clone()
            k[:, :, : length - 1][:, :, ~kept[:-1]] = v[:, :, : length - 1][:, :, ~kept[:-1]] = (
                torch.nan
            )
            out = layout(given.q, k, v)
            seen = np.flatnonzero(layout.to_dense(1, length)[0].numpy())
            wanted = nn.functional.scaled_dot_product_attention(
                given.q, k[:, :, seen], v[:, :, seen], enable_gqa=True
            )
            torch.testing.assert_close(out, wanted)


def test_steps_see_what_the_cache_holds(on: Callable[..., None]) -> None:
    on(check_steps)


def test_the_next_steps_have_the_tables_of_one() -> None:
    layout, given = Call("last(37t) | cols(0:4t) & causal", (16, 16)).layout("torch"), inputs(1, 96)
    layout._steps._values.clear()
    with torch.no_grad():
        for length in range(65, 97):
            layout(given.q, given.k[:, :, :length], given.v[:, :, :length])
    # A block leaves the window within each block row; what it held may be gone then.
    plans = [
        [(steps.start, steps.stop) for steps, _ in each] for each in layout._steps._values.values()
    ]
    assert plans == [[(64, 68), (68, 80)], [(80, 84), (84, 96)]]


@pytest.mark.parametrize("target", ["torch", "cpu"])
def test_blocks_that_no_query_sees_are_not_read(target: str) -> None:
    """A block row's other queries see more than those of the call."""
    layout = Call("last(9t)", (16, 16)).layout(target)
    given = inputs(1, 62)
    given.k[:, :, :48] = given.v[:, :, :48] = torch.nan  # row 3 begins at 48, whose query sees 40
    with torch.no_grad():
        assert layout(given.q, given.k, given.v).isfinite().all()
    q, k, v = (x.requires_grad_() for x in (given.q, given.k, given.v))
    out = layout(q, k, v, lengths=torch.tensor([62]))
    grads = torch.autograd.grad(out, (q, k, v), torch.ones_like(out))
    assert out.isfinite().all() and grads[0].isfinite().all()
    assert all(x[:, :, 48:].isfinite().all() for x in grads[1:])


# ---- entries -------------------------------------------------------------------------------------


class Attends(nn.Module):
    def __init__(self, target: str) -> None:
        super().__init__()
        self.layout = bslang.compile(SPEC, block=8, target=target)

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        return self.layout(q, k, v, lengths=lengths)


@pytest.mark.parametrize("target", ["torch", "cpu"])
def test_compiled_exported_and_pickled(target: str) -> None:
    module, call = Attends(target), CALLS[0]
    given, lengths = call.inputs(), lengths_of(call)
    tensors = given.q.requires_grad_(), given.k, given.v
    truth = module(*tensors, lengths)
    (wanted,) = torch.autograd.grad(truth, tensors[:1], given.grad_out)
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(module, fullgraph=True, backend=counter)
    out = compiled(*tensors, lengths)
    torch.testing.assert_close(out, truth, rtol=0, atol=0)
    (found,) = torch.autograd.grad(out, tensors[:1], given.grad_out)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    others = (lengths - 5).clamp_min(0)
    torch.testing.assert_close(compiled(*tensors, others), module(*tensors, others), rtol=0, atol=0)
    assert counter.frame_count == 1
    program = torch.export.export(module, (*tensors, lengths)).module()
    torch.testing.assert_close(program(*tensors, lengths), truth, rtol=0, atol=0)
    torch.testing.assert_close(
        pickle.loads(pickle.dumps(module))(*tensors, lengths), truth, rtol=0, atol=0
    )
    with pytest.raises((ValueError, RuntimeError), match="lengths must be from 0"):
        compiled(*tensors, lengths + 1)


@pytest.mark.parametrize("rotary", [None, 10_000.0])
def test_a_cache_whose_rows_differ(rotary: float | None) -> None:
    """Each row is continued as if it were alone, by single tokens and by chunks."""
    made = BlockSparseAttention(32, 4, Call(SPEC).layout("cpu"), num_kv_heads=2, rotary=rotary)
    prompt, x, lengths = torch.randn(3, 40, 32), torch.randn(3, 9, 32), torch.tensor([40, 17, 0])
    cache = KVCache()
    with torch.no_grad():
        made(prompt, cache=cache)
        cache.truncate(lengths)
        outs = [made(part, cache=cache) for part in x.split([1, 1, 7], 1)[:2]]
        kept = cache.lengths
        made(x[:, :3], cache=cache)
        assert kept is not None
        cache.truncate(kept)  # drafts that were not taken
        outs.append(made(x[:, 2:], cache=cache))
        for row, keys in enumerate(lengths.tolist()):
            whole = made(torch.cat((prompt[row, :keys], x[row]))[None])
            torch.testing.assert_close(
                torch.cat(outs, 1)[row], whole[0, keys:], rtol=2e-6, atol=2e-6
            )
        assert cache.length == 49 and cache.lengths.tolist() == [49, 26, 9]
        for wrong, message in (
            (torch.tensor([50, 1, 1]), "cannot keep [50, 1, 1]"),
            (torch.tensor([1, 1]), "shape (3,)"),
        ):
            with pytest.raises(ValueError, match=re.escape(message)):
                cache.truncate(wrong)
        with pytest.raises(TypeError, match="int32 or int64"):
            cache.truncate(torch.ones(3))
        with pytest.raises(ValueError, match="lengths cannot be used with a cache"):
            made(x, cache=cache, lengths=lengths)
        cache.truncate(0)
        assert cache.lengths is None


# ---- what is refused -----------------------------------------------------------------------------

REFUSED = {
    "must be a torch.Tensor, not list": {"lengths": [1, 2]},
    "must be int32 or int64, not torch.float32": {"lengths": torch.ones(2)},
    "must be int32 or int64, not torch.bool": {"lengths": torch.ones(2, dtype=torch.bool)},
    "on the device of the tensors, cpu, not meta": {
        "lengths": torch.ones(2, dtype=torch.int64, device="meta")
    },
    "shape (2,), the keys of each row of the batch; their shape is (2, 1)": {
        "lengths": torch.ones(2, 1, dtype=torch.int64)
    },
    "shape (2,), the keys of each row of the batch; their shape is (3,)": {
        "lengths": torch.ones(3, dtype=torch.int64)
    },
    "lengths must be from 0 to the number of keys": {"lengths": torch.tensor([3, -1])},
    "from 0 to the number of keys": {"lengths": torch.tensor([3, 41])},
    'leave out align="start"': {"lengths": torch.tensor([3, 4]), "align": "start"},
    "leave out key_padding": {
        "lengths": torch.tensor([3, 4]),
        "key_padding": torch.tensor([3, 4]),
    },
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_refused(message: str) -> None:
    layout, given = Call(SPEC).layout("torch"), inputs(3, 40, batch=2)
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        layout(given.q, given.k, given.v, **REFUSED[message])


@pytest.mark.parametrize("spec", ["window(3)", "random(2) & causal", "{q, k : k < len_k // 2}"])
def test_layouts_that_depend_on_the_length_are_refused(spec: str) -> None:
    layout, given = Call(spec).layout("torch"), inputs(3, 200, batch=2)
    with pytest.raises(ValueError, match=r"lengths: .* cannot be decoded.*Call each row by itself"):
        layout(given.q, given.k, given.v, lengths=torch.tensor([9, 40]))


def test_packed_calls_have_offsets_instead() -> None:
    layout, given = Call(SPEC).layout("torch"), inputs(40, 40)
    with pytest.raises(TypeError, match="no `lengths`: cu_seqlens"):
        layout.packed(given.q, given.k, given.v, [0, 40], lengths=torch.tensor([40]))


def test_padding_that_covers_queries_is_told_of_lengths() -> None:
    layout, given = Call(SPEC).layout("torch"), inputs(1, 40, batch=2)
    with pytest.raises(ValueError, match="or all at once with `lengths`"):
        layout(given.q, given.k, given.v, key_padding=torch.tensor([40, 30]))


def test_other_names_are_told_of_it() -> None:
    layout, given = Call(SPEC).layout("torch"), inputs(1, 40)
    with pytest.raises(TypeError, match="write lengths"):
        layout(given.q, given.k, given.v, cache_seqlens=torch.tensor([40]))


def test_without_rows_and_keys() -> None:
    for target in ("torch", "cpu"):
        layout = Call(SPEC).layout(target)
        for batch, len_q, len_k in [(0, 3, 40), (2, 3, 0), (2, 0, 40)]:
            given = inputs(len_q, len_k, batch=batch)
            out, lse = layout(
                given.q, given.k, given.v, return_lse=True,
                lengths=torch.zeros(batch, dtype=torch.int64),
            )  # fmt: skip
            assert out.shape == given.q.shape and not out.any() and (lse == -torch.inf).all()
