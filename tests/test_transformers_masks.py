"""Masks, lengths and positions that models of transformers pass: taken exactly, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from small_models import (
    LEFT,
    LENGTH,
    RIGHT,
    SIZES,
    SPARSE,
    agree,
    configured,
    model,
    pairs,
    results,
    tokens,
)
from torch import nn

import bslang
from bslang.integrations.transformers import register
from bslang.integrations.transformers.attention import Attention

FEW: dict[str, Any] = {"block": 8, "target": "torch"}
PACKED = torch.cat((torch.arange(25), torch.arange(15)))[None]


def alone(made: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What each row is without its padding, end to end."""
    rows = [made(row[kept][None])[0][0] for row, kept in zip(ids, mask.bool(), strict=True)]
    return torch.cat(rows)


# ---- lengths -------------------------------------------------------------------------------------------


def prefix(made: Any, length: int = 6) -> transformers.DynamicCache:
    """Learned keys before the tokens, as PEFT's prefix tuning has them."""
    generator = torch.Generator().manual_seed(4)
    cache = transformers.DynamicCache()
    heads = getattr(made.config, "num_key_value_heads", made.config.num_attention_heads)
    for layer in range(made.config.num_hidden_layers):
        keys, values = torch.randn(2, 2, heads, length, 8, generator=generator)
        cache.update(keys, values, layer)
    return cache


@pytest.mark.parametrize(
    "mask", [None, RIGHT, torch.ones_like(RIGHT)], ids=["none", "right", "ones"]
)
@pytest.mark.parametrize("name", ["Bert", "Roberta"])
def test_a_prefix_of_an_encoder_loses_no_key(name: str, mask: torch.Tensor | None) -> None:
    made = model(name)
    register("all", **FEW)
    call = {} if mask is None else {"attention_mask": torch.cat((torch.ones(2, 6).long(), mask), 1)}
    found = []
    for attention in ("bslang", "eager"):
        made.set_attn_implementation(attention)
        out = made(tokens(), past_key_values=prefix(made), **call)[0]
        found.append(out if mask is None else out[mask.bool()])
    agree(found[:1], found[1:])
    register("window(3)", **FEW)
    made.set_attn_implementation("bslang")
    with pytest.raises(ValueError, match=r"`window\(3\)` cannot be decoded"):
        made(tokens(), past_key_values=prefix(made), **call)


def test_a_prefix_of_a_decoder_is_its_first_tokens() -> None:
    made = model()
    register("causal", **FEW)
    mask = torch.cat((torch.ones(2, 6).long(), RIGHT), 1)
    found = []
    for attention in ("bslang", "eager"):
        made.set_attn_implementation(attention)
        out = made(tokens(), past_key_values=prefix(made), attention_mask=mask).logits
        found.append(out[RIGHT.bool()])
    agree(found[:1], found[1:])


@pytest.mark.parametrize("places", [30, 50])
@pytest.mark.parametrize("queries", [1, LENGTH])
def test_masks_of_other_lengths_are_refused(places: int, queries: int) -> None:
    """Keys beyond a mask may be real ones, and a mask beyond the keys may be that of other keys."""
    function = Attention("f", [bslang.compile("causal", **FEW)], False, False)
    q, k = torch.randn(2, 4, queries, 8), torch.randn(2, 4, LENGTH, 8)
    with pytest.raises(ValueError, match=f"came with 40 keys and a mask of {places}"):
        function(nn.Module(), q, k, k, torch.ones(2, places, dtype=torch.bool))
    with pytest.raises(ValueError, match="41 queries came with 40 keys: layouts"):
        function(nn.Module(), torch.randn(2, 4, 41, 8), k, k, None)


def test_other_tokens_than_the_keys_are_refused() -> None:
    """Masks of other tokens are those of cross-attention, which this module does not compute."""
    function = Attention("f", [bslang.compile("all", **FEW)], False, False)
    q, k = torch.randn(2, 4, LENGTH, 8), torch.randn(2, 4, 50, 8)
    config = configured("Bert")
    config._attn_implementation = register("all", **FEW)
    mask = transformers.masking_utils.create_bidirectional_mask(
        config, torch.zeros(2, LENGTH, 32), None, encoder_hidden_states=torch.zeros(2, 50, 32)
    )
    with pytest.raises(ValueError, match=r"the queries are 40 tokens, and there are 50 keys"):
        function(nn.Module(), q, k, k, mask)


