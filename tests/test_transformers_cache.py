"""Generation with a LayoutCache: the tokens of a cache that keeps all, in the memory of what layouts read."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import transformers
from small_models import LEFT, RIGHT, SPARSE, agree, model, tokens
from torch import nn

import bslang
from bslang.integrations.transformers import LayoutCache, register
from bslang.integrations.transformers.attention import Attention

FEW: dict[str, Any] = {"block": 8, "target": "torch"}
CALL: dict[str, Any] = {"do_sample": False, "max_new_tokens": 24}
SINKS = "last(12t) | cols(0:2t) & causal"

Tensor = torch.Tensor


def sparse(name: str = "Llama", layout: Any = SPARSE, **changed: Any) -> Any:
    made = model(name, **changed)
    register(layout, **FEW)
    made.set_attn_implementation("bslang")
    return made


def held(cache: LayoutCache) -> list[int]:
    """Pages of 16 tokens that each layer holds."""
    return [layer.cache._kept.pool.used for layer in cache.layers]


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"attention_mask": LEFT},
        {"num_beams": 3},
        {"num_beams": 2, "attention_mask": LEFT},
        {"prefill_chunk_size": 7},
    ],
    ids=["greedy", "padded", "beams", "padded beams", "chunks"],
)
def test_generation(how: dict[str, Any]) -> None:
    made, cache = sparse(), LayoutCache()
    found = made.generate(tokens(), past_key_values=cache, **CALL, **how)
    plain = made.generate(tokens(), past_key_values=transformers.DynamicCache(), **CALL, **how)
    assert torch.equal(found, plain)
    # The first tokens and the last five, from the beginning of a block on, of each row or beam.
    assert max(held(cache)) <= 3 * found.shape[0] * how.get("num_beams", 1)


@pytest.mark.parametrize(
    ("name", "layout", "changed"),
    [
        ("GptOss", SINKS, {"sliding_window": 12}),
        ("Mistral", SINKS, {"sliding_window": 12}),
        ("Gemma2", ["last(9t)", "causal"], {"sliding_window": 9}),
        ("Llama", "last((layer + 1) * 9t)", {}),
        ("Qwen2", "heads { 0:2 -> last(9t); 2: -> causal }", {}),
    ],
)
def test_models_with_windows_and_sinks(name: str, layout: Any, changed: dict[str, Any]) -> None:
    """Their own caches drop what the sinks, or the layers that see all, still need."""
    made, cache = sparse(name, layout, **changed), LayoutCache(max_length=64)
    found = made.generate(tokens(), past_key_values=cache, **CALL)
    plain = made.generate(tokens(), past_key_values=transformers.DynamicCache(), **CALL)
    assert torch.equal(found, plain)
    first, second = held(cache)
    assert first <= second and cache.layers[0].get_max_length() == 64
    assert (first < second) == (name in ("Gemma2",) or "layer" in layout)


@pytest.mark.parametrize("how", ["assistant_model", "prompt_lookup_num_tokens"])
def test_drafts_are_taken_back(how: str) -> None:
    made = sparse()
    given = {how: made if how == "assistant_model" else 3}
    plain = made.generate(tokens(1), **CALL)
    found = made.generate(tokens(1), past_key_values=LayoutCache(), **CALL, **given)
    assert torch.equal(found, plain)


@torch.no_grad()
def test_conversations_continue_with_padding_between() -> None:
    """Prompts padded on the right, and then answers: positions count the tokens of a row."""
    made = sparse()
    outs = []
    for cache in (LayoutCache(), transformers.DynamicCache()):
        seen, logits = RIGHT, []
        for start, stop in ((0, 40), (40, 41), (41, 48), (48, 49)):
            seen = seen if start == 0 else nn.functional.pad(seen, (0, stop - start), value=1)
            places = (seen.cumsum(1) - 1).clamp(min=0)[:, start:stop]
            call = {"attention_mask": seen, "position_ids": places, "past_key_values": cache}
            out = made(tokens(length=49)[:, start:stop], **call).logits
            logits.append(out[seen[:, start:].bool()])
        outs.append(torch.cat(logits))
    agree(outs[:1], outs[1:])


@torch.no_grad()
def test_rows_are_repeated_chosen_cropped_and_forgotten() -> None:
    made = sparse()
    caches = [LayoutCache(), transformers.DynamicCache()]
    seen = LEFT

    def both(ids: Tensor, seen: Tensor) -> None:
        call = {"attention_mask": seen}
        found = [made(ids, past_key_values=cache, **call).logits for cache in caches]
        there = seen[:, -ids.shape[1] :].bool()
        agree([found[0][there]], [found[1][there]])

    both(tokens(), seen)
    for cache in caches:
        cache.batch_repeat_interleave(2)
    seen = nn.functional.pad(seen.repeat_interleave(2, 0), (0, 5), value=1)
    both(tokens(4, 5), seen)
    for cache in caches:
        cache.crop(-3)
        cache.batch_select_indices(torch.tensor([3, 0]))
    seen = nn.functional.pad(seen[[3, 0], :42], (0, 2), value=1)
    both(tokens(2, 2), seen)
    assert caches[0].get_seq_length() == 44
    for cache in caches:
        cache.crop(-(10**6)) if cache is caches[0] else cache.reset()
    both(tokens(), LEFT)
    caches[0].reset()
    assert caches[0].get_seq_length() == 0 and caches[0].nbytes == 0


@torch.no_grad()
def test_compiled_attention_breaks_at_the_cache() -> None:
    function = Attention("f", [bslang.compile(SPARSE, **FEW)], False, False)
    module, cache = nn.Module(), LayoutCache(max_length=64)
    q, k = torch.randn(1, 4, 43, 8), torch.randn(1, 2, 43, 8)

    def step(q: Tensor, k: Tensor) -> Tensor:
        return function(module, q, *cache.update(k, k, 0), None)[0]

    compiled = torch.compile(step, backend="eager")
    parts = [step(q[:, :, :40], k[:, :, :40])]
    parts += [compiled(q[:, :, t : t + 1], k[:, :, t : t + 1]) for t in range(40, 43)]
    agree([torch.cat(parts, 1)], [function(module, q, k, k, None)[0]])
    torch._dynamo.reset()


# ---- what is refused -----------------------------------------------------------------------------


def test_attention_that_is_no_layout_is_refused() -> None:
    made = sparse()
    made.set_attn_implementation("eager")
    reason = r"asks for the `shape` of keys in a LayoutCache.*past_key_values=DynamicCache\(\)"
    with pytest.raises(AttributeError, match=reason):
        made(tokens(), past_key_values=LayoutCache())
    made.set_attn_implementation("sdpa")
    with pytest.raises((AttributeError, TypeError), match="keys in a LayoutCache"):
        made(tokens(), past_key_values=LayoutCache())
    latent = sparse("DeepseekV3")
    with pytest.raises(AttributeError, match="computes with what it has cached"):
        latent(tokens(), past_key_values=LayoutCache())


@torch.no_grad()
def test_what_a_layout_cache_refuses() -> None:
    made, cache = sparse(), LayoutCache()
    made(tokens(), attention_mask=LEFT, past_key_values=cache)
    more = nn.functional.pad(RIGHT, (0, 1), value=1)
    with pytest.raises(ValueError, match="must say of earlier tokens what it said before"):
        made(tokens(length=1), attention_mask=more, past_key_values=cache)
    cache, pairs = LayoutCache(), torch.ones(40, 40, dtype=torch.bool).tril().expand(2, 1, -1, -1)
    with pytest.raises(ValueError, match=re.escape("attention_mask must be (batch, 40)")):
        made(tokens(), attention_mask=pairs, past_key_values=cache)
    cache = LayoutCache()
    for start in range(0, 60, 10):
        made(tokens(length=60)[:, start : start + 10], past_key_values=cache)
    with pytest.raises(ValueError, match="cannot go back to 20"):
        cache.crop(-40)
    with pytest.raises(ValueError, match="crop takes minus the number"):
        cache.crop(5)
    with pytest.raises(ValueError, match="max_length 41, too few for 42 positions"):
        made.generate(tokens(), past_key_values=LayoutCache(41), **CALL)
    with pytest.raises(ValueError, match="max_length must be an integer of at least 1"):
        LayoutCache(0)
    with pytest.raises(RuntimeError, match="holds no gradients"), torch.enable_grad():
        made(tokens(), past_key_values=LayoutCache())
    register("window(3)", allow_noncausal=True, **FEW)
    with pytest.raises(ValueError, match="cannot be decoded with a cache"):
        made(tokens(), past_key_values=LayoutCache())
