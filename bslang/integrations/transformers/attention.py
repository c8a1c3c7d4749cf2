"""The attention function of transformers."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch

from bslang import api
from bslang.integrations.transformers import positions, sharded
from bslang.integrations.transformers.cache import Added, attend
from bslang.integrations.transformers.given import take, with_offsets
from bslang.integrations.transformers.mask import ROOM
from bslang.integrations.transformers.models import CROSS, DECODER, NUMBER, SELF, UNKNOWN, role
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
        self,
        name: str,
        layouts: list[Layout],
        several: bool,
        allow_noncausal: bool,
        decoder: Attention | None = None,
        sharding: Any = None,
    ) -> None:
        """layouts: one for each layer, where there are several; else one for all. decoder: what decoders of
        encoder-decoder models have in its place; None for dense attention. sharding: the
        `bslang.distributed.Sharding` of sequences that are cut over several ranks; None for whole ones."""
        self.decoder, self.sharding = decoder, sharding
        self.name, self.allow_noncausal = name, allow_noncausal
        self.given, self.listed = list(layouts), several  # as they are saved
        if not several and "layer" in layouts[0]._resolved.pattern.names():
            layouts, several = layouts * _LAYERS, True
        self.layouts: list[Layout] = [
            one.at_layer(layer) if "layer" in one._resolved.pattern.names() else one
            for layer, one in enumerate(layouts)
        ]
        self.several = several

    def rename(self, name: str) -> None:
        """Have another name in messages."""
        self.name = name
        if self.decoder is not None:
            self.decoder.rename(name)

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
        """(out, None): out (batch, length, heads, value dim), contiguous.

        query: (batch, heads, length, dim); key: (batch, key heads, keys, dim); value: (batch, key heads,
        keys, value dim); attention_mask: what
        `bslang.integrations.transformers.mask` gives; s_aux: attention sinks (heads,), as gpt-oss has them.
        """
        called(module)
        _check_call(module, dropout, kwargs)
        options: dict[str, Any] = {"scale": scaling, "softcap": softcap, "sinks": s_aux}
        if isinstance(key, Added):
            if self.sharding is not None:
                raise ValueError("a sharded sequence has no cache: decode in one process")
            return self._with_cache(module, query, key, attention_mask, options), None
        mask, shown = take(attention_mask, query, key)
        its = role(module)
        if its != CROSS and attention_mask is not None and attention_mask.dim() == 4:
            positions.require_all_keys(module, key.shape[2])
        if its == CROSS:
            out = self._across(query, key, value, mask, options)
            return out.transpose(1, 2).contiguous(), None
        if its == UNKNOWN:
            raise ValueError(
                f"a layout is for self-attention; {type(module).__name__} is of a model that has "
                "cross-attention too, and does not tell which of them it computes"
                + "; run the model once without torch.compile"
                * torch.compiler.is_compiling()
            )
        if its == DECODER:
            return self._in_decoder.attend(module, query, key, value, mask, True, options), None
        if is_causal is None:
            is_causal = getattr(module, "is_causal", True)
        mask = with_offsets(mask, query, cu_seq_lens_q, cu_seq_lens_k)
        causal = is_causal if shown is None else shown
        return self.attend(module, query, key, value, mask, causal, options), None

    def attend(
        self,
        module: torch.nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        causal: bool,
        options: dict[str, Any],
    ) -> Tensor:
        """Self-attention by the layout of a module; causal: whether the model is a decoder."""
        layout = _of_heads(self.layout(module), module, query)
        model = Decoder(causal, self.allow_noncausal)
        if self.sharding is not None:
            its = self.sharding, query, key, value, mask, model, options
            return sharded.attend(layout, *its).transpose(1, 2).contiguous()
        attend = packed if mask is not None and mask.dim() == 1 else padded
        return attend(layout, query, key, value, mask, model, options).transpose(1, 2).contiguous()

    @torch.compiler.disable(  # type: ignore[untyped-decorator,no-untyped-call]  # torch does not type it
        reason="what leaves a LayoutCache is decided on the host; compile without fullgraph=True"
    )
    def _with_cache(
        self,
        module: torch.nn.Module,
        query: Tensor,
        added: Added,
        mask: Tensor | None,
        options: dict[str, Any],
    ) -> Tensor:
        """Self-attention of the tokens that were added to a `LayoutCache`."""
        if role(module) not in (SELF, DECODER):
            raise ValueError(
                f"{type(module).__name__} has cross-attention, which a LayoutCache does not serve: pass "
                "past_key_values=DynamicCache()"
            )
        held = self._in_decoder if role(module) == DECODER else self
        layout = _of_heads(held.layout(module), module, query)
        return attend(layout, query, added, mask, options).transpose(1, 2).contiguous()

    @cached_property
    def _in_decoder(self) -> Attention:
        """What decoders of encoder-decoder models have for their own tokens."""
        return self.decoder or Attention(self.name, [self._dense("causal")], False, False)

    @cached_property
    def _all(self) -> Layout:
        """What cross-attention has."""
        return self._dense("all")

    def _dense(self, spec: str) -> Layout:
        return api.compile(spec, block=self.given[0].block, target=tuple(self.given[0].targets))

    def make_dense(self) -> None:
        """Compile what a model needs besides the layout: torch.compile cannot."""
        _ = self._in_decoder, self._all

    def _across(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        options: dict[str, Any],
    ) -> Tensor:
        """Dense attention to other tokens."""
        if (
            mask is not None and mask.dtype == ROOM
        ):  # of as many keys as there are queries: the others are padding
            mask = torch.nn.functional.pad(mask, (0, key.shape[2] - mask.shape[1]))
        if mask is not None and mask.shape != (key.shape[0], key.shape[2]):
            raise ValueError(
                f"the mask of {key.shape[2]} keys of cross-attention has shape {tuple(mask.shape)}"
            )
        padding = None if mask is None else ~mask.bool()
        out = self._all(query, key, value, key_padding=padding, align="start", **options)
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
            f"bslang has no dropout of attention weights ({dropout:g} here): make the model with a "
            f"configuration in which {_dropout_of(module, dropout)} is 0, or call model.eval()"
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


def _dropout_of(module: torch.nn.Module, dropout: float) -> str:
    """What sets the dropout of attention in the configuration of a module."""
    values = vars(getattr(module, "config", module))
    names = [name for name, value in values.items() if "drop" in name and value == dropout]
    usual = ["attention_dropout", "attention_probs_dropout_prob"]
    return " or ".join([name for name in names if "att" in name] or names or usual)