@pytest.mark.parametrize("spec", ["causal", SPARSE])
@torch.no_grad()
def test_rows_padded_on_the_right_go_on_where_they_end(spec: str) -> None:
    """The new tokens of a shorter row come after padding, and are those after its last one."""
    made = model()
    register(spec, **FEW)
    made.set_attn_implementation("bslang")
    cache, new, lengths = transformers.DynamicCache(), tokens(length=3), RIGHT.sum(1)
    made(tokens(), attention_mask=RIGHT, past_key_values=cache)
    found = made(
        new,
        attention_mask=torch.cat((RIGHT, torch.ones_like(new)), 1),
        position_ids=lengths[:, None] + torch.arange(3),
        past_key_values=cache,
    ).logits
    for row, length in enumerate(lengths.tolist()):
        whole = torch.cat((tokens()[row, :length], new[row]))[None]
        agree([found[row : row + 1]], [made(whole).logits[:, -3:]])


@torch.no_grad()
def test_queries_that_are_padding_after_tokens_are_refused() -> None:
    """Their rows end before them, where it matters to the layout."""
    made = model()
    register(SPARSE, **FEW)
    made.set_attn_implementation("bslang")
    cache, mask = transformers.DynamicCache(), torch.ones_like(RIGHT)
    mask[1, 20:25] = mask[1, 38:] = 0
    made(tokens()[:, :30], attention_mask=mask[:, :30], past_key_values=cache)
    with pytest.raises(ValueError, match=r"row 1 of attention_mask has padding .*pad on the left"):
        made(tokens()[:, 30:], attention_mask=mask, past_key_values=cache)


# ---- padding on the left ---------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["all", "window(9t)", "window(3) | global(0, -1)"])
def test_encoders_padded_on_the_left(spec: str) -> None:
    """A row is what it is alone, whatever the layout."""
    register(spec, **FEW)
    made = transformers.ModernBertModel(
        configured("ModernBert")
    ).eval()  # positions: the difference alone
    made.set_attn_implementation("bslang")
    found = made(tokens(), attention_mask=LEFT)[0][LEFT.bool()]
    agree([found], [alone(made, tokens(), LEFT)])


def test_decoders_padded_on_the_left_with_any_layout() -> None:
    register("causal & (last(4t) | global(-1))", **FEW)
    made = model()
    made.set_attn_implementation("bslang")
    found = made(tokens(), attention_mask=LEFT, use_cache=False).logits[LEFT.bool()]
    agree([found], [alone(made, tokens(), LEFT)])


# ---- masks of all pairs ----------------------------------------------------------------------------------

ADDED = torch.finfo(torch.float32).min
TRIANGLE = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()


def added(mask: torch.Tensor) -> torch.Tensor:
    return torch.zeros(mask.shape).masked_fill(~mask, ADDED)


