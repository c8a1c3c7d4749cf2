"""The part of a cache that later queries may read: pages, dropped when no block of theirs is visited."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from bslang.errors import BslangError
from bslang.layouts import Layout
from bslang.nn.pool import Ints, PagePool
from bslang.nn.shared import check_like

_UNTIL = 131_072
"""Without a max_length, what leaves a cache is decided for sequences up to this length, or as long as there
is room for."""


class Kept:
    """Keys and values of the positions that some later query may read, in pages.

    Of each row of the batch, and of each key head if heads differ in what they read (a *line*), there is a
    table with the page of each stretch of positions, -1 where it is not there. A page is kept as long as a
    later block row visits a block that it touches: blocks are read whole.
    """

    def __init__(self, layout: Layout, max_length: int | None) -> None:
        self.layout, self.max_length = layout, max_length
        self.pool = PagePool(-(-layout.block[1] // 16) * 16)
        self.begun: Ints = np.zeros(0, dtype=np.int64)
        """Positions that each row held before the last ones were added: it can go back to them."""
        self.like: torch.Tensor | None = None
        """(batch, key heads, 0, dim), as the keys that it holds are."""
        self._like_values: torch.Tensor | None = None
        self._length: Ints = np.zeros(0, dtype=np.int64)  # of each line
        self._dropped: Ints = np.zeros(
            0, dtype=np.int64
        )  # the block row up to which each has dropped
        self._held: list[Ints] = []  # the columns of which each line has a page
        self._table = np.empty((0, 0), dtype=np.int32)  # (lines, columns)
        self._on_device: torch.Tensor | None = None
        self._calm = 0  # as many positions can be added without a change of the table
        self._last = np.empty((0, 0), dtype=np.int32)  # (groups, columns): see _last_visits
        self._until = 0
        self._heads = self._groups = 1
        self._shared = False  # whether lines may hold one page

    @property
    def nbytes(self) -> int:
        """Bytes of the pages and the table."""
        return self.pool.nbytes + self._table.nbytes + self._last.nbytes

    @property
    def lengths(self) -> Ints:
        """Positions that each row has seen, int64 (batch,)."""
        return self._length[:: self._groups]

    @property
    def pages(self) -> torch.Tensor:
        """int32 (batch, columns) or (batch, key heads, columns), as a call takes it."""
        table = self._moved()
        return table if self._groups == 1 else table.view(-1, self._groups, table.shape[1])

    @torch.compiler.disable(  # type: ignore[untyped-decorator,no-untyped-call]  # torch does not type it
        reason="which pages leave a KVCache(layout) is decided on the host; compile without fullgraph=True"
    )
    def append(
        self, k: torch.Tensor, v: torch.Tensor, room: int, heads: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the next positions of all rows; the pools, as a call takes them with `pages`.

        k: (batch, key heads, length, dim); v: (batch, key heads, length, value dim); room: positions for
        which there is to be a table; heads: query heads.
        """
        if self.like is None or self._like_values is None:
            self._start(k, v, heads)
        else:
            check_like(self.like, k)
            check_like(self._like_values, v)
        count, size = k.shape[2], self.pool.page_size
        if count > self._calm:
            self._provide(room)
            self._drop()
            self._take(self._length + count)
        place = self._length[:, None] + np.arange(count)
        number = np.take_along_axis(self._table, place // size, 1).astype(np.int64)
        where = torch.from_numpy(np.stack((number, place % size))).to(k.device)
        self.pool.write(*where, *map(self._lines, (k, v)))
        self.begun, self._length = self._length, self._length + count
        self._calm = self._left()
        keys, values = self.pool.keys, self.pool.values
        assert keys is not None and values is not None
        if self._groups > 1:  # a page is of one key head
            keys, values = (x.expand(-1, self._groups, -1, -1) for x in (keys, values))
        return keys, values

    def truncate(self, lengths: Ints) -> None:
        """Drop what comes after `lengths` (batch,). Raises ValueError where what later queries read then has
        been dropped."""
        length = np.repeat(lengths, self._groups)
        size, rows = self.pool.page_size, length // self.layout.block[0]
        columns = -(-length // size)
        for line, (count, row) in enumerate(zip(columns.tolist(), rows.tolist(), strict=True)):
            read = (self._last[line % self._groups, :count] >= row) & (
                self._table[line, :count] < 0
            )
            if read.any():
                raise ValueError(
                    f"a cache of {self._length[line]} positions cannot go back to {length[line]}: what later "
                    f"queries read has left it. It can go back to the {self.begun[line]} that it held before "
                    "the last ones were added"
                )
        for line, count in enumerate(columns.tolist()):
            held = self._held[line]
            self._forget(line, held[held >= count])
        self._length, self._dropped = length, np.full_like(length, -1)
        self.begun = np.minimum(self.begun, length)
        self._on_device, self._calm = None, 0

    def select(self, rows: Ints) -> None:
        """Hold other rows, some of those so far, in any order and number: pages are shared until they are
        written to."""
        lines = (rows[:, None] * self._groups + np.arange(self._groups)).reshape(-1)
        before, held = self._table, self._held
        self._table = before[lines]
        self._held = [held[line].copy() for line in lines]
        for change, table in ((self.pool.share, self._table), (self.pool.release, before)):
            change(table[table >= 0].astype(np.int64))
        self._length, self._dropped = self._length[lines], self._dropped[lines]
        self.begun = self.begun[lines]
        if self.like is not None and self._like_values is not None:
            shape = (len(rows), -1, -1, -1)
            self.like, self._like_values = (
                x[:1].expand(shape) for x in (self.like, self._like_values)
            )
        self._shared, self._on_device, self._calm = True, None, 0

    def _moved(self) -> torch.Tensor:
        """The table on the device of the keys."""
        if self._on_device is None:
            assert self.like is not None
            self._on_device = torch.from_numpy(self._table).to(self.like.device)
        return self._on_device

    def _lines(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, key heads, length, dim) as (lines, key heads of each, length, dim)."""
        batch, heads = x.shape[:2]
        return x.reshape(batch * self._groups, heads // self._groups, *x.shape[2:])

    # ---- what is kept ----------------------------------------------------------------------------

    def _start(self, k: torch.Tensor, v: torch.Tensor, heads: int) -> None:
        batch, key_heads = k.shape[:2]
        self.like, self._like_values = (x.new_empty((*x.shape[:2], 0, x.shape[3])) for x in (k, v))
        self._heads, self._groups = heads, key_heads if self.layout.by_head else 1
        lines = batch * self._groups
        self.pool.start(*map(self._lines, (k, v)))
        self._length = np.zeros(lines, dtype=np.int64)
        self._dropped = np.full(lines, -1, dtype=np.int64)
        self._held = [np.zeros(0, dtype=np.int64)] * lines
        self._table = np.empty((lines, 0), dtype=np.int32)

    def _provide(self, room: int) -> None:
        """Have a table for `room` positions, and know which of its pages later queries read."""
        until = room if self.max_length is not None else max(room, _UNTIL)
        if until != self._until:
            last = self._last_visits(until)
            self._check_gone(last, until)
            self._last, self._until = last, until
        columns = -(-room // self.pool.page_size)
        if columns > self._table.shape[1]:
            more = ((0, 0), (0, columns - self._table.shape[1]))
            self._table = np.pad(self._table, more, constant_values=-1)
            self._on_device = None

    def _last_visits(self, until: int) -> npt.NDArray[np.int32]:
        """int32 (groups, columns), the last block row that visits a block of each page, -1 for none."""
        try:
            self.layout.require_prefix_stable(until, self._heads)
            each = [
                self.layout._last_visits(until, head)
                for head in range(self._heads if self.layout.by_head else 1)
            ]
        except BslangError as error:
            raise ValueError(
                f"what may leave the cache is not known for {until} tokens: {error}. Give the cache the "
                "max_length that it needs"
            ) from error
        of_blocks = np.stack(each).reshape(self._groups, -1, each[0].size).max(1)
        size, block = self.pool.page_size, self.layout.block[1]
        pages = np.arange(-(-until // size))
        ends = np.stack((pages * size // block, -(-(pages + 1) * size // block)), 1).reshape(-1)
        padded = np.pad(
            of_blocks, ((0, 0), (0, ends[-1] + 1 - of_blocks.shape[1])), constant_values=-1
        )
        return np.maximum.reduceat(padded, ends, axis=1)[:, ::2].astype(np.int32)

    def _check_gone(self, last: npt.NDArray[np.int32], until: int) -> None:
        """Raise ValueError where longer sequences read what has left the cache."""
        for line, length in enumerate(self._length.tolist()):
            count = length // self.pool.page_size
            read = last[line % self._groups, :count] >= length // self.layout.block[0]
            if (read & (self._table[line, :count] < 0)).any():
                raise ValueError(
                    f"beyond {self._until} tokens, queries of `{self.layout.spec}` read what has left the "
                    f"cache as not needed up to there: give it a max_length, {until} say"
                )

    def _left(self) -> int:
        """As many positions are left in the pages of all lines, 0 where pages are to be dropped first."""
        if not self._length.size or (self._length // self.layout.block[0] > self._dropped).any():
            return 0
        return int((-self._length % self.pool.page_size).min())

    def _drop(self) -> None:
        """Drop the pages that no query reads from the next one on."""
        rows, size = self._length // self.layout.block[0], self.pool.page_size
        due = np.flatnonzero(rows > self._dropped)
        for line in due.tolist():
            held, last = self._held[line], self._last[line % self._groups]
            self._forget(
                line, held[(last[held] < rows[line]) & (held < self._length[line] // size)]
            )
        self._dropped[due] = rows[due]
        if due.size and (numbers := self.pool.shrink()) is not None:
            there = self._table >= 0
            self._table[there] = numbers[self._table[there]]
            self._on_device = None

    def _forget(self, line: int, columns: Ints) -> None:
        if columns.size:
            self.pool.release(self._table[line, columns].astype(np.int64))
            self._table[line, columns] = -1
            self._held[line] = np.setdiff1d(self._held[line], columns, assume_unique=True)
            self._on_device = None

    def _take(self, stop: Ints) -> None:
        """Have pages to write to up to `stop`, of each line."""
        size = self.pool.page_size
        first, end = -(-self._length // size), -(-stop // size)
        if self._shared:
            for line in np.flatnonzero((self._length % size > 0) & (stop > self._length)).tolist():
                column = int(self._length[line]) // size
                self._table[line, column] = self.pool.own(int(self._table[line, column]))
        lines = np.flatnonzero(end > first)
        for line in lines.tolist():
            columns = np.arange(first[line], end[line])
            self._table[line, columns] = self.pool.take(columns.size)
            self._held[line] = np.concatenate((self._held[line], columns))
        if lines.size or self._shared:
            self._on_device = None
        self._shared = False
