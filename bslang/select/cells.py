"""The cells of a call: runs of queries by runs of keys, by position."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Cells:
    """Cells of rows x cols tokens. Rows count the cells that hold one of the queries, columns those of the
    keys; the first row, and the last ones, may be short.
    """

    len_q: int
    len_k: int
    rows: int
    cols: int
    align: str = "end"

    @property
    def start(self) -> int:
        """The position of the first query."""
        return self.len_k - self.len_q if self.align == "end" else 0

    @property
    def before(self) -> int:
        """Positions of the first row that lie before the first query."""
        return self.start % self.rows if self.len_q else 0

    @property
    def first(self) -> int:
        """The number of the first row among the rows of all positions."""
        return self.start // self.rows

    @property
    def count(self) -> int:
        """Number of rows."""
        stop = -(-(self.start + self.len_q) // self.rows)
        return stop - self.first if self.len_q else 0

    @property
    def columns(self) -> int:
        """Number of columns."""
        return -(-self.len_k // self.cols)

    def last_positions(self, first: int, count: int, device: torch.device) -> torch.Tensor:
        """The last query's position of each of some rows, int64 (count,)."""
        row = torch.arange(
            first + self.first + 1, first + self.first + 1 + count, dtype=torch.int64, device=device
        )
        return (row * self.rows).clamp_max(self.start + self.len_q) - 1

    def up_to_query(self, first: int, count: int, device: torch.device) -> torch.Tensor:
        """The cells of some rows that do not lie wholly after the row's last query, bool (count, columns)."""
        column = torch.arange(self.columns, dtype=torch.int64, device=device) * self.cols
        return column <= self.last_positions(first, count, device)[:, None]


def cut(x: torch.Tensor, before: int, size: int, count: int, fill: float) -> torch.Tensor:
    """Tokens cut into runs: fp32 (batch, heads, count, size, dim) of (batch, heads, length, dim).

    before: places before the first token; they, and those after the last, are filled.
    """
    after = count * size - before - x.shape[2]
    padded = torch.nn.functional.pad(x.float(), (0, 0, before, after), value=fill)
    return split(padded, 2, count, size)


def split(x: torch.Tensor, dim: int, *sizes: int) -> torch.Tensor:
    """A tensor with several dimensions in the place of one."""
    return x.reshape(*x.shape[:dim], *sizes, *x.shape[dim + 1 :])


def pool(x: torch.Tensor, before: int, size: int, count: int, kind: str) -> torch.Tensor:
    """The mean, max or min of each run of `cut`, over its real tokens: fp32 (batch, heads, count, dim)."""
    if size == 1:
        return x.float()
    if kind == "max":
        return cut(x, before, size, count, -torch.inf).amax(3)
    if kind == "min":
        return cut(x, before, size, count, torch.inf).amin(3)
    begin = torch.arange(count, dtype=torch.int64, device=x.device) * size
    tokens = (begin + size).clamp_max(before + x.shape[2]) - begin.clamp_min(before)
    return cut(x, before, size, count, 0.0).sum(3) / tokens[:, None]
