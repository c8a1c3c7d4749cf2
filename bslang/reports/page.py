"""A page to look at layouts, as `bslang explorer` writes it: `Layout.explorer`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from bslang.explorer.data import data
from bslang.explorer.page import page
from bslang.explorer.subject import Subject
from bslang.files import write_whole

_HEIGHT = 720  # px of the page in a notebook


@dataclass(frozen=True, repr=False)
class Page:
    """One HTML file that needs no network. Notebooks show it; `save` writes it.

    title: of the layouts on it; html: its text; left_out: what it does not have of their settings, in words.
    """

    title: str
    html: str
    left_out: tuple[str, ...] = ()

    def __repr__(self) -> str:
        missing = "".join(f"\nleft out: {each}" for each in self.left_out)
        size = f"{len(self.html):,} characters of HTML"
        return f"explorer of {self.title}: {size}; save(path) writes it{missing}"

    def _repr_html_(self) -> str:
        return (
            f'<iframe srcdoc="{escape(self.html)}" sandbox="allow-scripts allow-downloads" '
            f'style="width:100%;height:{_HEIGHT}px;border:0"></iframe>'
        )

    def save(self, path: str | Path) -> Path:
        """Write the page to a file, and return its path. Raises OSError."""
        path = Path(path)
        write_whole(path.parent, {path.name: self.html})
        return path


def explore(subjects: Sequence[Subject]) -> Page:
    """The page of some subjects; raises as `bslang.explorer.data.data`."""
    found = data(subjects)
    return Page(found["title"], page(found), tuple(found["left_out"]))
