"""The `position_ids` that a model is called with: where an encoder's packed sequences begin.

transformers gives them to the mask functions of decoders only.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers import PreTrainedModel

Tensor = torch.Tensor

_CALLS: list[tuple[int, Any]] = []
"""The models that are running, outermost first, as (id, position_ids or None)."""


def note(model: PreTrainedModel) -> None:
    """Have a model note the `position_ids` of its calls."""
    if _enter not in model._forward_pre_hooks.values():
        model.register_forward_pre_hook(_enter, with_kwargs=True)
        model.register_forward_hook(_leave)


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


def _enter(model: PreTrainedModel, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    given = kwargs.get("position_ids")
    if given is None and len(args) > 1:
        given = inspect.signature(model.forward).bind_partial(*args).arguments.get("position_ids")
    while any(running == id(model) for running, _ in _CALLS):  # its last pass failed
        _CALLS.pop()
    _CALLS.append((id(model), given))


def _leave(model: PreTrainedModel, args: tuple[Any, ...], output: Any) -> None:
    if _CALLS and _CALLS[-1][0] == id(model):
        _CALLS.pop()
