"""Models that choose keys by their content: their layouts have a selection, which each call gives."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from bslang.configs.document import Definition, by_layer
from bslang.configs.model import CAUSAL, FULL, Read, layer_count
from bslang.configs.values import ConfigError, Values, shown
from bslang.limits import MAX_BLOCK

Reader = Callable[[Values, str], Read]
"""Reader(config, model type)."""


def reader(config: Values, model_type: str) -> Reader | None:
    """Who reads a configuration that chooses keys by content, if somebody does."""
    needed, read = _BY_TYPE.get(model_type, ("", None))
    if read is not None and (not needed or config.values.get(needed)):
        return read
    return next((read for key, read in _BY_KEY.items() if config.values.get(key)), None)


def _deepseek(config: Values, model_type: str) -> Read:
    """An indexer scores every key for every query; all heads see the best."""
    top = config.number("index_topk", 2048, 1)
    chosen = Definition(
        "indexed",
        "select(pick, rows=1t, cols=1t) & causal",
        f"of the keys up to the query, those that the indexer chooses: at most {top}.",
    )
    layers = _typed(config, chosen, ("indexed_attention", "deepseek_sparse_attention"))
    notes = [
        _given(f"bslang.select.indexer(q, k, weights, top={top})")
        + " q, k and weights are those of the model's indexer, not of its attention."
    ]
    if config.values.get("indexer_types") or config.values.get("index_topk_freq"):
        notes.append("Layers without an indexer of their own take the selection of one before.")
    return by_layer(model_type, layers), None, notes


def _minimax(config: Values, model_type: str) -> Read:
    """An indexer scores blocks of keys; each key head has its own, and the latest are always seen."""
    section = Values.of(
        config.values.get("sparse_attention_config") or {}, "sparse_attention_config"
    )

    def number(key: str, older: str, default: int, least: int, most: int) -> int:
        source, name = (section, older) if older in section.values else (config, key)
        return source.number(name, default, least, most)

    side = number("index_block_size", "sparse_block_size", 128, 1, MAX_BLOCK)
    top = number("index_topk_blocks", "sparse_topk_blocks", 16, 1, MAX_BLOCK)
    local = number("index_local_blocks", "sparse_local_block", 1, 0, MAX_BLOCK)
    chosen = Definition(
        "sparse",
        f"{_union(f'select(pick, rows=1t, cols={side}t)', f'last({local})' if local else '')} & causal",
        f"the {top} blocks that the indexer chooses for each key head"
        + (f", of which the latest {local} always." if local else "."),
    )
    given = config
    if config.values.get("layer_types") is None and "sparse_attention_freq" in section.values:
        frequency = section.numbers("sparse_attention_freq", [], 0)
        types = ["minimax_m3_sparse" if each else FULL for each in frequency]
        given = Values({**config.values, "layer_types": types})
    if given.values.get("layer_types") is None:
        raise ConfigError("no sparse attention in this configuration: every layer is full")
    force = f', force="last({(local - 1) * side + 1}t)"' if local else ""
    call = f'indexer(q, k, activation="identity", cols={side}, top={top}, scope="query"{force})'
    notes = [
        _given(f"bslang.select.{call}")
        + " q and k are those of the model's indexer, which has a head for each key head of attention."
    ]
    return by_layer(model_type, _typed(given, chosen, ("minimax_m3_sparse",))), side, notes


def _moba(config: Values, model_type: str) -> Read:
    """Chunks by the product of a query and the mean of a chunk's keys; its own chunk is always seen."""
    chunk = config.number("moba_chunk_size", 4096, 1)
    top = config.number("moba_topk", 12, 1)
    definition = Definition(
        _title(model_type, "moba"),
        f"(select(pick, rows=1t, cols={chunk}t) | chunks({chunk}t)) & causal",
        f"The query's own chunk and the {top - 1} best before it, for each head.",
    )
    call = f'bslang.select.pooled(q, k, rows=1, cols={chunk}, top={top}, force="last(1t)")'
    return [definition], None, [_given(call)]


