"""Selections of a call as GPU kernels take them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch

from bslang import abi
from bslang.runtime.plan import DevicePlan, moved
from bslang.selections import Selected

_PARTS = ("bits", "states")


def listed(selections: Sequence[Selected], plan: DevicePlan) -> dict[str, torch.Tensor]:
    """The arguments of a kernel for selections, by name."""
    parts = [(each.bits, each.states) for each in selections]
    flat = [[part.flatten() for part in each] for each in zip(*parts, strict=True)]
    joined = [each[0] if len(each) == 1 else torch.cat(each) for each in flat]
    made: dict[str, torch.Tensor] = dict(zip(_PARTS, joined, strict=True))
    starts = [[0, *accumulate(part.numel() for part in each)] for each in flat]
    made["cells"] = _table(selections, starts, plan)
    return made


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
