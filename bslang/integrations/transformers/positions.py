"""What a model is called with and its attention is not told: the `position_ids`, which say where an encoder's
packed sequences begin, and the cache.

transformers gives them to the mask functions of decoders only.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

Tensor = torch.Tensor

_CALLS: list[tuple[int, Any, Any]] = []
"""The models that are running, outermost first, as (id, position_ids or None, past_key_values or None)."""


def note(model: PreTrainedModel) -> None:
    """Have a model note the `position_ids` and the cache of its calls."""
    if _enter not in model._forward_pre_hooks.values():
        model.register_forward_pre_hook(_enter, with_kwargs=True)
        model.register_forward_hook(_leave)


def given() -> Tensor | None:
    """The `position_ids` that the model which is running was given; None for none."""
    found = _CALLS[-1][1] if _CALLS else None
    return found if isinstance(found, Tensor) else None


def packed(batch: int, length: int) -> Tensor | None:
    """int (batch, length): the number of each token's sequence, where the model that is running was given
    `position_ids` that begin again; None where they do not, or it was given none."""
    given = _CALLS[-1][1] if _CALLS else None
    if not isinstance(given, Tensor) or given.dim() != 2 or given.shape[1] != length:
        return None
    again = given.diff(dim=-1) <= 0
    if torch.compiler.is_compiling():
        message = "torch.compile takes packed sequences of encoders as cu_seq_lens_q and cu_seq_lens_k only"
        torch._assert_async(~again.any(), message)
        return None
    if not again.any():
        return None
    return torch.nn.functional.pad(again, (1, 0)).cumsum(-1).expand(batch, length)


def require_all_keys(module: nn.Module, keys: int) -> None:
    """Raise ValueError where the cache of the model that is running has dropped keys of a module's layer: a
    mask of all pairs does not tell."""
    if not _CALLS or torch.compiler.is_compiling():
        return
    cache, layer = _CALLS[-1][2], getattr(module, "layer_idx", None)
    sliding = getattr(cache, "is_sliding", ())
    if not isinstance(layer, int) or layer >= len(sliding) or not sliding[layer]:
        return
    tokens = int(cache.get_seq_length(layer))
    if tokens != keys:
        raise ValueError(
            f"a mask of all pairs came with {keys} keys of {tokens} tokens, because the cache has a sliding "
            "window: pass attention_mask as (batch, length)"
        )


def _enter(model: PreTrainedModel, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    given = kwargs
    if len(args) > 1:
        given = kwargs | inspect.signature(model.forward).bind_partial(*args).arguments
    while any(call[0] == id(model) for call in _CALLS):  # its last pass failed
        _CALLS.pop()
    _CALLS.append((id(model), given.get("position_ids"), given.get("past_key_values")))


def _leave(model: PreTrainedModel, args: tuple[Any, ...], output: Any) -> None:
    if _CALLS and _CALLS[-1][0] == id(model):
        _CALLS.pop()
