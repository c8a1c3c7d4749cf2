"""Generation with the caches of windowed models, which drop old keys: the same as with a cache that keeps
all, or refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from small_models import GREEDY, LEFT, RIGHT, SPARSE, agree, model, tokens
from torch._dynamo.testing import CompileCounter
from transformers.masking_utils import causal_mask_function

import bslang
from bslang.integrations.transformers import register
from bslang.integrations.transformers.attention import Attention
from bslang.integrations.transformers.mask import mask
from bslang.runtime.layout import CallableLayout

FEW: dict[str, Any] = {"block": 8, "target": "torch"}
CALL = GREEDY | {"output_logits": True, "return_dict_in_generate": True, "max_new_tokens": 14}
WINDOW = 12

LAYOUTS = {
    "last(12t)": 1,  # tokens by which it may move along the diagonal
    "last(1) & last(5t)": 8,
    "chunks(10t) & causal": 10,
    "random(1, within=last(1)) & last(9t)": None,
}


@pytest.mark.parametrize("spec", LAYOUTS)
@pytest.mark.parametrize("padding", [None, LEFT], ids=["whole", "padded"])
def test_a_cache_that_drops_keys_changes_nothing(spec: str, padding: torch.Tensor | None) -> None:
    made = model("Mistral", sliding_window=WINDOW)
    register(spec, **FEW)
    made.set_attn_implementation("bslang")
    call = CALL | {"attention_mask": padding}
    plain = made.generate(tokens(), past_key_values=transformers.DynamicCache(), **call)
    for how in ({}, {"cache_implementation": "static"}, {"prefill_chunk_size": 16}):
        found = made.generate(tokens(), **how, **call)
        assert torch.equal(found.sequences, plain.sequences)
        agree(found.logits, plain.logits)


@pytest.mark.parametrize("spec", LAYOUTS)
def test_a_window_that_moves_along_needs_no_keys_that_are_gone(
    spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of such a layout all have the length of the window."""
    made = model("Mistral", sliding_window=WINDOW)
    register(spec, **FEW)
    made.set_attn_implementation("bslang")
    lengths: list[int] = []
    call = CallableLayout.__call__

    def counted(self: Any, q: Any, k: Any, *args: Any, **options: Any) -> Any:
        if q.shape[2] == 1:
            lengths.append(k.shape[2])
        return call(self, q, k, *args, **options)

    monkeypatch.setattr(CallableLayout, "__call__", counted)
    made.generate(tokens(), **CALL)
    shift = LAYOUTS[spec]
    most = WINDOW + 14 + 40 if shift is None else WINDOW + shift - 1
    assert len(lengths) == 26 and min(lengths) >= WINDOW and max(lengths) <= most
    if shift == 1:
        assert set(lengths) == {WINDOW}


def test_a_cache_that_drops_what_the_layout_sees_is_refused() -> None:
    made = model("Mistral", sliding_window=WINDOW)
    reason = r"keeps the last 12 tokens, and in `{}` query {} sees key 0: .* past_key_values=DynamicCache\(\)"
    for spec, text, query in (
        ("last(13t)", r"last\(13t\)", 12),
        (SPARSE, ".*cols.*", r"\d+"),
        ("heads { 0:1 -> last(2t); 1: -> last(13t) }", ".*", 12),
    ):
        register(spec, **FEW)
        made.set_attn_implementation("bslang")
        short = GREEDY | {"max_new_tokens": 3}
        assert made.generate(tokens(length=9), **short).shape == (2, 12), "no key is gone"
        with pytest.raises(ValueError, match=reason.format(text, query)):
            made.generate(tokens(), **GREEDY)
        with pytest.raises(ValueError, match=reason.format(text, query)):
            made.generate(tokens(), cache_implementation="static", **GREEDY)
        made.generate(tokens(), past_key_values=transformers.DynamicCache(), **GREEDY)


@torch.no_grad()
def test_padding_in_the_place_of_tokens_in_a_cache_that_drops_keys_is_refused() -> None:
    """The cache of the second row is padding, and tokens that its window sees are gone."""
    made = model("Mistral", sliding_window=WINDOW)
    register("last(12t)", **FEW)
    made.set_attn_implementation("bslang")
    cache = transformers.DynamicCache(config=made.config)
    made(tokens(), attention_mask=RIGHT, past_key_values=cache)
    seen = torch.nn.functional.pad(RIGHT, (0, 1), value=1)
    with pytest.raises(ValueError, match="row 1 of attention_mask has padding between its tokens"):
        made(tokens(length=1), attention_mask=seen, past_key_values=cache)


@torch.no_grad()
def test_masks_of_all_pairs_do_not_tell_what_the_cache_has_dropped() -> None:
    made = model("Mistral", sliding_window=WINDOW)
    register("chunks(10t) & causal", **FEW)
    made.set_attn_implementation("bslang")
    cache = transformers.DynamicCache(config=made.config)
    for start, stop in ((0, 9), (9, 20), (20, 23)):
        pairs = torch.ones(stop - start, stop, dtype=torch.bool).tril(start)[:, -(WINDOW + 2) :]
        call = {"past_key_values": cache, "attention_mask": pairs.expand(2, 1, -1, -1)}
        if stop < 23:
            made(tokens()[:, start:stop], past_key_values=cache)
            continue
        with pytest.raises(
            ValueError, match=r"14 keys of 23 tokens.* attention_mask as \(batch, length\)"
        ):
            made(tokens()[:, start:stop], **call)


