"""Configurations of transformers: which queries of each layer see which keys.

A table of model types says what a config.json leaves out. Windows are those of transformers'
masking_utils: with `sliding_window` w a query sees itself and the w - 1 tokens before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bslang.configs.document import Definition, by_layer
from bslang.configs.document import document as written
from bslang.configs.values import ConfigError, Values, shown
from bslang.errors import LimitError
from bslang.limits import MAX_BLOCK, MAX_HEADS, MAX_LAYERS

Types = Callable[[Values, int, int | None], list[str]]
"""Types(config, count, window): the type of each of `count` layers, where the file does not list them."""

_SLIDING, _FULL, _CHUNKED = "sliding_attention", "full_attention", "chunked_attention"


def document(config: Values, name: str) -> str:
    """The spec of a model's configuration. Raises ConfigError, LimitError."""
    model_type = config.values.get("model_type", "")
    if not isinstance(model_type, str):
        raise ConfigError(f"`model_type` must be text, not {shown(model_type)}")
    inner = config
    if config.values.get("text_config") is not None:
        inner = Values.of(config.values["text_config"], "text_config")
        own = inner.values.get("model_type")
        model_type = own if isinstance(own, str) else model_type
    model = _MODELS.get(model_type, _Model(notes=(_UNKNOWN,)))
    about = [f"Imported from {name}: model type {shown(model_type)}.", *model.notes]
    if inner is not config:
        about.append(
            "This is the text model. Other parts of the model have attention of their own, and where the "
            "tokens of an image see one another both ways, that has no counterpart here."
        )
    definitions, block, notes = (model.make or _by_types)(inner, model, model_type)
    about += [*notes, *_beside(inner, model)]
    if block is None:
        about.append("Windows are in tokens: the layouts are for any block.")
    return written(about, definitions, block)


def _beside(config: Values, model: _Model) -> list[str]:
    """What a model does with scores that is no matter of a layout."""
    notes = []
    cap = config.values.get("attn_logit_softcapping", model.softcap)
    if isinstance(cap, int | float) and cap:
        notes.append(f"Its scores are capped: pass softcap={shown(cap)} at the call.")
    for key in ("attention_dropout", "attention_probs_dropout_prob"):
        if config.values.get(key):
            notes.append(f"`{key}` ({shown(config.values[key])}) has no counterpart.")
    return notes


def _layers(config: Values, default: int, key: str = "num_hidden_layers") -> int:
    count = config.number(key, default, 1)
    if count > MAX_LAYERS:
        raise LimitError("MAX_LAYERS", MAX_LAYERS, f"{count} layers")
    return count


def _title(model_type: str) -> str:
    """The name of the definition for all layers: free text of a file is no name of the language."""
    return model_type if model_type in _MODELS else "model"


# ---- sliding windows and chunks, by the type of each layer -----------------------------------------


def _by_types(config: Values, model: _Model, model_type: str) -> _Read:
    listed = config.values.get("layer_types")
    window = config.optional(model.key, model.window)
    if listed is None:
        types = model.types(config, _layers(config, model.layers), window)
    else:
        types = _listed(config, listed)
    both = model.both_ways(config)
    if config.values.get("use_bidirectional_attention") and not both:
        raise ConfigError(f"`use_bidirectional_attention` of {shown(model_type)} is not known")
    if not {_SLIDING, _CHUNKED} & {*types}:
        what = "no sparse attention in this configuration"
        if not model_type and listed is None:
            raise ConfigError(f"{what}: no `sparse_attention`, `model_type` or `layer_types`")
        raise ConfigError(f"{what}: no layer of {shown(model_type)} has a window or chunks")
    kinds = {kind: _kind(kind, config, model, window, both) for kind in dict.fromkeys(types)}
    return by_layer(_title(model_type), [kinds[kind] for kind in types]), None, []


def _listed(config: Values, listed: object) -> list[str]:
    """`layer_types` as a file has it."""
    if not isinstance(listed, list) or not all(isinstance(kind, str) for kind in listed):
        raise ConfigError(f"`layer_types` must be a list of words, not {shown(listed)}")
    count = _layers(config, max(1, len(listed)))
    if len(listed) != count:
        raise ConfigError(
            f"`layer_types` must have a word for each of {count} layers, not {len(listed)}"
        )
    return listed


def _kind(kind: str, config: Values, model: _Model, window: int | None, both: bool) -> Definition:
    """The definition of the layers of one type."""
    if kind == _FULL:
        if both:
            return Definition("full", "all", "every key.")
        return Definition("full", "causal", "every key before the query, and its own.")
    if kind == _SLIDING:
        if window is None:
            raise ConfigError(f"layers of type {_SLIDING} need `{model.key}`, and it is not set")
        if both:
            half = window // 2
            return Definition(
                "sliding", f"window({2 * half + 1}t)", f"at most {half} tokens to either side."
            )
        return Definition("sliding", f"last({window}t)", f"the {window} latest tokens.")
    if kind == _CHUNKED:
        size = config.number("attention_chunk_size", model.chunk, 1)
        about = f"chunks of {size} tokens, each causal and by itself."
        return Definition("chunked", f"chunks({size}t) & causal", about)
    return Definition("", "", f"type {shown(kind)}, which has no counterpart here.")


