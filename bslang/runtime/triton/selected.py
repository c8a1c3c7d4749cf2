"""Selections of a call as GPU kernels take them: which blocks each row, or column, of blocks lists."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch

from bslang import abi
from bslang.runtime.plan import DevicePlan, moved
from bslang.selections import Selected

_PARTS = ("bits", "states", "listed", "counts")


def listed(selections: Sequence[Selected], side: str, plan: DevicePlan) -> dict[str, torch.Tensor]:
    """The arguments of a kernel for selections, by name. side: "rows" or "columns".

    Blocks are sorted by counting: nobody waits for the device, and the order is ascending always.
    """
    parts = []
    for each in selections:
        states = each.states if side == "rows" else each.states.transpose(-1, -2)
        first = 0 if side == "rows" else plan.q_start // plan.block_q
        parts.append((each.bits, each.states, *_lists(states != 0, first)))
    flat = [[part.flatten() for part in each] for each in zip(*parts, strict=True)]
    joined = [each[0] if len(each) == 1 else torch.cat(each) for each in flat]
    made: dict[str, torch.Tensor] = dict(zip(_PARTS, joined, strict=True))
    starts = [[0, *accumulate(part.numel() for part in each)] for each in flat]
    made["cells"] = _table(selections, starts, plan)
    return made


def _lists(some: torch.Tensor, first: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The columns of the marks of each row, ascending, int32 like `some`, and how many there are; numbers
    of columns begin at `first`."""
    width = some.shape[-1]
    place = some.cumsum(-1, dtype=torch.int32)
    column = torch.arange(first, first + width, dtype=torch.int32, device=some.device)
    to = torch.where(some, place - 1, width).long()
    room = torch.zeros((*some.shape[:-1], width + 1), dtype=torch.int32, device=some.device)
    room.scatter_(-1, to, column.expand(some.shape))
    return room[..., :width].contiguous(), place[..., -1].contiguous()


def _table(
    selections: Sequence[Selected], starts: Sequence[Sequence[int]], plan: DevicePlan
) -> torch.Tensor:
    """The table `cells` of `bslang.abi.COLUMNS`; kept with the plan, so that a call of known shapes moves
    none to the device."""
    lines = []
    for number, each in enumerate(selections):
        batch, groups, count, size = each.bits.shape
        values = {
            "rows": each.rows,
            "cols": each.cols,
            "batch": int(batch > 1),
            "groups": groups,
            "first": each.first,
            "lines": count,
            "bytes": size,
            **{part: start[number] for part, start in zip(_PARTS, starts, strict=True)},
        }
        lines.append(tuple(values[column] for column in abi.COLUMNS["cells"]))
    key = f"cells {lines}"
    if key not in plan.made:
        device = selections[0].bits.device
        plan.made[key] = moved(torch.tensor(lines, dtype=torch.int64, device="cpu"), device)
    made: torch.Tensor = plan.made[key]
    return made
