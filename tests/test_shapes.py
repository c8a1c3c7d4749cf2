"""Shapes at the edge: any head dimension, no queries, no keys, no sequences, one sequence of keys for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference import TOLERANCE, agrees, inputs
from strategies import Case
from torch import nn

import bslang
from bslang.errors import TargetError
from bslang.nn import BlockSparseAttention, MultiheadAttention
from bslang.runtime.triton.tiles import MAX_DIM

SPEC = "(last(20t) | cols(0:3t)) & causal"
Tensor = torch.Tensor


def layout(target: str, spec: str = SPEC) -> bslang.Layout:
    return bslang.compile(spec, block=16, target=target)


# ---- head dimensions ---------------------------------------------------------------------------

DIMS = (1, 2, 3, 4, 5, 7, 17, 31, 33, 36, 72, 100, 264, 512)
FEW = (1, 3, 17, 72)
"""For Triton, which is interpreted."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_any_head_dimension(on: Callable[..., None], dtype: torch.dtype) -> None:
    on(check_dims, dtype)


def check_dims(target: str, dtype: torch.dtype) -> None:
    made = layout(target)
    mask = Case(SPEC, (16, 16), 44, 44, "end").mask()
    for dim in FEW if target == "triton" else DIMS:
        given = inputs(44, 44, key_heads=1, dim=dim, dtype=dtype)
        agrees(made, given, mask, TOLERANCE[dtype] * max(1, dim / 64))


@pytest.mark.parametrize("target", ["cpu", "torch"])
def test_rows_of_odd_lengths_that_lie_apart(target: str) -> None:
    """Views of one packed projection, whose rows begin anywhere."""
    made, given = layout(target), inputs(44, 44, dim=17)
    wide = torch.randn(2, 1, 44, 2, 3 * 17 + 1)
    q, k, v = (wide[0, ..., 17 * i + 1 : 17 * i + 18].transpose(1, 2) for i in range(3))
    found = made(q, k, v)
    assert torch.equal(found, made(*(x.contiguous() for x in (q, k, v))))  # type: ignore[arg-type]
    assert found.shape == given.q.shape  # type: ignore[union-attr]


