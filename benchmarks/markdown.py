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


def include(text: str, page: str, name: str = "figures") -> str:
    """A page with a text in the place of what stands between two comments of a name. Raises ValueError."""
    first, last = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, begin, rest = page.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise ValueError(f"the page lacks {first} and {last}")
    return f"{before}{first}\n{text.strip()}\n{last}{after}"
