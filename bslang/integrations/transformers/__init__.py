"""Layouts as an attention of Hugging Face transformers: `attn_implementation="bslang"`.

transformers asks twice: its mask function (`mask`) sees the padding and the cache, once a forward pass;
its attention function (`attention`) gets what that returned, in every layer.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path

from bslang import api, compiler
from bslang.integrations.transformers.attention import Attention
from bslang.integrations.transformers.mask import mask
from bslang.layouts import Layout

try:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import flash_attention_mask
except ImportError:
    _missing = True
else:  # since when mask functions are told where the queries are
    _missing = "q_offset" not in inspect.signature(flash_attention_mask).parameters
if _missing:
    raise ImportError(
        "bslang.integrations.transformers needs transformers 5.4 or newer: "
        "pip install 'bslang[transformers]'"
    )

__all__ = ["register"]


def register(
    layout: Layout | str | Path | Sequence[Layout | str | Path],
    *,
    name: str = "bslang",
    block: api.Block | None = None,
    target: api.Targets | None = None,
    allow_noncausal: bool = False,
) -> str:
    """Make a layout an attention of transformers, under a name that models take as `attn_implementation`.

    layout: a compiled one, the text of a spec, or a file (`"patterns.bsl:bigbird"`); or a sequence of
    these, one for each layer of the model. `layer` in a spec is the number of the model's layer. block,
    target: as for `bslang.compile`, for what is not compiled yet. allow_noncausal: let decoders have a
    layout in which a query sees later keys, which is otherwise an error of their first call.

    A name that was registered before gets the new layout, in models that use it as well. Returns the
    name. Raises SpecError, TargetError or ValueError for a layout or name that does not fit.
    """
    several = isinstance(layout, Sequence) and not isinstance(layout, str)
    given: list[Layout | str | Path] = list(layout) if several else [layout]  # type: ignore[arg-type,list-item]  # told apart by `several`
    if not given:
        raise ValueError("a model needs a layout for each layer; the sequence is empty")
    layouts = [_compiled(one, block, target) for one in given]
    for one in layouts:
        if one.labels:
            raise ValueError(
                f"`{one.spec}` needs labels ({', '.join(one.labels)}), and models of transformers pass "
                "none; packed sequences keep apart without them"
            )
    _check_name(name)
    AttentionInterface.register(name, Attention(name, layouts, several, allow_noncausal))
    AttentionMaskInterface.register(name, mask)
    return name


def _compiled(
    layout: Layout | str | Path, block: api.Block | None, target: api.Targets | None
) -> Layout:
    if isinstance(layout, Layout):
        if block is not None or target is not None:
            raise ValueError("block and target are settled in a layout that is compiled already")
        return layout
    if isinstance(layout, Path) or (
        isinstance(layout, str) and compiler.split_name(layout)[0].suffix == ".bsl"
    ):
        return api.load(layout, block=block, target=target)
    return api.compile(layout, block=block, target=target)


def _check_name(name: str) -> None:
    if not (isinstance(name, str) and name.isidentifier()):
        raise ValueError(f"name must be an identifier, as models take it; got {name!r}")
    held = AttentionInterface().get(name)
    if name == "eager" or (held is not None and not isinstance(held, Attention)):
        raise ValueError(f"transformers has an attention named {name!r} already; choose another")
