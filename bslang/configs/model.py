"""What a config.json of one model type leaves to the code of the model, and what readers share."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from bslang.configs.document import Definition
from bslang.configs.values import Values
from bslang.errors import LimitError
from bslang.limits import MAX_LAYERS

Types = Callable[[Values, int, int | None], list[str]]
"""Types(config, count, window): the type of each of `count` layers, where the file does not list them."""

Read = tuple[list[Definition], int | None, list[str]]
"""Definitions, the block in tokens (None: any), and notes."""

SLIDING, FULL, CHUNKED = "sliding_attention", "full_attention", "chunked_attention"

NO_KEYS = re.compile("linear_attention|recurrent|mamba2?|conv|moe|mlp|dense")
"""Types of layers without attention."""


@dataclass(frozen=True)
class Model:
    """What a config.json of one model type leaves to the code of the model.

    layers, window, chunk, head_count: defaults of their keys. key, heads: of the window and the number of
    heads. both_ways: whether queries see later keys. make: the reader of a model whose layers have no
    types. encoder: of an encoder and a decoder. softcap: the default of `attn_logit_softcapping`.
    """

    types: Types | None = None
    layers: int = 32
    window: int | None = None
    key: str = "sliding_window"
    chunk: int = 8192
    both_ways: Callable[[Values], bool] = lambda config: False
    make: Callable[[Values, Model, str], Read] | None = None
    heads: str = "num_attention_heads"
    head_count: int = 12
    encoder: bool = False
    softcap: float | None = None
    notes: tuple[str, ...] = ()


CAUSAL = Definition("full", "causal", "every key before the query, and its own.")
"""A layer of full attention, of a decoder."""


def sliding(window: int) -> Definition:
    """A layer whose queries see themselves and the tokens before them, `window` in all."""
    return Definition("sliding", f"last({window}t)", f"the {window} latest tokens.")


def to_both_sides(half: int) -> Definition:
    """A layer whose queries see so many tokens before them and after them."""
    return Definition(
        "sliding", f"window({2 * half + 1}t)", f"at most {half} tokens to either side."
    )


def chunked(size: int) -> Definition:
    """A layer of causal chunks."""
    about = f"chunks of {size} tokens, each causal and by itself."
    return Definition("chunked", f"chunks({size}t) & causal", about)


def layer_count(config: Values, default: int, key: str = "num_hidden_layers") -> int:
    """How many layers a configuration has. Raises ConfigError, LimitError."""
    count = config.number(key, default, 1)
    if count > MAX_LAYERS:
        raise LimitError("MAX_LAYERS", MAX_LAYERS, f"{count} layers")
    return count
