"""Every way to call a layout, against one list of properties.

An entry takes q, k and v (batch, heads, length, dim) and gives out; what each does beside that is set up
so that all of them compute the same.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import cache
from itertools import chain, combinations
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from reference import TOLERANCE
from torch import nn

import bslang
from bslang import layouts
from bslang.integrations.transformers.attention import Attention
from bslang.nn import BlockSparseAttention, KVCache, MultiheadAttention

SPEC = "(last(20t) | cols(0:4t)) & causal"
BATCH, HEADS, LENGTH, DIM = 2, 2, 40, 16
INNER = HEADS * DIM

Tensor = torch.Tensor
Entry = Callable[[Tensor, Tensor, Tensor], Tensor]


@cache
def layout(spec: str = SPEC, target: str = "torch") -> bslang.Layout:
    return bslang.compile(spec, block=8, target=target)


# ---- entries ----------------------------------------------------------------------------------


def attention(q: Tensor, k: Tensor, v: Tensor, target: str = "torch") -> Tensor:
    return bslang.attention(q, k, v, layout(target=target))  # type: ignore[return-value]  # no lse


def native(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attention(q, k, v, "cpu")


def generated(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return layouts.module(layout()._resolved, ("torch",)).attention(q, k, v)  # type: ignore[no-any-return]


def padded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """With keys that are padding, which no query would see."""
    extra = (F.pad(x, (0, 0, 0, 5)) for x in (q, k, v))
    lengths = torch.full(q.shape[:1], q.shape[2], device=k.device)
    return layout()(*extra, key_padding=lengths)[:, :, : q.shape[2]]  # type: ignore[index,return-value]


def labelled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    doc = torch.zeros(k.shape[2], dtype=torch.long, device=k.device)
    return layout(f"same(doc) & {SPEC}")(q, k, v, labels=doc)  # type: ignore[return-value]


def packed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Rows of a batch end to end."""
    ends = [row * q.shape[2] for row in range(q.shape[0] + 1)]
    one_row = (x.transpose(0, 1).flatten(1, 2)[None] for x in (q, k, v))
    out = layout().packed(*one_row, ends)
    return out[0].unflatten(1, (q.shape[0], q.shape[2])).transpose(0, 1)  # type: ignore[union-attr]


