"""Mask functions of transformers, read as windows or chunks, or not at all.

A function is asked about whole rows far from the start, which suggest one reading; the
reading is then compared with the function at many rows. One that differs anywhere is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_ROWS = 300  # the first ones, and as many keys: compared in full
_SPOTS = 64  # rows further away, of which the keys around the edges are compared
_AROUND = 4


@dataclass(frozen=True)
class Interval:
    """The keys that a query sees: from `left` before it to `right` after it (None: all), in its chunk.

    chunk: of so many tokens, 0 for none. All in tokens.
    """

    left: int | None
    right: int | None
    chunk: int = 0

    @property
    def is_full(self) -> bool:
        """Every key, or every key up to the query."""
        return self.left is None and self.right in (None, 0) and not self.chunk

    def bounds(self, row: int, end: int) -> tuple[int, int]:
        """The keys of a row, [first, last], of `end` keys."""
        first = 0 if self.left is None else row - self.left
        last = end - 1 if self.right is None else row + self.right
        if self.chunk:
            first = max(first, row // self.chunk * self.chunk)
            last = min(last, row // self.chunk * self.chunk + self.chunk - 1)
        return max(0, first), min(end - 1, last)


Function = Callable[..., Any]
"""Function(batch, head, query, key) of transformers: whether a pair belongs, on tensors that broadcast."""


def interval_of(function: Function, reach: int) -> Interval | None:
    """What a mask function says; None if it is no window, chunk or full attention, alike in all heads.

    reach: a number of tokens beyond every window that it may have.
    """
    try:
        suggested = _suggested(function, reach)
        return suggested if suggested and _agrees(function, suggested, reach) else None
    except Exception:  # a function that only answers for the tokens that the model ran on
        return None


def _asked(function: Function, rows: Any, keys: Any, head: int = 0) -> Any:
    """The function at rows by keys: bool (rows, keys)."""
    import torch

    batch, heads = torch.zeros(1, 1, dtype=torch.long), torch.full((1, 1), head)
    answer = torch.as_tensor(function(batch, heads, rows[:, None], keys[None, :]))
    return answer.to(torch.bool).reshape(answer.shape[-2:]).expand(len(rows), len(keys))


def _suggested(function: Function, reach: int) -> Interval | None:
    """What rows far from the start look like."""
    import torch

    end = 2 * reach
    keys = torch.arange(end)
    edges = []
    for row in range(reach, reach + 3):
        seen = _asked(function, torch.tensor([row]), keys)[0].nonzero()[:, 0]
        if not len(seen) or seen[-1] - seen[0] + 1 != len(seen):
            return None
        edges.append((row, int(seen[0]), int(seen[-1])))
    (row, first, last), (_, next_first, _), (after, after_first, _) = edges
    right = None if last == end - 1 else last - row
    if first == 0:
        return Interval(None, right)
    if (after_first - first, next_first - first) == (after - row, 1):
        return Interval(row - first, right)
    size = _chunk(function, reach)
    if not size:
        return None
    return Interval(None, 0 if right == 0 else None, size)


def _chunk(function: Function, reach: int) -> int:
    """How many tokens the first chunk has: the first row that does not see key 0; 0 if each does."""
    import torch

    sees = _asked(function, torch.arange(reach), torch.tensor([0]))[:, 0]
    blind = (~sees).nonzero()
    return int(blind[0]) if len(blind) else 0


def _agrees(function: Function, said: Interval, reach: int) -> bool:
    """Whether a reading is the function: on a square at the start, and at edges of rows further away."""
    import torch

    size = min(_ROWS, reach)
    at = torch.arange(size)
    square = torch.zeros(size, size, dtype=torch.bool)
    for row in range(size):
        first, last = said.bounds(row, size)
        square[row, first : last + 1] = True
    for head in (0, 1):
        if not torch.equal(_asked(function, at, at, head), square):
            return False
    end = 2 * reach
    step = max(1, end // _SPOTS)
    near = {said.left, said.right, said.chunk, reach} - {None}
    rows = {*range(0, end, step), *(number + more for number in near for more in range(-3, 4))}  # type: ignore[operator]  # None is taken out
    for row in sorted(row for row in rows if 0 <= row < end):
        first, last = said.bounds(row, end)
        places = {0, row, end - 1}
        for edge in (first, last):
            places |= {edge + more for more in range(-_AROUND, _AROUND + 1)}
        keys = torch.tensor(sorted(place for place in places if 0 <= place < end))
        if not torch.equal(
            _asked(function, torch.tensor([row]), keys)[0], (first <= keys) & (keys <= last)
        ):
            return False
    return True
