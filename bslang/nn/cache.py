"""The keys and values of the tokens so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bslang.layouts import Layout, take_layout
from bslang.nn.kept import Kept
from bslang.nn.shared import check_count, check_like

if TYPE_CHECKING:
    from bslang.call import Options

_LEAST = 256  # positions of the first buffers


class KVCache:
    """Keys and values of one attention module for one batch, from position 0 on.

    Buffers double when they are full. With max_length they are allocated once, for that many positions;
    more positions raise ValueError. Rows of the batch may hold other numbers of positions (`truncate` with
    a tensor): each new token then follows those of its own row.

    With a layout, that of the module, the cache holds pages, and only those that a later query may read:
    a window with sinks needs memory for the window and the sinks, at any length. Results are those of a cache
    that keeps all. Without a max_length, what leaves it is decided for sequences of up to 131,072 tokens, and
    again where there are more: if these read what is gone, the cache raises ValueError.
    """

    def __init__(
        self, layout: Layout | str | int | None = None, max_length: int | None = None
    ) -> None:
        """layout: a compiled layout or the text of a spec; None keeps all. A number alone is max_length.
        Raises ValueError or TypeError for other arguments, SpecError for an invalid spec."""
        if isinstance(layout, int):
            if max_length is not None:
                raise TypeError(
                    f"layout must be a layout, the text of a spec or None, not {layout}"
                )
            layout, max_length = None, layout
        if max_length is not None:
            check_count("max_length", max_length)
        self.max_length = max_length
        self.layout = None if layout is None else take_layout(layout)
        """What it drops positions by; None if it keeps all."""
        self._kept = None if self.layout is None else Kept(self.layout, max_length)
        self.length = 0
        """Positions that it holds, in the row that holds most."""
        self.lengths: torch.Tensor | None = None
        """Those of each row, int64 (batch,); None where all hold `length`."""
        self.asked: tuple[str, int] | None = None
        """The layout, and the room, for which it is known to serve."""
        self._room = _LEAST
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
        room = self._room
        while room < length:
            room *= 2
        return room

    @property
    def nbytes(self) -> int:
        """Bytes that it takes, unused room included."""
        if self._kept is not None:
            return self._kept.nbytes
        return sum(x.nbytes for x in (self._keys, self._values) if x is not None)

    @property
    def options(self) -> Options:
        """What a call of the layout takes beside the keys and values that `append` returned: `lengths` if
        rows hold other numbers of positions, and `pages` if the cache has a layout."""
        if self._kept is None:
            return {} if self.lengths is None else {"lengths": self.lengths}
        lengths = self.length if self.lengths is None else self.lengths
        return {"lengths": lengths, "pages": self._kept.pages}

    def append(
        self, k: torch.Tensor, v: torch.Tensor, heads: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the keys and values of the next positions.

        k: (batch, key heads, length, dim); v: (batch, key heads, length, value dim); heads: query heads, for
        a layout that differs by head; None means those of k. Returns those of all positions so far, as views
        of the buffers; the next call may write after them. With a layout these are pools of pages, and
        `options` says where in them the positions lie. Raises ValueError if they do not match the cached
        ones, RuntimeError if they require gradients.
        """
        if torch.is_grad_enabled() and (k.requires_grad or v.requires_grad):
            raise RuntimeError("a KVCache holds no gradients; decode under torch.no_grad()")
        stop = self.length + k.shape[2]
        self._room = room = self.room(stop)
        if self._kept is not None:
            pools: tuple[torch.Tensor, torch.Tensor] = self._kept.append(
                k, v, room, heads or k.shape[1]
            )
            if self.lengths is not None:
                self.lengths = self.lengths + k.shape[2]
            self.length = stop
            return pools
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
        waits for it. Raises ValueError if it holds fewer, or has dropped what queries after these positions
        read (what was added last can always be dropped again), TypeError for other tensors.
        """
        if isinstance(length, torch.Tensor):
            self._truncate_rows(length)
            return
        if not 0 <= length <= self.length:
            raise ValueError(f"the cache holds {self.length} positions, and cannot keep {length}")
        if self._kept is not None:
            self._kept.truncate(np.minimum(self._kept.lengths, length))
        self.length = length
        self.lengths = (
            None if length == 0 or self.lengths is None else self.lengths.clamp_max(length)
        )

    def _truncate_rows(self, lengths: torch.Tensor) -> None:
        if lengths.dtype not in (torch.int32, torch.int64):
            raise TypeError(f"lengths must be int32 or int64, not {lengths.dtype}")
        like = self._keys if self._kept is None else self._kept.like
        if like is None or lengths.shape != like.shape[:1]:
            rows = 0 if like is None else like.shape[0]
            raise ValueError(
                f"lengths must have shape ({rows},), the positions that each row keeps; their shape is "
                f"{tuple(lengths.shape)}"
            )
        told = lengths.detach().to(like.device, torch.int64)
        held = self.length if self.lengths is None else self.lengths
        if ((told < 0) | (told > held)).any():
            raise ValueError(f"rows hold {held} positions, and cannot keep {told.tolist()}")
        if self._kept is not None:
            self._kept.truncate(told.cpu().numpy())
        self.lengths, self.length = told, int(told.max()) if told.numel() else 0

    def select(self, rows: torch.Tensor) -> None:
        """Hold other rows of the batch, as beams of a search do: new row i is row rows[i]. rows: int32 or
        int64 (new batch,). With a layout, rows share their pages until one of them writes to these, and the
        numbers of rows on a GPU are waited for. Raises TypeError for other tensors."""
        if rows.dtype not in (torch.int32, torch.int64) or rows.dim() != 1:
            raise TypeError(
                f"rows must be int32 or int64 (rows,), not {rows.dtype} {tuple(rows.shape)}"
            )
        if self._kept is not None:
            self._kept.select(rows.cpu().numpy().astype(np.int64))
        rows = rows.long()
        if self._keys is not None and self._values is not None:
            self._keys, self._values = (x[rows.to(x.device)] for x in (self._keys, self._values))
        if self.lengths is not None:
            self.lengths = self.lengths[rows.to(self.lengths.device)]

    def _grown(self, old: torch.Tensor | None, new: torch.Tensor, room: int) -> torch.Tensor:
        """A buffer with room for as many positions, the ones so far in it."""
        shape = (*new.shape[:2], room, new.shape[3])
        if old is None:
            return new.new_empty(shape)
        check_like(old, new)
        if old.shape[2] == room:
            return old
        grown = old.new_empty(shape)
        grown[:, :, : self.length] = old[:, :, : self.length]
        return grown

    def __repr__(self) -> str:
        most = "" if self.max_length is None else f", max_length={self.max_length}"
        by = "" if self.layout is None else f", layout={self.layout.spec!r}"
        return f"<bslang.nn.KVCache length={self.length}{most}{by}>"
