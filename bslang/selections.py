"""Selections of a call: which cells, runs of queries by runs of keys, are listed, as kernels take them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING, Any, TypeAlias

from bslang.inputs import Selection, by_name

# torch is imported where there are tensors: the compiler reads the options of calls, and starts without it.
if TYPE_CHECKING:
    import torch

SelectionsOfCall: TypeAlias = "torch.Tensor | Mapping[str, torch.Tensor]"
"""One selection by itself, or selections by name."""

_AT_ONCE = 2**27
"""Cells of all heads that are looked at together; of more, those of a head at a time."""


def take_selections(
    given: Any,
    selections: tuple[Selection, ...],
    q: torch.Tensor,
    k: torch.Tensor,
    align: str,
    *,
    ended: bool = False,
) -> tuple[torch.Tensor, ...]:
    """The values of a call's selections, one for each name.

    given: what a call got as `select`; ended: whether rows of the batch have lengths of their own. Raises
    TypeError or ValueError where they do not fit q (batch, heads, len_q, dim) and k (batch, key heads,
    len_k, dim).
    """
    names = list(dict.fromkeys(selection.name for selection in selections))
    given = by_name(given, names, "selection", "select")
    start = k.shape[2] - q.shape[2] if align == "end" else 0
    for selection in selections:
        if ended and selection.turned:
            raise ValueError(
                f"selection {selection.name!r} is read as `.T`, and its cells of queries are not known where "
                "rows have lengths of their own: call each row by itself"
            )
        lines = (q.shape[2] + selection.rows - 2) // selection.rows + 1 if ended else None
        _check(given[selection.name], selection, q, k, start, lines)
    return tuple(given[name].detach() for name in names)


def _check(
    given: Any,
    selection: Selection,
    q: torch.Tensor,
    k: torch.Tensor,
    start: int,
    lines: int | None,
) -> None:
    """Raise TypeError or ValueError for what is no value. lines: rows of cells; for None those from the
    position `start` of the first query on."""
    import torch

    what = f"selection {selection.name!r}"
    if not isinstance(given, torch.Tensor):
        raise TypeError(f"{what} must be a torch.Tensor, not {type(given).__name__}")
    if given.dtype not in (torch.bool, torch.int32, torch.int64):
        raise TypeError(f"{what} must be bool, int32 or int64, not {given.dtype}")
    if given.device != q.device:
        raise ValueError(
            f"{what} must be on the device of the tensors, {q.device}, not {given.device}"
        )
    batch, groups = q.shape[0], sorted({1, k.shape[1], q.shape[1]})
    rows, cols = cells(selection, start, q.shape[2], k.shape[2])
    rows = rows if lines is None else lines
    shape = tuple(given.shape)
    fits = len(shape) == 4 and _among(shape[:2], ((1, batch), groups)) and shape[2] == rows
    if not fits or (given.dtype == torch.bool and shape[3] != cols):
        batches = "1" if batch == 1 else f"{batch} or 1"
        last = cols if given.dtype == torch.bool else "K"
        raise ValueError(
            f"{what} must have shape ({batches}, {' or '.join(map(str, groups))}, {rows}, {last}): batch, "
            f"heads, and cells of {selection.rows}x{selection.cols} tokens, of which there are "
            f"{rows}x{cols}; it has {shape}"
        )


def _among(sizes: tuple[int, ...], known: Sequence[Iterable[int]]) -> bool:
    """Whether each size is one of those at its place. `in` does not compare sizes that `torch.compile` keeps
    open, but asks which are the same object."""
    return all(any(size == one for one in ones) for size, ones in zip(sizes, known, strict=True))


def cells(selection: Selection, start: int, len_q: int, len_k: int) -> tuple[int, int]:
    """How many rows and columns of cells a selection has. start: position of the first query."""
    rows, cols = (
        (selection.cols, selection.rows) if selection.turned else (selection.rows, selection.cols)
    )
    of_q = -(-(start + len_q) // rows) - start // rows if len_q else 0
    of_k = -(-len_k // cols)
    return (of_k, of_q) if selection.turned else (of_q, of_k)


@dataclass(frozen=True, eq=False)
class Selected:
    """A selection of one call: cells of `rows` queries by `cols` keys.

    bits: uint8 (batch or 1, groups, lines, bytes), which cells are listed, 8 a byte, the first the lowest;
    first: the number of line 0, counted from position 0; states: uint8 (batch or 1, groups, block rows,
    block columns), how many pairs of a block are in listed cells (`bslang.ir.ranges`: NONE, SOME, ALL), block
    rows from the first query's on.
    """

    rows: int
    cols: int
    bits: torch.Tensor
    first: int
    states: torch.Tensor

    @classmethod
    def of(
        cls,
        value: torch.Tensor,
        selection: Selection,
        start: int,
        lengths: tuple[int, int],
        block: tuple[int, int],
    ) -> Selected:
        """Of what a call gives. start: position of the first query; lengths, block: (query, key). Nobody
        waits for a GPU, and results do not depend on the order of its work."""
        import torch

        len_q, len_k = lengths
        lines, columns = cells(selection, start, len_q, len_k)
        value = value[:, :, :lines]  # of a row of the batch that is shorter than others
        if value.dtype == torch.bool:
            value = value[..., :columns]
        rows, cols = selection.rows, selection.cols
        if selection.turned:
            rows, cols = cols, rows
        batch, groups = value.shape[:2]
        parts = value.flatten(0, 1)[:, None]
        if value.shape[2] * columns * batch * groups <= _AT_ONCE:
            parts = parts.transpose(0, 1)
        made = []
        for part in parts:
            listed = listed_cells(part, columns)
            if selection.turned:
                listed = listed.transpose(-1, -2)
            some, every = (
                _blocks(
                    _blocks(listed, -2, (start, start + len_q), rows, block[0], every),
                    -1,
                    (0, len_k),
                    cols,
                    block[1],
                    every,
                )
                for every in (False, True)
            )
            made.append((_packed(listed), some.to(torch.uint8) + every.to(torch.uint8)))
        bits, states = (torch.cat(each) for each in zip(*made, strict=True))
        bits, states = (each.reshape(batch, groups, *each.shape[1:]) for each in (bits, states))
        return cls(rows, cols, bits, start // rows, states)


def listed_cells(value: torch.Tensor, columns: int) -> torch.Tensor:
    """Which cells a value lists, bool (..., rows, columns)."""
    import torch

    if value.dtype == torch.bool:
        return value
    outside = (value < 0) | (value >= columns)
    at = torch.where(outside, columns, value).long()
    marks = torch.zeros((*value.shape[:-1], columns + 1), dtype=torch.bool, device=value.device)
    return marks.scatter_(-1, at, torch.ones_like(outside))[..., :columns]


def _packed(listed: torch.Tensor) -> torch.Tensor:
    """bool (..., columns) as bits, uint8 (..., bytes)."""
    import torch

    padded = torch.nn.functional.pad(listed, (0, -listed.shape[-1] % 8))
    eight = padded.reshape(*listed.shape[:-1], -1, 8).to(torch.uint8)
    weights = 2 ** torch.arange(8, dtype=torch.uint8, device=listed.device)
    packed: torch.Tensor = (eight * weights).sum(-1, dtype=torch.uint8)
    return packed


def _blocks(
    listed: torch.Tensor, dim: int, span: tuple[int, int], cell: int, block: int, every: bool
) -> torch.Tensor:
    """Whether some (or every) position of each block of a dimension is in a listed cell.

    span: of the positions that are there; the first cell and the first block hold the first of them.
    """
    import torch

    start, stop = span
    unit = gcd(cell, block)
    if cell != unit:
        listed = listed.repeat_interleave(cell // unit, dim)
    # Units that hold positions, with others around them to fill whole blocks.
    before = start // unit - start // block * block // unit
    count = -(-stop // unit) - start // unit
    blocks = -(-stop // block) - start // block
    listed = listed.narrow(dim, start // unit - start // cell * cell // unit, count)
    if block == unit:
        return listed
    after = blocks * block // unit - before - count
    ends = (before, after) if dim == -1 else (0, 0, before, after)
    padded = torch.nn.functional.pad(listed, ends, value=every)
    shape = list(padded.shape)
    shape[dim : dim + 1 or None] = [blocks, block // unit]
    inner = padded.reshape(shape)
    return inner.all(dim) if every else inner.any(dim)