def _nsa(config: Values, model_type: str) -> Read:
    """Three branches, which the model adds with gates: compressed keys, chosen blocks, and a window."""
    side = config.number("block_size", 64, 1, MAX_BLOCK)
    top = config.number("block_counts", 16, 1)
    window = config.optional("window_size", 512)
    definitions = [
        Definition(
            "nsa_compressed",
            f"{{q, k : k * {side} + {side} <= q + 1}}",
            f"Keys are the means of blocks of {side} tokens, one for each that is complete: call it with "
            'align="start".',
        ),
        Definition(
            "nsa_selected",
            f"(select(pick, rows=1t, cols={side}t) | chunks({side}t)) & causal",
            f"The query's own block and the {top - 1} best before it, for each key head.",
        ),
    ]
    if window:
        definitions.append(
            Definition("nsa_window", f"last({window}t)", f"The {window} latest tokens.")
        )
    call = (
        f"bslang.select.compressed(q, k, kernel={side}, stride={side}, cols={side}, top={top}, "
        'force="last(1t)")'
    )
    notes = [
        "The model adds the outputs of its branches, each times a gate. Every branch is a definition here.",
        _given(call),
    ]
    return definitions, None, notes


def _minicpm(config: Values, model_type: str) -> Read:
    """InfLLM-v2: the first blocks, a window of blocks, and blocks by the weights of compressed keys."""
    section = Values.of(config.values.get("sparse_config"), "sparse_config")
    side = section.number("block_size", 64, 1, MAX_BLOCK)
    first = section.number("init_blocks", 1)
    window = section.number("window_size", 2048, side) // side
    top = section.number("topk", 64, 1) + window
    kernel, stride = section.number("kernel_size", 32, 1), section.number("kernel_stride", 16, 1)
    dense = section.number("dense_len", 8192)
    start = f"cols(0:{first * side}t)" if first else ""
    definition = Definition(
        _title(model_type, "infllm2"),
        f"{_union(f'select(pick, rows=1t, cols={side}t)', start, f'last({window + 1})')} & causal",
        f"The first blocks, the query's own and the {window} before it, and others that are chosen for each "
        f"key head: {top} blocks in all.",
    )
    force = " | ".join(filter(None, (start, f"last({window * side + 1}t)")))
    call = (
        f"bslang.select.compressed(q, k, kernel={kernel}, stride={stride}, cols={side}, "
        f'pool="max", top={top}, force="{force}")'
    )
    notes = [
        _given(call),
        f"The model runs sequences shorter than {dense} tokens with full attention instead. Its first "
        f"kernels kept one block fewer: the query's own and the {window - 1} before it.",
    ]
    if section.flag("use_nope", False):
        notes.append("q and k of the selection are those before the rotary embedding (`use_nope`).")
    return [definition], side, notes


def _typed(config: Values, chosen: Definition, types: tuple[str, ...]) -> list[Definition]:
    """The layers: chosen ones, and full ones. Without `layer_types`, all are chosen."""
    listed = config.values.get("layer_types")
    if listed is None:
        return [chosen] * layer_count(config, 32)
    if not isinstance(listed, list) or not listed:
        raise ConfigError(f"`layer_types` must be a list of words, not {shown(listed)}")
    count = layer_count(config, len(listed))
    if len(listed) != count:
        raise ConfigError(
            f"`layer_types` must have a word for each of {count} layers, not {len(listed)}"
        )
    for kind in listed:
        if kind != FULL and kind not in types:
            raise ConfigError(f"static, not read yet: `layer_types`: layers of type {shown(kind)}")
    layers = [CAUSAL if kind == FULL else chosen for kind in listed]
    if chosen not in layers:
        raise ConfigError("no sparse attention in this configuration: every layer is full")
    return layers


def _union(*terms: str) -> str:
    """A union of terms, those that are empty left out."""
    some = [term for term in terms if term]
    return some[0] if len(some) == 1 else f"({' | '.join(some)})"


def _title(model_type: str, otherwise: str) -> str:
    """A model type as the name of a definition."""
    name = re.sub(r"\W", "_", model_type, flags=re.ASCII)
    return name if name.isidentifier() else otherwise


def _given(call: str) -> str:
    return (
        f'Which keys are chosen depends on the input. A call gives them: select={{"pick": {call}}}.'
    )


_BY_TYPE: Mapping[str, tuple[str, Reader]] = {
    "deepseek_v32": ("", _deepseek),
    "glm_moe_dsa": ("", _deepseek),
    "minimax_m3_vl_text": ("", _minimax),
    "minimax_m3_vl": ("", _minimax),
    "nsa": ("block_counts", _nsa),
}
"""Readers by model types, and a key that the configuration needs."""

_BY_KEY: Mapping[str, Reader] = {
    "moba_chunk_size": _moba,
    "moba_topk": _moba,
    "sparse_config": _minicpm,
}
"""Readers by a key of models that bring their own code."""
