"""Layouts as an attention of transformers: models with small random configurations, held against eager."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from small_models import (
    DECODERS,
    ENCODERS,
    GREEDY,
    LEFT,
    LENGTH,
    RIGHT,
    SPARSE,
    agree,
    configured,
    model,
    pairs,
    results,
    tokens,
)

from bslang.integrations.transformers import register

# ---- the same as dense --------------------------------------------------------------------------


@pytest.mark.parametrize("padding", [None, RIGHT], ids=["whole", "padded"])
@pytest.mark.parametrize("name", DECODERS)
def test_causal_is_what_decoders_do(name: str, padding: torch.Tensor | None) -> None:
    register("causal", block=8, target="torch")
    made = model(name)
    call = {"attention_mask": padding}
    agree(results(made, "bslang", **call), results(made, "eager", **call))


@pytest.mark.parametrize("padding", [None, RIGHT], ids=["whole", "padded"])
@pytest.mark.parametrize("name", ENCODERS)
def test_all_is_what_encoders_do(name: str, padding: torch.Tensor | None) -> None:
    register("all", block=8, target="torch")
    made = model(name)
    call = {"attention_mask": padding}
    agree(results(made, "bslang", **call), results(made, "eager", **call))


@pytest.mark.parametrize("target", ["torch", "cpu"])
@pytest.mark.parametrize(
    ("name", "spec"), [("Llama", SPARSE), ("Gemma2", SPARSE), ("Bert", "window(3) | global(0, -1)")]
)
def test_sparse_layouts_are_exactly_their_pairs(name: str, spec: str, target: str) -> None:
    made = model(name)
    assert register(spec, block=8, target=target, name="sparse") == "sparse"
    mask = pairs(spec)
    if name == "Gemma2":  # its layers of both kinds get the mask
        mask = {"full_attention": mask, "sliding_attention": mask}  # type: ignore[assignment]
        truth = results(made.model, "eager", attention_mask=mask)
        agree(results(made.model, "sparse"), truth)
    else:
        agree(results(made, "sparse"), results(made, "eager", attention_mask=mask))


def test_a_model_is_made_with_it() -> None:
    name = register("causal", block=8, target="torch")
    made = transformers.AutoModelForCausalLM.from_config(
        configured("Llama"), attn_implementation=name
    )
    assert made.config._attn_implementation == "bslang"
    agree(results(made, "bslang"), results(made, "sdpa"))


# ---- padding on the left, and packed sequences ----------------------------------------------------


def test_rows_padded_on_the_left_are_what_they_are_alone() -> None:
    """Also where the layout counts from the first token: `cols(0:2t)` is not padding."""
    register(SPARSE, block=8, target="torch")
    made = model()
    ids, length = tokens(), int(LEFT[1].sum())
    positions = (LEFT.cumsum(1) - 1).clamp(min=0)
    found, _ = results(made, "bslang", input_ids=ids, attention_mask=LEFT, position_ids=positions)
    first, _ = results(made, "bslang", input_ids=ids[:1])
    second, _ = results(made, "bslang", input_ids=ids[1:, -length:])
    agree([found], [torch.cat((first[0], second[0]))])


def test_a_row_of_padding_alone_disturbs_no_other() -> None:
    register(SPARSE, block=8, target="torch")
    made = model()
    mask = torch.stack((RIGHT[0], torch.zeros(LENGTH, dtype=torch.long)))
    found, gradient = results(made, "bslang", attention_mask=mask)
    agree([found], [results(made, "bslang", input_ids=tokens()[:1])[0][0]])
    assert gradient.isfinite().all()


@pytest.mark.parametrize(
    ("name", "spec"), [("Llama", "causal"), ("Llama", SPARSE), ("DeepseekV3", SPARSE)]
)
def test_packed_sequences_keep_apart(name: str, spec: str) -> None:
    register(spec, block=8, target="torch")
    made = model(name)
    positions = torch.cat((torch.arange(25), torch.arange(15)))[None]
    call: dict[str, Any] = {"position_ids": positions, "use_cache": False}
    if spec == "causal":
        agree(results(made, "bslang", **call), results(made, "sdpa", **call))
    ids = tokens(1)
    found, _ = results(made, "bslang", input_ids=ids, **call)
    parts = [results(made, "bslang", input_ids=part)[0] for part in ids.split((25, 15), 1)]
    agree([found], [torch.cat(parts, 1)])
    ends = torch.tensor([0, 25, 40], dtype=torch.int32)
    flash = {
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
    }  # as collators for varlen kernels give them
    again, _ = results(made, "bslang", input_ids=ids, **call, **flash)
    agree([again], [found])
    cached = {"position_ids": positions}  # transformers does not look for sequences beside a cache
    agree([results(made, "bslang", input_ids=ids, **cached, **flash)[0]], [found])
    other = torch.tensor([0, 20, 40], dtype=torch.int32)
    with pytest.raises(ValueError, match="must agree with position_ids"):
        made(ids, **call, cu_seq_lens_q=other, cu_seq_lens_k=other)
    with pytest.raises(ValueError, match="must be equal"):
        made(ids, **cached, cu_seq_lens_q=ends, cu_seq_lens_k=other)
    with pytest.raises(ValueError, match="a batch of one row, not 2"):
        made(tokens(), **flash)


# ---- generation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cache", [None, "static"])
@pytest.mark.parametrize("padding", [None, LEFT], ids=["whole", "padded"])
@pytest.mark.parametrize("name", ["Llama", "Gemma2"])
def test_causal_generates_what_dense_does(
    name: str, padding: torch.Tensor | None, cache: str | None
) -> None:
    register("causal", block=8, target="torch")
    made = model(name)
    call = {"attention_mask": padding, "cache_implementation": cache} | GREEDY
    found = []
    for attention in ("bslang", "eager"):
        made.set_attn_implementation(attention)
        found.append(made.generate(tokens(), **call))
    assert torch.equal(*found)


@pytest.mark.parametrize("padding", [None, LEFT], ids=["whole", "padded"])
def test_a_cache_changes_nothing(padding: torch.Tensor | None) -> None:
    register(SPARSE, block=8, target="torch")
    made = model()
    made.set_attn_implementation("bslang")
    call = GREEDY | {
        "attention_mask": padding,
        "output_logits": True,
        "return_dict_in_generate": True,
    }
    plain = made.generate(tokens(), use_cache=False, **call)
    for cache in (None, "static"):
        cached = made.generate(tokens(), cache_implementation=cache, **call)
        assert torch.equal(cached.sequences, plain.sequences)
        agree(cached.logits, plain.logits)
    chunks = made.generate(tokens(), prefill_chunk_size=16, **call)
    agree(chunks.logits, plain.logits)
    beams = GREEDY | {"attention_mask": padding, "num_beams": 2}
    cached = made.generate(tokens(), **beams)
    assert torch.equal(cached, made.generate(tokens(), use_cache=False, **beams))


@torch.no_grad()
def test_chunks_of_rows_padded_on_the_right() -> None:
    """The second chunk of the second row is padding alone."""
    register("causal", block=8, target="torch")
    made = model()
    found = []
    for attention in ("bslang", "eager"):
        made.set_attn_implementation(attention)
        cache = transformers.DynamicCache()
        parts = [
            made(tokens()[:, a:b], attention_mask=RIGHT[:, :b], past_key_values=cache).logits
            for a, b in ((0, 30), (30, 40))
        ]
        found.append(torch.cat(parts, 1)[RIGHT.bool()])
    agree(found[:1], found[1:])


def test_layouts_that_change_with_the_length_do_not_generate() -> None:
    made = model()
    register("causal & (last(4t) | global(-1))", block=8, target="torch")
    made.set_attn_implementation("bslang")
    made(tokens())  # a whole sequence at once is what the layout says
    reason = r"cannot be decoded with a cache: query \d+ sees key \d+ with \d+ tokens, but not with"
    with pytest.raises(ValueError, match=reason):
        made.generate(tokens(), **GREEDY)


# ---- layers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changed", "window"),
    [
        ("Mistral", {"sliding_window": 12}, "last(12t)"),
        ("Gemma2", {"sliding_window": 12}, "last(12t)"),
        ("Gemma3Text", {"sliding_window": 12}, "last(12t)"),
        ("ModernBert", {"local_attention": 12, "global_attn_every_n_layers": 2}, "window(13t)"),
    ],
)
def test_layouts_by_the_kind_of_the_layer(name: str, changed: dict[str, Any], window: str) -> None:
    made = model(name, **changed)
    whole = "all" if name in ENCODERS else "causal"
    kinds = getattr(made.config, "layer_types", None) or ["sliding_attention"] * 2
    assert "sliding_attention" in kinds
    register(
        [window if kind == "sliding_attention" else whole for kind in kinds],
        block=8,
        target="torch",
    )
    for padding in (None, RIGHT):
        call = {"attention_mask": padding}
        agree(results(made, "bslang", **call), results(made, "eager", **call))


def test_layer_is_the_number_of_the_layer() -> None:
    made = model()
    register("last((layer + 1) * 4t)", block=8, target="torch")
    register(["last(4t)", "last(8t)"], block=8, target="torch", name="bslang_listed")
    register("last(4t)", block=8, target="torch", name="bslang_first")
    found = results(made, "bslang")
    agree(found, results(made, "bslang_listed"))
    assert not torch.allclose(found[0], results(made, "bslang_first")[0], atol=1e-3)
    register(["causal"], block=8, target="torch")
    made.set_attn_implementation("bslang")
    with pytest.raises(
        ValueError, match="the model has a layer 1, and 'bslang' layouts for 1 layers"
    ):
        made(tokens())


# ---- torch.compile ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("spec", "layers"), [("causal", 1), ("last((layer + 1) * 4t)", 2)])
def test_models_compile_whole(spec: str, layers: int) -> None:
    register(spec, block=8, target="torch")
    made = model(num_hidden_layers=layers)
    made.set_attn_implementation("bslang")
    whole = torch.compile(made, backend="aot_eager", fullgraph=True)
    for mask in (None, RIGHT, LEFT):
        kept = slice(None) if mask is None else mask.bool()
        found, truth = (each(tokens(), attention_mask=mask).logits[kept] for each in (whole, made))
        agree([found], [truth])
    torch._dynamo.reset()


def test_compiled_models_keep_packed_sequences_apart_and_refuse_what_eager_ones_do() -> None:
    register(SPARSE, block=8, target="torch")
    made = model(num_hidden_layers=1)
    made.set_attn_implementation("bslang")
    compiled = torch.compile(made, backend="aot_eager")
    positions = torch.cat((torch.arange(25), torch.arange(15)))[None]
    call: dict[str, Any] = {"position_ids": positions, "use_cache": False}
    agree([compiled(tokens(), **call).logits], [made(tokens(), **call).logits])
    torch._dynamo.reset()
    register("causal & (last(4t) | global(-1))", block=8, target="torch")
    made.forward = torch.compile(made.forward, backend="aot_eager")
    with pytest.raises(ValueError, match="cannot be decoded with a cache"):
        made.generate(tokens(), cache_implementation="static", **GREEDY)
    torch._dynamo.reset()
