"""What the modules of a model are: which compute attention, by whose code, in which layer, and to whom."""

from __future__ import annotations

import inspect
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

NUMBER = "_bslang_layer"
"""The attribute that says the number of a module's layer where its own `layer_idx` does not; None where
that cannot be told."""

ROLE = "_bslang_role"
"""The attribute that says what a module's attention is, one of the following."""

SELF, DECODER, CROSS, UNKNOWN = "self", "decoder", "cross", "unknown"
"""To a model's own tokens; the same in the decoder of an encoder-decoder model; to other tokens; or what its
names do not tell."""

_CROSS = re.compile("cross|encoder_attn|encdec", re.IGNORECASE)
_SIDE = re.compile("(?<![a-z])(en|de)coder")

_ASKS = "ALL_ATTENTION_FUNCTIONS"
"""What code names that takes its attention from transformers' registry."""

_SCORES = re.compile(
    "softmax|logsumexp|scaled_dot_product_attention|multi_head_attention", re.IGNORECASE
)
_KEYS = re.compile(r"key|qkv|\bk_|\bkv\b|\.k\b", re.IGNORECASE)
"""What code names that computes attention itself: both of these."""


def refuse(model: PreTrainedModel, name: str) -> None:
    """Raise ValueError for a model whose class or configuration tells that it cannot take a layout."""
    kind = type(model)
    if getattr(model.config, "index_topk", None):
        raise ValueError(
            f"{kind.__name__} chooses the keys of each query by their content (index_topk): it cannot take "
            f"the layout {name!r}, which is fixed"
        )
    if reason := _own_attention(kind.__module__, kind.__name__):
        parts = ", ".join(model.config.sub_configs)
        instead = (
            "put bslang.nn.BlockSparseAttention in place of its attention, or take another model"
        )
        hint = f"attach to its parts that can: {parts}" if parts else instead
        raise ValueError(f"{kind.__name__} {reason}: it cannot take the layout {name!r}; {hint}")


@lru_cache(maxsize=1024)
def _own_attention(module: str, kind: str) -> str:
    """Why a model does not ask transformers' registry for its attention; empty if it may."""
    try:
        text = inspect.getsource(sys.modules[module])
    except (KeyError, OSError, TypeError):  # a class of a notebook: its first forward pass tells
        return ""
    text = _made_of(kind, text)
    if table := re.search(r"\b(\w+ATTENTION_CLASSES)\[", text):
        return f"chooses among attentions of its own ({table[1]})"
    own = re.search(r"^class \w*Attention\w*\(nn\.Module\):", text, re.MULTILINE)
    if own and _ASKS not in text:
        return "has its own attention, which does not use transformers' registry"
    return ""


def _made_of(name: str, text: str) -> str:
    """The code of a class, and of all classes of its file that it names, or that these name."""
    classes = {part.split("(")[0][6:]: part for part in re.split(r"^(?=class )", text, flags=re.M)}
    found: dict[str, str] = {}
    names = [name]
    while names:
        if (name := names.pop()) in classes and name not in found:
            found[name] = classes[name]
            names += re.findall(r"\w+", classes[name])
    return "".join(found.values())


def _text(module: nn.Module) -> str:
    """The code of a module's class and of those that it is made of, empty where it cannot be read."""
    kind = type(module)
    return "".join(map(_source, kind.__mro__[: kind.__mro__.index(nn.Module)]))


@lru_cache(maxsize=1024)
def _source(kind: type) -> str:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        return ""


def asks(module: nn.Module) -> bool:
    """Whether a module takes its attention from transformers' registry."""
    return _ASKS in _text(module)


def is_attention(module: nn.Module, path: str) -> bool:
    """Whether a module computes attention of a layer, by its own code or that of the registry.

    path: its name in the model. Without a number there, attention of its own is a head that pools.
    """
    if not re.search("attention|attn", type(module).__name__, re.IGNORECASE):
        return False
    text = _text(module)
    scores = not text or (_SCORES.search(text) and _KEYS.search(text))
    return asks(module) or bool(scores and any(step.isdigit() for step in path.split(".")))


