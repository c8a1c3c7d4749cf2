"""What tests of the explorer share."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

SPEC = """\
block 16
near(w = 3, r = 1) = window(w) | random(r, seed=5)
causal_near(w = 3) = window(w) & causal
by_head = heads { 0 -> window(3); 1 -> cols(0) }
"""


def write_spec(folder: Path, text: str = SPEC) -> str:
    """A spec file in a folder; its path."""
    path = folder / "spec.bsl"
    path.write_text(text, encoding="utf-8")
    return str(path)


def data_of(page: str) -> Any:
    """The data in a page, as its program reads it."""
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL | re.IGNORECASE
    )
    assert found is not None
    return json.loads(found[1])


def read_rows(runs: list[int], height: int, values: int) -> list[list[tuple[int, ...]]]:
    """Encoded runs by row, as (start, stop, *values): read as the page reads them."""
    numbers = iter(runs)
    rows = []
    for _ in range(height):
        row, column = [], 0
        for _ in range(next(numbers)):
            start = column + next(numbers)
            column = start + next(numbers)
            row.append((start, column, *(next(numbers) for _ in range(values))))
        rows.append(row)
    assert next(numbers, None) is None
    return rows
