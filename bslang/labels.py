"""What a call says of positions: labels of queries and keys, and keys that are padding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from bslang.inputs import BOTH, ROW, Label, by_name

# torch is imported where there are tensors: the compiler reads the options of calls, and starts without it.
if TYPE_CHECKING:
    import torch

Given: TypeAlias = "torch.Tensor | tuple[torch.Tensor, torch.Tensor]"
"""Integers (length,), (batch, length) or (batch, heads or key heads, length): of the key positions, or of
(queries, keys)."""

LabelsOfCall: TypeAlias = "Given | Mapping[str, Given]"
"""One label by itself, or labels by name."""

_NARROW = ("int32", "int16", "int8", "uint8")
"""Dtypes that int32 holds as they are."""

_INTEGERS = ("int64", *_NARROW)

_LEAST, _GREATEST = -(2**31), 2**31 - 1
"""Of int32."""


@dataclass(frozen=True, eq=False)
class Labels:
    """Run-time labels in the order of the layout's names: q, k: int32 (labels, batch, heads, len_q or
    len_k), where query head h reads h * heads // (query heads)."""

    q: torch.Tensor
    k: torch.Tensor

    def ranges(
        self, q_start: int | torch.Tensor, block: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """int32 (labels, batch, heads, blocks, 2): the least and the greatest label of each block of queries,
        from the first on, and of each block of keys. q_start: position of the first query, or int64
        (batch,); block: tokens (query, key)."""
        of_k = _ranges(self.k, 0, block[1])
        if not isinstance(q_start, int):
            return _ranges_of_rows(self.q, q_start % block[0], block[0]), of_k
        return _ranges(self.q, q_start % block[0], block[0]), of_k


# ---- key padding -------------------------------------------------------------------------------


def take_padding(given: Any, q: torch.Tensor, k: torch.Tensor, placed: bool) -> torch.Tensor | None:
    """The key padding of a call as bool (batch, len_k), True where a key is padding; None for none.

    given: that, or integers (batch,), how many keys each sequence has, where padding stands on the
    right. placed: whether the queries are the last of the keys, and the layout asks where they stand.
    Raises TypeError or ValueError where it does not fit q (batch, heads, len_q, dim) and
    k (batch, key heads, len_k, dim), or covers queries that are placed.
    """
    import torch

    if given is None:
        return None
    batch, len_q, len_k = k.shape[0], q.shape[2], k.shape[2]
    if not isinstance(given, torch.Tensor):
        raise TypeError(f"key_padding must be a torch.Tensor, not {type(given).__name__}")
    if given.device != k.device:
        raise ValueError(
            f"key_padding must be on the device of the tensors, {k.device}, not {given.device}"
        )
    told: torch.Tensor = given.detach()
    if told.dtype == torch.bool and _has_shape(told, batch, len_k):
        if placed and len_q:
            covered = told[:, len_k - len_q :].all(-1) & ~told.all(-1)
            require(~covered, f"{_COVERED}. If a query is padding, its whole row must be padding")
        return told
    if _dtype(told) in _INTEGERS and _has_shape(told, batch):
        fits = (told >= 0) & (told <= len_k)
        require(fits, "key_padding must be lengths from 0 to the number of keys")
        if placed and len_q:
            # In tensors: a traced program compares no lengths, and holds for all.
            fewer = torch.full_like(told, len_k - len_q, dtype=torch.int64) > 0
            covered = fewer & (told > 0) & (told < len_k)
            require(
                ~covered, f"{_COVERED}. Where queries are padding too, pass key_padding as bool"
            )
        return torch.arange(len_k, dtype=torch.int64, device=k.device) >= told[:, None]
    raise ValueError(
        f"key_padding must be bool ({batch}, {len_k}), True for padding, or integers ({batch},), the "
        f"lengths; it is {told.dtype} {tuple(told.shape)}"
    )


_COVERED = (
    "key_padding covers queries: they are the last of all keys in every row, even if its sequence is "
    "shorter. Pad on the left, or call each row separately with its own keys, or all at once with `lengths`, "
    "where the queries of each row are the last of its own keys"
)


def require(holds: torch.Tensor, message: str) -> None:
    """Raise ValueError unless a condition holds in every row.

    Nobody waits for a GPU, and a traced program has no values: these stop with RuntimeError when they come
    to it.
    """
    import torch

    if torch.compiler.is_compiling() or type(holds) is not torch.Tensor or holds.is_cuda:
        torch._assert_async(holds.all(), message)
    elif holds.device.type == "cpu" and not holds.all():
        raise ValueError(message)


def require_within(x: torch.Tensor, least: int, most: int, message: str) -> None:
    """`require` that all numbers of a tensor of integers are from one to another."""
    import torch

    if x.numel() == 0:
        return
    low, high = x.aminmax()
    if type(x) is torch.Tensor and x.device.type == "cpu" and not torch.compiler.is_compiling():
        if not least <= int(low) <= int(high) <= most:
            raise ValueError(message)
    else:
        require((low >= least) & (high <= most), message)


# ---- labels ------------------------------------------------------------------------------------


def take_labels(
    given: Any,
    labels: tuple[Label, ...],
    q: torch.Tensor,
    k: torch.Tensor,
    align: str,
    positions: torch.Tensor | None = None,
) -> Labels | None:
    """The labels of a call; None for a layout without labels.

    given: what a call got as `labels`; positions: int64 (batch, len_q), where the queries stand, if not at
    one place in all rows. Raises TypeError or ValueError where they do not fit
    q (batch, heads, len_q, dim) and k (batch, key heads, len_k, dim).
    """
    import torch

    given = by_name(given, [label.name for label in labels], "label", "labels")
    if not labels:
        return None
    pairs = [_pair(given[label.name], label, q, k, align, positions) for label in labels]
    # Labels of other numbers of heads stand in one tensor, with the most that some have.
    heads = max(side.shape[1] for pair in pairs for side in pair)
    sides = ([_per_head(side, heads) for side in each] for each in zip(*pairs, strict=True))
    return Labels(*map(torch.stack, sides))


def _pair(
    given: Any,
    label: Label,
    q: torch.Tensor,
    k: torch.Tensor,
    align: str,
    positions: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One label of the queries and of the keys, int32 (batch, heads, length), of 1 head or more; zeros on a
    side that no mask asks."""
    import torch

    name, len_q, len_k = label.name, q.shape[2], k.shape[2]
    made: Any = {"dtype": torch.int32, "device": q.device}
    batch = q.shape[0]
    if label.sides == ROW:
        of_row = _numbers(_row(given, name, q), f"label {name!r}")
        return of_row.expand(batch, 1, len_q), of_row.expand(batch, 1, len_k)
    if label.sides != BOTH:
        of_queries = label.sides == "q"
        what = f"label {name!r} of the {'queries' if of_queries else 'keys'}"
        if isinstance(given, tuple | list):
            raise TypeError(f"{what} must be one tensor: the layout reads no other side")
        own = _checked(given, what, q, k, len_q if of_queries else len_k)
        own = _numbers(own, what) if label.ordered else _narrow(own)
        other = torch.zeros((batch, 1, len_k if of_queries else len_q), **made)
        return (own, other) if of_queries else (other, own)
    if isinstance(given, tuple | list):
        if len(given) != 2:
            raise TypeError(f"label {name!r} must be a pair (labels of queries, labels of keys)")
        of_q = _checked(given[0], f"label {name!r} of the queries", q, k, len_q)
        of_k = _checked(given[1], f"label {name!r} of the keys", q, k, len_k)
        heads = max(of_q.shape[1], of_k.shape[1])
        both = torch.cat((_per_head(of_q, heads), _per_head(of_k, heads)), -1)
        both = _numbers(both, f"label {name!r}") if label.ordered else _narrow(both)
        return both[..., :len_q], both[..., len_q:]
    if align == "start":
        raise TypeError(
            f'with align="start", label {name!r} must be a pair (labels of queries, labels of keys)'
        )
    of_k = _checked(given, f"label {name!r}", q, k, len_k)
    of_k = _numbers(of_k, f"label {name!r}") if label.ordered else _narrow(of_k)
    if positions is not None:
        if len_k == 0:
            return of_k.new_zeros((*of_k.shape[:2], len_q)), of_k
        at = positions.clamp_min(0)[:, None].expand(-1, of_k.shape[1], -1)
        return of_k.gather(-1, at), of_k
    return of_k[..., len_k - len_q :], of_k


def _tensor(given: Any, what: str, device: torch.device) -> torch.Tensor:
    """A tensor of integers on the device of a call, without a gradient."""
    import torch

    if not isinstance(given, torch.Tensor):
        raise TypeError(f"{what} must be a torch.Tensor, not {type(given).__name__}")
    if _dtype(given) not in _INTEGERS:
        raise TypeError(
            f"{what} must be integers (int64, int32, int16, int8 or uint8), not {given.dtype}"
        )
    if given.device != device:
        raise ValueError(
            f"{what} must be on the device of the tensors, {device}, not {given.device}"
        )
    return given.detach()


def _row(given: Any, name: str, q: torch.Tensor) -> torch.Tensor:
    """A number of each batch row as (batch, 1, 1)."""
    made = _tensor(given, f"label {name!r}", q.device)
    if not _has_shape(made, q.shape[0]):
        raise ValueError(
            f"label {name!r} must have shape ({q.shape[0]},), a number of each batch row; it has "
            f"{tuple(made.shape)}"
        )
    return made[:, None, None]


def _checked(given: Any, what: str, q: torch.Tensor, k: torch.Tensor, length: int) -> torch.Tensor:
    """A tensor of labels as (batch, heads, length), of 1 head or more."""
    made = _tensor(given, what, q.device)
    batch, heads = q.shape[0], {q.shape[1], k.shape[1]}
    if _has_shape(made, length) or _has_shape(made, batch, length):
        return made.expand(batch, length)[:, None]
    several = made.dim() == 3 and made.shape[1] in {1, *heads} and made.shape[2] == length
    if not several or made.shape[0] not in (1, batch):
        counts = " or ".join(map(str, sorted(heads)))
        raise ValueError(
            f"{what} must have shape ({length},), ({batch}, {length}) or, where heads differ, ({batch}, "
            f"{counts}, {length}); it has {tuple(made.shape)}"
        )
    return made.expand(batch, *made.shape[1:])


def _per_head(x: torch.Tensor, heads: int) -> torch.Tensor:
    """(batch, heads, length) for more heads, each for as many of these."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], 1)


def _numbers(x: torch.Tensor, what: str) -> torch.Tensor:
    """Labels as int32 that are the numbers they are."""
    import torch

    if _dtype(x) not in _NARROW:
        fits = (x >= _LEAST) & (x <= _GREATEST)
        require(fits, f"{what} must fit in 32 bits, as the layout asks more than which are equal")
    return x.to(torch.int32)


def _narrow(x: torch.Tensor) -> torch.Tensor:
    """Labels (..., length) as int32 that are equal where they are.

    Wider ones may not fit, and become the position at which each first stands: that needs no look at
    the values, so no wait for the device.
    """
    import torch

    if _dtype(x) in _NARROW:
        return x.to(torch.int32)
    value, order = x.sort(dim=-1, stable=True)
    new = value.diff(dim=-1, prepend=value[..., :1] - 1) != 0
    place = torch.arange(x.shape[-1], dtype=torch.int64, device=x.device)
    start = torch.where(new, place, 0).cummax(-1).values
    return torch.empty_like(order).scatter(-1, order, order.gather(-1, start)).to(torch.int32)


def _ranges(x: torch.Tensor, before: int, block: int) -> torch.Tensor:
    import torch

    least = _blocks(x, before, block, _GREATEST).amin(-1)
    return torch.stack((least, _blocks(x, before, block, _LEAST).amax(-1)), -1)


def _ranges_of_rows(x: torch.Tensor, before: torch.Tensor, block: int) -> torch.Tensor:
    """`_ranges`, where each row of the batch has places of its own before it, int64 (batch,)."""
    import torch

    length = x.shape[-1]
    place = before[:, None] + torch.arange(length, dtype=torch.int64, device=x.device)
    index = place.div(block, rounding_mode="floor")[:, None].expand(x.shape)
    shape = (*x.shape[:-1], (length + 2 * block - 2) // block)
    sides = ((_GREATEST, "amin"), (_LEAST, "amax"))
    return torch.stack(
        [x.new_full(shape, fill).scatter_reduce(-1, index, x, how) for fill, how in sides], -1
    )


def _blocks(x: torch.Tensor, before: int, block: int, fill: int) -> torch.Tensor:
    """(..., length) cut into blocks (..., blocks, block), with `before` places and a short end filled."""
    from torch.nn.functional import pad

    after = -(before + x.shape[-1]) % block
    padded = pad(x, (before, after), value=fill)
    return padded.reshape(*x.shape[:-1], padded.shape[-1] // block, block)


def _has_shape(x: torch.Tensor, *shape: int) -> bool:
    """Whether x has a shape. Where x.dim() is another no lengths are compared, so that a traced program
    holds for batches that happen to be as large as its sequences are long."""
    return x.dim() == len(shape) and x.shape == shape


def _dtype(x: torch.Tensor) -> str:
    """The name of a tensor's dtype: "int32"."""
    return str(x.dtype).removeprefix("torch.")
