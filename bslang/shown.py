"""Answers that show themselves: as text in a terminal, and the same text in a notebook."""

from __future__ import annotations

from abc import ABC, abstractmethod
from html import escape


class Shown(ABC):
    """An answer whose `str` and `repr` are the text that the command of its name prints."""

    @abstractmethod
    def __str__(self) -> str: ...

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """What notebooks show."""
        return f'<pre style="line-height:1.3">{escape(str(self))}</pre>'
