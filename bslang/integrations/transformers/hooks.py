"""The two methods of transformers that are wrapped, since nothing else is asked there:

    PreTrainedModel.get_correct_attn_implementation   a model takes an attention
    PreTrainedConfig.to_dict                          a configuration is written

Both do what they did for any attention that is not a layout.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from bslang.integrations.transformers import positions, saved
from bslang.integrations.transformers.models import refuse
from bslang.integrations.transformers.watch import watch


def install() -> None:
    """Wrap both methods, once."""
    for kind, wrapped in ((PreTrainedModel, _takes), (PreTrainedConfig, _written)):
        name = _NAMES[kind]
        method = getattr(kind, name)
        setattr(kind, name, wrapped(getattr(method, "_bslang_original", method)))


_NAMES: dict[type, str] = {
    PreTrainedModel: "get_correct_attn_implementation",
    PreTrainedConfig: "to_dict",
}


def _takes(original: Callable[..., str]) -> Callable[..., str]:
    @functools.wraps(original)
    def takes(
        self: PreTrainedModel, requested_attention: str | None, *args: Any, **kwargs: Any
    ) -> str:
        requested_attention = saved.restore(self.config, requested_attention)
        name = original(self, requested_attention, *args, **kwargs)
        held = saved.of_name(name)
        if held is not None:
            refuse(self, name)
            if getattr(self.config, "is_encoder_decoder", False):
                held.make_dense()
            watch(self, name)
            positions.note(self)
        return name

    takes._bslang_original = original  # type: ignore[attr-defined]  # a mark on the function
    return takes


def _written(original: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    @functools.wraps(original)
    def written(self: PreTrainedConfig) -> dict[str, Any]:
        output = original(self)
        saved.add_to(output, self)
        return output

    written._bslang_original = original  # type: ignore[attr-defined]  # a mark on the function
    return written
