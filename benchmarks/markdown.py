"""Figures as Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.timing import Spread


def spread(found: Spread | None, form: str = ".2f") -> str:
    """Median and quartiles; nothing for None."""
    if found is None:
        return ""
    return f"{found.median:{form}} ({found.low:{form}} to {found.high:{form}})"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of Markdown."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def spec(text: str) -> str:
    """A spec as code in a cell."""
    return f"`{text}`".replace("|", "\\|")
