"""What the modules share: how they show their layout, and the numbers of their heads."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch

from bslang.layouts import Layout, take_layout


@runtime_checkable
class Sharded(Protocol):
    """A layout over several ranks, `bslang.distributed.ContextParallel`."""

    layout: Layout
    sharding: Any

    def __call__(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *args: Any, **options: Any
    ) -> Any: ...


def take_attention(given: Layout | Sharded | str) -> tuple[Layout, Layout | Sharded]:
    """The layout of a module, and what it calls: that layout, or the same over several ranks. Raises as
    `take_layout`."""
    if isinstance(given, Sharded):
        return given.layout, given
    layout = take_layout(given)
    return layout, layout


def about(layout: Layout) -> str:
    """A layout among the arguments that a module's repr shows."""
    rows, columns = layout.block
    layer = f", layer={layout.layer}" if layout.layer else ""
    heads = f", heads from {layout.first_head}" if layout.first_head else ""
    return f"layout={layout.spec!r}, block={rows}x{columns}{layer}{heads}"


def check_count(name: str, value: object) -> None:
    """Raise ValueError where an argument is no number from 1 on."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, not {value!r}")


def check_like(held: torch.Tensor, new: torch.Tensor) -> None:
    """Raise ValueError where keys or values (batch, heads, length, dim) do not match those of a cache."""
    same = held.shape[:2] == new.shape[:2] and held.shape[3] == new.shape[3]
    if not same or held.dtype != new.dtype or held.device != new.device:
        batch, heads, _, dim = held.shape
        raise ValueError(
            f"the cache holds (batch {batch}, heads {heads}, dim {dim}) as {held.dtype} on {held.device}; "
            f"{tuple(new.shape)} as {new.dtype} on {new.device} do not match: "
            "each module and each batch needs its own cache"
        )


def take_head_dim(embed_dim: int, num_heads: int, head_dim: int | None = None) -> int:
    """The head dimension, embed_dim / num_heads for None. Raises ValueError where they do not fit."""
    check_count("embed_dim", embed_dim)
    check_count("num_heads", num_heads)
    if head_dim is None:
        if embed_dim % num_heads:
            raise ValueError(f"embed_dim {embed_dim} is not a multiple of num_heads {num_heads}")
        head_dim = embed_dim // num_heads
    check_count("head_dim", head_dim)
    return head_dim


def split_heads(x: torch.Tensor, head_dim: int) -> torch.Tensor:
    """(batch, length, heads * head_dim) as (batch, heads, length, head_dim), a view."""
    heads = x.shape[2] // head_dim
    return x.view(x.shape[0], x.shape[1], heads, head_dim).transpose(1, 2)


def join_heads(x: torch.Tensor) -> torch.Tensor:
    """(batch, heads, length, head_dim) as (batch, length, heads * head_dim)."""
    return x.transpose(1, 2).flatten(2)
