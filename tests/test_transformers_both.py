"""Models of an encoder and a decoder: the layout is the encoder's, and the decoder has one of its own or is
dense, as is cross-attention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from small_models import GREEDY, LENGTH, RIGHT, agree, model, pairs, tokens

from bslang.integrations.transformers import attach, register

FEW: dict[str, Any] = {"block": 8, "target": "torch"}
SIZES: dict[str, Any] = {"vocab_size": 64, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2, "dropout": 0.0,
    "forced_eos_token_id": None}  # fmt: skip
KINDS = {
    "Bart": "BartForConditionalGeneration",
    "Marian": "MarianMTModel",
    "M2M100": "M2M100ForConditionalGeneration",
}


def both(name: str) -> Any:
    config = getattr(transformers, f"{name}Config")(**SIZES)
    torch.manual_seed(0)
    made = getattr(transformers, KINDS[name])(config).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    return made


def logits(made: Any, attention: str, **call: Any) -> list[torch.Tensor]:
    """Of a few tokens of the decoder; and the gradient of the embedding."""
    made.set_attn_implementation(attention)
    made.zero_grad()
    out = made(tokens(), decoder_input_ids=tokens(length=7), **call).logits
    (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    return [out.detach(), made.get_input_embeddings().weight.grad.clone()]


@pytest.mark.parametrize("padding", [None, RIGHT], ids=["whole", "padded"])
@pytest.mark.parametrize("name", KINDS)
def test_all_is_what_they_do(name: str, padding: torch.Tensor | None) -> None:
    made = both(name)
    attached = attach(made, "all", **FEW)
    call = {"attention_mask": padding}
    agree(logits(made, attached, **call), logits(made, "eager", **call))


def test_a_sparse_encoder_and_a_dense_decoder() -> None:
    made = both("Bart")
    attached = attach(made, "window(3)", **FEW)
    found = logits(made, attached)
    made.set_attn_implementation("eager")
    encoded = made.model.encoder(tokens(), attention_mask=pairs("window(3)"))
    truth = made(encoder_outputs=encoded, decoder_input_ids=tokens(length=7)).logits
    agree(found[:1], [truth])


@pytest.mark.parametrize("padding", [None, RIGHT], ids=["whole", "padded"])
def test_they_generate(padding: torch.Tensor | None) -> None:
    made = both("Bart")
    register("all", **FEW)
    found = []
    for attention in ("bslang", "eager"):
        made.set_attn_implementation(attention)
        found.append(made.generate(tokens(), attention_mask=padding, **GREEDY))
    assert torch.equal(*found)


def test_an_encoder_by_itself() -> None:
    sizes = SIZES | {"num_mel_bins": 8, "max_source_positions": 50}
    made = transformers.WhisperModel(transformers.WhisperConfig(**sizes)).eval().get_encoder()
    speech = torch.randn(2, 8, 100, generator=torch.Generator().manual_seed(1))
    register("all", **FEW)
    found = []
    for attention in ("bslang", "eager"):
        made.set_attn_implementation(attention)
        found.append(made(speech)[0])
    agree(found[:1], found[1:])


# ---- decoders ------------------------------------------------------------------------------------------


def test_a_sparse_decoder() -> None:
    """A layout for each layer of the decoder; the encoder has its own, and cross-attention stays dense."""
    made = both("Bart")
    short = tokens(length=20)
    attached = attach(made, "all", decoder=["last(4t)", "last(2t) & causal"], **FEW)
    made.set_attn_implementation("eager")
    masks = [pairs(spec, 20) for spec in ("last(4t)", "last(2t)")]

    def own(layer: int) -> Any:
        attention = made.model.decoder.layers[layer].self_attn
        return attention.register_forward_pre_hook(
            lambda _, args, kwargs: (args, kwargs | {"attention_mask": masks[layer]}),
            with_kwargs=True,
        )

    hooks = [own(0), own(1)]
    truth = made(tokens(), attention_mask=RIGHT, decoder_input_ids=short).logits
    for hook in hooks:
        hook.remove()
    made.set_attn_implementation(attached)
    agree([made(tokens(), attention_mask=RIGHT, decoder_input_ids=short).logits], [truth])
    plain = made.generate(tokens(), use_cache=False, **GREEDY)
    assert torch.equal(made.generate(tokens(), **GREEDY), plain)
    assert torch.equal(made.generate(tokens(), cache_implementation="static", **GREEDY), plain)


def test_a_decoder_of_another_layout_is_saved(tmp_path: Path) -> None:
    made = both("Bart")
    name = attach(made, "window(3)", decoder=["last(4t)", "causal"], **FEW)
    assert name != attach(both("Bart"), "window(3)", decoder="causal", **FEW)
    assert name != attach(both("Bart"), "window(3)", **FEW)
    truth = logits(made, name)
    made.save_pretrained(tmp_path)
    for interface in (transformers.AttentionInterface, transformers.AttentionMaskInterface):
        interface._global_mapping.pop(name)
    again = transformers.BartForConditionalGeneration.from_pretrained(tmp_path).eval()
    agree(logits(again, name), truth)


def test_decoders_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="decoder is for models of an encoder and a decoder"):
        attach(model("Bert"), "all", decoder="causal", **FEW)
    made = both("Bart")
    with pytest.raises(ValueError, match=r"has 2 layers in its decoder, and there are 3 layouts"):
        attach(made, "all", decoder=["causal"] * 3, **FEW)
    with pytest.raises(ValueError, match=r"has 2 layers in its encoder, and there are 3 layouts"):
        attach(made, ["all"] * 3, **FEW)
    with pytest.raises(ValueError, match="BartDecoder is a decoder beside an encoder"):
        attach(made.get_decoder(), "causal", **FEW)
    attach(made, "all", decoder="window(3)", **FEW)
    with pytest.raises(ValueError, match=r"is a decoder, and in `window\(3\)` query 0 sees key"):
        made(tokens(), decoder_input_ids=tokens())


# ---- cross-attention -----------------------------------------------------------------------------------

TEXT = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
GEMMA = TEXT | {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 64}
BERT = TEXT | {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
MOON = {"encoder_num_hidden_layers": 1, "decoder_num_hidden_layers": 1,
        "encoder_num_attention_heads": 4, "decoder_num_attention_heads": 4}  # fmt: skip


def t5gemma() -> Any:
    config = transformers.T5GemmaConfig(encoder=GEMMA, decoder=GEMMA, vocab_size=64)
    return transformers.T5GemmaForConditionalGeneration(config)


def two_berts() -> Any:
    of = transformers.EncoderDecoderConfig.from_encoder_decoder_configs
    config = of(transformers.BertConfig(**BERT), transformers.BertConfig(**BERT))
    return transformers.EncoderDecoderModel(config)


def moonshine() -> Any:
    config = transformers.MoonshineConfig(**TEXT | MOON)
    return transformers.MoonshineForConditionalGeneration(config)


def experts() -> Any:
    config = transformers.NllbMoeConfig(**SIZES, num_experts=2)
    return transformers.NllbMoeForConditionalGeneration(config)


@pytest.mark.parametrize("kind", [t5gemma, two_berts, moonshine, experts])
def test_parts_are_told_by_their_names(kind: Any) -> None:
    """Modules do not say themselves whether they belong to the encoder or to the decoder."""
    torch.manual_seed(0)
    made = kind().eval()
    register("all", **FEW)
    call = {"input_ids": tokens(), "attention_mask": RIGHT}
    if kind is moonshine:
        call = {"input_values": torch.randn(2, 4000, generator=torch.Generator().manual_seed(1))}
    found = []
    for attention in ("bslang", "eager"):
        made.set_attn_implementation(attention)
        found.append(made(**call, decoder_input_ids=tokens(length=7)).logits)
    agree(found[:1], found[1:])


@pytest.mark.parametrize("mask", [None, torch.arange(30) < torch.tensor([[30], [20]])])
@pytest.mark.parametrize("name", ["Bert", "GPT2"])
def test_decoders_that_look_at_other_tokens(name: str, mask: torch.Tensor | None) -> None:
    torch.manual_seed(0)
    if name == "Bert":
        config = transformers.BertConfig(**BERT, is_decoder=True, add_cross_attention=True)
        made: Any = transformers.BertLMHeadModel(config).eval()
    else:
        sizes = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
        made = transformers.GPT2LMHeadModel(
            transformers.GPT2Config(**sizes, add_cross_attention=True)
        ).eval()
    register("causal", **FEW)
    other = {"encoder_hidden_states": torch.randn(2, 30, 32), "encoder_attention_mask": mask}
    for length in (20, LENGTH):
        found = []
        for attention in ("bslang", "eager"):
            made.set_attn_implementation(attention)
            found.append(made(tokens(length=length), **other).logits)
        agree(found[:1], found[1:])


def test_modules_that_do_not_say_are_refused() -> None:
    """As those of T5Gemma 2, which attend to the tokens of the decoder and of the encoder at once."""
    made = both("Bart")
    register("all", **FEW)
    made.set_attn_implementation("bslang")
    for layer in made.model.decoder.layers:
        layer.self_attn.__class__ = type("BartMergedAttention", (type(layer.self_attn),), {})
    with pytest.raises(ValueError, match=r"BartMergedAttention .* does not tell which of them"):
        made(tokens(), decoder_input_ids=tokens(length=7))
