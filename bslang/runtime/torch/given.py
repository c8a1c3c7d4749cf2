"""What a call says of positions, as tensors for the torch target: labels and selections of each head."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from bslang.call import Call
from bslang.runtime.plan import DevicePlan


@dataclass(frozen=True, eq=False)
class Given:
    """What a call says, for query heads `heads` (int64 indices), or all of them for None.

    Where there is no token, another's label serves.
    """

    plan: DevicePlan
    call: Call
    count: int
    heads: torch.Tensor | None = None

    @property
    def any(self) -> bool:
        """Whether there is something."""
        return self.call.labels is not None or bool(self.call.selected)

    def at(
        self, q: torch.Tensor, k: torch.Tensor
    ) -> tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
        """Of pairs: labels of queries and of keys, and which are selected, each (batch or 1, heads or 1, *
        positions), in which q and k broadcast."""
        plan = self.plan
        of_q = (q - plan.q_start).clamp(0, plan.len_q - 1)
        of_k = k.clamp_max(plan.len_k - 1)
        labels = self.call.labels
        q_labels = [] if labels is None else [self._of(x[..., of_q]).long() for x in labels.q]
        k_labels = [] if labels is None else [self._of(x[..., of_k]).long() for x in labels.k]
        selected = []
        for each in self.call.selected:
            line = (of_q + plan.q_start) // each.rows - each.first
            column = of_k // each.cols
            byte = self._of(each.bits[:, :, line, column // 8])
            selected.append(byte >> (column % 8).to(torch.uint8) & 1)
        return q_labels, k_labels, selected

    def of_blocks(self, row: torch.Tensor, column: torch.Tensor) -> dict[str, torch.Tensor]:
        """Of blocks: the ranges that `bslang.ir.ranges` names, each (batch or 1, heads or 1, blocks)."""
        plan = self.plan
        found = {
            "q_first": row * plan.block_q,
            "q_last": (row + 1) * plan.block_q - 1,
            "k_first": column * plan.block_k,
            "k_last": (column + 1) * plan.block_k - 1,
        }
        row = row - plan.q_start // plan.block_q
        if self._labels is not None:
            for side, ranges, at in (
                ("q", self._labels[2], row),
                ("k", self._labels[3], column),
            ):
                for i, of_label in enumerate(ranges):
                    least, most = self._of(of_label[:, :, at]).long().unbind(-1)
                    found |= {f"{side}_least{i}": least, f"{side}_most{i}": most}
        for i, each in enumerate(self.call.selected):
            found[f"state{i}"] = self._of(each.states[:, :, row, column])
        return found

    @cached_property
    def _labels(self) -> tuple[torch.Tensor, ...] | None:
        return self.plan.labels(self.call)

    def _of(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, groups, ...) for the heads that read each group; one group stays one."""
        groups = x.shape[1]
        if groups == 1:
            return x
        heads = torch.arange(self.count, dtype=torch.int64, device=x.device)
        heads = heads if self.heads is None else self.heads
        return x[:, heads * groups // self.count]
