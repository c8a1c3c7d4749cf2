"""What the kernels visit: tables of block rows and columns, heavy ones in parts, on a device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from bslang.call import Call
from bslang.runtime.plan import DevicePlan, moved

Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class DeviceTables:
    """A `bslang.schedule.Table` for GPUs as int32 tensors on a device.

    programs: (programs, 4), block row, first and last block that strips may cover (0 and 0 where the row
    does not follow the rules), slot. merges, pointer: as in the table; runs: (runs + 2, 4), those of the
    table, each with its place among the blocks of its class in its program: how many there are up to its
    end, and how far its blocks are from their places. Loops read up to two lines too many.
    longest: the most blocks, and the most runs, that a program has of a class.
    firsts: (block rows + 1,), where the programs of each row begin, and counts: how many these are, on the
    host; of the tables of a capacity, whose programs are in the order of their rows.
    """

    programs: torch.Tensor
    merges: torch.Tensor
    pointer: torch.Tensor
    runs: torch.Tensor
    slots: int
    longest: tuple[int, int]
    firsts: torch.Tensor | None = None
    counts: Ints | None = None

    @classmethod
    def of(cls, table: Any, device: torch.device) -> DeviceTables:
        programs = torch.from_numpy(table.programs.program.copy())
        programs[torch.from_numpy(~table.ruled), 1:3] = 0
        begin, end = table.runs.T
        before = np.append(0, np.cumsum(end - begin))
        of_list = np.repeat(before[table.pointer[:-1]], np.diff(table.pointer))
        runs = np.zeros((len(table.runs) + 2, 4), dtype=np.int32)
        past = before[1:] - of_list
        runs[:-2] = np.stack((begin, end, past, end - past), axis=1)
        blocks = np.diff(before[table.pointer])
        return cls(
            moved(programs, device),
            moved(torch.from_numpy(table.programs.merges), device),
            moved(torch.from_numpy(table.pointer), device),
            moved(torch.from_numpy(runs), device),
            table.programs.slots,
            (int(blocks.max(initial=0)), int(np.diff(table.pointer).max(initial=0))),
        )

    @classmethod
    def in_order(cls, table: Any, device: torch.device) -> DeviceTables:
        """Those of a capacity."""
        counts = np.bincount(table.order)
        firsts = torch.from_numpy(np.append(0, counts.cumsum()).astype(np.int32))
        return replace(cls.of(table, device), firsts=moved(firsts, device), counts=counts)

    @classmethod
    def of_rows(cls, plan: DevicePlan, rules: Sequence[str]) -> DeviceTables:
        """Those of a plan's block rows, without what kernels compute by rules; made once for a plan."""
        return cls.made(plan, "rows", lambda: plan.schedule.split_rows(rules))

    @classmethod
    def of_columns(cls, plan: DevicePlan, rules: Sequence[str]) -> DeviceTables:
        """Those of its block columns."""
        return cls.made(plan, "cols", lambda: plan.schedule.split_cols(rules))

    def places(self, call: Call, parts: int) -> dict[str, Any]:
        """The arguments that find queries in the tables of a capacity; parts: the most of a row."""
        lengths = None if call.lengths is None else call.lengths.contiguous()
        lines = self.programs.shape[0]
        return {"firsts": self.firsts, "parts": parts, "lines": lines, "lengths": lengths}

    @classmethod
    def made(cls, plan: DevicePlan, name: str, make: Callable[[], Any]) -> DeviceTables:
        key = f"triton {name}"
        if key not in plan.made:
            of = cls.in_order if plan.in_order else cls.of
            plan.made[key] = of(make(), plan.parameters.device)
        found: DeviceTables = plan.made[key]
        return found


@dataclass(frozen=True, eq=False)
class Visit:
    """The block rows, or columns, that a call visits.

    programs: of a head, each of which has the tiles of a block; slots: of parts, each of so many rows of a
    tensor; joined: how many block rows may have several; places: arguments of the kernels, by name.
    """

    table: DeviceTables
    programs: int
    slots: int
    rows: int
    joined: int
    places: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of_rows(
        cls, plan: DevicePlan, call: Call, rules: Sequence[str], *, split: bool = True
    ) -> Visit:
        """The block rows; rules: what kernels compute of them; split: whether rows may be in parts, where a
        call has the tables of a capacity."""
        if not plan.in_order:
            return cls._whole(plan, "rows", DeviceTables.of_rows, rules, plan.block_q)
        alone = split and plan.len_q <= plan.block_q
        name = "rows alone" if alone else "rows in order"
        table = DeviceTables.made(
            plan, name, lambda: plan.schedule.rows_in_order(rules, alone=alone)
        )
        first, stop = plan.q_start // plan.block_q, -(-plan.len_k // plan.block_q)
        touched = stop - first
        if call.lengths is not None:  # anywhere before
            most = (
                1
                if plan.position is not None
                else (plan.len_q + 2 * plan.block_q - 2) // plan.block_q
            )
            touched, first = min(most, stop), 0
        assert table.counts is not None
        parts = int(table.counts[first:stop].max())
        slots = touched * parts if parts > 1 else 0
        rows = min(plan.len_q, plan.block_q)
        return cls(table, touched * parts, slots, rows, touched, table.places(call, parts))

    @classmethod
    def of_columns(cls, plan: DevicePlan, call: Call, rules: Sequence[str]) -> Visit:
        """The block columns."""
        if not plan.in_order:
            return cls._whole(plan, "cols", DeviceTables.of_columns, rules, plan.block_k)
        table = DeviceTables.made(plan, "cols in order", lambda: plan.schedule.cols_in_order(rules))
        columns = -(-plan.len_k // plan.block_k)
        return cls(table, columns, 0, plan.block_k, 0, table.places(call, 1))

    @classmethod
    def _whole(
        cls,
        plan: DevicePlan,
        side: str,
        tables: Callable[[DevicePlan, Sequence[str]], DeviceTables],
        rules: Sequence[str],
        block: int,
    ) -> Visit:
        """All of a side, which is the same in every call of a plan."""
        found: Visit | None = plan.made.get(f"visit {side}")
        if found is None:
            table = tables(plan, rules)
            found = plan.made[f"visit {side}"] = cls(
                table, table.programs.shape[0], table.slots, block, table.merges.shape[0]
            )
        return found