def attention_modules(model: PreTrainedModel, name: str) -> Iterator[tuple[str, nn.Module]]:
    """The attention modules of a model that are to have the attention `name`, with their paths."""
    owners: dict[nn.Module, PreTrainedModel] = {}
    for part in model.modules():  # parents come first
        if isinstance(part, PreTrainedModel):
            owners.update(dict.fromkeys(part.modules(), part))
    for path, module in model.named_modules():
        if is_attention(module, path) and not isinstance(module, PreTrainedModel):
            config = getattr(module, "config", owners[module].config)
            if getattr(config, "_attn_implementation", name) == name:
                yield path, module


def name_modules(model: PreTrainedModel, name: str, *, anew: bool = False) -> None:
    """Give each attention module its role (ROLE) and, where `layer_idx` says none, a negative one, or the
    same as that of another layer, the number of its layer (NUMBER).

    The number is that in the module's path, `encoder.layer.3.attention`, if there is exactly one. anew: also
    where a module is already known to be in a decoder, of a model that has this one as its part.
    """
    stacks: dict[str, list[tuple[list[str], nn.Module]]] = defaultdict(list)
    for path, module in attention_modules(model, name):
        if asks(module):
            steps = path.split(".")
            stack = ".".join("#" if step.isdigit() else step for step in steps)
            stacks[stack].append(([step for step in steps if step.isdigit()], module))
            if anew or getattr(module, ROLE, None) != DECODER:
                setattr(module, ROLE, _role(model, path, module))
    for members in stacks.values():
        if not _distinct([getattr(module, "layer_idx", None) for _, module in members]):
            for numbers, module in members:
                setattr(module, NUMBER, int(numbers[0]) if len(numbers) == 1 else None)


def layers_of(config: PreTrainedConfig, side: str = "") -> int | None:
    """How many layers a model has, or its "encoder" or "decoder"; None where its configuration does not
    tell."""
    try:
        part = getattr(config, side, config) if side else config.get_text_config()
    except ValueError:  # it has several
        return None
    for name in (f"{side}_layers", "num_hidden_layers", "num_layers"):
        found = getattr(part, name, None)
        if isinstance(found, int):
            return found
    return None


def stays_dense(model: PreTrainedModel, name: str) -> bool:
    """Whether all attention modules are in a decoder of an encoder-decoder model."""
    roles = {role(module) for _, module in attention_modules(model, name) if asks(module)}
    return DECODER in roles and SELF not in roles


def _role(model: PreTrainedModel, path: str, module: nn.Module) -> str:
    """What the attention of a module is, by the names on its path in a model."""
    kind = type(module).__name__
    if "Merged" in kind:  # to a decoder's own tokens and the encoder's at once
        return UNKNOWN
    if getattr(module, "is_cross_attention", False) is True or _CROSS.search(f"{path} {kind}"):
        return CROSS
    if not getattr(model.config, "is_encoder_decoder", False):
        return SELF
    side = _SIDE.search(path) or re.search("(en|de)coder", type(model).__name__.lower())
    in_decoder = getattr(module, "is_decoder", None if side is None else side[1] == "de")
    return UNKNOWN if in_decoder is None else DECODER if in_decoder else SELF


def role(module: nn.Module) -> str:
    """What the attention of a module is, also of one whose model has not run yet."""
    known = getattr(module, ROLE, None)
    if known is not None:
        return str(known)
    if getattr(module, "is_cross_attention", False) is True:
        return CROSS
    config = getattr(module, "config", None)
    both = getattr(config, "is_encoder_decoder", False)
    in_decoder = getattr(module, "is_decoder", None)
    if getattr(config, "add_cross_attention", False) or (both and in_decoder is None):
        return UNKNOWN
    if both and in_decoder:
        return DECODER if getattr(module, "is_causal", False) else UNKNOWN
    return SELF


def _distinct(numbers: list[object]) -> bool:
    known = {number for number in numbers if isinstance(number, int) and number >= 0}
    return len(known) == len(numbers)
