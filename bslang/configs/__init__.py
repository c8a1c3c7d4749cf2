"""Configurations of other libraries, read as specs: what `bslang import` writes.

`spec_of` picks the reader: deepspeed.py for a `sparse_attention` section, huggingface.py for a
config.json of transformers. Both read through values.py and write through document.py.
"""

from __future__ import annotations

from bslang.configs import deepspeed, huggingface
from bslang.configs.values import ConfigError, Values


def spec_of(config: object, name: str) -> str:
    """The text of a spec that means what a configuration says, in the style of `bslang fmt`.

    config: as `json.loads` gives it; name: what the text calls it. Raises ConfigError for one that has
    no sparse attention, or that is wrong; LimitError.
    """
    if not isinstance(config, dict):
        raise ConfigError("a configuration is a JSON object, {...}")
    if "sparse_attention" in config:
        around = {key: value for key, value in config.items() if key != "sparse_attention"}
        section = Values.of(config["sparse_attention"], "sparse_attention")
        return deepspeed.document(section, name, around)
    if "model_type" not in config and config.keys() & {"mode", *deepspeed.OPTIONS}:
        return deepspeed.document(Values(config), name)
    return huggingface.document(Values(config), name)