def _uniform(config: Values, count: int, window: int | None) -> list[str]:
    if config.flag("use_sliding_window", True) and window:
        for key in ("max_window_layers", "sliding_window_pattern"):
            if config.values.get(key) is not None:
                raise ConfigError(f"`{key}` differs by model type; list `layer_types` instead")
        return [_SLIDING] * count
    chunked = config.optional("attention_chunk_size", None)
    return [_CHUNKED if chunked else _FULL] * count


def _full_every(period: int) -> Types:
    """Every so many layers, one is full; `sliding_window_pattern` says another period."""

    def types(config: Values, count: int, window: int | None) -> list[str]:
        every = config.number("sliding_window_pattern", period, 1)
        return [_SLIDING if (layer + 1) % every else _FULL for layer in range(count)]

    return types


def _qwen(slides: Callable[[int, int], bool]) -> Types:
    """Windows only if asked for; slides(layer, `max_window_layers`): in which layers."""

    def types(config: Values, count: int, window: int | None) -> list[str]:
        used = config.flag("use_sliding_window", False) and window
        bound = config.number("max_window_layers", 28)
        return [_SLIDING if used and slides(layer, bound) else _FULL for layer in range(count)]

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
    return [_CHUNKED if each else _FULL for each in rotary]


def _modernbert(config: Values, count: int, window: int | None) -> list[str]:
    every = config.number("global_attn_every_n_layers", 3, 1)
    return [_SLIDING if layer % every else _FULL for layer in range(count)]


# ---- models with patterns of their own -------------------------------------------------------------


def _bigbird(config: Values, model: _Model, model_type: str) -> _Read:
    block = config.number("block_size", 64, 1, MAX_BLOCK)
    count = config.number("num_random_blocks", 3)
    kind = config.choice("attention_type", "block_sparse", ("block_sparse", "original_full"))
    if kind == "original_full":
        causal = config.flag("is_decoder", False) and not model.encoder
        body = "causal" if causal else "all"
        return [Definition(model_type, body, "Full attention.")], block, []
    notes = [
        f"transformers runs sequences of up to {(5 + 2 * count) * block} tokens with full attention instead."
    ]
    definition = Definition(model_type, "_seen", "A window; the first and the last block global.")
    if count:
        heads = config.number(model.heads, model.head_count, 1, MAX_HEADS)
        drawn = f"random({count}, seed=layer * {heads} + head, within=~_seen)"
        about = f"{definition.about[:-1]}; {count} random blocks per row outside of these."
        definition = Definition(model_type, f"_seen | {drawn}", about)
        notes.append(
            "Random blocks differ by layer and head, as there, but there is no counterpart of the very "
            "same draw, which is NumPy's; a layout with the blocks themselves is `table(...)`. "
            f"Outside of training, transformers draws none and takes block 0 {count} times more into the "
            "softmax instead, which no layout can."
        )
    seen = Definition("_seen", "window(3) | global(0, -1)", "What every head sees.")
    return [definition, seen], block, notes


def _longformer(config: Values, model: _Model, model_type: str) -> _Read:
    key = "encoder_layers" if model.encoder else "num_hidden_layers"
    given = config.values.get("attention_window", 512)
    if isinstance(given, list):
        widths = config.numbers("attention_window", [], 1)
        count = _layers(config, max(1, len(widths)), key)
        if len(widths) != count:
            raise ConfigError(
                f"`attention_window` must have a number for each of {count} layers, not {len(widths)}"
            )
    else:
        widths = [config.number("attention_window", 512, 1)] * _layers(config, model.layers, key)
    for width in widths:
        if width % 2:
            raise ConfigError(f"`attention_window` must be even, not {width}")
    notes = [
        "Which tokens are global is no matter of the configuration: the model is given a "
        "`global_attention_mask`. Here the first g are: g=1t is the first token, as for classification; "
        "-D g=0 (in Python, g=0) takes none. Write other places as `global(3t, 17t)`. For global tokens "
        "the model has projections of their own, which a layout cannot have."
    ]
    layers = [
        Definition(
            f"window_{width}",
            f"window({width + 1}t) | global(0:g)",
            f"{width // 2} tokens to either side, and the global ones.",
            "g = 1t",
        )
        for width in widths
    ]
    return by_layer(model_type, layers), None, notes


