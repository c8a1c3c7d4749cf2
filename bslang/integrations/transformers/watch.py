"""The first forward pass of a model: whether each of its attention layers calls the layout."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from bslang.integrations.transformers.models import attention_modules, layers_of, name_modules

_RUNNING: list[_Pass] = []
"""The first passes that are running."""


def called(module: nn.Module) -> None:
    """Note that a module of a model calls a layout."""
    if not torch.compiler.is_compiling():
        for each in _RUNNING:
            each.called(module)


def watch(model: PreTrainedModel, name: str, *, whole: bool = False) -> None:
    """Check the next forward pass of a model: ValueError where an attention layer that is to have the
    attention `name` computes another, and, for a whole model, where none has it.

    Passes that torch.compile runs are not checked, since nothing is seen of them.
    """
    for hook in list(model._forward_pre_hooks.values()):
        if isinstance(hook, _Watch):
            hook.handle.remove()
            whole = whole or (hook.whole and hook.name == name)
    hook = _Watch(name, whole)
    hook.handle = model.register_forward_pre_hook(hook)


class _Watch:
    """The hook of a model that waits for its first pass."""

    handle: Any

    def __init__(self, name: str, whole: bool) -> None:
        self.name, self.whole = name, whole

    def __call__(self, model: PreTrainedModel, args: Any) -> None:
        if torch.compiler.is_compiling():
            return
        self.handle.remove()
        if model.config._attn_implementation == self.name:
            name_modules(model, self.name)
            _Pass(model, self)


class _Pass:
    """One forward pass, by hooks of the model and of its attention modules."""

    def __init__(self, model: PreTrainedModel, by: _Watch) -> None:
        self.by = by
        self.inside: list[
            bool
        ] = []  # of the attention modules that are running: whether it has called
        self.calls: Counter[nn.Module] = Counter()
        self.ran = 0
        self.without: list[nn.Module] = []
        self.handles = [model.register_forward_hook(self.end, always_call=True)]
        for _, module in attention_modules(model, by.name):
            self.handles.append(module.register_forward_pre_hook(self.enter))
            self.handles.append(module.register_forward_hook(self.leave))
        _RUNNING.append(self)

    def enter(self, module: nn.Module, args: Any) -> None:
        self.inside.append(False)

    def called(self, module: nn.Module) -> None:
        self.calls[module] += 1
        self.inside = [True] * len(self.inside)

    def leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self.ran += 1
        if not self.inside.pop():
            self.without.append(module)

    def end(self, model: PreTrainedModel, args: Any, output: Any) -> None:
        """Called after the pass, also where it fails: it is checked again then."""
        _RUNNING.remove(self)
        for handle in self.handles:
            handle.remove()
        if output is None:
            watch(model, self.by.name, whole=self.by.whole)
            return
        kind = type(model).__name__
        if self.without:
            kinds = ", ".join(sorted({type(module).__name__ for module in self.without}))
            raise ValueError(
                f"{kind} computed attention without the layout {self.by.name!r}, in {len(self.without)} of "
                f"{self.ran} attention modules: {kinds} did not use it. The result was dropped; "
                "use another attn_implementation for this model"
            )
        if self.by.whole and not self.calls:
            raise ValueError(
                f"{kind} never called the layout {self.by.name!r}: none of its attention "
                "modules uses a layout"
            )
        layers = layers_of(model.config) or 0
        if max(self.calls.values(), default=0) > 1 and len(self.calls) < layers:
            self.shared(kind)

    def shared(self, kind: str) -> None:
        """Raise ValueError where layers that are one module are to have layouts of their own."""
        from transformers import AttentionInterface

        if AttentionInterface()[self.by.name].several:
            raise ValueError(
                f"the layers of {kind} share their modules, so that none has a number: use one layout for "
                "all of them, without `layer`"
            )