class _Call(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layout = layout("torch")

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self.layout(q, k, v)  # type: ignore[return-value]  # no lse


def test_odd_head_dimensions_everywhere() -> None:
    given, made = inputs(40, 40, dim=17), layout("torch")
    q, k, v = tensors = given.q, given.k, given.v
    expected = made(q, k, v)
    assert torch.equal(torch.export.export(_Call(), tensors).module()(*tensors), expected)
    traced = torch.compile(_Call(), fullgraph=True, backend="aot_eager")
    assert torch.equal(traced(*tensors), expected)
    packed = made.packed(q, k, v, [0, 40])
    torch.testing.assert_close(packed, expected)
    module = BlockSparseAttention(4 * 17, 4, made, rotary=None)
    assert module(torch.randn(2, 40, 4 * 17)).shape == (2, 40, 4 * 17)
    mine, theirs = (
        MultiheadAttention(3 * 5, 3, layout("torch", "all")),
        nn.MultiheadAttention(15, 3),
    )
    theirs.load_state_dict(mine.state_dict())
    x = torch.randn(40, 2, 15)
    torch.testing.assert_close(mine(x, x, x)[0], theirs(x, x, x)[0])


def test_scale_is_that_of_the_given_dimension() -> None:
    given, made = inputs(40, 40, dim=17), layout("cpu")
    called = (made(given.q, given.k, given.v, scale) for scale in (None, 17**-0.5))
    assert torch.equal(*called)  # type: ignore[call-overload]


def test_what_triton_does_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    both = bslang.compile(SPEC, block=16, target=("triton", "torch"))
    monkeypatch.setattr("bslang.runtime.layout.wrong_device", lambda name, device: "")
    alone = bslang.compile(SPEC, block=16, target="triton")
    for made in (both, alone):
        monkeypatch.setattr(made.targets["triton"], "missing", lambda device: "")
    x = torch.randn(1, 1, 20, MAX_DIM + 1)
    assert both._target(x, x).name == "torch"
    assert both._target(x[..., 1:], x[..., 1:]).name == "triton"
    with pytest.raises(TargetError, match="triton takes head dimensions up to 256, not 257"):
        alone(x, x, x)


# ---- nothing to attend -------------------------------------------------------------------------

EMPTY = [(0, 10, 10), (2, 0, 10), (2, 10, 0), (2, 0, 0)]
"""Batch size, queries, keys."""


def test_nothing_to_attend(on: Callable[..., None]) -> None:
    on(check_nothing)


def check_nothing(target: str) -> None:
    for batch, len_q, len_k in EMPTY:
        for spec, options in cases(batch, len_q, len_k):
            q, k, v = tensors(batch, len_q, len_k)
            out, lse = layout(target, spec)(q, k, v, return_lse=True, **options)
            assert out.shape == q.shape and not out.any()
            assert lse.shape == q.shape[:3] and (lse == -torch.inf).all()
            (out.sum() + lse.clamp_min(0).sum()).backward()
            for x in (q, k, v):
                assert x.grad is not None and x.grad.shape == x.shape and not x.grad.any()


def tensors(batch: int, len_q: int, len_k: int) -> tuple[Tensor, Tensor, Tensor]:
    q = torch.randn(batch, 4, len_q, 16, requires_grad=True)
    k, v = (torch.randn(batch, 2, len_k, 16, requires_grad=True) for _ in range(2))
    return q, k, v


def cases(batch: int, len_q: int, len_k: int) -> list[tuple[str, dict[str, Any]]]:
    """Layouts with options of a call."""
    doc = torch.zeros(batch, len_k, dtype=torch.int64)
    found: list[tuple[str, dict[str, Any]]] = [
        ("causal", {}),
        ("cols(-1) | random(1)", {"softcap": 3.0}),  # which no empty grid has
        ("heads { 0 -> last(3t); 1: -> all }", {"align": "start"}),
        ("same(doc)", {"align": "start", "labels": (doc.new_zeros(batch, len_q), doc)}),
    ]
    if len_q <= len_k:
        found.append(("same(doc) & causal", {"labels": doc}))
        found.append(("all", {"key_padding": doc.new_zeros(batch)}))
    return found


def test_nothing_packed() -> None:
    q, k, v = tensors(1, 0, 0)
    out, lse = layout("torch").packed(q, k, v, [0, 0], return_lse=True)
    assert out.shape == q.shape and lse.shape == q.shape[:3]
    out.sum().backward()
    assert q.grad is not None


# ---- one sequence of keys ----------------------------------------------------------------------


def test_keys_of_batch_1(on: Callable[..., None]) -> None:
    on(check_keys_of_batch_1)


def check_keys_of_batch_1(target: str) -> None:
    """They serve all sequences of queries, where they lie, and their gradients are summed."""
    given, one = inputs(44, 44, batch=3, key_heads=1), inputs(44, 44, key_heads=1)
    for spec, options in (
        (SPEC, {}),
        (SPEC, {"key_padding": torch.tensor([44, 20, 30])}),
        ("same(doc) & causal", {"labels": torch.arange(132).view(3, 44) // 25}),
    ):
        made = layout(target, spec)
        q, k, v = (x.detach().clone().requires_grad_() for x in (given.q, one.k, one.v))
        made(q, k, v, **options).backward(given.grad_out)  # type: ignore[arg-type,union-attr]
        whole = [x.detach().expand(3, -1, -1, -1).clone().requires_grad_() for x in (k, v)]
        same = q.detach().clone().requires_grad_()
        made(same, *whole, **options).backward(given.grad_out)  # type: ignore[arg-type,union-attr]
        assert torch.equal(q.grad, same.grad)  # type: ignore[arg-type]
        for x, of_all in zip((k, v), whole, strict=True):
            torch.testing.assert_close(x.grad, of_all.grad.sum(0, keepdim=True))  # type: ignore[union-attr]


def test_keys_of_batch_1_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    made, (q, _, _) = layout("cpu"), tensors(3, 44, 44)
    _, k, v = tensors(1, 44, 44)
    target, seen = made.targets["cpu"], []
    start = target._start  # type: ignore[attr-defined]
    monkeypatch.setattr(target, "_start", lambda *given, **x: (seen.append(x), start(*given, **x)))
    made(q, k, v)
    assert [seen[0][name].data_ptr() for name in "kv"] == [k.data_ptr(), v.data_ptr()]


def test_batches_that_do_not_fit() -> None:
    (q, _, _), (_, k, v) = tensors(1, 20, 20), tensors(3, 20, 20)
    with pytest.raises(ValueError, match="q has batch size 1, k and v have 3; theirs is that of q"):
        layout("torch")(q, k, v)