def _phi3small(config: Values, model: _Model, model_type: str) -> _Read:
    block = config.number("blocksparse_block_size", 64, 1, MAX_BLOCK)
    local = config.number("blocksparse_num_local_blocks", 16, 1)
    stride = config.number("blocksparse_vert_stride", 8, 1)
    dense = config.optional("dense_attention_every_n_layers", 2)
    heads = config.number("num_attention_heads", 32, 1, MAX_HEADS)
    step = max(1, stride // heads)
    shift = "" if step == 1 else f" * {step}"
    same = config.flag("blocksparse_homo_head_pattern", False)
    offset = "-1" if same else f"-1 - head{shift}"
    sparse = Definition(
        "sparse",
        f"(last({local}) | every({stride}, offset={offset})) & causal",
        f"the {local} latest blocks and every {stride}th"
        f"{' block' if same else ', another for each head'}.",
    )
    full = Definition("full", "causal", "every key before the query, and its own.")
    count = _layers(config, 32)
    layers = [full if dense and (at + 1) % dense == 0 else sparse for at in range(count)]
    if sparse not in layers:
        raise ConfigError("no sparse attention in this configuration: every layer is dense")
    return by_layer(model_type, layers), block, []


# ---- the table -------------------------------------------------------------------------------------

_Read = tuple[list[Definition], int | None, list[str]]
"""Definitions, the block in tokens (None: any), and notes."""


@dataclass(frozen=True)
class _Model:
    """What a config.json of one model type leaves to the code of the model.

    layers, window, chunk, head_count: defaults of their keys. key, heads: of the window and the number of
    heads. both_ways: whether queries see later keys. make: the reader of a model whose layers have no
    types. encoder: of an encoder and a decoder. softcap: the default of `attn_logit_softcapping`.
    """

    types: Types = _uniform
    layers: int = 32
    window: int | None = None
    key: str = "sliding_window"
    chunk: int = 8192
    both_ways: Callable[[Values], bool] = lambda config: False
    make: Callable[[Values, _Model, str], _Read] | None = None
    heads: str = "num_attention_heads"
    head_count: int = 12
    encoder: bool = False
    softcap: float | None = None
    notes: tuple[str, ...] = ()


_DECODER = (
    "This is the encoder. The decoder has causal attention, and sees all of the encoder's output."
)
_SINKS = (
    "Each head has a learned logit that enters the softmax beside the keys (an attention sink): it is no "
    "key, and has no counterpart in a layout."
)
_PADDING = (
    "In batches padded on the left, the model counts chunks from the first token after the padding."
)


_UNKNOWN = (
    "This model type is not in bslang's table: it is read by `layer_types`, or else by `sliding_window` or "
    "`attention_chunk_size` for every layer, as a decoder's."
)


def _flagged(config: Values) -> bool:
    return config.flag("use_bidirectional_attention", False)


_QWEN = _Model(_qwen(lambda layer, bound: layer >= bound), 32, 4096)
_GEMMA3 = _Model(_full_every(6), 26, 4096, both_ways=_flagged)
_GEMMA3N = _Model(_full_every(5), 35, 512)
_LLAMA4 = _Model(_llama4, 48, notes=(_PADDING,))

_MODELS: Mapping[str, _Model] = {
    "mistral": _Model(_uniform, 32, 4096),
    "ministral": _Model(_uniform, 32, 4096),
    "mixtral": _Model(_uniform, 32),
    "phi3": _Model(_uniform, 32),
    "phimoe": _Model(_uniform, 32),
    "starcoder2": _Model(_uniform, 30),
    "qwen2": _QWEN,
    "qwen3": _QWEN,
    "qwen2_moe": _Model(_qwen(lambda layer, bound: layer < bound and layer % 2 == 0), 24, 4096),
    "qwen3_moe": _Model(_qwen(lambda layer, bound: True), 24, 4096),
    "gemma2": _Model(_full_every(2), 26, 4096, softcap=50.0),
    "gemma3": _GEMMA3,
    "gemma3_text": _GEMMA3,
    "gemma3n": _GEMMA3N,
    "gemma3n_text": _GEMMA3N,
    "cohere2": _Model(_full_every(4), 40, 4096),
    "olmo3": _Model(_full_every(4), 32, 4096),
    "gpt_oss": _Model(_full_every(2), 36, 128, notes=(_SINKS,)),
    "llama4": _LLAMA4,
    "llama4_text": _LLAMA4,
    "modernbert": _Model(_modernbert, 22, 128, "local_attention", both_ways=lambda config: True),
    "big_bird": _Model(make=_bigbird),
    "bigbird_pegasus": _Model(
        make=_bigbird,
        heads="encoder_attention_heads",
        head_count=16,
        encoder=True,
        notes=(_DECODER,),
    ),
    "longformer": _Model(make=_longformer, layers=12),
    "led": _Model(make=_longformer, layers=12, encoder=True, notes=(_DECODER,)),
    "phi3small": _Model(make=_phi3small),
}
"""Model types by their names in transformers; any other is read by its `layer_types` or its window."""
