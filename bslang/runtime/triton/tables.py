"""What the kernels visit: tables of block rows and columns, heavy ones in parts, on a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bslang.runtime.plan import DevicePlan


@dataclass(frozen=True, eq=False)
class DeviceTables:
    """A `bslang.schedule.Table` of split rows as int32 tensors on a device.

    programs: (programs, 4), block row, first and last block that strips may cover (0 and 0 where the row
    does not follow the rules), slot. merges, pointer: as in the table; runs: with one more at the end.
    """

    programs: torch.Tensor
    merges: torch.Tensor
    pointer: torch.Tensor
    runs: torch.Tensor
    slots: int

    @classmethod
    def of(cls, table: Any, device: torch.device) -> DeviceTables:
        programs = torch.from_numpy(table.programs.program.copy())
        programs[torch.from_numpy(~table.ruled), 1:3] = 0
        runs = torch.from_numpy(table.runs)
        return cls(
            programs.to(device),
            torch.from_numpy(table.programs.merges).to(device),
            torch.from_numpy(table.pointer).to(device),
            torch.cat((runs, runs.new_zeros(1, 2))).to(device),
            table.programs.slots,
        )

    @classmethod
    def of_rows(cls, plan: DevicePlan, rules: Sequence[str]) -> DeviceTables:
        """Those of a plan's block rows, without what kernels compute by rules; made once for a plan."""
        return cls._made(plan, "rows", rules)

    @classmethod
    def of_columns(cls, plan: DevicePlan, rules: Sequence[str]) -> DeviceTables:
        """Those of its block columns."""
        return cls._made(plan, "cols", rules)

    @classmethod
    def _made(cls, plan: DevicePlan, side: str, rules: Sequence[str]) -> DeviceTables:
        key = f"triton {side}"
        if key not in plan.made:
            table = getattr(plan.schedule, f"split_{side}")(rules)
            plan.made[key] = cls.of(table, plan.parameters.device)
        found: DeviceTables = plan.made[key]
        return found