def transformers(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    called = Attention("bslang", [layout()], several=False, allow_noncausal=False)
    return called(SimpleNamespace(), q, k, v, None)[0].transpose(1, 2)  # type: ignore[arg-type]


def transformers_packed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    called = Attention("bslang", [layout()], several=False, allow_noncausal=False)
    ends = torch.arange(q.shape[0] + 1) * q.shape[2]
    return called(SimpleNamespace(), q, k, v, ends)[0].transpose(1, 2)  # type: ignore[arg-type]


def compiled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    torch._dynamo.reset()
    return torch.compile(_Call(), fullgraph=True, backend="aot_eager")(q, k, v)


class _Call(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layout = layout()

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self.layout(q, k, v)  # type: ignore[return-value]  # no lse


@cache
def _program(dtype: torch.dtype) -> Any:
    batch, length = torch.export.Dim("batch", min=0), torch.export.Dim("length", min=2)
    q, k, v = (torch.zeros(3, HEADS, 24, DIM, dtype=dtype) for _ in range(3))
    shapes = ({0: batch, 2: length},) * 3
    return torch.export.export(_Call(), (q, k, v), dynamic_shapes=shapes).module()


def exported(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return _program(q.dtype)(q, k, v)  # type: ignore[no-any-return]


def multihead(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """A module whose projections are identities."""
    made = MultiheadAttention(INNER, HEADS, layout(), bias=False, batch_first=True, dtype=v.dtype)
    with torch.no_grad():
        made.in_proj_weight.copy_(torch.eye(INNER).repeat(3, 1))
        made.out_proj.weight.copy_(torch.eye(INNER))
    joined = (x.transpose(1, 2).flatten(2) for x in (q, k, v))
    return made(*joined)[0].unflatten(2, (HEADS, DIM)).transpose(1, 2)  # type: ignore[no-any-return]


def _block_sparse(dtype: torch.dtype) -> BlockSparseAttention:
    """A module whose projections take a third of the input each."""
    made = BlockSparseAttention(3 * INNER, HEADS, layout(), head_dim=DIM, bias=False, dtype=dtype)
    with torch.no_grad():
        for name, weight in zip("qkv", torch.eye(3 * INNER).chunk(3), strict=True):
            getattr(made, f"{name}_proj").weight.copy_(weight)
        made.o_proj.weight.copy_(torch.eye(3 * INNER)[:, :INNER])
    return made


def block_sparse(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    x = torch.cat((q, k, v), 1).transpose(1, 2).flatten(2)
    out = _block_sparse(x.dtype)(x)
    return out[..., :INNER].unflatten(2, (HEADS, DIM)).transpose(1, 2)  # type: ignore[no-any-return]


def decoded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """In two steps, with a cache, which holds no gradients."""
    x = torch.cat((q, k, v), 1).transpose(1, 2).flatten(2)
    made, past = _block_sparse(x.dtype), KVCache()
    out = torch.cat([made(part, cache=past) for part in x.split(25, 1)], 1)
    return out[..., :INNER].unflatten(2, (HEADS, DIM)).transpose(1, 2)


PLAIN: list[Entry] = [attention, native, generated, padded, labelled, packed, transformers]
"""Functions of three tensors."""

MODULES: list[Entry] = [multihead, block_sparse]
"""Modules, whose projections torch runs."""

ALL: list[Entry] = [*PLAIN, transformers_packed, compiled, exported, *MODULES]

every = pytest.mark.parametrize("entry", ALL)
plain = pytest.mark.parametrize("entry", [*PLAIN, transformers_packed])


def given(batch: int = BATCH, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """q, k and v."""
    generator = torch.Generator().manual_seed(1)
    shape = (batch, HEADS, LENGTH, DIM)
    return [torch.randn(shape, generator=generator).to(dtype) for _ in range(3)]


def truth(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Dense attention in fp64."""
    mask = layout().to_dense(q.shape[2])
    q, k, v = (x.double() for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=torch.as_tensor(mask))


def near(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    allowed = 2 * TOLERANCE[dtype] * (1 + float(expected.detach().abs().max()))
    torch.testing.assert_close(found.double(), expected, atol=allowed, rtol=0)


def check(entry: Entry, tensors: list[Tensor], weight: Tensor | None = None) -> None:
    """Assert that an entry gives the output and the gradients of dense attention, of the tensors that need
    them and of no others. weight: the gradient of the output; for None ones, which are no memory."""
    dtype = tensors[0].dtype
    mine = [x.detach().requires_grad_(x.requires_grad) for x in tensors]
    theirs = [x.detach().double().requires_grad_(x.requires_grad) for x in tensors]
    out, expected = entry(*mine), truth(*theirs)
    assert out.dtype == dtype
    near(out, expected, dtype)
    if any(x.requires_grad for x in mine):
        for result in (out, expected):
            (
                result.sum() if weight is None else (result * weight.to(result.dtype)).sum()
            ).backward()
    for x, y in zip(mine, theirs, strict=True):
        assert (x.grad is None) == (y.grad is None)
        if x.grad is not None and y.grad is not None:
            near(x.grad, y.grad, dtype)


# ---- properties -------------------------------------------------------------------------------


@every
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str
)
def test_dtypes(entry: Entry, dtype: torch.dtype) -> None:
    if entry is native and dtype == torch.float64:
        with pytest.raises(bslang.TargetError, match=r"runs torch\.float64 tensors"):
            entry(*given(dtype=dtype))
    else:
        check(entry, [x.requires_grad_() for x in given(dtype=dtype)])


@pytest.mark.parametrize("entry", [*PLAIN, transformers_packed, compiled])
def test_values_of_another_dimension(entry: Entry) -> None:
    q, k, v = given()
    check(entry, [x.requires_grad_() for x in (q, k, v[..., :5])])
    check(entry, [x.requires_grad_() for x in (q[..., :5], k[..., :5], v)])


@every
def test_autocast(entry: Entry) -> None:
    """As torch's own attention does: rotary embeddings leave q and k in fp32 beside v in bf16."""
    q, k, v = (x.requires_grad_() for x in given())
    expected = attention(*(x.detach().to(torch.bfloat16) for x in (q, k, v)))
    mixed = entry in (*PLAIN, transformers_packed, compiled)
    with torch.autocast("cpu", torch.bfloat16):
        out = entry(q, k, v.to(torch.bfloat16) if mixed else v)
    assert out.dtype == torch.bfloat16
    near(out, expected.double(), torch.bfloat16)
    out.float().sum().backward()
    assert all(x.grad is not None and x.grad.dtype == torch.float32 for x in (q, k, v))


@torch.no_grad()
def test_autocast_beside_a_cache() -> None:
    expected = attention(*given(dtype=torch.bfloat16))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(decoded(*given()), expected)


@every
def test_strides(entry: Entry) -> None:
    """Views of one projection, cut out of wider rows; and a gradient in another order."""
    wide = torch.randn(BATCH, LENGTH + 9, 3, HEADS, DIM + 8)
    cut = wide.permute(2, 0, 3, 1, 4)[:, :, :, 5 : 5 + LENGTH, 3 : 3 + DIM]
    weight = torch.randn(BATCH, LENGTH, HEADS, DIM).transpose(1, 2)
    check(entry, [x.requires_grad_() for x in cut.unbind()], weight)


@every
def test_expanded_tensors(entry: Entry) -> None:
    """Keys and values that all rows and heads share, and the gradient of a sum: strides of 0."""
    q, k, v = given()
    k, v = (x[:1, :1].expand(BATCH, HEADS, -1, -1) for x in (k, v))
    check(entry, [q, k, v])
    check(entry, [x.requires_grad_() for x in given()], None)


@every
def test_gradients_of_some_tensors(entry: Entry) -> None:
    for needed in chain.from_iterable(combinations(range(3), n) for n in range(4)):
        check(entry, [x.requires_grad_(n in needed) for n, x in enumerate(given())])


@every
def test_no_gradients(entry: Entry) -> None:
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            out = entry(*given())
            assert not out.requires_grad
            near(out, truth(*given()), torch.float32)
    q, k, v = (x.requires_grad_() for x in given())
    with torch.no_grad():
        assert not entry(q, k, v).requires_grad


@torch.inference_mode()
def test_a_cache_in_inference_mode() -> None:
    near(decoded(*given()), truth(*given()), torch.float32)


@every
def test_empty_batches(entry: Entry) -> None:
    q, k, v = (x.requires_grad_() for x in given(0))
    out = entry(q, k, v)
    assert out.shape == (0, HEADS, LENGTH, DIM)
    out.sum().backward()
    assert all(x.grad is not None and x.grad.shape == x.shape for x in (q, k, v))


@every
def test_no_tokens(entry: Entry) -> None:
    q, k, v = (x[:, :, :0].detach().requires_grad_() for x in given())
    out = entry(q, k, v)
    assert out.shape == (BATCH, HEADS, 0, DIM)
    out.sum().backward()
    assert all(x.grad is not None and x.grad.shape == x.shape for x in (q, k, v))


@plain
def test_tensors_on_two_devices(entry: Entry) -> None:
    q, k, v = given()
    with pytest.raises(ValueError, match=r"must be on (one|the) device"):
        entry(q, k.to("meta"), v.to("meta"))


@every
def test_forward_derivatives_are_refused(entry: Entry) -> None:
    """Under torch.compile by torch itself, in words of its own."""
    expected = "forward" if entry is not compiled else "forward|INTERNAL ASSERT"
    q, k, v = given()
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(q, torch.ones_like(q))
        with pytest.raises(RuntimeError, match=expected):
            entry(dual, k, v)


@every
def test_transforms_are_refused(entry: Entry) -> None:
    """Of traced programs by torch itself."""
    q, k, v = given()
    with pytest.raises(RuntimeError, match=r"vmap|data-dependent control flow"):
        torch.func.vmap(entry)(*(x[None] for x in (q, k, v)))
    expected = "functorch" if entry in (exported, compiled) else r"use backward\(\)"
    with pytest.raises(RuntimeError, match=expected):
        torch.func.grad(lambda q: entry(q, k, v).sum())(q)


def test_modules_and_programs_are_copied_and_pickled() -> None:
    q, k, v = given()
    x = torch.cat((q, k, v), 1).transpose(1, 2).flatten(2)
    calls: list[tuple[Any, tuple[Tensor, ...]]] = [
        (layout(), (q, k, v)),
        (_block_sparse(torch.float32), (x,)),
        (MultiheadAttention(3 * INNER, HEADS, layout()), (x[0],) * 3),
        (_program(torch.float32), (q, k, v)),
        (Attention("bslang", [layout()], False, False), (None, q, k, v, None)),  # type: ignore[arg-type]
    ]
    for call, tensors in calls:
        expected = call(*tensors)
        again = [copy.copy(call), copy.deepcopy(call)]
        if not isinstance(
            call, torch.fx.GraphModule
        ):  # torch saves programs by a format of its own
            again.append(pickle.loads(pickle.dumps(call)))
        for one in again:
            found = one(*tensors)
            pairs = (
                zip(found, expected, strict=True)
                if isinstance(found, tuple)
                else [(found, expected)]
            )
            assert all(b is a or torch.equal(a, b) for a, b in pairs)
