"""Traced programs, where lengths, batches and numbers of a call are symbols: one program serves them all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from small_models import agree, model, tokens
from torch import nn

import bslang
from bslang.integrations.transformers import register
from bslang.nn import BlockSparseAttention, BlockSparseEncoderLayer, MultiheadAttention

STREAMING = "(last(20t) | cols(0:4t)) & causal"
BATCH, LENGTH = torch.export.Dim("batch", min=2, max=64), torch.export.Dim("length", min=2, max=512)
KEYS = torch.export.Dim("keys", min=2, max=512)
SHAPES = ((5, 5), (3, 17), (7, 7), (2, 2), (4, 60))
"""Of batch and length, with some that are equal: comparing shapes as tuples would exclude these."""

Tensor = torch.Tensor


def layout(spec: str) -> bslang.Layout:
    return bslang.compile(spec, block=8, target="torch")


class _Call(nn.Module):
    """A call with an option that comes as the tensors after q, k and v: one, or a pair."""

    def __init__(self, spec: str, option: str | None = None, **others: Any) -> None:
        super().__init__()
        self.layout, self.option, self.others = layout(spec), option, others

    def forward(self, *tensors: Tensor) -> Tensor:
        q, k, v, *given = tensors
        options = dict(self.others)
        if self.option is not None:
            options[self.option] = tuple(given) if len(given) > 1 else given[0]
        return self.layout(q, k, v, **options)  # type: ignore[return-value]  # no lse


class _Multihead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = MultiheadAttention(32, 4, layout(STREAMING))

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        return self.inner(x, x, x, key_padding_mask=padding)[0]  # type: ignore[no-any-return]


def qkv(batch: int, length: int, keys: int | None = None) -> tuple[Tensor, ...]:
    keys = length if keys is None else keys
    return tuple(torch.randn(batch, 2, n, 16) for n in (length, keys, keys))


def numbers(batch: int, length: int, dtype: torch.dtype = torch.int64) -> Tensor:
    return torch.randint(0, 3, (batch, length), dtype=dtype)


SAME = {0: BATCH, 2: LENGTH}
OF_KEYS = {0: BATCH, 2: KEYS}
OF_TOKENS = {0: BATCH, 1: LENGTH}
Made = Callable[[], nn.Module]
Example = Callable[[int, int], tuple[Tensor, ...]]
PROGRAMS: dict[str, tuple[Made, Example, Any]] = {
    "call": (partial(_Call, STREAMING), qkv, (SAME,) * 3),
    "fewer queries": (
        partial(_Call, STREAMING),
        lambda b, n: qkv(b, 2, n),
        ({0: BATCH}, OF_KEYS, OF_KEYS),
    ),
    "labels": (
        partial(_Call, "same(doc) & causal", "labels"),
        lambda b, n: (*qkv(b, n), numbers(b, n)),
        (*(SAME,) * 3, OF_TOKENS),
    ),
    "labels of the length": (
        partial(_Call, "same(doc) & causal", "labels"),
        lambda b, n: (*qkv(b, n), numbers(1, n, torch.int32)[0]),
        (*(SAME,) * 3, {0: LENGTH}),
    ),
    "labels of two sequences": (
        partial(_Call, "same(doc)", "labels", align="start"),
        lambda b, n: (*qkv(b, n, n + b), numbers(b, n), numbers(b, n + b)),
        (SAME, OF_KEYS, OF_KEYS, OF_TOKENS, {0: BATCH, 1: KEYS}),
    ),
    "padding": (
        partial(_Call, STREAMING, "key_padding"),
        lambda b, n: (*qkv(b, n), numbers(b, n) == 0),
        (*(SAME,) * 3, OF_TOKENS),
    ),
    "lengths": (
        partial(_Call, STREAMING, "key_padding"),
        lambda b, n: (*qkv(b, n), torch.randint(1, n + 1, (b,))),
        (*(SAME,) * 3, {0: BATCH}),
    ),
    "BlockSparseAttention": (
        lambda: BlockSparseAttention(32, 2, layout(STREAMING), rotary=1e4),
        lambda b, n: (torch.randn(b, n, 32),),
        (OF_TOKENS,),
    ),
    "MultiheadAttention": (
        _Multihead,
        lambda b, n: (torch.randn(n, b, 32), numbers(b, n) == 0),
        ({0: LENGTH, 1: BATCH}, OF_TOKENS),
    ),
    "BlockSparseEncoderLayer": (
        lambda: BlockSparseEncoderLayer(32, 4, layout(STREAMING), batch_first=True).eval(),
        lambda b, n: (torch.randn(b, n, 32),),
        (OF_TOKENS,),
    ),
}


@torch.no_grad()
@pytest.mark.parametrize("strict", [False, True], ids=["traced", "read"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_exported_programs_serve_every_batch_and_length(name: str, strict: bool) -> None:
    made, example, shapes = PROGRAMS[name]
    module = made()
    dynamic = (tuple(shapes),) if isinstance(module, _Call) else shapes
    given = example(2, 30)
    program = torch.export.export(module, given, dynamic_shapes=dynamic, strict=strict).module()
    for batch, length in SHAPES:
        given = example(batch, length)
        torch.testing.assert_close(program(*given), module(*given), atol=1e-6, rtol=1e-5)


def test_numbers_may_be_symbols() -> None:
    """`dynamic=True` makes symbols of floats as well, which math.isfinite does not take."""
    made, given = layout(STREAMING), qkv(2, 40)

    def call(scale: float, softcap: float) -> Tensor:
        out = made(*given, scale, softcap=softcap)
        assert isinstance(out, Tensor)
        return out

    compiled = torch.compile(call, dynamic=True, fullgraph=True, backend="aot_eager")
    for scale, softcap in ((0.25, 9.0), (0.5, 30.0), (1, 2)):
        assert torch.equal(compiled(scale, softcap), call(scale, softcap))
    torch._dynamo.reset()


def test_a_length_is_no_scale_of_an_exported_program() -> None:
    """Operators take numbers as they are: torch says so of its own attention as well."""

    class Scaled(_Call):
        def forward(self, *tensors: Tensor) -> Tensor:
            self.others["scale"] = tensors[0].shape[2] ** -0.5
            return super().forward(*tensors)

    with pytest.raises(Exception, match="Constraints violated"):
        torch.export.export(Scaled(STREAMING), qkv(2, 30), dynamic_shapes=((SAME,) * 3,))


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), -float("inf"), 10**400])
def test_scales_that_are_none(scale: float) -> None:
    with pytest.raises(ValueError, match="scale must be a finite number or None, not"):
        layout(STREAMING)(*qkv(1, 8), scale)


# ---- models of transformers -------------------------------------------------------------------


def padded(batch: int, length: int) -> Tensor:
    return (torch.arange(length) < torch.randint(1, length + 1, (batch, 1))).long()


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "layers", "with_mask"), [("Llama", 1, False), ("Gemma2", 2, True), ("Bert", 1, False)]
)
def test_models_compile_whole_with_symbols(name: str, layers: int, with_mask: bool) -> None:
    register("all" if name == "Bert" else STREAMING, block=8, target="torch")
    made = model(name, num_hidden_layers=layers)  # those of Gemma 2 are of two kinds
    made.set_attn_implementation("bslang")
    compiled = torch.compile(made, backend="aot_eager", dynamic=True, fullgraph=True)
    for batch, length in ((2, 24), (5, 5), (3, 37)):
        call = {"input_ids": tokens(batch, length)}
        if with_mask:
            call["attention_mask"] = padded(batch, length)
        agree([compiled(**call)[0]], [made(**call)[0]])
    torch._dynamo.reset()


class _Model(nn.Module):
    def __init__(self, made: Any) -> None:
        super().__init__()
        self.made = made

    def forward(self, ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.made(ids, attention_mask=attention_mask)[0]  # type: ignore[no-any-return]


@torch.no_grad()
@pytest.mark.parametrize("with_mask", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("name", ["Llama", "Bert"])
def test_exported_models_serve_every_batch_and_length(name: str, with_mask: bool) -> None:
    register("all" if name == "Bert" else STREAMING, block=8, target="torch")
    inner = model(name)
    inner.set_attn_implementation("bslang")
    inner.config.use_cache = False
    made = _Model(inner)

    def example(batch: int, length: int) -> tuple[Tensor, ...]:
        return (tokens(batch, length), padded(batch, length))[: 1 + with_mask]

    length = torch.export.Dim("length", min=2, max=40)
    shapes = ({0: BATCH, 1: length},) * (1 + with_mask)
    program = torch.export.export(made, example(3, 24), dynamic_shapes=shapes).module()
    for batch, n in ((5, 5), (4, 37), (2, 9)):
        given = example(batch, n)
        agree([program(*given)], [made(*given)])
