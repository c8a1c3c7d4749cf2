"""Layouts in a model's configuration: as data for `config.json`, and back."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig

from bslang import compiler
from bslang.integrations.transformers.attention import Attention
from bslang.integrations.transformers.mask import mask
from bslang.layouts import Layout, rebuilt

KEY = "bslang"
"""The key of a configuration under which its layouts stand: `layouts`, each with its canonical text; which
of them each layer has (`layers`, null where all have the first); both again in `decoder`, where decoders have
some of their own; and `name`, the attention they are."""

_VERSION = 2


def of_name(name: object) -> Attention | None:
    """The attention of a name if it is one of ours."""
    held = AttentionInterface().get(name)
    return held if isinstance(held, Attention) else None


def check_name(name: object) -> None:
    """Raise ValueError for what cannot be the name of an attention, or is that of another's."""
    if not (isinstance(name, str) and name.isidentifier()):
        raise ValueError(f"name must be an identifier, as models take it; got {name!r}")
    held = AttentionInterface().get(name)
    if name == "eager" or (held is not None and not isinstance(held, Attention)):
        raise ValueError(f"transformers has an attention named {name!r} already; choose another")


def put(name: str, attention: Attention) -> None:
    """Register an attention and the mask function that goes with it."""
    AttentionInterface.register(name, attention)
    AttentionMaskInterface.register(name, mask)


# ---- writing -----------------------------------------------------------------------------------


def described(attention: Attention) -> dict[str, Any]:
    """The layouts of an attention, as JSON."""
    own = attention.decoder
    return {
        "version": 1 if own is None else _VERSION,  # the first has no decoders
        "name": attention.name,
        **_of_layers(attention),
        "allow_noncausal": attention.allow_noncausal,
        **({} if own is None else {"decoder": _of_layers(own)}),
    }


def _of_layers(attention: Attention) -> dict[str, Any]:
    unique = list(dict.fromkeys(attention.given))
    layers = [unique.index(layout) for layout in attention.given] if attention.listed else None
    return {"layouts": [_layout(layout) for layout in unique], "layers": layers}


def _layout(layout: Layout) -> dict[str, Any]:
    _, spec, block, targets, layer, tables, first_head = layout.__reduce__()[1]
    return {
        "spec": spec,
        "block": list(block),
        "targets": list(targets),
        "layer": layer,
        "first_head": first_head,
        "tables": [base64.b64encode(table).decode() for table in tables],
    }


def add_to(output: dict[str, Any], config: PreTrainedConfig) -> None:
    """Add to what a configuration is written as the layouts that it uses now.

    `attn_implementation` stands beside them, so that a process without bslang refuses the model.
    """
    for key in (KEY, _CHOICE):
        output.pop(key, None)
    if (attention := of_name(config._attn_implementation)) is not None:
        output[KEY] = described(attention)
    if (choice := _choice(config)) is not None:
        output[_CHOICE] = choice


_CHOICE = "attn_implementation"
"""The key that transformers reads as the attention of a configuration and of its parts."""


def _choice(config: PreTrainedConfig) -> str | dict[str, Any] | None:
    """The names of ours that a configuration and its parts use, as transformers takes them."""
    name = config._attn_implementation
    own = None if of_name(name) is None else name
    parts = {key: _choice(part) for key, part in parts_of(config).items()}
    if all(part == own for part in parts.values()):
        return own
    used = {key: part for key, part in parts.items() if part is not None}
    return used if own is None else {"": own} | used


def parts_of(config: PreTrainedConfig) -> dict[str, PreTrainedConfig]:
    """The configurations inside of one."""
    found = {key: getattr(config, key, None) for key in config.sub_configs}
    return {key: part for key, part in found.items() if isinstance(part, PreTrainedConfig)}


# ---- reading -----------------------------------------------------------------------------------


def restore(config: PreTrainedConfig, name: str | None) -> str | None:
    """Register what a configuration was saved with, where it is to have that attention, `name`; None for
    what the configuration says. Returns the name.

    Raises ValueError where another layout is registered under it or the description cannot be read,
    SpecError.
    """
    kept = vars(config).pop(KEY, None)
    if kept is not None and name in (None, _name(kept)):
        _register(kept)
        name = _name(kept)
    for part in parts_of(config).values():
        inner = vars(part).get(KEY)
        if inner is not None and part._attn_implementation == _name(inner):
            _register(inner)
    return name


def _name(kept: Any) -> Any:
    return kept.get("name") if isinstance(kept, dict) else None


def _register(kept: Any) -> None:
    name = _name(kept)
    check_name(name)
    if kept.get("version") not in (1, _VERSION):
        raise ValueError(
            f"this model was saved with layouts of a newer bslang (version {kept.get('version')!r} of their "
            "description): update bslang"
        )
    try:
        described_again = _meaning(kept)
        held = of_name(name)
        attention = _attention(kept) if held is None else held
    except (AttributeError, IndexError, KeyError, TypeError, binascii.Error) as error:
        raise ValueError(
            f"the layouts in this model's configuration cannot be read: {type(error).__name__}: {error}"
        ) from error
    if held is None:
        put(name, attention)
    elif _meaning(described(held)) != described_again:
        specs = ", ".join(f"`{layout['spec']}`" for layout in kept["layouts"])
        raise ValueError(
            f"this model was saved with {specs} as {name!r}, and another layout is registered under that "
            "name here: register that one under another name first, or load the model with "
            "another attn_implementation"
        )


def _attention(kept: dict[str, Any]) -> Attention:
    """What a description describes."""
    own = kept.get("decoder")
    decoder = None if own is None else Attention(kept["name"], *_listed(own), False)
    return Attention(kept["name"], *_listed(kept), bool(kept["allow_noncausal"]), decoder)


def _listed(kept: dict[str, Any]) -> tuple[list[Layout], bool]:
    """Layouts, and whether each is that of a layer."""
    layouts = [
        rebuilt(
            "layout",
            one["spec"],
            compiler.block_sides(tuple(one["block"])),
            tuple(one["targets"]),
            one["layer"],
            [base64.b64decode(table, validate=True) for table in one["tables"]],
            one["first_head"],
        )
        for one in kept["layouts"]
    ]
    listed = kept["layers"] is not None
    return [layouts[number] for number in kept["layers"]] if listed else layouts, listed


def _meaning(kept: dict[str, Any]) -> Any:
    """What tells whether two descriptions are of the same layouts."""
    layouts = [
        (one["spec"], one["block"], one["layer"], one["first_head"], one["tables"])
        for one in kept["layouts"]
    ]
    own = kept.get("decoder")
    return layouts, kept["layers"], None if own is None else _meaning(own)
