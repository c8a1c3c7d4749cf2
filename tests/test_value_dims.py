"""Values of another head dimension than keys: every target, every entry, and what counts dimensions."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from reference import TOLERANCE, Inputs, agrees, inputs, run
from strategies import Case
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import bslang
from bslang.dims import Dims
from bslang.errors import TargetError
from bslang.gpu.aot import choice, compiled_for
from bslang.gpu.machine.devices import device as device_of
from bslang.integrations.transformers.attention import Attention
from bslang.nn import BlockSparseAttention, KVCache
from bslang.runtime.triton.device import Device
from bslang.runtime.triton.launch import TritonTarget
from bslang.runtime.triton.prepared import Launched
from bslang.runtime.triton.tiles import Launch

SPEC = "(last(20t) | cols(0:3t)) & causal"
PAIRS = ((17, 31), (31, 17), (1, 40), (40, 1), (16, 48), (64, 72), (192, 128), (576, 512))
FEW = ((17, 31), (72, 24))
"""For Triton, which is interpreted."""

Tensor = torch.Tensor


def layout(target: str, spec: str = SPEC) -> bslang.Layout:
    return bslang.compile(spec, block=16, target=target)


def given(dims: tuple[int, int], length: int = 44, **options: Any) -> Inputs:
    return inputs(length, length, dim=dims[0], value_dim=dims[1], **options)


# ---- results -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_any_pair(on: Callable[..., None], dtype: torch.dtype) -> None:
    on(check_pairs, dtype)


def check_pairs(target: str, dtype: torch.dtype) -> None:
    made, mask = layout(target), Case(SPEC, (16, 16), 44, 44, "end").mask()
    for place, dims in enumerate(FEW if target == "triton" else PAIRS):
        call = {"sinks": torch.tensor([0.5, 2.0])} if place % 2 else {"softcap": 3.0}
        tensors = given(dims, key_heads=2 - place % 2, batch=2, dtype=dtype)
        agrees(made, tensors, mask, TOLERANCE[dtype] * max(1, *(d / 64 for d in dims)), **call)


def test_columns_of_values_are_apart(on: Callable[..., None]) -> None:
    on(check_columns)


def check_columns(target: str) -> None:
    """Of each column of v the same bits come out, whatever is beside it; keys that are padded with zeros
    score the same."""
    made, dims = layout(target), (24, 40)
    whole = given(dims)
    out = made(whole.q, whole.k, whole.v)
    for columns in (slice(0, 24), slice(24, 40)):
        assert torch.equal(made(whole.q, whole.k, whole.v[..., columns]), out[..., columns])  # type: ignore[index,arg-type]
    q, k = (torch.nn.functional.pad(x, (0, 16)) for x in (whole.q, whole.k))
    near = made(q, k, whole.v, 24**-0.5)
    torch.testing.assert_close(near, out, atol=1e-6, rtol=0)


def test_nan_stays_in_its_document(on: Callable[..., None]) -> None:
    on(check_nan)


def check_nan(target: str) -> None:
    """Careful passes, which blocks with two documents need: of sums of either dimension."""
    made = layout(target, "same(doc) & causal")
    doc = (torch.arange(44) >= 21).int()
    for dims in ((24, 40), (40, 24)):
        plain = given(dims)
        expected = run(made, plain, labels=doc)
        for x in (plain.q, plain.k, plain.v, plain.grad_out):
            x[:, :, 21:] = torch.nan
        q, k, v = (x.requires_grad_() for x in (plain.q, plain.k, plain.v))
        out, lse = made(q, k, v, labels=doc, return_lse=True)
        weights = plain.grad_out, plain.grad_lse.clone()
        found = (out, *torch.autograd.grad((out, lse), (q, k, v), weights))
        for x, y in zip(found, (expected.out, expected.dq, expected.dk, expected.dv), strict=True):
            assert torch.equal(x[:, :, :21], y[:, :, :21]) and x[:, :, 21:].isnan().all()


def test_decoding_and_keys_of_batch_1(on: Callable[..., None]) -> None:
    on(check_decoding)


def check_decoding(target: str) -> None:
    """The query heads of a key head are rows of one tile, and k and v of batch 1 serve all queries."""
    made = layout(target)
    for dims in ((24, 40), (40, 24)):
        q = given(dims, 1, heads=4, batch=3).q
        one = given(dims, 44, heads=4, key_heads=2)
        out, lse = made(q, one.k, one.v, return_lse=True)
        assert out.shape == (3, 4, 1, dims[1])
        of_all = [
            x.expand(3, -1, -1, -1).repeat_interleave(2, 1).contiguous() for x in (one.k, one.v)
        ]
        expected, its = made(q, *of_all, return_lse=True)
        torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(lse, its, atol=1e-5, rtol=0)
        ends = made(q, one.k, one.v, lengths=torch.tensor([44, 9, 0]))
        assert isinstance(ends, Tensor) and not ends[2].any()
        torch.testing.assert_close(ends[:1], out[:1], atol=1e-5, rtol=0)
        short = made(q[1:2], one.k[:, :, :9], one.v[:, :, :9])
        torch.testing.assert_close(ends[1:2], short, atol=1e-5, rtol=0)  # type: ignore[arg-type]


def test_nothing_to_attend(on: Callable[..., None]) -> None:
    on(check_nothing)


def check_nothing(target: str) -> None:
    for batch, len_q, len_k in ((0, 9, 9), (2, 0, 9), (2, 9, 0)):
        q, k = torch.randn(batch, 4, len_q, 24), torch.randn(batch, 2, len_k, 24)
        v = torch.randn(batch, 2, len_k, 40, requires_grad=True)
        out = layout(target, "all")(q, k, v, align="start")
        assert isinstance(out, Tensor) and out.shape == (batch, 4, len_q, 40) and not out.any()
        out.sum().backward()
        assert v.grad is not None and v.grad.shape == v.shape


# ---- entries beside those of test_entries.py -----------------------------------------------------


class _Call(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layout = layout("torch")

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self.layout(q, k, v)  # type: ignore[return-value]  # no lse


def test_exported_programs() -> None:
    x = given((24, 40))
    length = torch.export.Dim("length", min=2)
    program = torch.export.export(
        _Call(), (x.q, x.k, x.v), dynamic_shapes=({2: length},) * 3
    ).module()
    other = given((24, 40), 70)
    for q, k, v in ((x.q, x.k, x.v), (other.q, other.k, other.v)):
        assert torch.equal(program(q, k, v), layout("torch")(q, k, v))


def test_a_module_with_a_cache() -> None:
    made = BlockSparseAttention(
        32, 4, layout("torch"), num_kv_heads=2, head_dim=12, value_dim=20, rotary=10_000.0
    )
    assert (made.v_proj.out_features, made.o_proj.in_features) == (40, 80)
    assert "head_dim=12, value_dim=20" in repr(made)
    x, past = torch.randn(2, 40, 32), KVCache()
    with torch.no_grad():
        whole = made(x)
        parts = torch.cat([made(part, cache=past) for part in x.split(25, 1)], 1)
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0)
    again = BlockSparseAttention(32, 4, "causal", head_dim=12)
    assert again.value_dim == 12 and "value_dim" not in repr(again)
    with pytest.raises(ValueError, match="value_dim must be an integer of at least 1, not 0"):
        BlockSparseAttention(32, 4, "causal", value_dim=0)


def test_rows_padded_on_the_left_in_transformers() -> None:
    """Rows without a single query, too: their output has the dimension of values."""
    called = Attention("bslang", [layout("torch", "chunks(2) & causal")], False, False)
    x = given((24, 40), batch=3)
    there = torch.ones(3, 44, dtype=torch.bool)
    there[1, :9], there[2] = False, False
    there[2, -1] = True
    out, _ = called(SimpleNamespace(), x.q, x.k, x.v, there)  # type: ignore[arg-type]
    assert out.shape == (3, 44, 2, 40)
    alone = layout("torch", "chunks(2) & causal")(x.q[1:2, :, 9:], x.k[1:2, :, 9:], x.v[1:2, :, 9:])
    torch.testing.assert_close(out[1:2, 9:].transpose(1, 2), alone)
    (last, _) = called(SimpleNamespace(), x.q[:, :, -2:], x.k, x.v, there)  # type: ignore[arg-type]
    torch.testing.assert_close(last[0], out[0, -2:])


# ---- what counts dimensions ----------------------------------------------------------------------


def test_operations_are_counted_by_dimension() -> None:
    """Two products of scores forward, one for each dimension; backward three and two."""
    counted = []
    for dims in ((24, 24), (40, 40), (24, 40)):
        x = given(dims)
        q, k, v = (each.requires_grad_() for each in (x.q, x.k, x.v))
        with FlopCounterMode(display=False) as forward:
            out = layout("torch")(q, k, v)
        with FlopCounterMode(display=False) as backward:
            torch.autograd.grad(out, (q, k, v), x.grad_out)  # type: ignore[arg-type]
        counted.append((forward.get_total_flops(), backward.get_total_flops()))
    (narrow, of_narrow), (wide, of_wide), mixed = counted
    assert mixed == ((narrow + wide) // 2, (3 * of_narrow + 2 * of_wide) // 5)


def test_what_triton_does_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    both = bslang.compile(SPEC, block=16, target=("triton", "torch"))
    monkeypatch.setattr("bslang.runtime.layout.wrong_device", lambda name, device: "")
    monkeypatch.setattr(both.targets["triton"], "missing", lambda device: "")
    q, v = torch.zeros(1, 1, 9, 192), torch.zeros(1, 1, 9, 128)
    assert both._target(q, v).name == both._target(v, q).name == "triton"
    q, v = torch.zeros(1, 1, 9, 256), torch.zeros(1, 1, 9, 512)
    assert both._target(q, v).name == both._target(v, q).name == "torch"
    alone = bslang.compile(SPEC, block=16, target="triton")
    monkeypatch.setattr(alone.targets["triton"], "missing", lambda device: "")
    message = "triton takes head dimensions up to 256, not 256 of q and k and 512 of v"
    with pytest.raises(TargetError, match=message):
        alone(q, q, v)


@pytest.mark.parametrize(
    ("k", "v", "message"),
    [
        ((1, 2, 9, 8), (1, 2, 9, 0), "the head dimension of v must be at least 1, not 0"),
        ((1, 2, 9, 9), (1, 2, 9, 8), "q has head dimension 8, k has 9: only v may have another"),
        (
            (1, 2, 9, 8),
            (1, 1, 9, 8),
            "k and v must have one batch size, number of heads and length",
        ),
        (
            (1, 2, 9, 8),
            (1, 2, 8, 9),
            "k and v must have one batch size, number of heads and length",
        ),
    ],
)
def test_tensors_that_do_not_fit(k: tuple[int, ...], v: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layout("torch")(torch.zeros(1, 2, 9, 8), torch.zeros(k), torch.zeros(v))


# ---- ahead of time -------------------------------------------------------------------------------


def test_kernels_are_compiled_for_what_calls_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, with parts that are joined: outputs have one dimension, gradients either."""
    launched: set[tuple[str, str]] = set()

    def start(self: Any, kernel: str, chosen: Launch, programs: int, tensors: Any) -> Launched:
        launched.add((kernel, str(chosen)))
        return Launched(None, None, ())

    for name in ("SHORTEST", "LIGHT", "HEAVY"):
        monkeypatch.setattr(f"bslang.schedule.programs.{name}", 1)
    monkeypatch.setattr(TritonTarget, "missing", lambda self, device: "")
    monkeypatch.setattr(TritonTarget, "_start", start)
    monkeypatch.setattr(Device, "of", lambda device: device_of("cuda:90"))
    made, dims = layout("triton", "rows(0) | cols(0)"), Dims(192, 128)
    target = made.targets["triton"]
    assert isinstance(target, TritonTarget)
    x = given(dims, 147, dtype=torch.bfloat16, heads=2, key_heads=2)
    q, k, v = (each.requires_grad_() for each in (x.q, x.k, x.v))
    made(q, k, v).backward(x.grad_out)  # type: ignore[arg-type,union-attr]
    compiled = {
        (kernel, str(choice(kernel, "cuda:90", each, torch.bfloat16, target.sides)))
        for kernel in target.kernels
        for each in compiled_for(kernel, dims)
    }
    assert {name for name, _ in launched} == set(target.kernels)
    assert launched == compiled and len(compiled) == len(target.kernels) + 1
