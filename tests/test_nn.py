"""Modules: drop-ins against torch's own with the layout as a dense mask, caches against one full pass."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch._dynamo.testing
from torch import nn
from torch.utils.checkpoint import checkpoint

import bslang
from bslang import compiler
from bslang.ir import oracle
from bslang.nn import (
    BlockSparseAttention,
    BlockSparseDecoderLayer,
    BlockSparseEncoderLayer,
    KVCache,
    MultiheadAttention,
    Rotary,
)
from bslang.runtime.layout import Layout

BIGBIRD = "window(3) | global(0, -1) | random(2, seed=7)"
STREAMING = "(last(20t) | cols(0:4t)) & causal"
MIXED = "heads { 0 -> last(20t) & causal; 1: -> causal }"
SPECS = ("all", "causal", BIGBIRD, MIXED)
LENGTH = 45


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    torch.manual_seed(0)
    yield
    torch._dynamo.reset()


def layout(spec: str, target: str = "torch") -> Layout:
    return bslang.compile(spec, block=8, target=target)


def mask(made: Layout, heads: int, batch: int) -> torch.Tensor:
    """What torch calls attn_mask: bool (batch * heads, LENGTH, LENGTH), True where nothing is seen."""
    grids = (compiler.grid(made.resolved, LENGTH, LENGTH, head=head) for head in range(heads))
    seen = [torch.from_numpy(oracle.dense(made.resolved.pattern, grid)) for grid in grids]
    return ~torch.stack(seen).repeat(batch, 1, 1)


def check_equal(mine: Any, other: Any, given: torch.Tensor) -> None:
    """The outputs of two functions, their gradients in the input, and in all parameters."""
    results = []
    for module, call in (mine, other):
        x = given.clone().requires_grad_()
        out = call(x)
        module.zero_grad()
        (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
        grads = {name: p.grad for name, p in module.named_parameters()}
        results.append((out, x.grad, grads))
    torch.testing.assert_close(*results, atol=2e-5, rtol=2e-5)


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


def test_labels_of_multihead_attention() -> None:
    mine = MultiheadAttention(16, 2, layout("same(doc) & causal"), batch_first=True)
    x = torch.randn(1, 24, 16)
    out, _ = mine(x, x, x, labels=torch.arange(24) // 10)
    alone, _ = mine(*(x[:, 10:20],) * 3, labels=torch.zeros(10, dtype=torch.long))
    torch.testing.assert_close(out[:, 10:20], alone, atol=1e-6, rtol=1e-6)


def test_what_multihead_attention_refuses() -> None:
    x = torch.randn(1, 12, 16)
    mine = MultiheadAttention(16, 2, layout("causal"), batch_first=True)
    for message, options in (
        ("pass need_weights=False", {"need_weights": True}),
        ("the layout is the mask", {"attn_mask": torch.zeros(12, 12)}),
        ("intersect the layout with `causal`", {"is_causal": True}),
        ("has 0 and -inf alone", {"key_padding_mask": torch.full((1, 12), -1e9)}),
        (r"key_padding must be bool \(1, 12\)", {"key_padding_mask": torch.zeros(1, 9) > 0}),
    ):
        with pytest.raises(ValueError, match=message):
            mine(x, x, x, **options)
    with pytest.raises(ValueError, match=r"of one sequence.*\(1, 12, 16\), \(1, 8, 16\)"):
        mine(x, x[:, :8], x[:, :8])
    with pytest.raises(ValueError, match=r"\(batch, length, 16\).*its shape is \(1, 12, 8\)"):
        mine(*(x[..., :8],) * 3)
    with pytest.raises(ValueError, match="nested tensors are not taken"):
        mine(*(torch.nested.nested_tensor([x[0]], layout=torch.jagged),) * 3)
    with pytest.raises(ValueError, match="dropout must be 0"):
        MultiheadAttention(16, 2, "causal", dropout=0.1)


# ---- transformer layers ----------------------------------------------------------------------

LAYERS: list[dict[str, Any]] = [
    {"norm_first": True, "activation": "gelu", "batch_first": True, "layer_norm_eps": 1e-3},
    {"norm_first": False, "activation": nn.SiLU(), "batch_first": True, "bias": False},
    {"norm_first": False, "batch_first": True},  # what the fast path of torch's own would take
]


def encoder_layers(spec: str, **options: Any) -> tuple[Any, Any, torch.Tensor]:
    made = layout(spec)
    options = {"dim_feedforward": 48, "dropout": 0.0, **options}
    theirs = nn.TransformerEncoderLayer(32, 4, **options)
    mine = BlockSparseEncoderLayer(32, 4, made, **options)
    assert mine.load_state_dict(theirs.state_dict()) and theirs.load_state_dict(mine.state_dict())
    return mine, theirs, mask(made, 4, 2)


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
    with pytest.raises(ValueError, match="embed_dim 32 is not a multiple of num_heads 3"):
        BlockSparseDecoderLayer(32, 3, "causal")
    x = torch.randn(LENGTH, 2, 32)
    with pytest.raises(ValueError, match="the layout is the mask"):
        BlockSparseEncoderLayer(32, 4, layout("all"))(x, src_mask=torch.zeros(LENGTH, LENGTH))


# ---- BlockSparseAttention --------------------------------------------------------------------


def attention(spec: str = STREAMING, **options: Any) -> BlockSparseAttention:
    options = {"num_kv_heads": 2, "rotary": 100.0, **options}
    return BlockSparseAttention(32, 4, layout(spec), **options)


def test_it_is_the_attention_of_llama() -> None:
    modeling = pytest.importorskip(
        "transformers.models.llama.modeling_llama", reason="transformers is not installed"
    )
    from transformers import LlamaConfig

    config = LlamaConfig(
        hidden_size=32, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
        max_position_embeddings=64, attn_implementation="eager",
    )  # fmt: skip
    theirs = modeling.LlamaAttention(config, 0)
    mine = attention("causal", head_dim=16, bias=False, rotary=10_000)
    mine.load_state_dict(theirs.state_dict())
    turn = modeling.LlamaRotaryEmbedding(config)
    hidden = torch.full((LENGTH, LENGTH), -torch.inf).triu(1)[None, None]

    def call(x: torch.Tensor) -> Any:
        return theirs(x, turn(x, torch.arange(LENGTH)[None]), hidden)[0]

    check_equal((mine, mine), (theirs, call), torch.randn(2, LENGTH, 32))


def test_options_reach_the_layout() -> None:
    made = attention(BIGBIRD, rotary=None, softcap=2.0, scale=0.5, head_dim=24, bias=False)
    x, lengths = torch.randn(2, LENGTH, 32), torch.tensor([LENGTH, 20])
    q = made.q_proj(x).view(2, LENGTH, 4, 24).transpose(1, 2)
    k, v = (p(x).view(2, LENGTH, 2, 24).transpose(1, 2) for p in (made.k_proj, made.v_proj))
    out = made.layout(q, k, v, 0.5, softcap=2.0, key_padding=lengths)
    expected = made.o_proj(out.transpose(1, 2).reshape(2, LENGTH, 96))  # type: ignore[union-attr]
    assert torch.equal(made(x, key_padding=lengths), expected)


def test_layouts_are_given_as_text() -> None:
    made = BlockSparseAttention(32, 4, "block 8\nlast(2) & causal")
    assert (
        made.layout.block == (8, 8)
        and made.double()(torch.randn(1, 20, 32).double()).dtype == torch.float64
    )
    with pytest.raises(bslang.SpecError, match="unknown name"):
        BlockSparseAttention(32, 4, "windw(3)")
    with pytest.raises(
        TypeError, match=r"a bslang\.Layout or the text of a spec, not int; bslang\.load"
    ):
        BlockSparseAttention(32, 4, 3)  # type: ignore[arg-type]


def test_rotary_positions_are_relative() -> None:
    rotary, x = Rotary(100.0), torch.randn(2, 1, 2, 6, 16, dtype=torch.float64)
    near, far = ((rotary(x[0], s) @ rotary(x[1], s).transpose(-1, -2)) for s in (0, 1000))
    torch.testing.assert_close(near, far)
    torch.testing.assert_close(rotary(x[0])[..., 3:, :], rotary(x[0][..., 3:, :], 3))
    assert rotary(x[0].bfloat16()).dtype == torch.bfloat16


class _NoTurn(nn.Module):
    def forward(self, x: torch.Tensor, start: int) -> torch.Tensor:
        return x


def test_a_module_can_say_the_positions() -> None:
    mine, plain = attention(rotary=_NoTurn()), attention(rotary=None)
    mine.load_state_dict(plain.state_dict())
    x = torch.randn(1, LENGTH, 32)
    assert torch.equal(mine(x), plain(x)) and not torch.equal(mine(x), attention()(x))


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("embed_dim 100 is not a multiple of num_heads 8", {"embed_dim": 100}),
        ("multiple of 8 up to 256, not 4", {"embed_dim": 32}),
        ("multiple of 8 up to 256, not 12", {"head_dim": 12}),
        ("num_heads 8 is not a multiple of num_kv_heads 3", {"num_kv_heads": 3}),
        ("num_kv_heads is a whole number from 1 on, not 0", {"num_kv_heads": 0}),
        ("num_heads is a whole number from 1 on, not 2.0", {"num_heads": 2.0}),
        ("a number above 1, not True", {"rotary": True}),
        ("softcap is None or a number", {"softcap": 0}),
    ],
)
def test_numbers_that_do_not_fit(message: str, options: dict[str, Any]) -> None:
    given: dict[str, Any] = {"embed_dim": 64, "num_heads": 8, "layout": "causal", **options}
    with pytest.raises(ValueError, match=message):
        BlockSparseAttention(**given)


def test_inputs_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\(batch, length, 32\); its shape is \(2, 5, 16\)"):
        attention()(torch.randn(2, 5, 16))


# ---- caches ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "target"), [(STREAMING, "torch"), (MIXED, "torch"), ("causal", "cpu")]
)
@torch.no_grad()
def test_a_cache_in_steps_equals_one_pass(spec: str, target: str) -> None:
    made = BlockSparseAttention(32, 4, layout(spec, target), num_kv_heads=2, rotary=100.0)
    x = torch.randn(2, 70, 32)
    whole = made(x)
    for steps in ([1] * 70, [33, 1, 1, 20, 15], [70]):
        for cache in (KVCache(), KVCache(max_length=70)):
            outs = [made(part, cache=cache) for part in x.split(steps, 1)]
            torch.testing.assert_close(torch.cat(outs, 1), whole, atol=2e-6, rtol=2e-6)
            assert cache.length == 70


@torch.no_grad()
def test_labels_beside_a_cache_are_of_all_positions() -> None:
    made, cache = attention("same(doc) & causal"), KVCache()
    x, doc = torch.randn(1, 40, 32), torch.arange(40) // 13
    outs = [made(x[:, a:b], labels=doc[:b], cache=cache) for a, b in ((0, 20), (20, 21), (21, 40))]
    torch.testing.assert_close(torch.cat(outs, 1), made(x, labels=doc), atol=2e-6, rtol=2e-6)


@torch.no_grad()
def test_a_cache_grows_and_forgets() -> None:
    made, cache = attention(), KVCache()
    x = torch.randn(1, 600, 32)
    whole, rooms = made(x), set()
    for a, b in ((0, 256), (256, 300), (300, 600)):
        torch.testing.assert_close(
            made(x[:, a:b], cache=cache), whole[:, a:b], atol=2e-6, rtol=2e-6
        )
        rooms.add(cache.room(cache.length))
    assert rooms == {256, 512, 1024}
    cache.truncate(300)
    torch.testing.assert_close(
        made(x[:, 300:310], cache=cache), whole[:, 300:310], atol=2e-6, rtol=2e-6
    )
    assert repr(cache) == "<bslang.nn.KVCache length=310>"
    with pytest.raises(ValueError, match="holds 310 positions, and cannot keep 311"):
        cache.truncate(311)


def test_what_caches_refuse() -> None:
    x = torch.randn(2, 20, 32)
    with pytest.raises(RuntimeError, match=r"holds no gradients; decode under torch\.no_grad"):
        attention()(x, cache=KVCache())
    with torch.no_grad():
        cache = KVCache(max_length=24)
        for spec, message in (
            ("window(3)", "query 0 sees key 7, which comes later; intersect it with `causal`"),
            ("cols(-1) & causal", r"query \d+ sees key \d+ with \d+ tokens, but not with"),
            ("heads { 0:3 -> causal; 3: -> window(3) }", "which comes later"),
        ):
            with pytest.raises(ValueError, match=message):
                attention(spec)(x, cache=cache)
            assert cache.length == 0
        made = attention()
        made(x, cache=cache)
        with pytest.raises(ValueError, match="max_length 24, too few for 25 positions"):
            made(x[:, :5], cache=cache)
        with pytest.raises(
            ValueError, match=r"holds \(batch 2, heads 2, dim 8\).*cache of its own"
        ):
            made(x[:1, :4], cache=cache)
        with pytest.raises(ValueError, match="key_padding does not go with a cache"):
            made(x[:, :4], key_padding=torch.tensor([3, 4]), cache=cache)
        assert cache.length == 20
    with pytest.raises(ValueError, match="max_length is a whole number from 1 on, not 0"):
        KVCache(0)


# ---- torch -----------------------------------------------------------------------------------


@torch.no_grad()
def test_modules_compile_whole() -> None:
    for module in (attention(), encoder_layers(BIGBIRD, batch_first=True)[0].eval()):
        counter = torch._dynamo.testing.CompileCounterWithBackend("eager")
        compiled = torch.compile(module, fullgraph=True, backend=counter)
        for length in (40, 56, 17):
            x = torch.randn(2, length, 32)
            torch.testing.assert_close(compiled(x), module(x), atol=1e-5, rtol=1e-5)
        assert counter.frame_count <= 2
        torch._dynamo.reset()


def test_compiled_modules_have_gradients() -> None:
    module = attention()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    check_equal((module, compiled), (module, module), torch.randn(2, LENGTH, 32))


@torch.no_grad()
def test_decoding_compiles_whole() -> None:
    made, cache = attention(), KVCache(max_length=70)
    x = torch.randn(2, 70, 32)
    counter = torch._dynamo.testing.CompileCounterWithBackend("eager")
    step = torch.compile(made, fullgraph=True, backend=counter)
    with pytest.raises(Exception, match=r"its first tokens without torch\.compile"):
        step(x[:, :20], cache=KVCache(max_length=70))
    outs = [made(x[:, :20], cache=cache)]
    outs += [step(x[:, t : t + 1], cache=cache) for t in range(20, 70)]
    torch.testing.assert_close(torch.cat(outs, 1), made(x), atol=2e-6, rtol=2e-6)
    assert counter.frame_count <= 2


def test_autocast() -> None:
    x = torch.randn(2, LENGTH, 32)
    for module in (attention(), encoder_layers(BIGBIRD, batch_first=True)[0]):
        expected = module(x)
        with torch.autocast("cpu", torch.bfloat16):
            out = module(x)
        torch.testing.assert_close(out.float(), expected, atol=5e-2, rtol=5e-2)
    assert attention().bfloat16()(x.bfloat16()).dtype == torch.bfloat16


def test_activation_checkpoints() -> None:
    for module in (attention(), encoder_layers(BIGBIRD, batch_first=True)[0]):
        check_equal(
            (module, lambda x, m=module: checkpoint(m, x, use_reentrant=False)),
            (module, module),
            torch.randn(2, LENGTH, 32),
        )


def test_modules_are_copied_and_saved() -> None:
    x = torch.randn(2, LENGTH, 32)
    for module in (attention(), encoder_layers(BIGBIRD, batch_first=True)[0]):
        file = io.BytesIO()
        torch.save(module, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=False)
        for again in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), loaded):
            assert torch.equal(again(x), module(x))
    names = {f"{p}_proj.{what}" for p in "qkvo" for what in ("weight", "bias")}
    assert set(attention().state_dict()) == names


def test_modules_are_shown_with_their_layout() -> None:
    shown = f"layout='{layout(BIGBIRD).spec}', block=8x8"
    first = "(\n  embed_dim=32, num_heads=4, num_kv_heads=2, head_dim=8, softcap=5, "
    assert f"{first}{shown}" in repr(attention(BIGBIRD, softcap=5.0))
    assert "(rotary): Rotary(base=100)" in repr(attention())
    encoder = encoder_layers(BIGBIRD, batch_first=True)[0]
    assert f"embed_dim=32, num_heads=4, batch_first=True, {shown}" in repr(encoder)


def test_importing_the_modules_registers_the_operators() -> None:
    code = "import bslang.nn, torch; torch.ops.bslang.attention.default"
    subprocess.run([sys.executable, "-c", code], check=True)
