"""The attention function of transformers."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch

from bslang.analysis.properties import is_causal as _is_causal
from bslang.errors import BslangError
from bslang.integrations.transformers.models import NUMBER
from bslang.integrations.transformers.watch import called
from bslang.layouts import Layout

Tensor = torch.Tensor

_LAYERS = 256
"""Layers of a model that a layout with `layer` is made ready for: torch.compile cannot make more."""

_UNKNOWN = {
    "s_aux": "attention sinks",
    "sinks": "attention sinks",
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
        if not several and "layer" in layouts[0].resolved.pattern.names():
            layouts, several = layouts * _LAYERS, True
        self.layouts: list[Layout] = [
            one.at_layer(layer) if "layer" in one.resolved.pattern.names() else one
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
                f"{type(module).__name__} does not know the number of its layer, and its place in the model "
                "does not tell: use one layout for all layers, without `layer`"
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
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        """(out, None): out (batch, length, heads, dim), contiguous.

        query: (batch, heads, length, dim); key, value: (batch, key heads, keys, dim); attention_mask: what
        `bslang.integrations.transformers.mask` gives.
        """
        called(module)
        _check_call(module, dropout, kwargs)
        mask = _with_offsets(attention_mask, query, cu_seq_lens_q, cu_seq_lens_k)
        layout = self.layout(module)
        if is_causal is None:
            is_causal = getattr(module, "is_causal", True)
        causal = is_causal and not self.allow_noncausal
        options: dict[str, Any] = {"scale": scaling, "softcap": softcap}
        if mask is not None and mask.dim() == 1:
            out = _packed_attention(layout, query, key, value, mask, causal, options)
        else:
            out = _attention(layout, query, key, value, mask, causal, options)
        return out.transpose(1, 2).contiguous(), None


def _check_call(module: torch.nn.Module, dropout: float, kwargs: dict[str, Any]) -> None:
    """Raise ValueError for what a layout cannot do, rather than leave it out."""
    if dropout > 0:
        raise ValueError(
            f"bslang has no dropout of attention weights ({dropout:g} here): set it to 0 in the model's "
            "configuration (attention_dropout or attention_probs_dropout_prob), or call model.eval()"
        )
    if kwargs.get("output_attentions"):
        raise ValueError(
            "bslang never has the attention weights (output_attentions): "
            "use attn_implementation='eager' for them"
        )
    for name, what in _UNKNOWN.items():
        if kwargs.get(name) is not None:
            raise ValueError(
                f"{type(module).__name__} passes {what} ({name}), which bslang has not"
            )
    config = getattr(module, "config", None)
    for name in ("is_encoder_decoder", "add_cross_attention"):
        if getattr(config, name, False):
            raise ValueError(
                f"a layout is for self-attention; this model also has cross-attention ({name})"
            )


def _with_offsets(
    mask: Any, query: Tensor, cu_seq_lens_q: Tensor | None, cu_seq_lens_k: Tensor | None
) -> Tensor | None:
    """What the mask function gave, or the offsets that the caller of the model did."""
    if mask is not None and (not isinstance(mask, Tensor) or mask.dim() > 2):
        shape = tuple(mask.shape) if hasattr(mask, "shape") else type(mask).__name__
        raise ValueError(
            f"attention_mask must be (batch, length), 0 for padding; which pairs there are, the layout says. "
            f"It is {shape}"
        )
    if cu_seq_lens_q is None and cu_seq_lens_k is None:
        return mask
    one = cu_seq_lens_q is cu_seq_lens_k
    if (
        cu_seq_lens_q is None
        or cu_seq_lens_k is None
        or not (one or torch.equal(cu_seq_lens_q, cu_seq_lens_k))
    ):
        raise ValueError(
            "cu_seq_lens_q and cu_seq_lens_k must be equal: a layout is for self-attention"
        )
    if mask is not None and (mask.dim() == 2 or mask.tolist() != cu_seq_lens_q.tolist()):
        raise ValueError(
            "cu_seq_lens_q must agree with position_ids, and come without attention_mask"
        )
    if query.shape[0] != 1:
        raise ValueError(f"cu_seq_lens_q is for a batch of one row, not {query.shape[0]}")
    return cu_seq_lens_q


@torch.compiler.disable  # type: ignore[untyped-decorator]  # torch does not type it
def _packed_attention(
    layout: Layout,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    offsets: Tensor,
    causal: bool,
    options: dict[str, Any],
) -> Tensor:
    """Attention inside packed sequences; offsets as the mask function gives them."""
    if causal:
        for length in {stop - start for start, stop in pairwise(offsets.tolist()) if stop > start}:
            _require_causal(layout, length, q.shape[1])
    batch, heads, length, dim = q.shape
    q, k, v = (x.transpose(0, 1).reshape(1, x.shape[1], -1, dim) for x in (q, k, v))
    out = _tensor(layout.packed(q, k, v, offsets, **options))
    return out.reshape(heads, batch, length, dim).transpose(0, 1)


def _attention(
    layout: Layout,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    causal: bool,
    options: dict[str, Any],
) -> Tensor:
    """Attention of queries that are the last of the keys; mask: bool (batch, length), or None."""
    queries, length = q.shape[2], k.shape[2] if mask is None else mask.shape[1]
    if not queries <= length <= k.shape[2]:
        raise ValueError(
            f"{queries} queries of {length} tokens came with {k.shape[2]} keys: layouts are for "
            "self-attention, with a cache that keeps every key"
        )
    k, v = k[:, :, :length], v[:, :, :length]
    if torch.compiler.is_compiling():  # what depends on values cannot be asked here
        if queries < length:
            _require_prefix_stable(layout, length, q.shape[1])
        if mask is None:
            return _tensor(layout(q, k, v, **options))
        torch._assert_async(mask[:, 0].all(), "torch.compile takes padding on the right only")
        return _tensor(layout(q, k, v, key_padding=~mask, **options))
    if mask is not None and mask.all():
        mask = None
    starts = [0] if mask is None else mask.int().argmax(1).tolist()  # 0 in a row of padding alone
    if queries < length or any(starts):
        _require_prefix_stable(layout, length, q.shape[1], any(starts))
    elif causal:
        _require_causal(layout, length, q.shape[1])
    if mask is None:
        return _tensor(layout(q, k, v, **options))
    if not any(starts):
        return _tensor(layout(q, k, v, key_padding=~mask, **options))
    return _left_padded(layout, q, k, v, mask, starts, options)


def _left_padded(
    layout: Layout,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    starts: list[int],
    options: dict[str, Any],
) -> Tensor:
    """Each row from its first token on, so that the layout's positions are the sequence's own; a call for
    each of the starts. Queries before them have output 0."""
    before = k.shape[2] - q.shape[2]
    outs: list[Tensor] = []
    order: list[int] = []
    for start in sorted(set(starts)):
        rows = [row for row, its in enumerate(starts) if its == start]
        skipped = max(start - before, 0)  # queries that are padding
        if skipped < q.shape[2]:
            missing = ~mask[rows, start:]
            padding = missing if missing.any() else None
            sliced = q[rows, :, skipped:], k[rows, :, start:], v[rows, :, start:]
            out = _tensor(layout(*sliced, key_padding=padding, **options))
            outs.append(torch.nn.functional.pad(out, (0, 0, skipped, 0)))
        else:
            outs.append(torch.zeros_like(q[rows]))
        order += rows
    back = torch.tensor(order, device=q.device).argsort()
    return torch.cat(outs)[back]


def _tensor(out: Any) -> Tensor:
    assert isinstance(out, Tensor)
    return out


# ---- what a layout must be --------------------------------------------------------------------


@torch.compiler.disable  # type: ignore[untyped-decorator]  # torch does not type it
def _require_prefix_stable(layout: Layout, length: int, heads: int, padded: bool = False) -> None:
    """Raise ValueError where positions cannot be told from the end of the keys, with the reason.

    A longer length is asked first, since decoding would ask anew for each token.
    """
    for at in (1 << (length - 1).bit_length(), length):
        try:
            if layout.prefix_stable(at, heads).holds:
                return
        except BslangError:  # it means nothing at this length, or is too large there
            continue
    try:
        layout.require_prefix_stable(length, heads)
    except ValueError as error:
        hint = (
            "; padding on the left needs what a cache does, so pad on the right" if padded else ""
        )
        raise ValueError(f"{error}{hint}") from None


@lru_cache(maxsize=256)
def _require_causal(layout: Layout, length: int, heads: int) -> None:
    """Raise ValueError where a query sees a later key, with the pair."""
    for head in range(heads if layout.by_head else 1):
        answer = _is_causal(layout.resolved.pattern, layout.graph(length, head=head))
        if not answer.holds:
            raise ValueError(
                f"the model is a decoder, and in `{layout.spec}` {answer.because}: intersect it with "
                "`causal`, or register it with allow_noncausal=True"
            )
