"""The simulation of ranks: traffic beside its bound, the model's balance, and the tables of the page."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from benchmarks import ranks as simulation
from benchmarks.ranks import DOCUMENTS, LAYOUTS, PAGE, RANKS, bounded, demand, lowered, shared
from bslang.placement.placed import BALANCED


@pytest.mark.parametrize("text", LAYOUTS)
def test_an_exchange_moves_hardly_more_than_a_maximum_flow_bound(text: str) -> None:
    exchange, times = bounded(text)
    assert exchange.balance <= BALANCED
    assert times >= 1
    if exchange.kind == "exchange" and text != DOCUMENTS:
        assert times <= 1.05


def test_a_cover_is_the_least_of_all_choices() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        row, column = np.unique(random.integers(0, 4, (5, 2)), axis=0).T
        rows, columns = np.unique(row), np.unique(column)
        least = min(
            3 * sum(picked)
            + 2 * len({c for r, c in zip(row, column, strict=True) if r not in chosen})
            for picked in itertools.product((0, 1), repeat=rows.size)
            for chosen in (set(rows[np.array(picked, dtype=bool)].tolist()),)
        )
        assert simulation._cover(row, column, 3, 2) == least <= 2 * columns.size


def test_the_page_has_each_table() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in ("constants", "bounds", "planning", *(f"{n} ranks" for n in RANKS)):
        text = simulation.with_section(page, name, "new")
        assert f"<!-- {name}: begin -->\nnew\n<!-- {name}: end -->" in text
        assert len(text) < len(page)
    assert simulation.constants() in page
    for text in LAYOUTS:
        assert (
            page.count(f"| `{text}`".replace("|", "\\|").replace("\\| `", "| `")) >= len(RANKS) + 2
        )


def test_rows_of_the_tables_come_from_the_plan() -> None:
    text = "last(4096t) & causal"
    found = shared(demand(lowered(text, 2**17), text, 2**17), text, 8)
    assert (found.chunks, found.exchange.kind) == (1, "exchange") and found.balance <= BALANCED
    assert found.received[0] == pytest.approx(64 / (2048 * 7 / 8))
    row = simulation.ranks_table([found]).splitlines()[2]
    assert row.startswith("| `last(4096t) & causal` | 1 | 1.0")
    assert simulation._time(None) == ""
