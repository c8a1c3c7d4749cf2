"""The keys and values of the tokens so far."""

from __future__ import annotations

from typing import Any

import torch

from bslang.nn.shared import check_count

_LEAST = 256  # positions of the first buffers


class KVCache:
    """Keys and values of one attention module for one batch, from position 0 on.

    Buffers double when they are full. With max_length they are allocated once, for that many positions;
    more positions raise ValueError. Rows of the batch may hold other numbers of positions (`truncate` with
    a tensor): each new token then follows those of its own row.
    """

    def __init__(self, max_length: int | None = None) -> None:
        if max_length is not None:
            check_count("max_length", max_length)
        self.max_length = max_length
        self.length = 0
        """Positions that it holds, in the row that holds most."""
        self.lengths: torch.Tensor | None = None
        """Those of each row, int64 (batch,); None where all hold `length`."""
        self.asked: tuple[str, int] | None = None
        """The layout, and the room, for which it is known to serve."""
        self._keys: torch.Tensor | None = None
        self._values: torch.Tensor | None = None

    def room(self, length: int) -> int:
        """How many positions the buffers have room for once they hold `length`. Raises ValueError beyond
        max_length."""
        if self.max_length is not None:
            if length > self.max_length:
                raise ValueError(
                    f"the cache has max_length {self.max_length}, too few for {length} positions"
                )
            return self.max_length
        room = _LEAST if self._keys is None else self._keys.shape[2]
        while room < length:
            room *= 2
        return room

    def append(self, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the keys and values of the next positions.

        k: (batch, key heads, length, dim); v: (batch, key heads, length, value dim). Returns those of all
        positions so far, as views of the buffers; the next call may write after them. Raises ValueError if
        they do not match the cached ones, RuntimeError if they require gradients.
        """
        if torch.is_grad_enabled() and (k.requires_grad or v.requires_grad):
            raise RuntimeError("a KVCache holds no gradients; decode under torch.no_grad()")
        stop = self.length + k.shape[2]
        room = self.room(stop)
        keys, values = self._grown(self._keys, k, room), self._grown(self._values, v, room)
        if self.lengths is None:
            keys[:, :, self.length : stop] = k
            values[:, :, self.length : stop] = v
        else:
            new: Any = {"dtype": torch.int64, "device": k.device}
            place = self.lengths[:, None] + torch.arange(k.shape[2], **new)
            row = torch.arange(k.shape[0], **new)[:, None]
            keys[row, :, place] = k.transpose(1, 2)
            values[row, :, place] = v.transpose(1, 2)
            self.lengths = self.lengths + k.shape[2]
        self._keys, self._values, self.length = keys, values, stop
        return keys[:, :, :stop], values[:, :, :stop]

    def truncate(self, length: int | torch.Tensor) -> None:
        """Drop the positions from `length` on; 0 empties it. A tensor, int32 or int64 (batch,), has the
        number that each row keeps, as after a batch of prompts that were padded on the right; on a GPU this
        waits for it. Raises ValueError if it holds fewer, TypeError for other tensors.
        """
        if isinstance(length, torch.Tensor):
            self._truncate_rows(length)
            return
        if not 0 <= length <= self.length:
            raise ValueError(f"the cache holds {self.length} positions, and cannot keep {length}")
        self.length = length
        self.lengths = (
            None if length == 0 or self.lengths is None else self.lengths.clamp_max(length)
        )

    def _truncate_rows(self, lengths: torch.Tensor) -> None:
        if lengths.dtype not in (torch.int32, torch.int64):
            raise TypeError(f"lengths must be int32 or int64, not {lengths.dtype}")
        if self._keys is None or lengths.shape != self._keys.shape[:1]:
            rows = 0 if self._keys is None else self._keys.shape[0]
            raise ValueError(
                f"lengths must have shape ({rows},), the positions that each row keeps; their shape is "
                f"{tuple(lengths.shape)}"
            )
        told = lengths.detach().to(self._keys.device, torch.int64)
        held = self.length if self.lengths is None else self.lengths
        if ((told < 0) | (told > held)).any():
            raise ValueError(f"rows hold {held} positions, and cannot keep {told.tolist()}")
        self.lengths, self.length = told, int(told.max()) if told.numel() else 0

    def _grown(self, old: torch.Tensor | None, new: torch.Tensor, room: int) -> torch.Tensor:
        """A buffer with room for as many positions, the ones so far in it."""
        shape = (*new.shape[:2], room, new.shape[3])
        if old is None:
            return new.new_empty(shape)
        same = old.shape[:2] == new.shape[:2] and old.shape[3] == new.shape[3]
        if not same or old.dtype != new.dtype or old.device != new.device:
            batch, heads, _, dim = old.shape
            raise ValueError(
                f"the cache holds (batch {batch}, heads {heads}, dim {dim}) as {old.dtype} on {old.device}; "
                f"{tuple(new.shape)} as {new.dtype} on {new.device} do not match: "
                "each module and each batch needs its own cache"
            )
        if old.shape[2] == room:
            return old
        grown = old.new_empty(shape)
        grown[:, :, : self.length] = old[:, :, : self.length]
        return grown

    def __repr__(self) -> str:
        most = "" if self.max_length is None else f", max_length={self.max_length}"
        return f"<bslang.nn.KVCache length={self.length}{most}>"
