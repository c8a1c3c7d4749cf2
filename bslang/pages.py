"""Pages of a call: pools of keys and values, and the table that says where each sequence lies in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bslang.labels import require_within

# torch is imported where there are tensors: the compiler reads the options of calls, and starts without it.
if TYPE_CHECKING:
    import torch

STEP = 16
"""The size of a page is a multiple of it, in tokens."""

POOLS = "(pages, key heads, page size, dim)"


def check_pools(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sinks: Any) -> None:
    """Raise ValueError where k and v are not pools, RuntimeError where their call is to have gradients."""
    import torch

    if k.shape[2] == 0 or k.shape[2] % STEP:
        raise ValueError(
            f"with pages, k and v are pools {POOLS}, and the page size is a multiple of {STEP} tokens: "
            f"that of k is {k.shape[2]}, of the shape {tuple(k.shape)}. Of pools (pages, page size, key "
            "heads, dim) pass k.transpose(1, 2), which copies nothing"
        )
    given = (q, k, v, sinks) if isinstance(sinks, torch.Tensor) else (q, k, v)
    if torch.is_grad_enabled() and any(x.requires_grad for x in given):
        raise RuntimeError(
            "a call with pages has no gradients: call it under torch.no_grad(), or with detached tensors"
        )


def take_pages(
    given: Any, q: torch.Tensor, k: torch.Tensor, lengths: Any, key_padding: Any
) -> tuple[torch.Tensor | None, int | None]:
    """(pages, keys) of a call: int32 (batch, key heads or 1, columns), None for none; and how many keys all
    rows have, None where these are a tensor, or where there are no pages.

    Raises TypeError or ValueError where they do not fit q (batch, heads, len_q, dim) and the pool k (pages,
    key heads, page size, dim), or the other options, lengths and key_padding.
    """
    import torch

    if given is None:
        return None, None
    if not isinstance(given, torch.Tensor):
        raise TypeError(f"pages must be a torch.Tensor, not {type(given).__name__}")
    if given.dtype != torch.int32:
        raise TypeError(f"pages must be int32, not {given.dtype}")
    if given.device != q.device:
        raise ValueError(
            f"pages must be on the device of the tensors, {q.device}, not {given.device}"
        )
    batch, heads = q.shape[0], k.shape[1]
    by_head = given.dim() == 3
    if (
        given.dim() not in (2, 3)
        or given.shape[0] != batch
        or (by_head and given.shape[1] != heads)
    ):
        raise ValueError(
            f"pages must have shape ({batch}, columns) or, where key heads have pages of their own, "
            f"({batch}, {heads}, columns); their shape is {tuple(given.shape)}"
        )
    if key_padding is not None:
        raise TypeError("leave out key_padding beside pages: lengths say which keys a row has")
    if lengths is None:
        raise TypeError("pages need lengths, the number of keys of each row of the batch")
    what = "pages must be numbers of pages of k and v, or -1 where there is none"
    require_within(given, -1, k.shape[0] - 1, what)
    keys: Any = None  # while tracing a torch.SymInt
    if isinstance(lengths, int | torch.SymInt) and not isinstance(lengths, bool):
        keys = lengths
        room = given.shape[-1] * k.shape[2]
        if not q.shape[2] <= keys <= room:
            raise ValueError(
                f"lengths must be from the number of queries, {q.shape[2]}, to that of the keys that the "
                f"pages have room for, {room}; got {keys}"
            )
    return (given if by_head else given[:, None]), keys


class Keys(NamedTuple):
    """Keys that lie in pages, as far as other options are checked against them."""

    shape: tuple[int, int, int, int]
    """(batch, key heads, len_k, dim)"""
    device: torch.device


def keys_of(k: torch.Tensor, pages: torch.Tensor, keys: int | None) -> Any:
    """What stands for the keys of all rows in the place of a tensor. k: the pool; pages, keys: of a call."""
    length = pages.shape[2] * k.shape[2] if keys is None else keys
    return Keys((pages.shape[0], k.shape[1], length, k.shape[3]), k.device)
