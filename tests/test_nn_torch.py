"""Drop-ins against the modules of torch that they replace, with the layout as a dense mask."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from modules import (
    BIGBIRD,
    LENGTH,
    SPECS,
    STREAMING,
    check_equal,
    encoder_layers,
    layout,
    mask,
)
from torch import nn

from bslang.nn import (
    BlockSparseDecoderLayer,
    BlockSparseEncoderLayer,
    MultiheadAttention,
)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


# ---- MultiheadAttention ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "target"), [*((spec, "torch") for spec in SPECS), ("causal", "cpu")]
)
def test_multihead_attention_equals_that_of_torch(spec: str, target: str) -> None:
    made = layout(spec, target)
    theirs = nn.MultiheadAttention(32, 4, batch_first=True)
    mine = MultiheadAttention(32, 4, made, batch_first=True)
    nn.init.normal_(theirs.in_proj_bias)
    assert mine.load_state_dict(theirs.state_dict()) and theirs.load_state_dict(mine.state_dict())
    hidden = mask(made, 4, 2)
    for training in (True, False):
        mine.train(training), theirs.train(training)
        check_equal(
            (mine, lambda x: mine(x, x, x)[0]),
            (theirs, lambda x: theirs(x, x, x, attn_mask=hidden, need_weights=False)[0]),
            torch.randn(2, LENGTH, 32),
        )


@pytest.mark.parametrize("kind", ["bool", "float"])
@pytest.mark.parametrize("bias", [True, False])
def test_orders_paddings_and_inputs_of_torch(bias: bool, kind: str) -> None:
    theirs = nn.MultiheadAttention(32, 2, bias=bias)
    mine = MultiheadAttention(32, 2, layout("all"), bias=bias)
    mine.load_state_dict(theirs.state_dict())
    padding = torch.arange(LENGTH) >= torch.tensor([LENGTH, 20, 7])[:, None]
    if kind == "float":
        padding = torch.zeros(3, LENGTH).masked_fill(padding, -torch.inf)
    q, k, v = torch.randn(3, LENGTH, 3, 32)
    for row in (slice(None), 1):  # a batch, and one sequence without a dimension for it
        out, none = mine(q[:, row], k[:, row], v[:, row], key_padding_mask=padding[row])
        expected = theirs(q[:, row], k[:, row], v[:, row], key_padding_mask=padding[row])[0]
        torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
        assert none is None


def test_queries_without_keys_are_the_bias() -> None:
    mine = MultiheadAttention(16, 2, layout("causal"), batch_first=True)
    nn.init.normal_(mine.out_proj.bias)
    x = torch.randn(1, 12, 16)
    out, _ = mine(x, x, x, key_padding_mask=torch.arange(12)[None] < 5)
    torch.testing.assert_close(out[0, :5], mine.out_proj.bias.expand(5, 16))


def test_parameters_begin_as_those_of_torch() -> None:
    torch.manual_seed(3)
    theirs = nn.MultiheadAttention(32, 4)
    torch.manual_seed(3)
    mine = MultiheadAttention(32, 4, layout("all"))
    torch.testing.assert_close(mine.state_dict(), theirs.state_dict(), atol=0, rtol=0)


def test_a_module_of_torch_is_taken_over() -> None:
    theirs = nn.MultiheadAttention(32, 4, batch_first=True).eval()
    mine = MultiheadAttention.from_torch(theirs, layout("all"))
    assert mine.in_proj_weight is theirs.in_proj_weight and not mine.training
    x = torch.randn(2, LENGTH, 32)
    torch.testing.assert_close(mine(x, x, x)[0], theirs(x, x, x)[0], atol=1e-5, rtol=1e-5)
    for options, name in (
        ({"kdim": 16}, "kdim or vdim"),
        ({"add_bias_kv": True}, "add_bias_kv"),
        ({"add_zero_attn": True}, "add_zero_attn"),
        ({"dropout": 0.1}, "dropout must be 0"),
    ):
        with pytest.raises(ValueError, match=name):
            MultiheadAttention.from_torch(nn.MultiheadAttention(32, 4, **options), "all")
    with pytest.raises(TypeError, match=r"a torch\.nn\.MultiheadAttention, not Linear"):
        MultiheadAttention.from_torch(nn.Linear(3, 3), "all")  # type: ignore[arg-type]


def test_labels_of_multihead_attention() -> None:
    mine = MultiheadAttention(16, 2, layout("same(doc) & causal"), batch_first=True)
    x = torch.randn(1, 24, 16)
    out, _ = mine(x, x, x, labels=torch.arange(24) // 10)
    alone, _ = mine(*(x[:, 10:20],) * 3, labels=torch.zeros(10, dtype=torch.long))
    torch.testing.assert_close(out[:, 10:20], alone, atol=1e-6, rtol=1e-6)


def test_selections_of_multihead_attention() -> None:
    mine = MultiheadAttention(16, 2, layout("select(pick, rows=1t, cols=1t)"), batch_first=True)
    fixed = MultiheadAttention(16, 2, layout("causal - last(3t)"), batch_first=True)
    fixed.load_state_dict(mine.state_dict())
    x = torch.randn(1, 24, 16)
    pick = torch.ones(1, 1, 24, 24, dtype=torch.bool).tril(-3)
    torch.testing.assert_close(mine(x, x, x, select=pick), fixed(x, x, x))


def test_what_multihead_attention_refuses() -> None:
    x = torch.randn(1, 12, 16)
    mine = MultiheadAttention(16, 2, layout("causal"), batch_first=True)
    for message, options in (
        ("pass need_weights=False", {"need_weights": True}),
        ("the layout is the mask", {"attn_mask": torch.zeros(12, 12)}),
        ("for a causal layout, intersect it with `causal`", {"is_causal": True}),
        ("may only hold 0 and -inf", {"key_padding_mask": torch.full((1, 12), -1e9)}),
        (r"key_padding must be bool \(1, 12\)", {"key_padding_mask": torch.zeros(1, 9) > 0}),
    ):
        with pytest.raises(ValueError, match=message):
            mine(x, x, x, **options)
    with pytest.raises(ValueError, match=r"one sequence.*\(1, 12, 16\), \(1, 8, 16\)"):
        mine(x, x[:, :8], x[:, :8])
    with pytest.raises(ValueError, match=r"\(batch, length, 16\).*its shape is \(1, 12, 8\)"):
        mine(*(x[..., :8],) * 3)
    with pytest.raises(ValueError, match="nested tensors are not supported"):
        mine(*(torch.nested.nested_tensor([x[0]], layout=torch.jagged),) * 3)
    with pytest.raises(ValueError, match="dropout must be 0"):
        MultiheadAttention(16, 2, "causal", dropout=0.1)


# ---- transformer layers ----------------------------------------------------------------------

LAYERS: list[dict[str, Any]] = [
    {"norm_first": True, "activation": "gelu", "batch_first": True, "layer_norm_eps": 1e-3},
    {"norm_first": False, "activation": nn.SiLU(), "batch_first": True, "bias": False},
    {"norm_first": False, "batch_first": True},  # what the fast path of torch's own would take
]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", LAYERS)
@pytest.mark.parametrize("spec", SPECS)
def test_encoder_layers_equal_those_of_torch(
    spec: str, options: dict[str, Any], training: bool
) -> None:
    mine, theirs, hidden = encoder_layers(spec, **options)
    mine.train(training), theirs.train(training)
    x = torch.randn(2, LENGTH, 32)
    check_equal((mine, mine), (theirs, lambda x: theirs(x, src_mask=hidden)), x)
    with torch.no_grad():  # where torch leaves `forward` for a path of its own
        torch.testing.assert_close(mine(x), theirs(x, src_mask=hidden), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_a_stack_of_torch_runs_encoder_layers(training: bool) -> None:
    one, other, hidden = encoder_layers(BIGBIRD, batch_first=True)
    mine = nn.TransformerEncoder(one, 2, nn.LayerNorm(32), enable_nested_tensor=False)
    theirs = nn.TransformerEncoder(other, 2, nn.LayerNorm(32), enable_nested_tensor=False)
    mine.train(training), theirs.train(training)
    padding = torch.arange(LENGTH) >= torch.tensor([LENGTH, 30])[:, None]
    x = torch.randn(2, LENGTH, 32)
    real = (~padding).float()[..., None]
    both = hidden | padding.repeat_interleave(4, 0)[:, None]
    both &= ~both.all(-1, keepdim=True)  # no query of torch's may see nothing, or it is NaN
    check_equal(
        (mine, lambda x: mine(x, src_key_padding_mask=padding) * real),
        (theirs, lambda x: theirs(x, mask=both) * real),
        x,
    )
    with torch.no_grad():
        found, expected = mine(x, src_key_padding_mask=padding), theirs(x, mask=both)
        torch.testing.assert_close(found * real, expected * real, atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
def test_a_layer_of_torch_does_not_leave_the_layout() -> None:
    """Its fast path would attend densely, by the weights of whatever its self_attn is."""
    made = layout("causal")
    layer = nn.TransformerEncoderLayer(32, 4, 48, dropout=0.0, batch_first=True)
    expected_of = copy.deepcopy(layer).train()
    layer.self_attn = MultiheadAttention.from_torch(layer.self_attn, made)
    x = torch.randn(2, LENGTH, 32)
    padding = torch.arange(LENGTH) >= torch.tensor([LENGTH, 30])[:, None]
    for module in (layer, nn.TransformerEncoder(layer, 1)):
        with torch.no_grad():
            out = module.eval()(x, src_key_padding_mask=padding)
        both = mask(made, 4, 2) | padding.repeat_interleave(4, 0)[:, None]
        torch.testing.assert_close(out, expected_of(x, src_mask=both), atol=1e-5, rtol=1e-5)


def test_decoder_layers_equal_those_of_torch() -> None:
    made = layout(STREAMING)
    options: dict[str, Any] = {"dim_feedforward": 48, "dropout": 0.0, "batch_first": True}
    one = BlockSparseDecoderLayer(32, 4, made, **options)
    other = nn.TransformerDecoderLayer(32, 4, **options)
    mine, theirs = nn.TransformerDecoder(one, 2), nn.TransformerDecoder(other, 2)
    theirs.load_state_dict(mine.state_dict())
    memory, hidden = torch.randn(2, 9, 32), mask(made, 4, 2)
    for training in (True, False):
        mine.train(training), theirs.train(training)
        check_equal(
            (mine, lambda x: mine(x, memory)),
            (theirs, lambda x: theirs(x, memory, tgt_mask=hidden)),
            torch.randn(2, LENGTH, 32),
        )
    with pytest.raises(ValueError, match="the layout is the mask"):
        mine(torch.randn(2, LENGTH, 32), memory, tgt_mask=hidden)


def test_dropout_of_a_layer_is_that_of_everything_but_attention() -> None:
    layer = BlockSparseEncoderLayer(32, 4, layout("all"), dropout=0.5)
    assert layer.self_attn.dropout == 0 and layer.dropout1.p == layer.dropout.p == 0.5
    x = torch.randn(LENGTH, 2, 32)
    assert not torch.equal(layer(x), layer(x))
    assert torch.equal(layer.eval()(x), layer(x))


def test_what_layers_refuse() -> None:
    with pytest.raises(ValueError, match=r"has labels \(doc\), which the layer's call cannot give"):
        BlockSparseEncoderLayer(32, 4, "same(doc)")
    with pytest.raises(ValueError, match=r"has selections \(pick\), which the layer's call cannot"):
        BlockSparseEncoderLayer(32, 4, "select(pick) | last(2)")
    with pytest.raises(ValueError, match="embed_dim 32 is not a multiple of num_heads 3"):
        BlockSparseDecoderLayer(32, 3, "causal")
    x = torch.randn(LENGTH, 2, 32)
    with pytest.raises(ValueError, match="the layout is the mask"):
        BlockSparseEncoderLayer(32, 4, layout("all"))(x, src_mask=torch.zeros(LENGTH, LENGTH))
