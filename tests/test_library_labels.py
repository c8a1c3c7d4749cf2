"""Published layouts whose labels come with the call, against their meaning, pair by pair.

Nothing of the language makes the reference: labels are lists, and a mask is asked for every query and key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from reference import TOLERANCE, agrees, inputs

import bslang

LENGTH = 40
Values = dict[str, list[list[int]]]
"""Labels by name: those of each row of the batch."""


@dataclass(frozen=True)
class Published:
    """A layout of the library, its labels for two rows, and which pairs of a row belong.

    meaning(q, k, x): of positions and the row's labels; of_row: the labels that are one number a row.
    """

    file: str
    labels: Values
    meaning: Callable[[int, int, dict[str, Any]], bool]
    parameters: dict[str, Any] = field(default_factory=dict)
    of_row: tuple[str, ...] = ()


def runs(*lengths: int) -> list[int]:
    """0, 0, 0, 1, 1, ...: the number of the run that each position is in."""
    return [number for number, length in enumerate(lengths) for _ in range(length)]


def marked(*places: int) -> list[int]:
    return [int(place in places) for place in range(LENGTH)]


TIMES = [[3 * x + x % 2 for x in range(LENGTH)], [x * x for x in range(LENGTH)]]
LTS = [
    [min(k + k % 7 + 1, LENGTH) for k in range(LENGTH)],
    [k // 10 * 10 + 10 for k in range(LENGTH)],
]
LTE = [[min(x + 9, LENGTH) for x in LTS[0]], [LENGTH] * LENGTH]
UTS = [[0] * LENGTH, [max(k - 20, 0) for k in range(LENGTH)]]
UTE = [[k // 4 for k in range(LENGTH)], [k // 10 * 10 for k in range(LENGTH)]]

LAYOUTS = {
    "stages": Published(
        "block_causal.bsl:stages",
        {"stage": [runs(1, 4, 9, 26), runs(10, 10, 20)]},
        lambda q, k, x: x["stage"][k] <= x["stage"][q],
    ),
    "prefix_rows": Published(
        "prefix_lm.bsl:prefix_rows",
        {"prefix": [[13], [0]]},
        lambda q, k, x: k <= q or k < x["prefix"][0],
        of_row=("prefix",),
    ),
    "longformer_chosen": Published(
        "longformer.bsl:longformer_chosen",
        {"chosen": [marked(0, 1, 17), marked(39)]},
        lambda q, k, x: abs(q - k) <= 4 or x["chosen"][q] == 1 or x["chosen"][k] == 1,
        {"w": "9t"},
    ),
    "time_window": Published(
        "time_series.bsl:time_window",
        {"time": TIMES},
        lambda q, k, x: 0 <= x["time"][q] - x["time"][k] < 25,
        {"s": 25},
    ),
    "gist": Published(
        "gist.bsl:gist",
        {"part": [runs(12, 20, 8), runs(1, 39)], "gist": [marked(10, 11, 31), marked(0)]},
        lambda q, k, x: k <= q and (x["part"][q] == x["part"][k] or x["gist"][k] == 1),
    ),
    "flashmask": Published(
        "flashmask.bsl:flashmask",
        {"lts": LTS, "lte": LTE, "uts": UTS, "ute": UTE},
        lambda q, k, x: not (x["lts"][k] <= q < x["lte"][k] or x["uts"][k] <= q < x["ute"][k]),
    ),
    "flashmask_causal": Published(
        "flashmask.bsl:flashmask_causal",
        {"lts": LTS, "lte": LTE},
        lambda q, k, x: k <= q and not x["lts"][k] <= q < x["lte"][k],
    ),
    "hstu": Published(
        "hstu.bsl:hstu",
        {"features": [[5], [9]], "history": [[25], [19]]},
        lambda q, k, x: (
            (k <= q and k < x["history"][0])
            or max(q, k) < x["features"][0]
            or (
                min(q, k) >= x["history"][0]
                and (q - x["history"][0]) // 2 == (k - x["history"][0]) // 2
            )
        ),
        {"g": "2t"},
        ("features", "history"),
    ),
}  # fmt: skip


def check(file: str, parameters: dict[str, Any], mask: torch.Tensor, **given: Any) -> None:
    """Assert that a layout's results are those of a mask, bool (2, length, length)."""
    for block in (16, 7):
        layout = bslang.load(f"std/{file}", block=block, target="torch", **parameters)
        whole = np.asarray(mask[:, None].expand(-1, 2, -1, -1))
        given_now = inputs(mask.shape[-1], mask.shape[-1], heads=2, batch=2)
        agrees(layout, given_now, whole, TOLERANCE[torch.float32], **given)


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_is_its_meaning(name: str) -> None:
    one = LAYOUTS[name]
    rows = [{name: of_rows[row] for name, of_rows in one.labels.items()} for row in (0, 1)]
    mask = torch.tensor(
        [[[one.meaning(q, k, x) for k in range(LENGTH)] for q in range(LENGTH)] for x in rows]
    )
    labels = {name: torch.tensor(of_rows) for name, of_rows in one.labels.items()}
    for name in one.of_row:
        labels[name] = labels[name][:, 0]
    check(one.file, one.parameters, mask, labels=labels)


PARENTS = torch.tensor([[-1, 0, 0, 2, 2, 1], [-1, -1, 1, 2, 1, 0]])
SEGMENTS = torch.tensor([runs(9, 5, 3, 4, 2, 6), runs(2, 8, 4, 4, 1, 10)])


def ancestors(parents: list[int]) -> list[set[int]]:
    """Of every node, those on its way to a root, itself included."""
    found: list[set[int]] = []
    for node in range(len(parents)):
        way = set()
        while node != -1:
            way.add(node)
            node = parents[node]
        found.append(way)
    return found


def test_answers_to_a_prompt() -> None:
    mask = torch.zeros(2, 29, 29, dtype=torch.bool)
    for row, (parents, segments) in enumerate(
        zip(PARENTS.tolist(), SEGMENTS.tolist(), strict=True)
    ):
        above = ancestors(parents)
        for q, k in np.ndindex(29, 29):
            mask[row, q, k] = k <= q and segments[k] in above[segments[q]]
    check("tree.bsl:answers", {}, mask, labels=bslang.tree(PARENTS, SEGMENTS))


def test_draft_trees_by_labels_and_by_a_matrix() -> None:
    """A context of 20 tokens, and 9 drafts that branch; each row of the batch has its own tree."""
    context = list(range(-1, 19))
    drafts = [[19, 20, 20, 19, 21, 21, 23, 26, 26], [19, 19, 19, 20, 21, 22, 23, 23, 24]]
    parents = [context + draft for draft in drafts]
    mask = torch.tensor([[[k in way for k in range(29)] for way in ancestors(p)] for p in parents])
    check("tree.bsl:draft_tree", {}, mask, labels=bslang.tree(torch.tensor(parents)))
    check("tree.bsl:draft_matrix", {}, mask, select={"tree": mask[:, None]})
    by_labels, by_matrix = (
        bslang.load(f"std/tree.bsl:{name}", block=16, target="torch")
        for name in ("draft_tree", "draft_matrix")
    )
    given = inputs(9, 29, heads=2, batch=2)
    tensors = given.q, given.k, given.v
    step = by_matrix(*tensors, select=mask[:, None, 20:])
    torch.testing.assert_close(by_labels(*tensors, labels=bslang.tree(torch.tensor(parents))), step)
