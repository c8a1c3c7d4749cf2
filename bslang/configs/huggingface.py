"""Configurations of transformers: which queries of each layer see which keys.

A table of model types says what a config.json leaves out; a type that it lacks is read by transformers' own
masks (unlisted.py). Windows are those of transformers' masking_utils: with `sliding_window` w a query sees
itself and the w - 1 tokens before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bslang.configs import families, unlisted
from bslang.configs.chosen import reader
from bslang.configs.document import Definition, by_layer
from bslang.configs.document import document as written
from bslang.configs.model import (
    CAUSAL,
    CHUNKED,
    FULL,
    NO_KEYS,
    SLIDING,
    Model,
    Read,
    Types,
    chunked,
    layer_count,
    sliding,
    to_both_sides,
)
from bslang.configs.unread import by_content, chooses, content_keys, not_read
from bslang.configs.values import ConfigError, Values, shown

_NESTED = (
    "text_config",
    "llm_config",
    "language_config",
    "thinker_config",
    "language_model_config",
)
"""Keys under which a model of several kinds of input has its text model."""


def document(config: Values, name: str) -> str:
    """The spec of a model's configuration. Raises ConfigError, LimitError."""
    part = _text_part(config)
    chosen = content_keys(part.config.values)
    listed = part.config.values.get("layer_types")
    static = {SLIDING, CHUNKED} & {*listed} if isinstance(listed, list) else set()
    read = None if static else reader(part.config, part.type)
    if chosen and not static and read is None:
        raise by_content(chosen)
    model = None if _overridden(part.config, part.type) else _MODELS.get(part.type)
    about = [f"Imported from {name}: model type {shown(part.type)}."]
    if part.config is not config:
        about.append(
            "This is the text model. Other parts of the model have attention of their own, and where the "
            "tokens of an image see one another both ways, that has no counterpart here."
        )
    block = None
    if read is not None:
        definitions, block, notes = read(part.config, part.type)
    elif model is None:
        if not part.type:
            what = "no sparse attention in this configuration"
            if "layer_types" in part.config.values:
                what = "`layer_types` without a `model_type`, which says what they mean"
            raise ConfigError(f"{what}: no `sparse_attention` or `model_type`")
        definitions, notes = unlisted.read(part.owner, part.config, part.type, part.type in _MODELS)
    else:
        about[1:1] = model.notes
        definitions, block, notes = (model.make or _by_types)(part.config, model, part.type)
    about += [*notes, *_beside(part.config, model or Model())]
    if block is None:
        about.append("Windows are in tokens: the layouts are for any block.")
    return written(about, definitions, block)


@dataclass(frozen=True)
class _Part:
    """The text model of a configuration.

    config: its own values; owner: the innermost values that name a model type, which are those or around
    them; type: that model type.
    """

    config: Values
    owner: Values
    type: str


def _text_part(config: Values) -> _Part:
    """The text model, however deep it lies. Raises ConfigError."""
    own = _model_type(config)
    part = _Part(config, config, own)
    while True:
        key = next((key for key in _NESTED if part.config.values.get(key) is not None), None)
        if key is None:
            return part
        inner = Values.of(part.config.values[key], key)
        own = _model_type(inner)
        part = _Part(inner, inner, own) if own else _Part(inner, part.owner, part.type)


def _model_type(config: Values) -> str:
    model_type = config.values.get("model_type", "")
    if not isinstance(model_type, str):
        raise ConfigError(f"`model_type` must be text, not {shown(model_type)}")
    return model_type


def _overridden(config: Values, model_type: str) -> bool:
    """Whether a configuration turns off what the table takes for granted of its type."""
    model = _MODELS.get(model_type)
    if config.values.get("is_causal") is False:
        return model is not None and not model.encoder and not model.both_ways(config)
    both = config.flag("use_bidirectional_attention", False)
    return bool(model and model.make is None and both and not model.both_ways(config))


