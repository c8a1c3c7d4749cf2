"""A schedule as tensors on a device, with the lengths that it was made for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy.typing as npt
import torch

from bslang.call import Call
from bslang.inputs import Inputs
from bslang.labels import Labels
from bslang.selections import Selected


def moved(x: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the host on a device. Raises RuntimeError where its stream captures a CUDA graph: a replay
    would copy from what the host has there by then."""
    if is_capturing(device):
        raise RuntimeError(
            "a CUDA graph is captured, and the tables of this call are not on the GPU yet: call the layout "
            "once before the capture, with tensors of the same shapes and the same options"
        )
    return sent(x, device)


def sent(x: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the host on a device, for which nobody waits."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


@dataclass(frozen=True, eq=False)
class DeviceTable:
    """`bslang.schedule.Table` as int32 tensors on a device; the shapes are given there."""

    order: torch.Tensor
    pointer: torch.Tensor
    runs: torch.Tensor

    @classmethod
    def of(cls, table: Any, device: torch.device) -> DeviceTable:
        """Move a `bslang.schedule.Table` to a device."""
        parts = (table.order, table.pointer, table.runs)
        return cls(*(moved(torch.from_numpy(part), device) for part in parts))


def is_capturing(device: torch.device) -> bool:
    """Whether the current stream of a device captures a CUDA graph."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


@dataclass(frozen=True, eq=False)
class DevicePlan:
    """What a target's kernels take beside the tensors.

    len_q, len_k: numbers of queries and keys of the call. q_start: position of the first query,
    so that query x stands at position q_start + x, in block row (q_start + x) // block_q.
    position: where all queries stand, if at one place (`bslang.runtime.grouped`); then q_start is only the
    beginning of their block row.
    in_order: whether its tables are those of a capacity, a length at least as large as len_k, with all
    block rows in order: the rows of the queries are found by position.
    parameters, head_graph, order: as in `bslang.schedule.Schedule`. schedule: that itself, for a target with
    tables of its own; made: what targets have made of it, by name.

    rows, cols: the tables of whole rows for the forward pass and dQ, and of columns for dK and dV; made
    when they are first asked for, since GPUs have others.

    Where rows of the batch have lengths of their own, the numbers here are those of a row of len_k keys,
    and `places` has those of each.
    """

    len_q: int
    len_k: int
    q_start: int
    block_q: int
    block_k: int
    parameters: torch.Tensor
    head_graph: torch.Tensor | None
    order: torch.Tensor | None
    schedule: Any
    made: dict[str, Any] = field(default_factory=dict)
    position: int | None = None
    in_order: bool = False

    @classmethod
    def of(cls, schedule: Any, device: torch.device) -> DevicePlan:
        """Move a `bslang.schedule.Schedule` to a device."""

        def move(array: npt.NDArray[Any]) -> torch.Tensor:
            return moved(torch.from_numpy(array), device)

        grid = schedule.graphs[0].grid
        return cls(
            grid.q.stop - grid.q.start,
            grid.k.stop - grid.k.start,
            grid.q.start,
            grid.q.block,
            grid.k.block,
            move(schedule.parameters),
            None if schedule.head_graph is None else move(schedule.head_graph),
            None if schedule.order is None else move(schedule.order),
            schedule,
            in_order=schedule.in_order,
        )

    def at(self, len_q: int, len_k: int) -> DevicePlan:
        """The plan of a call whose queries are the last of the keys; of the plan of a capacity."""
        view = object.__new__(
            DevicePlan
        )  # for every step of decoding: replace() takes six times as long
        vars(view).update(vars(self), len_q=len_q, len_k=len_k, q_start=len_k - len_q)
        return view

    @property
    def steps(self) -> tuple[int, int]:
        """The position of the first query, and the step from one query's to the next one's."""
        return (self.q_start, 1) if self.position is None else (self.position, 0)

    def places(self, lengths: torch.Tensor) -> torch.Tensor:
        """int64 (batch, 3): for each row of the batch, whose keys are so many (lengths: int64 (batch,)),
        q_start, which may be negative, the position of its first query, and the number of its keys."""
        first = lengths + (self.steps[0] - self.len_k)
        start = first
        if self.position is not None:  # the beginning of a block row
            start = first.div(self.block_q, rounding_mode="floor") * self.block_q
        return torch.stack((start, first, lengths), dim=1)

    def selected(self, call: Call, inputs: Inputs) -> Call:
        """The call with its selections as kernels take them, in the order of a layout's inputs."""
        if not call.selections:
            return call
        values = dict(zip(inputs.selection_names, call.selections, strict=True))
        lengths, block = (self.len_q, self.len_k), (self.block_q, self.block_k)
        made = (
            Selected.of(values[each.name], each, self.q_start, lengths, block)
            for each in inputs.selections
        )
        return replace(call, selected=tuple(made))

    def labels(self, call: Call) -> tuple[torch.Tensor, ...] | None:
        """What kernels take of a call's labels: of queries and keys, and their ranges in blocks; None
        without labels."""
        if call.labels is None:
            return None
        labels = Labels(
            call.labels.q.contiguous(), call.labels.k.contiguous()
        )  # kernels count on it
        start: int | torch.Tensor = self.q_start
        if call.lengths is not None:
            start = self.places(call.lengths)[:, 0]
        return labels.q, labels.k, *labels.ranges(start, (self.block_q, self.block_k))

    @property
    def rows(self) -> DeviceTable:
        return self._table("rows")

    @property
    def cols(self) -> DeviceTable:
        return self._table("cols")

    def _table(self, side: str) -> DeviceTable:
        found: DeviceTable | None = self.made.get(side)
        if found is None:
            # Of several threads, the first one's: a table whose addresses kernels have must not be replaced.
            made = DeviceTable.of(getattr(self.schedule, side), self.parameters.device)
            found = self.made.setdefault(side, made)
        return found
