"""Source text and places in it. A span is two offsets; line and column are computed when printing."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Span:
    """Characters [start, stop) of a source."""

    start: int
    stop: int

    def to(self, other: Span) -> Span:
        """From the start of this span to the end of another."""
        return Span(self.start, other.stop)


@dataclass(frozen=True)
class Source:
    """A spec's text, with the name that messages give it (a path, or `<spec>`).

    folder: where it lies, and so where the files that it names are looked for; None for a text
    that is no file.
    """

    name: str
    text: str
    folder: Path | None = None

    @cached_property
    def line_starts(self) -> list[int]:
        """The offset of each line."""
        starts = [0]
        for index, char in enumerate(self.text):
            if char == "\n":
                starts.append(index + 1)
        return starts

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset, both from 1."""
        line = bisect_right(self.line_starts, offset)
        return line, offset - self.line_starts[line - 1] + 1

    def line(self, number: int) -> str:
        """The text of a line, numbered from 1, without its end."""
        start = self.line_starts[number - 1]
        end = self.line_starts[number] if number < len(self.line_starts) else len(self.text)
        return self.text[start:end].rstrip("\r\n")
