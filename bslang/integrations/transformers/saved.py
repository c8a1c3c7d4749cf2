"""Layouts in a model's configuration: as data for `config.json`, and back."""

from __future__ import annotations

import base64
from typing import Any

from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig

from bslang.integrations.transformers.attention import Attention
from bslang.integrations.transformers.mask import mask
from bslang.layouts import Layout, rebuilt

KEY = "bslang"
"""The key of a configuration under which its layouts stand: `layouts`, each with its canonical text; which
of them each layer has (`layers`, null where all have the first); and `name`, the attention they are."""

_VERSION = 1


def of_name(name: object) -> Attention | None:
    """The attention of a name if it is one of ours."""
    held = AttentionInterface().get(name)
    return held if isinstance(held, Attention) else None


def put(name: str, attention: Attention) -> None:
    """Register an attention and the mask function that goes with it."""
    AttentionInterface.register(name, attention)
    AttentionMaskInterface.register(name, mask)


# ---- writing -----------------------------------------------------------------------------------


def described(attention: Attention) -> dict[str, Any]:
    """The layouts of an attention, as JSON."""
    unique = list(dict.fromkeys(attention.given))
    layers = [unique.index(layout) for layout in attention.given] if attention.listed else None
    return {
        "version": _VERSION,
        "name": attention.name,
        "layouts": [_layout(layout) for layout in unique],
        "layers": layers,
        "allow_noncausal": attention.allow_noncausal,
    }


def _layout(layout: Layout) -> dict[str, Any]:
    name, spec, block, targets, layer, tables, first_head = layout.__reduce__()[1]
    return {
        "name": name,
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

    Raises ValueError where another layout is registered under it, SpecError.
    """
    kept = vars(config).pop(KEY, None)
    if kept is not None and name in (None, kept.get("name")):
        _register(kept)
        name = kept["name"]
    for part in parts_of(config).values():
        inner = vars(part).get(KEY)
        if inner is not None and part._attn_implementation == inner.get("name"):
            _register(inner)
    return name


def _register(kept: dict[str, Any]) -> None:
    if kept.get("version") != _VERSION:
        raise ValueError(
            f"this model was saved with layouts of a newer bslang (version {kept.get('version')!r} of their "
            "description): update bslang"
        )
    name, held = kept["name"], of_name(kept["name"])
    if held is not None:
        if _meaning(described(held)) != _meaning(kept):
            specs = ", ".join(f"`{layout['spec']}`" for layout in kept["layouts"])
            raise ValueError(
                f"this model was saved with {specs} as {name!r}, and another layout is registered under that "
                "name here: register that one under another name first, or load the model with the "
                "attn_implementation that it is to have"
            )
        return
    layouts = [
        rebuilt(
            one["name"],
            one["spec"],
            (one["block"][0], one["block"][1]),
            tuple(one["targets"]),
            one["layer"],
            [base64.b64decode(table) for table in one["tables"]],
            one["first_head"],
        )
        for one in kept["layouts"]
    ]
    listed = kept["layers"] is not None
    given = [layouts[number] for number in kept["layers"]] if listed else layouts
    put(name, Attention(name, given, listed, kept["allow_noncausal"]))


def _meaning(kept: dict[str, Any]) -> Any:
    """What tells whether two descriptions are of the same layouts."""
    layouts = [
        (one["spec"], one["block"], one["layer"], one["first_head"], one["tables"])
        for one in kept["layouts"]
    ]
    return layouts, kept["layers"]
