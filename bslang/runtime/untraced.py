"""What a traced program leaves to Python. Imported while tracing only: it loads torch's compiler."""

from __future__ import annotations

import torch

from bslang.runtime import packed
from bslang.runtime.runnable import Runnable

# How many calls there are depends on the values of cu_seqlens, which a traced program does not have.
attend_packed = torch.compiler.disable(  # type: ignore[no-untyped-call]  # torch does not type it
    packed.attend,
    reason="Layout.packed reads cu_seqlens; pass labels to a layout with `same(doc)`",
)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # torch does not type it
def key_at(layout: Runnable, first_head: int) -> str:
    """The key of the layout for heads from another one on, which is made while tracing."""
    return layout.at_heads(first_head)._key


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # torch does not type it
def layout_at(layout: Runnable, first_head: int) -> Runnable:
    """That layout."""
    return layout.at_heads(first_head)
