"""The table of FlexAttention's mask_mods in docs/migration.md: each is the same pairs as its bsl."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch.nn.attention.flex_attention import create_mask

import bslang

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "migration.md").read_text(
    encoding="utf-8"
)
SECTION = PAGE.partition("\n## FlexAttention\n")[2].partition("\n## ")[0]
ROWS = re.findall(
    r"^\| ([^`|]+) \| `(.+)` \| `(.+)` \|$", SECTION.replace("\\|", "¦"), re.MULTILINE
)
LENGTH, HEADS = 1152, 4

DOCUMENT = torch.arange(LENGTH) // 500
# Two images among tokens of text, each of which has a label of its own.
IMAGE = torch.arange(LENGTH)
IMAGE[100:300], IMAGE[700:750] = LENGTH, LENGTH + 1
LABELS = {"document": DOCUMENT, "image": IMAGE}


def test_the_table_was_found() -> None:
    assert {"causal", "prefix LM", "NATTEN 2-D, rows of 48", "documents"} <= {r[0] for r in ROWS}
    assert len(ROWS) == len(re.findall(r"^\|", SECTION, re.MULTILINE)) - 2


@pytest.mark.parametrize(("name", "returned", "spec"), ROWS, ids=[row[0] for row in ROWS])
def test_both_columns_are_the_same_pairs(name: str, returned: str, spec: str) -> None:
    mask_mod = eval(f"lambda b, h, q, k: {returned.replace('¦', '|')}", dict(LABELS))
    theirs = create_mask(mask_mod, 1, HEADS, LENGTH, LENGTH, device="cpu")[0]
    assert theirs.any() and not theirs.all()

    layout = bslang.compile(spec.replace("¦", "|"), block=64, target="torch")
    labels = {label: LABELS[label] for label in layout.labels} or None
    for head in range(HEADS):
        ours = layout.to_dense(LENGTH, head=head, labels=labels).view(LENGTH, LENGTH)
        assert torch.equal(ours, theirs[head]), f"{name}, head {head}"
