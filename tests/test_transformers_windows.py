"""Generation with the caches of windowed models, which drop old keys: the same as with a cache that keeps
all, or refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from small_models import GREEDY, LEFT, SPARSE, agree, model, tokens

from bslang.integrations.transformers import register
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