def _beside(config: Values, model: Model) -> list[str]:
    """What a model does with scores that is no matter of a layout."""
    notes = []
    cap = config.values.get("attn_logit_softcapping", model.softcap)
    if isinstance(cap, int | float) and cap:
        notes.append(f"Its scores are capped: pass softcap={shown(cap)} at the call.")
    for key in ("attention_dropout", "attention_probs_dropout_prob"):
        if config.values.get(key):
            notes.append(f"`{key}` ({shown(config.values[key])}) has no counterpart.")
    return notes


# ---- sliding windows and chunks, by the type of each layer -----------------------------------------


def _by_types(config: Values, model: Model, model_type: str) -> Read:
    listed = config.values.get("layer_types")
    window = config.optional(model.key, model.window)
    if listed is None:
        types = (model.types or _uniform)(config, layer_count(config, model.layers), window)
    else:
        types = _listed(config, listed)
    if not {SLIDING, CHUNKED} & {*types}:
        strange = [kind for kind in types if kind != FULL and not NO_KEYS.fullmatch(kind)]
        if strange:
            raise not_read(["layer_types"], f"layers of type {shown(strange[0])}")
        what = "no sparse attention in this configuration"
        raise ConfigError(f"{what}: no layer of {shown(model_type)} has a window or chunks")
    both = model.both_ways(config)
    kinds = {kind: _kind(kind, config, model, window, both) for kind in dict.fromkeys(types)}
    return by_layer(model_type, [kinds[kind] for kind in types]), None, []


def _listed(config: Values, listed: object) -> list[str]:
    """`layer_types` as a file has it."""
    if not isinstance(listed, list) or not all(isinstance(kind, str) for kind in listed):
        raise ConfigError(f"`layer_types` must be a list of words, not {shown(listed)}")
    count = layer_count(config, max(1, len(listed)))
    if len(listed) != count:
        raise ConfigError(
            f"`layer_types` must have a word for each of {count} layers, not {len(listed)}"
        )
    return listed


