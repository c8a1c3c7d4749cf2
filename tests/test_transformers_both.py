"""Models of an encoder and a decoder: the layout is the encoder's, and the decoder stays dense."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from small_models import GREEDY, LENGTH, RIGHT, agree, pairs, tokens

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


def test_modules_that_do_not_say_are_refused() -> None:
    register("all", **FEW)
    made = both("Bart")
    made.set_attn_implementation("bslang")
    for layer in made.model.encoder.layers:
        del layer.self_attn.is_decoder
    with pytest.raises(ValueError, match=r"also has cross-attention \(is_encoder_decoder\)"):
        made.model.encoder(tokens(), attention_mask=torch.ones(2, LENGTH, dtype=torch.long))
