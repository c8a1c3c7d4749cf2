"""Attention sinks: a logit of each head in the denominator, on every target and through every entry."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from calls import Call
from reference import TOLERANCE, agrees, dense, inputs
from torch import nn

import bslang
from bslang import sinks as functions
from bslang.nn import BlockSparseAttention, KVCache

SPEC = "(last(20t) | cols(0:4t)) & causal"
CALLS = [
    Call("causal", (16, 16)),
    Call("last(12t)", (16, 16), 1, 61),  # decoding: heads of a key head in one tile
    Call("rows(9t:20t) & causal", (16, 16)),  # queries without keys
    Call("last(head * 7t + 3t)", (8, 8), 7, 61),
    Call("cols(0:30t)", (5, 3), 50, 30, "start", key_heads=1),
    Call("same(doc) & causal", (16, 16)),
    Call("global(0, -1) | window(3)", (8, 8), 100, 100, key_heads=4),  # rows in parts, on triton
]


def sinks(heads: int = 4, scale: float = 4) -> torch.Tensor:
    return scale * torch.randn(heads, generator=torch.Generator().manual_seed(2))


def check(target: str, call: Call) -> None:
    call.check(target, sinks=True)
    call.check(target, softcap=2.0, sinks=True)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.spec)
def test_results(call: Call, on: Callable[..., None]) -> None:
    on(check, call)


def check_no_sinks(target: str) -> None:
    """A logit of -inf is none, and one far above all scores leaves no output and no gradient."""
    layout, given = Call(SPEC).layout(target), Call(SPEC).inputs()
    tensors = given.q, given.k, given.v
    for got, wanted in zip(
        layout(*tensors, return_lse=True, sinks=torch.full((4,), -torch.inf)),
        layout(*tensors, return_lse=True),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted, rtol=0, atol=0)
    leaves = [x.detach().requires_grad_() for x in (*tensors, torch.full((4,), 1e4))]
    out = layout(*leaves[:3], sinks=leaves[3])
    assert not out.any()
    assert not any(x.any() for x in torch.autograd.grad(out, leaves, given.grad_out))


def test_none_and_all(on: Callable[..., None]) -> None:
    on(check_no_sinks)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    for target in ("torch", "cpu"):
        Call(SPEC).check(target, dtype, sinks=True)


def test_double_precision_and_second_derivatives() -> None:
    call = Call(SPEC, len_q=9, len_k=9, batch=1)
    call.check("torch", torch.float64, sinks=True)
    layout, given = call.layout("torch"), call.inputs(torch.float64, dim=2)
    leaves = [x.detach().requires_grad_() for x in (given.q, given.k, given.v, sinks().double())]

    def attended(q: Any, k: Any, v: Any, logits: Any) -> Any:
        return layout(q, k, v, sinks=logits, return_lse=True)

    assert torch.autograd.gradcheck(attended, leaves)
    assert torch.autograd.gradgradcheck(attended, leaves)


def test_a_sink_far_above_a_row_keeps_the_gradient_of_its_log_sum_exp() -> None:
    lse, grad = torch.tensor([[[0.0, -5.0, -torch.inf]]]), torch.ones(1, 1, 3)
    whole, made = functions.as_keys(lse, grad, torch.tensor([70.0]))
    weight = torch.exp(lse.double() - whole) * made.double()
    torch.testing.assert_close(weight[..., :2], grad.double()[..., :2], rtol=1e-4, atol=0)
    assert whole[0, 0, 2] == -torch.inf and made.isfinite().all()


# ---- entries -------------------------------------------------------------------------------------


class Attends(nn.Module):
    def __init__(self, target: str = "torch") -> None:
        super().__init__()
        self.layout = bslang.compile(SPEC, block=8, target=target)
        self.sinks = nn.Parameter(sinks())

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return self.layout(q, k, v, sinks=self.sinks)


@pytest.mark.parametrize("target", ["torch", "cpu"])
def test_compiled_exported_and_pickled(target: str) -> None:
    module, given = Attends(target), Call(SPEC).inputs()
    tensors = given.q, given.k, given.v
    truth = module(*tensors)
    (truth * given.grad_out).sum().backward()
    wanted, module.sinks.grad = module.sinks.grad, None
    torch._dynamo.reset()
    out = torch.compile(module, fullgraph=True, backend="aot_eager")(*tensors)
    (out * given.grad_out).sum().backward()
    torch.testing.assert_close(out, truth, rtol=0, atol=0)
    torch.testing.assert_close(module.sinks.grad, wanted, rtol=1e-6, atol=1e-6)
    program = torch.export.export(module, tensors).module()
    torch.testing.assert_close(program(*tensors), truth, rtol=0, atol=0)
    torch.testing.assert_close(pickle.loads(pickle.dumps(module))(*tensors), truth, rtol=0, atol=0)


def test_packed_sequences_share_the_sinks() -> None:
    layout, given = Call(SPEC).layout("cpu"), inputs(50, 50, heads=4, key_heads=2)
    leaves = [x.detach().requires_grad_() for x in (given.q, given.k, given.v, sinks())]
    out = layout.packed(*leaves[:3], [0, 13, 50], sinks=leaves[3])
    parts = [
        layout(*(x[:, :, part] for x in leaves[:3]), sinks=leaves[3])
        for part in (slice(13), slice(13, 50))
    ]
    torch.testing.assert_close(out, torch.cat(parts, 2), rtol=0, atol=1e-6)
    for got, wanted in zip(
        torch.autograd.grad(out, leaves, given.grad_out),
        torch.autograd.grad(torch.cat(parts, 2), leaves, given.grad_out),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5)


def check_padding(target: str) -> None:
    """Padded queries hold anything, which does not reach the sinks."""
    call = Call(SPEC)
    layout, given, lengths = call.layout(target), call.inputs(), torch.tensor([40, 27])
    padded = torch.arange(40) >= lengths[:, None]
    mask = call.mask() & ~padded.numpy()[:, None, None, :]
    agrees(layout, given, mask, TOLERANCE[torch.float32], key_padding=lengths, sinks=sinks())
    logits = sinks().requires_grad_()
    tensors = [x.detach().clone() for x in (given.q, given.k, given.v)]
    grad = given.grad_out.masked_fill(padded[:, None, :, None], 0)
    found = []
    for held in (0.0, torch.nan):
        for x in tensors:
            x[1, :, 27:] = held
        out = layout(*tensors, key_padding=lengths, sinks=logits)
        found += torch.autograd.grad(out, logits, grad)
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


def test_padding(on: Callable[..., None]) -> None:
    on(check_padding)


def test_the_module() -> None:
    torch.manual_seed(0)
    made = BlockSparseAttention(64, 4, SPEC, num_kv_heads=2, sinks=True)
    plain = BlockSparseAttention(64, 4, SPEC, num_kv_heads=2)
    assert set(made.state_dict()) - set(plain.state_dict()) == {"sinks"}
    assert made.sinks.shape == (4,) and not made.sinks.any() and ", sinks=True" in repr(made)
    made.load_state_dict(plain.state_dict() | {"sinks": sinks()})
    x = torch.randn(2, 30, 64)
    out = made(x)
    out.sum().backward()
    assert made.sinks.grad is not None and made.sinks.grad.all()
    assert not torch.allclose(out, plain(x), atol=1e-3)
    past = KVCache()
    with torch.no_grad():
        steps = torch.cat([made(part, cache=past) for part in x.split(7, 1)], 1)
    torch.testing.assert_close(steps, out, rtol=0, atol=1e-5)


# ---- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "error", "reason"),
    [
        ([0.0] * 4, TypeError, "sinks must be a torch.Tensor, not list"),
        (torch.zeros(4, dtype=torch.int64), TypeError, "must be real numbers, not torch.int64"),
        (torch.zeros(2), ValueError, r"must have shape \(4,\).*their shape is \(2,\)"),
        (torch.zeros(2, 4), ValueError, r"their shape is \(2, 4\)"),
        (torch.zeros(4, device="meta"), ValueError, "on the device of q, cpu; they are on meta"),
    ],
)
def test_wrong_sinks(wrong: Any, error: type[Exception], reason: str) -> None:
    given = Call(SPEC).inputs()
    with pytest.raises(error, match=reason):
        Call(SPEC).layout("torch")(given.q, given.k, given.v, sinks=wrong)


def test_other_names_of_it() -> None:
    given = Call(SPEC).inputs()
    with pytest.raises(TypeError, match="unexpected option 's_aux': write sinks"):
        Call(SPEC).layout("torch")(given.q, given.k, given.v, s_aux=sinks())  # type: ignore[call-arg]


def test_the_reference_by_hand() -> None:
    """Two keys with scores 0 and a sink of log 2: weights 1/4 each."""
    given = inputs(1, 2, heads=1, dim=4)
    given.q.zero_()
    truth = dense(
        given, torch.ones(1, 2, dtype=torch.bool).numpy(), sinks=torch.tensor([2.0]).log()
    )
    torch.testing.assert_close(truth.out[0, 0], given.v[0, 0].double().sum(0, keepdim=True) / 4)