KINDS: dict[str, dict[str, Any]] = {
    "Mistral": {"sliding_window": WINDOW},
    "Gemma2": {"sliding_window": WINDOW},
    "Gemma3Text": {"sliding_window": WINDOW},
    "GptOss": {"sliding_window": WINDOW},
    "Qwen2": {"sliding_window": WINDOW, "use_sliding_window": True, "max_window_layers": 1},
}


@pytest.mark.parametrize("name", KINDS)
def test_windowed_models_generate_what_they_do(name: str) -> None:
    """A layout for each kind of layer, beside eager attention; beams reorder the cache."""
    made = model(name, **KINDS[name])
    kinds = getattr(made.config, "layer_types", None) or ["sliding_attention"] * 2
    near = {"sliding_attention": f"last({WINDOW}t)", "full_attention": "causal"}
    register([near[kind] for kind in kinds], **FEW)
    for call in ({"attention_mask": LEFT}, {"num_beams": 2, "cache_implementation": "static"}):
        found = []
        for attention in ("bslang", "eager"):
            made.set_attn_implementation(attention)
            found.append(made.generate(tokens(), **GREEDY | call))
        assert torch.equal(*found)


@pytest.mark.parametrize("how", ["assistant_model", "prompt_lookup_num_tokens"])
def test_caches_that_are_rolled_back(how: str) -> None:
    """Assisted decoding keeps more keys than the window, and takes tokens back."""
    made = model("Mistral", sliding_window=WINDOW)
    register("chunks(10t) & causal", **FEW)
    made.set_attn_implementation("bslang")
    plain = made.generate(tokens(1), **GREEDY)
    given = made if how == "assistant_model" else 3
    assert torch.equal(made.generate(tokens(1), **GREEDY, **{how: given}), plain)


# ---- compiled steps ------------------------------------------------------------------------------------


@torch.no_grad()
def test_steps_with_a_static_cache_compile_whole() -> None:
    """One program for all lengths."""
    made = model(num_hidden_layers=1)
    register(SPARSE, **FEW)
    made.set_attn_implementation("bslang")
    counter = CompileCounter()
    caches = [transformers.StaticCache(made.config, max_cache_len=64) for _ in range(2)]
    compiled = torch.compile(made, backend=counter, fullgraph=True)
    ids = tokens(length=43)
    for start, stop in ((0, 40), *((t, t + 1) for t in range(40, 43))):
        seen = torch.nn.functional.pad(LEFT, (0, stop - 40), value=1)
        torch._dynamo.mark_dynamic(seen, 1)
        positions = (seen.cumsum(1) - 1).clamp(min=0)[:, start:stop].contiguous()
        call = {"attention_mask": seen, "position_ids": positions}
        found = [
            step(ids[:, start:stop], past_key_values=cache, **call).logits
            for step, cache in zip((made, compiled if start else made), caches, strict=True)
        ]
        agree(found[1:], found[:1])
    assert counter.frame_count == 1
    torch._dynamo.reset()


def attention(spec: str) -> Any:
    """The attention function of a layout, of a decoder, as a compiled program."""
    function = Attention("f", [bslang.compile(spec, **FEW)], False, False)
    module = torch.nn.Module()

    def call(q: Any, k: Any, mask: Any) -> torch.Tensor:
        return function(module, q, k, k, mask)[0]

    return call, torch.compile(call, backend="eager", fullgraph=True)


def test_a_static_cache_without_a_mask_is_read_up_to_its_length() -> None:
    def masked(length: torch.Tensor) -> torch.Tensor | None:
        return mask(2, 3, 64, length, mask_function=causal_mask_function, use_vmap=False)

    plain, compiled = attention(SPARSE)
    q, k = torch.randn(2, 4, 3, 8), torch.randn(2, 4, 64, 8)
    k[:, :, 40:] = torch.nan  # nobody has written there
    found = compiled(q, k, torch.compile(masked, backend="eager", fullgraph=True)(torch.tensor(37)))
    agree([found], [plain(q, k[:, :, :40], None)])
    torch._dynamo.reset()


def test_compiled_programs_refuse_padding_that_moves_what_the_layout_sees() -> None:
    q, k = torch.randn(2, 4, 40, 8), torch.randn(2, 4, 40, 8)
    plain, compiled = attention(SPARSE)
    agree([compiled(q, k, RIGHT.bool())], [plain(q, k, RIGHT.bool())])
    with pytest.raises(RuntimeError, match=r"it matters in .* padding on the right only"):
        compiled(q, k, LEFT.bool())
    step = torch.ones_like(LEFT).bool()
    step[1, 39] = False
    with pytest.raises(RuntimeError, match="padding must come before the tokens of a row"):
        compiled(q[:, :, :2], k, step)
    torch._dynamo.reset()
