"""BlockSparseAttention, caches against one full pass, and modules in the hands of torch."""

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
from modules import (
    BIGBIRD,
    LENGTH,
    MIXED,
    STREAMING,
    check_equal,
    encoder_layers,
    layout,
)
from torch import nn
from torch.utils.checkpoint import checkpoint

import bslang
from bslang.nn import (
    BlockSparseAttention,
    KVCache,
    Rotary,
)


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    torch.manual_seed(0)
    yield
    torch._dynamo.reset()


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
        ("head_dim must be an integer of at least 1, not 0", {"head_dim": 0}),
        ("num_heads 8 is not a multiple of num_kv_heads 3", {"num_kv_heads": 3}),
        ("num_kv_heads must be an integer of at least 1, not 0", {"num_kv_heads": 0}),
        ("num_heads must be an integer of at least 1, not 2.0", {"num_heads": 2.0}),
        ("a number above 1, not True", {"rotary": True}),
        ("softcap must be None or a number", {"softcap": 0}),
        ("scale must be a finite number or None, not nan", {"scale": float("nan")}),
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
            ValueError, match=r"holds \(batch 2, heads 2, dim 8\).*needs its own cache"
        ):
            made(x[:1, :4], cache=cache)
        with pytest.raises(ValueError, match="key_padding cannot be used with a cache"):
            made(x[:, :4], key_padding=torch.tensor([3, 4]), cache=cache)
        assert cache.length == 20
    with pytest.raises(ValueError, match="max_length must be an integer of at least 1, not 0"):
        KVCache(0)
    with pytest.raises(TypeError, match=r"cache must be a bslang\.nn\.KVCache, not dict"):
        attention()(x, cache={})


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
    with pytest.raises(Exception, match=r"the first tokens without torch\.compile"):
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
    assert "block=8x8, layer=3\n" in repr(BlockSparseAttention(32, 4, layout("causal").at_layer(3)))
    encoder = encoder_layers(BIGBIRD, batch_first=True)[0]
    assert f"embed_dim=32, num_heads=4, batch_first=True, {shown}" in repr(encoder)


def test_importing_the_modules_registers_the_operators() -> None:
    code = "import bslang, torch; bslang.nn.Rotary; torch.ops.bslang.attention.default"
    subprocess.run([sys.executable, "-c", code], check=True)