def _kind(kind: str, config: Values, model: Model, window: int | None, both: bool) -> Definition:
    """The definition of the layers of one type."""
    if kind == FULL:
        if both:
            return Definition("full", "all", "every key.")
        return CAUSAL
    if kind == SLIDING:
        if window is None:
            raise ConfigError(f"layers of type {SLIDING} need `{model.key}`, and it is not set")
        if both:
            return to_both_sides(window // 2)
        return sliding(window)
    if kind == CHUNKED:
        return chunked(config.number("attention_chunk_size", model.chunk, 1))
    if chooses(kind):
        about = f"type {shown(kind)}, which chooses keys by their content: not read."
        return Definition("", "", about)
    return Definition("", "", f"type {shown(kind)}, which has no counterpart here.")


def _uniform(config: Values, count: int, window: int | None) -> list[str]:
    if config.flag("use_sliding_window", True) and window:
        for key in ("max_window_layers", "sliding_window_pattern"):
            if config.values.get(key) is not None:
                raise ConfigError(f"`{key}` differs by model type; list `layer_types` instead")
        return [SLIDING] * count
    chunked = config.optional("attention_chunk_size", None)
    return [CHUNKED if chunked else FULL] * count


def _full_every(period: int) -> Types:
    """Every so many layers, one is full; `sliding_window_pattern` says another period."""

    def types(config: Values, count: int, window: int | None) -> list[str]:
        every = config.number("sliding_window_pattern", period, 1)
        return [SLIDING if (layer + 1) % every else FULL for layer in range(count)]

    return types


def _qwen(slides: Callable[[int, int], bool]) -> Types:
    """Windows only if asked for; slides(layer, `max_window_layers`): in which layers."""

    def types(config: Values, count: int, window: int | None) -> list[str]:
        used = config.flag("use_sliding_window", False) and window
        bound = config.number("max_window_layers", 28)
        return [SLIDING if used and slides(layer, bound) else FULL for layer in range(count)]

    return types


def _llama4(config: Values, count: int, window: int | None) -> list[str]:
    every = config.number("no_rope_layer_interval", 4, 1)
    listed = None
    if config.values.get("no_rope_layers"):
        listed = config.numbers("no_rope_layers", [], 0)
        if len(listed) != count:
            raise ConfigError(
                f"`no_rope_layers` must have a number for each of {count} layers, not {len(listed)}"
            )
    rotary = listed or [(layer + 1) % every for layer in range(count)]
    return [CHUNKED if each else FULL for each in rotary]


def _recurrent_gemma(config: Values, count: int, window: int | None) -> list[str]:
    kinds = config.values.get("block_types", ["recurrent", "recurrent", "attention"])
    if not isinstance(kinds, list) or not kinds or not all(isinstance(kind, str) for kind in kinds):
        raise ConfigError(f"`block_types` must be a list of words, not {shown(kinds)}")
    return [
        SLIDING if kind == "attention" else kind
        for kind in (kinds[at % len(kinds)] for at in range(count))
    ]


def _modernbert(config: Values, count: int, window: int | None) -> list[str]:
    every = config.number("global_attn_every_n_layers", 3, 1)
    return [SLIDING if layer % every else FULL for layer in range(count)]


# ---- the table -------------------------------------------------------------------------------------

_DECODER = (
    "This is the encoder. The decoder has causal attention, and sees all of the encoder's output."
)
_SINKS = (
    "Each head has a learned logit in the denominator of the softmax (an attention sink). It is not part of "
    "the layout: pass `sinks=` at the call."
)
_PADDING = (
    "In batches padded on the left, the model counts chunks from the first token after the padding."
)


def _flagged(config: Values) -> bool:
    return config.flag("use_bidirectional_attention", False)


_QWEN = Model(_qwen(lambda layer, bound: layer >= bound), 32, 4096)
_GEMMA3 = Model(_full_every(6), 26, 4096, both_ways=_flagged)
_GEMMA3N = Model(_full_every(5), 35, 512)
_LLAMA4 = Model(_llama4, 48, notes=(_PADDING,))

_MODELS: Mapping[str, Model] = {
    "mistral": Model(_uniform, 32, 4096),
    "ministral": Model(_uniform, 32, 4096),
    "mixtral": Model(_uniform, 32),
    "phi3": Model(_uniform, 32),
    "phimoe": Model(_uniform, 32),
    "starcoder2": Model(_uniform, 30),
    "qwen2": _QWEN,
    "qwen3": _QWEN,
    "qwen2_moe": Model(_qwen(lambda layer, bound: layer < bound and layer % 2 == 0), 24, 4096),
    "qwen3_moe": Model(_qwen(lambda layer, bound: True), 24, 4096),
    "gemma2": Model(_full_every(2), 26, 4096, softcap=50.0),
    "gemma3": _GEMMA3,
    "gemma3_text": _GEMMA3,
    "gemma3n": _GEMMA3N,
    "gemma3n_text": _GEMMA3N,
    "cohere2": Model(_full_every(4), 40, 4096),
    "olmo3": Model(_full_every(4), 32, 4096),
    "gpt_oss": Model(_full_every(2), 36, 128, notes=(_SINKS,)),
    "llama4": _LLAMA4,
    "llama4_text": _LLAMA4,
    "modernbert": Model(_modernbert, 22, 128, "local_attention", both_ways=lambda config: True),
    "big_bird": Model(make=families.bigbird, both_ways=lambda config: True),
    "bigbird_pegasus": Model(
        make=families.bigbird,
        heads="encoder_attention_heads",
        head_count=16,
        encoder=True,
        notes=(_DECODER,),
    ),
    "longformer": Model(make=families.longformer, layers=12, both_ways=lambda config: True),
    "led": Model(make=families.longformer, layers=12, encoder=True, notes=(_DECODER,)),
    "phi3small": Model(make=families.phi3small),
    "recurrent_gemma": Model(_recurrent_gemma, 26, 2048, "attention_window_size"),
    "gpt_neo": Model(make=families.gpt_neo),
    "longt5": Model(make=families.longt5, encoder=True, notes=(_DECODER,)),
    "swin": Model(make=families.swin, both_ways=lambda config: True),
    "nat": Model(make=families.nat, both_ways=lambda config: True),
    "dinat": Model(make=families.nat, both_ways=lambda config: True),
}
"""Model types by their names in transformers; any other is read by unlisted.py."""
