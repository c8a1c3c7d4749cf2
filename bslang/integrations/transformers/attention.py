"""The attention function of transformers."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch

from bslang import api
from bslang.integrations.transformers.given import take, with_offsets
from bslang.integrations.transformers.models import NUMBER
from bslang.integrations.transformers.needs import Decoder
from bslang.integrations.transformers.rows import packed, padded
from bslang.integrations.transformers.watch import called
from bslang.layouts import Layout
from bslang.runtime.sharded import first_head, needs_first_head

Tensor = torch.Tensor

_LAYERS = 256
"""Layers of a model that a layout with `layer` is made ready for: torch.compile cannot make more."""

_UNKNOWN = {
    "sinks": "attention sinks that are not logits of heads",
    "position_bias": "a bias of attention scores",
    "indices": "keys chosen by an indexer",
    "block_indices": "keys chosen by an indexer",
    "head_mask": "a head mask",
    "layer_head_mask": "a head mask",
    "cache": "a paged cache",
}
"""Arguments of attention functions that change their result, and that layouts do not have."""


class Attention:
    """An attention function of transformers."""

    def __init__(
        self, name: str, layouts: list[Layout], several: bool, allow_noncausal: bool
    ) -> None:
        """layouts: one for each layer, where there are several; else one for all."""
        self.name, self.allow_noncausal = name, allow_noncausal
        self.given, self.listed = list(layouts), several  # as they are saved
        if not several and "layer" in layouts[0]._resolved.pattern.names():
            layouts, several = layouts * _LAYERS, True
        self.layouts: list[Layout] = [
            one.at_layer(layer) if "layer" in one._resolved.pattern.names() else one
            for layer, one in enumerate(layouts)
        ]
        self.several = several

    def layout(self, module: torch.nn.Module) -> Layout:
        """The layout of a layer."""
        if not self.several:
            return self.layouts[0]
        layer: object = getattr(module, NUMBER, getattr(module, "layer_idx", None))
        if not isinstance(layer, int) or layer < 0:
            raise ValueError(
                f"{type(module).__name__} has no layer number, and its place in the model does not give one: "
                "use one layout for all layers, without `layer`"
            )
        if layer >= len(self.layouts):
            raise ValueError(
                f"the model has a layer {layer}, and {self.name!r} layouts for {len(self.layouts)} layers"
            )
        return self.layouts[layer]

    def __call__(
        self,
        module: torch.nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        softcap: float | None = None,
        is_causal: bool | None = None,
        cu_seq_lens_q: Tensor | None = None,
        cu_seq_lens_k: Tensor | None = None,
        s_aux: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        """(out, None): out (batch, length, heads, dim), contiguous.

        query: (batch, heads, length, dim); key, value: (batch, key heads, keys, dim); attention_mask: what
        `bslang.integrations.transformers.mask` gives; s_aux: attention sinks (heads,), as gpt-oss has them.
        """
        called(module)
        _check_call(module, dropout, kwargs)
        options: dict[str, Any] = {"scale": scaling, "softcap": softcap, "sinks": s_aux}
        mask, shown = take(attention_mask, query, key)
        if _is_of_decoder(module):
            out = self._dense(module, query, key, value, mask, options)
            return out.transpose(1, 2).contiguous(), None
        layout = _of_heads(self.layout(module), module, query)
        if is_causal is None:
            is_causal = getattr(module, "is_causal", True)
        mask = with_offsets(mask, query, cu_seq_lens_q, cu_seq_lens_k)
        model = Decoder(is_causal if shown is None else shown, self.allow_noncausal)
        attend = packed if mask is not None and mask.dim() == 1 else padded
        out = attend(layout, query, key, value, mask, model, options)
        return out.transpose(1, 2).contiguous(), None

    @cached_property
    def dense(self) -> dict[str, Layout]:
        """What decoders of encoder-decoder models have: dense attention, to their own tokens and others."""
        block, targets = self.given[0].block, tuple(self.given[0].targets)
        return {spec: api.compile(spec, block=block, target=targets) for spec in ("causal", "all")}

    def _dense(
        self,
        module: torch.nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        options: dict[str, Any],
    ) -> Tensor:
        if getattr(module, "is_causal", False):
            whole = Decoder(causal=True, allow_noncausal=False)
            return padded(self.dense["causal"], query, key, value, mask, whole, options)
        if mask is not None and mask.shape != (key.shape[0], key.shape[2]):
            raise ValueError(
                f"the mask of {key.shape[2]} keys of the encoder has shape {tuple(mask.shape)}"
            )
        padding = None if mask is None else ~mask.bool()
        out = self.dense["all"](query, key, value, key_padding=padding, align="start", **options)
        assert isinstance(out, Tensor)
        return out


def _of_heads(layout: Layout, module: torch.nn.Module, query: Tensor) -> Layout:
    """The layout of the heads of a call. Raises ValueError where they are not all of the model's, and it
    cannot be told which."""
    of = getattr(getattr(module, "config", None), "num_attention_heads", None)
    heads = query.shape[1]
    if not isinstance(of, int) or not needs_first_head(layout, heads, of):
        return layout
    return layout.at_heads(first_head(module, heads, of, query.shape[3]))


def _check_call(module: torch.nn.Module, dropout: float, kwargs: dict[str, Any]) -> None:
    """Raise ValueError for what a layout cannot do, rather than leave it out."""
    if dropout > 0:
        raise ValueError(
            f"bslang has no dropout of attention weights ({dropout:g} here): set it to 0 in the model's "
            "configuration (attention_dropout or attention_probs_dropout_prob), or call model.eval()"
        )
    if kwargs.get("output_attentions"):
        raise ValueError(
            "bslang does not compute attention weights (output_attentions): "
            "use attn_implementation='eager' for them"
        )
    for name, what in _UNKNOWN.items():
        if kwargs.get(name) is not None:
            raise ValueError(
                f"{type(module).__name__} passes {what} ({name}), which bslang does not support"
            )
    config = getattr(module, "config", None)
    told = isinstance(getattr(module, "is_decoder", None), bool)  # as attention of BART and its kin
    for name in ("is_encoder_decoder", "add_cross_attention"):
        if getattr(config, name, False) and not (told and name == "is_encoder_decoder"):
            raise ValueError(
                f"a layout is for self-attention; this model also has cross-attention ({name})"
            )


def _is_of_decoder(module: torch.nn.Module) -> bool:
    """Whether a module is in the decoder of an encoder-decoder model."""
    config = getattr(module, "config", None)
    return bool(
        getattr(config, "is_encoder_decoder", False) and getattr(module, "is_decoder", False)
    )