@pytest.mark.parametrize("form", [added, lambda mask: mask], ids=["added", "bool"])
@pytest.mark.parametrize(
    "padding", [RIGHT, LEFT, torch.ones_like(RIGHT)], ids=["right", "left", "none"]
)
def test_masks_of_padding_and_causality_are_taken(
    padding: torch.Tensor, form: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    made = model()
    register(SPARSE, **FEW)
    truth = results(made, "bslang", attention_mask=padding)[0]
    both = TRIANGLE & padding.bool()[:, None, None, :]
    found = results(made, "bslang", attention_mask=form(both))[0]
    agree([found[padding.bool()]], [truth])
    register("window(3)", **FEW)
    with pytest.raises(ValueError, match="the model is a decoder"):
        results(made, "bslang", attention_mask=form(both))


@pytest.mark.parametrize("padding", [RIGHT, torch.ones_like(RIGHT)], ids=["right", "none"])
@pytest.mark.parametrize("rows", [1, LENGTH])
def test_masks_of_padding_alone_are_taken(padding: torch.Tensor, rows: int) -> None:
    made = model("Bert")
    register("window(3)", **FEW)
    truth = results(made, "bslang", attention_mask=padding)[0]
    mask = padding.bool()[:, None, None, :].expand(2, 1, rows, LENGTH)
    for form in (added(mask), mask):
        agree([results(made, "bslang", attention_mask=form)[0][padding.bool()]], [truth])
    if rows == 1:
        compiled = torch.compile(made, backend="aot_eager", fullgraph=True)
        agree([compiled(tokens(), attention_mask=mask)[0][padding.bool()]], [truth])
        torch._dynamo.reset()


@pytest.mark.parametrize(
    "mask",
    [
        pairs("last(9t)"),
        pairs("causal") * 1e-37,  # a bias
        torch.zeros(2, 1, LENGTH, LENGTH, dtype=torch.long),
        TRIANGLE.tril(-1).expand(2, 1, -1, -1),  # no query sees itself
        torch.ones(2, 4, LENGTH, LENGTH, dtype=torch.bool) & (torch.arange(4) > 0)[:, None, None],
        TRIANGLE.expand(2, 1, -1, -1)[..., :30],
    ],
    ids=["window", "bias", "integers", "shifted", "heads", "short"],
)
def test_other_masks_of_all_pairs_are_refused(mask: torch.Tensor) -> None:
    register("causal", **FEW)
    made = model()
    made.set_attn_implementation("bslang")
    with pytest.raises(
        ValueError, match=r"attention_mask must be \(batch, length\).*Its shape is \(2, "
    ):
        made(tokens(), attention_mask=mask)


def test_models_that_make_masks_themselves() -> None:
    register("all", **FEW)
    config = transformers.LayoutLMConfig(
        **SIZES, attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0
    )
    made = transformers.LayoutLMModel(config).eval()
    agree(
        results(made, "bslang", attention_mask=RIGHT), results(made, "eager", attention_mask=RIGHT)
    )


# ---- what models add to their masks ------------------------------------------------------------------------


def test_embeddings_of_gemma_see_both_sides() -> None:
    """Their mask is a union with a pattern of positions, in whose place the layout stands."""
    made = transformers.Gemma3TextModel(
        configured("Gemma3Text", use_bidirectional_attention=True, sliding_window=12)
    ).eval()
    width = made.config.sliding_window
    kinds = made.config.layer_types
    register(
        [f"window({2 * width - 1}t)" if kind == "sliding_attention" else "all" for kind in kinds],
        **FEW,
    )
    for padding in (None, RIGHT):
        call = {"attention_mask": padding}
        agree(results(made, "bslang", **call), results(made, "eager", **call))


# ---- packed encoders --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Bert", "Roberta", "ModernBert"])
def test_encoders_keep_packed_sequences_apart(name: str) -> None:
    made = model(name)
    register("window(3) | global(0, -1)", **FEW)
    made.set_attn_implementation("bslang")
    ids, first = (
        tokens(1),
        1 if name == "Roberta" else 0,
    )  # Roberta counts from the padding's number on
    truth = torch.cat([made(part)[0] for part in ids.split((25, 15), 1)], 1)
    positions = PACKED + first
    agree([made(ids, position_ids=positions)[0]], [truth])
    agree([made(ids, None, None, positions)[0]] if name == "Bert" else [truth], [truth])
    whole = made(ids)[0]
    agree([made(ids, position_ids=torch.arange(LENGTH)[None] + first)[0]], [whole])


def test_a_pass_that_failed_leaves_no_positions() -> None:
    made = model("Bert")
    register("all", **FEW)
    made.set_attn_implementation("bslang")
    whole = made(tokens(1))[0]
    with pytest.raises(IndexError):
        made(tokens(1) + 64, position_ids=PACKED)
    agree([made(tokens(1))[0]], [whole])


def test_compiled_encoders_refuse_packed_positions() -> None:
    made = model("Bert")
    register("all", **FEW)
    made.set_attn_implementation("bslang")
    compiled = torch.compile(made, backend="aot_eager", fullgraph=True)
    agree([compiled(tokens(1))[0]], [made(tokens(1))[0]])
    whole = torch.arange(LENGTH)[None]
    agree([compiled(tokens(1), position_ids=whole)[0]], [made(tokens(1))[0]])
    with pytest.raises(RuntimeError, match="packed sequences of encoders as cu_seq_lens_q"):
        compiled(tokens(1), position_ids=PACKED)
    torch._dynamo.reset()
