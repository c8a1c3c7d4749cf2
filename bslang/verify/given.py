"""What a call gives beside tensors, drawn at random: labels and selections, and what the truth has of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bslang.inputs import QUERIES, ROW, Inputs
from bslang.selections import cells

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_CHANCE = 0.3  # of a cell to be listed


@dataclass(frozen=True, eq=False)
class Given:
    """Labels and selections of a call with a batch of sequences, for all heads the same.

    labels: of the keys, int64 (batch, len_k), the queries being the last of these, of only the queries
    (batch, len_q), or of the batch row (batch,); selections: bool (batch, 1, rows, columns).
    """

    inputs: Inputs
    len_q: int
    len_k: int
    labels: dict[str, torch.Tensor]
    selections: dict[str, torch.Tensor]

    @classmethod
    def draw(cls, inputs: Inputs, batch: int, len_q: int, len_k: int, seed: int) -> Given:
        """A few documents one after another for each label, other ones in each row, and some cells."""
        random = np.random.default_rng(seed)
        labels = {}
        for label in inputs.labels:
            length = {QUERIES: len_q, ROW: 1}.get(label.sides, len_k)
            drawn = np.sort(random.integers(0, 4, (batch, length)))
            labels[label.name] = torch.from_numpy(drawn[:, 0] if label.sides == ROW else drawn)
        selections = {}
        for each in inputs.selections:
            shape = (batch, 1, *cells(each, len_k - len_q, len_q, len_k))
            selections[each.name] = torch.from_numpy(random.random(shape) < _CHANCE)
        return cls(inputs, len_q, len_k, labels, selections)

    def options(self, device: torch.device) -> dict[str, Any]:
        """The options of a call on a device."""
        labels = {name: x.to(device) for name, x in self.labels.items()}
        selections = {name: x.to(device) for name, x in self.selections.items()}
        return {"labels": labels or None, "select": selections or None}

    def of_row(self, row: int) -> tuple[dict[str, tuple[Ints, Ints]], dict[str, Bools]]:
        """Labels of the queries and of the keys of a batch row by name, and which cells are listed."""
        labels = {}
        for label in self.inputs.labels:
            values = self.labels[label.name][row].numpy()
            if label.sides == ROW:
                labels[label.name] = (
                    np.full(self.len_q, values),
                    np.full(self.len_k, values),
                )
            elif label.sides == QUERIES:
                labels[label.name] = (values, np.zeros(self.len_k, dtype=np.int64))
            else:
                labels[label.name] = (values[self.len_k - self.len_q :], values)
        return labels, {name: x[row, 0].numpy() for name, x in self.selections.items()}
