"""A pool of pages of keys and values, and how many hold each."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from bslang.nn.shared import check_count

Ints: TypeAlias = npt.NDArray[np.int64]


class PagePool:
    """Pages of keys and values: `keys` (pages, key heads, page size, dim) and `values` (pages, key heads,
    page size, value dim), as calls of a layout take them with `pages`.

    A page may belong to several sequences that begin alike. It is counted how many hold it, and a page that
    none holds is free. Numbers of pages are NumPy integers on the host; nothing waits for a GPU.
    """

    def __init__(self, page_size: int = 64, max_pages: int | None = None) -> None:
        """page_size: tokens, a multiple of 16. max_pages: make so many at once, and raise MemoryError beyond;
        None lets the pool grow, by a quarter at a time. Raises ValueError for other numbers."""
        check_count("page_size", page_size)
        if page_size % 16:
            raise ValueError(f"page_size must be a multiple of 16, not {page_size}")
        if max_pages is not None:
            check_count("max_pages", max_pages)
        self.page_size, self.max_pages = page_size, max_pages
        self.keys: torch.Tensor | None = None
        self.values: torch.Tensor | None = None
        self.holders: Ints = np.zeros(0, dtype=np.int64)
        """How many hold each page, int64 (pages,)."""
        self._free: list[int] = []

    @property
    def used(self) -> int:
        """Pages that are held."""
        return self.holders.size - len(self._free)

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values."""
        return sum(x.nbytes for x in (self.keys, self.values) if x is not None)

    def start(self, k: torch.Tensor, v: torch.Tensor) -> None:
        """Take key heads, dimensions, dtype and device from k (..., key heads, length, dim) and v."""
        pages = self.max_pages or 0
        self.keys, self.values = (
            x.new_empty((pages, x.shape[-3], self.page_size, x.shape[-1])) for x in (k, v)
        )
        self._add(pages)

    def take(self, count: int) -> Ints:
        """Pages that nobody held, int64 (count,), held once. What is in them is undefined. Raises MemoryError
        where there are not so many."""
        if count > len(self._free):
            self._grow(count - len(self._free))
        pages = np.array([self._free.pop() for _ in range(count)], dtype=np.int64)
        self.holders[pages] = 1
        return pages

    def share(self, pages: Ints) -> None:
        """Hold pages once more."""
        np.add.at(self.holders, pages, 1)

    def release(self, pages: Ints) -> None:
        """Hold pages once less."""
        np.subtract.at(self.holders, pages, 1)
        gone = np.unique(pages)
        self._free += gone[self.holders[gone] == 0].tolist()

    def own(self, page: int) -> int:
        """A page to write to in the place of one that is held: itself, or a copy if others hold it too."""
        if self.holders[page] == 1:
            return page
        copy = int(self.take(1)[0])
        for x in self._tensors():
            x[copy] = x[page]
        self.release(np.array([page], dtype=np.int64))
        return copy

    def write(
        self, pages: torch.Tensor, places: torch.Tensor, k: torch.Tensor, v: torch.Tensor
    ) -> None:
        """Put keys and values into pages. pages, places: int64 (rows, length), the page of each and the
        place within; k: (rows, key heads, length, dim); v: (rows, key heads, length, value dim)."""
        for x, new in zip(self._tensors(), (k, v), strict=True):
            x[pages, :, places] = new.transpose(1, 2)

    def shrink(self) -> Ints | None:
        """Give memory back where three quarters of it are free: the new number of each page, int64 (pages,),
        -1 for free ones; None where nothing changed."""
        held = np.flatnonzero(self.holders)
        if self.max_pages is not None or self.holders.size < max(64, 4 * held.size):
            return None
        numbers = np.full(self.holders.size, -1, dtype=np.int64)
        numbers[held] = np.arange(held.size)
        self.keys, self.values = (x[torch.from_numpy(held).to(x.device)] for x in self._tensors())
        self.holders, self._free = self.holders[held], []
        return numbers

    def _grow(self, missing: int) -> None:
        pages = self.holders.size
        if self.max_pages is not None:
            raise MemoryError(f"all {pages} pages of the pool are in use")
        more = max(missing, pages // 4)
        self.keys, self.values = (
            torch.cat((x, x.new_empty((more, *x.shape[1:])))) for x in self._tensors()
        )
        self._add(more)

    def _add(self, pages: int) -> None:
        first = self.holders.size
        self.holders = np.pad(self.holders, (0, pages))
        self._free += range(first + pages - 1, first - 1, -1)

    def _tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        assert self.keys is not None and self.values is not None, "the pool has not been started"
        return self.keys, self.values
