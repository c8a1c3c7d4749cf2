"""Layouts as an attention of Hugging Face transformers: `attach(model, layout)`, or
`attn_implementation="bslang"` after `register(layout)`.

transformers asks twice: its mask function (`mask`) sees the padding and the cache, once a forward pass;
its attention function (`attention`) gets what that returned, in every layer. `hooks` is where models and
configurations meet a layout: a model whose attention asks neither is refused there (`models`) or in its
first forward pass (`watch`), and configurations are written with their layouts (`saved`).
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bslang import api, compiler
from bslang.missing import MissingPackageError, installed

with installed():  # torch first: without it, transformers fails in its own way
    from bslang.layouts import Layout
with installed():
    from transformers import PreTrainedConfig, PreTrainedModel
    from transformers.masking_utils import flash_attention_mask

if "q_offset" not in inspect.signature(flash_attention_mask).parameters:  # of an older version
    raise MissingPackageError("transformers")

with installed():
    from bslang.integrations.transformers import hooks, saved
    from bslang.integrations.transformers.attention import Attention
    from bslang.integrations.transformers.cache import LayoutCache
    from bslang.integrations.transformers.models import layers_of, name_modules, refuse, stays_dense
    from bslang.integrations.transformers.sharded import shards
    from bslang.integrations.transformers.watch import watch

__all__ = ["LayoutCache", "attach", "register", "shards"]

if TYPE_CHECKING:
    from bslang.distributed import Sharding

Given = Layout | str | Path | Sequence[Layout | str | Path]
"""A compiled layout, the text of a spec, or a file; or one of these for each layer."""

hooks.install()


def attach(
    model: PreTrainedModel,
    layout: Given,
    *,
    name: str | None = None,
    block: api.Block | None = None,
    target: api.Targets | None = None,
    allow_noncausal: bool = False,
    decoder: Given | None = None,
    sharding: Sharding | None = None,
) -> str:
    """Make a layout the attention of a transformers model, or of a part of one.

    layout, block, target, allow_noncausal, decoder, sharding: as for `register`; a sequence has a layout for
    each layer of the model. name: of the attention in transformers' registry; None makes one from the layout.

    The model's first forward pass raises ValueError if any of its attention layers does not use the layout.
    `save_pretrained` saves the layout with the model's configuration. `from_pretrained` restores it if
    bslang.integrations.transformers is imported, and fails otherwise.

    Returns the name. Raises TypeError if model is not a transformers model, ValueError if its attention
    cannot be replaced or the number of layouts is not that of its layers, and what `register` raises.
    """
    if not isinstance(model, PreTrainedModel):
        raise TypeError(f"model must be a transformers.PreTrainedModel, not {type(model).__name__}")
    attention = _attention(name or "", layout, block, target, allow_noncausal, decoder, sharding)
    _check_layers(model.config, attention)
    if name is None:
        text = json.dumps(saved.described(attention), sort_keys=True)
        text += "" if sharding is None else sharding.key
        name = f"bslang_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        attention.rename(name)
    for part in model.modules():
        if isinstance(part, PreTrainedModel):
            refuse(part, name)
    saved.check_name(name)
    saved.put(name, attention)
    model.set_attn_implementation(name)
    if model.config._attn_implementation != name:
        raise ValueError(f"{type(model).__name__} does not accept the attention {name!r}")
    name_modules(model, name, anew=True)
    if stays_dense(model, name) and attention.decoder is None:
        raise ValueError(
            f"{type(model).__name__} is a decoder beside an encoder, and would stay dense: attach to the "
            "whole model, with the layout of its decoder as `decoder`"
        )
    watch(model, name, whole=True)
    return name


def register(
    layout: Given,
    *,
    name: str = "bslang",
    block: api.Block | None = None,
    target: api.Targets | None = None,
    allow_noncausal: bool = False,
    decoder: Given | None = None,
    sharding: Sharding | None = None,
) -> str:
    """Register a layout as an attention of transformers, under a name that models take as
    `attn_implementation`.

    layout: a compiled layout, the text of a spec, or a file (`"patterns.bsl:bigbird"`); or a sequence of
    these, one for each layer of the model. `layer` in a spec is the number of the model's layer. block,
    target: as for `bslang.compile`, unless the layout is compiled already. allow_noncausal: allow decoders
    a layout in which a query sees later keys; without it, their first call raises an error. decoder: the
    layout, or those of the layers, that the decoder of an encoder-decoder model has for its own tokens; None
    leaves it dense. Cross-attention is always dense. sharding: of `bslang.distributed.shard_sequence`; models
    are then called with what `shards` makes of a batch, and each rank computes its part of the sequence.

    A name that was registered before gets the new layout, also in models that use it. Models whose
    attention does not use transformers' registry are refused, when they take the name or in their first
    forward pass. Returns the name. Raises SpecError, TargetError or ValueError for an invalid layout or
    name.
    """
    attention = _attention(name, layout, block, target, allow_noncausal, decoder, sharding)
    saved.check_name(name)
    saved.put(name, attention)
    return name


def _attention(
    name: str,
    layout: Given,
    block: api.Block | None,
    target: api.Targets | None,
    allow_noncausal: bool,
    decoder: Given | None,
    sharding: Sharding | None,
) -> Attention:
    if decoder is not None and sharding is not None:
        raise ValueError(
            "a sharded sequence is that of a model without an encoder beside its decoder"
        )
    with_labels = sharding is not None and sharding.labels is not None
    layouts, listed = _layouts(layout, block, target, with_labels)
    own = None if decoder is None else Attention(name, *_layouts(decoder, block, target), False)
    return Attention(name, layouts, listed, allow_noncausal, own, sharding)


def _check_layers(config: PreTrainedConfig, attention: Attention) -> None:
    """Raise ValueError where there are not as many layouts as layers, or there is no decoder apart."""
    both = getattr(config, "is_encoder_decoder", False)
    own = attention.decoder
    if own is not None and not both:
        raise ValueError("decoder is for models of an encoder and a decoder: pass `layout` alone")
    each: tuple[tuple[str, Attention | None], ...] = (("", attention),)
    if both:
        each = (("encoder", attention), ("decoder", own))
    for side, its in each:
        layers = layers_of(config, side)
        if its is not None and its.listed and layers not in (None, len(its.given)):
            where = f" in its {side}" if side else ""
            raise ValueError(
                f"the model has {layers} layers{where}, and there are {len(its.given)} layouts"
            )


def _layouts(
    layout: Given,
    block: api.Block | None,
    target: api.Targets | None,
    with_labels: bool = False,
) -> tuple[list[Layout], bool]:
    """The layouts that are meant, and whether each is that of a layer."""
    several = isinstance(layout, Sequence) and not isinstance(layout, str)
    given: list[Layout | str | Path] = list(layout) if several else [layout]  # type: ignore[arg-type,list-item]  # told apart by `several`
    if not given:
        raise ValueError("a model needs a layout for each layer; the sequence is empty")
    layouts = [_compiled(one, block, target) for one in given]
    for one in layouts:
        if one.has_order:
            raise ValueError(
                "the tokens of this layout have an order, and models of transformers keep theirs in a row; "
                "remove `order`, or call the layout in an attention of your own"
            )
        if one.labels and not with_labels:
            raise ValueError(
                f"`{one.spec}` needs labels ({', '.join(one.labels)}), and models of transformers pass "
                "none; packed sequences are kept apart without labels"
            )
        if one.selections:
            raise ValueError(
                f"`{one.spec}` needs selections ({', '.join(one.selections)}), and models of transformers "
                "pass none; call the layout in an attention of your own"
            )
    return layouts, several


def _compiled(
    layout: Layout | str | Path, block: api.Block | None, target: api.Targets | None
) -> Layout:
    if isinstance(layout, Layout):
        if block is not None or target is not None:
            raise ValueError("block and target cannot be changed: the layout is compiled already")
        return layout
    if isinstance(layout, Path) or compiler.names_file(layout):
        return api.load(layout, block=block, target=target)
    return api.compile(layout, block=block, target=target)
