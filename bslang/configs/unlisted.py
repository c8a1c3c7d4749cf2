"""Model types that bslang's table lacks: read by the masks of transformers, or refused by name.

Nothing is guessed. Where transformers cannot be asked, the error says which keys were not read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from bslang.configs.asked import Answer, Call, CannotAskError, ask
from bslang.configs.document import Definition, by_layer
from bslang.configs.masks import Interval
from bslang.configs.model import (
    CAUSAL,
    CHUNKED,
    FULL,
    NO_KEYS,
    SLIDING,
    chunked,
    sliding,
    to_both_sides,
)
from bslang.configs.unread import by_content, chooses, not_read, static_keys, unknown
from bslang.configs.values import ConfigError, Values, shown
from bslang.limits import MAX_LAYERS

_READ = {SLIDING, FULL, CHUNKED, "window_attention"}
"""Types of layers whose mask is all that they see."""


def read(
    owner: Values, config: Values, model_type: str, listed: bool
) -> tuple[list[Definition], list[str]]:
    """The definitions of a model by transformers' own masks, and notes.

    owner: the configuration that transformers is given, of this type; config: the part of it that holds
    the text model; listed: whether the table has the type, with other masks. Raises ConfigError where
    the masks are unknown, or not sparse.
    """
    keys = static_keys(config.values)
    try:
        answer = ask(owner.values, model_type)
    except CannotAskError as error:
        if not keys:
            raise unknown(model_type, str(error)) from None
        where = "in" if not listed else "so in"
        why = f"the model type {shown(model_type)} is not {where} bslang's table, and {error}"
        raise not_read(keys, why) from None
    stacks: dict[str, list[Call]] = {}
    for call in answer.calls:
        stacks.setdefault(call.stack, []).append(call)
    towers = {name: calls for name, calls in stacks.items() if not name.endswith("cross")}
    types = answer.types if len(towers) <= 1 else ()
    layers = {name: _layers(calls, types, answer.layers) for name, calls in towers.items()}
    _check(stacks, layers, answer, types, keys, model_type)
    title = re.sub(r"\W", "_", model_type)
    notes = ["Read by the masks that transformers gives each layer of such a model."]
    if len(layers) == 1:
        return by_layer(title, *layers.values()), notes
    if any(name.endswith("cross") for name in stacks):
        notes.append("The decoder sees all of the encoder's output; that has no definition here.")
    definitions = []
    for name, each in layers.items():
        prefixed = [replace(one, name=f"{name}_{one.name}") if one.name else one for one in each]
        definitions += by_layer(f"{title}_{name}", prefixed)
    return definitions, notes


def _check(
    stacks: dict[str, list[Call]],
    layers: dict[str, list[Definition]],
    answer: Answer,
    types: Sequence[str],
    keys: list[str],
    model_type: str,
) -> None:
    """Raise ConfigError for a model of which no layer has a sparse layout that was read."""
    for name, calls in stacks.items():
        crossing = name.endswith("cross")
        if crossing and not all(call.seen and call.seen == Interval(None, None) for call in calls):
            raise not_read(
                keys or ["model_type"], "the decoder does not see all of the encoder's output"
            )
    bodies = {one.body for each in layers.values() for one in each}
    if bodies - {"", "causal", "all"}:
        return
    if answer.chooser:
        raise by_content([*(["layer_types"] if types else []), "model_type"])
    unread = next((call.why for calls in stacks.values() for call in calls if not call.seen), "")
    if unread or not layers:
        why = unread or "it does not call the attention functions of transformers, which would say"
        raise not_read(keys or ["model_type"], f"model type {shown(model_type)}: {why}")
    for each in layers.values():
        for one in each:
            if not one.body and one.name != "none":
                raise not_read(
                    keys or ["model_type"], f"model type {shown(model_type)}: {one.about}"
                )
    raise ConfigError(
        f"no sparse attention in this configuration: no layer of {shown(model_type)} has a window or chunks, "
        "by transformers' own masks"
    )


def _layers(calls: list[Call], types: Sequence[str], count: int) -> list[Definition]:
    """The definition of each layer of one stack."""
    by_number: dict[int, list[Call]] = {}
    for call in calls:
        by_number.setdefault(call.layer, []).append(call)
    count = min(MAX_LAYERS, max(len(types), max(by_number) + 1, count if len(types) else 0))
    return _told_apart(
        [_layer(by_number.get(at, []), types[at] if at < len(types) else "") for at in range(count)]
    )


def _told_apart(layers: list[Definition]) -> list[Definition]:
    """The same, with a number behind the names of definitions that differ."""
    bodies: dict[str, list[str]] = {}
    for one in layers:
        if one.body and one.body not in bodies.setdefault(one.name, []):
            bodies[one.name].append(one.body)
    return [
        replace(one, name=f"{one.name}_{bodies[one.name].index(one.body)}")
        if one.body and len(bodies[one.name]) > 1
        else one
        for one in layers
    ]


def _layer(calls: list[Call], kind: str) -> Definition:
    """The definition of one layer; without a body where it has no counterpart."""
    of_type = f"type {shown(kind)}, " if kind else ""
    if chooses(kind):
        return Definition("", "", f"{of_type}which chooses keys by their content: not read.")
    if not calls:
        if NO_KEYS.fullmatch(kind):
            return Definition("none", "", f"{of_type}which has no counterpart here.")
        return Definition(
            "", "", f"{of_type}attention that transformers' functions do not see: not read."
        )
    if kind and kind not in _READ and not kind.startswith(("hybrid", "moe")):
        return Definition("", "", f"{of_type}which is not read yet.")
    found = {call.seen for call in calls}
    why = next((call.why for call in calls if not call.seen), "")
    if why or len(found) > 1:
        return Definition("", "", f"{of_type}not read yet: {why or 'it has several masks'}.")
    (seen,) = found
    assert seen is not None
    return definition(seen)


def definition(seen: Interval) -> Definition:
    """What an interval of keys is in the language."""
    left, right = seen.left, seen.right
    if seen.chunk:
        size = seen.chunk
        if right == 0:
            return chunked(size)
        return Definition("chunked", f"chunks({size}t)", f"chunks of {size} tokens.")
    if left is None and right is None:
        return Definition("full", "all", "every key.")
    if left is None and right == 0:
        return CAUSAL
    if left is not None and right == 0:
        return sliding(left + 1)
    if left is not None and left == right:
        return to_both_sides(left)
    sides = ", ".join(
        f"{name}={'inf' if side is None else f'{side}t'}"
        for name, side in (("left", left), ("right", right))
    )
    return Definition("sliding", f"window({sides})", "a window.")
