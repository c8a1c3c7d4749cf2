"""What a configuration says of sparse attention that is not read: by which keys, and why."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from bslang.configs.values import ConfigError, shown

_CONTENT = re.compile(
    r"index(er)?_(topk|top_k|n_heads|num_heads|head_dim|block|local|kpool|compress|types)\w*"
    r"|sparse_config|sparse_attention_config|dual_chunk_attention_config|use_sparse_attention"
    r"|(moba|nsa|lsh|dsa|csa|hca|infllm\w*|quest|seer\w*)_\w+|(moba|nsa|native_sparse|dsa)(_config)?"
    r"|(num_)?selected_blocks|(num_)?selection_blocks?(_size)?|select(ion)?_block_(size|num|count)"
    r"|compress(ion)?_block_(size|stride|sliding_stride)|compress_ratios?|compress_rates|topk_blocks?"
    r"|block_topk|attn_topk|attention_topk|keep_window_size|num_hash(es)?|num_landmarks"
)
"""Keys of models that choose keys by their content: indexers, routers, hashes, landmarks."""

_CONTENT_WORDS = re.compile(
    r"(deepseek_sparse|qwen_sparse|indexed|compressed_sparse|heavily_compressed|moba|nsa|lsh)"
    r"(_self)?(_attention)?|minimax_m3_sparse|lsh|prob(sparse)?"
)
"""Types of layers, and of attention, that do so too."""

_STATIC = re.compile(
    r"\w*(window|local|chunk|block|sparse|band|stride|dilat|radius|kernel|neighbo)\w*"
    r"|\w*(layer|attention|attn|block)_?(types?|layers|pattern|mode)|\w*global_?att\w*|is_causal|is_decoder"
    r"|use_bidirectional_attention"
)
"""Keys that say which positions a layer sees, in the models that have them."""

_OTHER = re.compile(
    r"chunk_size_feed_forward|\w*(ffn|mlp|conv|ssm|mamba|moe|expert|rope|freq|vision|audio|router|embed)\w*"
    r"|max_window_layers|use_cache|\w*_(step|cfg)"
)
"""Keys that look like those, and are not of attention."""


def content_keys(config: Mapping[str, object]) -> list[str]:
    """Which keys of a configuration say that keys are chosen by content."""
    found = [key for key, value in config.items() if value and _CONTENT.fullmatch(key)]
    for key in ("layer_types", "attn_layers", "attention_type", "attn", "attention_types"):
        value = config.get(key)
        words = value if isinstance(value, list) else [value]
        if any(isinstance(word, str) and chooses(word) for word in words):
            found.append(key)
    return found


def chooses(word: str) -> bool:
    """Whether a type of layers chooses keys by their content."""
    return _CONTENT_WORDS.fullmatch(word) is not None


def static_keys(config: Mapping[str, object]) -> list[str]:
    """Which keys of a configuration seem to say what positions a layer sees."""
    return [
        key
        for key, value in config.items()
        if (value or (value is False and key == "is_causal"))
        and _STATIC.fullmatch(key)
        and not _OTHER.fullmatch(key)
    ]


def by_content(keys: Sequence[str]) -> ConfigError:
    """The error of a model that chooses keys by their content."""
    return ConfigError(
        f"chosen by content: {_listed(keys)}. Which keys a query sees depends on the input, and bslang "
        "does not know the rule. Write `select(pick, rows=1t, cols=64t)` beside what is fixed, as in "
        "`(select(pick) | last(2)) & causal`, and give each call the blocks: bslang.select has rules"
    )


def not_read(keys: Sequence[str], why: str) -> ConfigError:
    """The error of a static layout that has no reader."""
    return ConfigError(f"static, not read yet: {_listed(keys)}: {why}")


def unknown(model_type: str, why: str) -> ConfigError:
    """The error of a model of which nothing is known, and whose keys say nothing."""
    return ConfigError(
        f"unknown model type {shown(model_type)}: it is not in bslang's table, and {why}. No key at "
        "the top of it names a window or chunks, which does not prove its attention dense"
    )


def _listed(keys: Iterable[str]) -> str:
    keys = list(keys)
    some = ", ".join(f"`{shown(key, 60)[1:-1]}`" for key in keys[:4])
    return f"{some} and {len(keys) - 4} more" if len(keys) > 4 else some
