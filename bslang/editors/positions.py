"""Places of a text as editors count them: lines from 0, and units of an encoding in a line.

Only line feeds end lines here, as in a `Source`; Python's `splitlines` would end them at others too.
"""

from __future__ import annotations

from bslang.syntax.source import Source

_UNITS = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}
"""The encodings that editors count in, each with the bytes of a unit."""


class Positions:
    """Converts between offsets of a source and positions (line, units)."""

    def __init__(self, source: Source, encoding: str = "utf-16") -> None:
        self._source = source
        self._encoding, self._bytes = _UNITS[encoding]

    def position(self, offset: int) -> tuple[int, int]:
        """Line and units of an offset."""
        line, column = self._source.position(offset)
        before = self._source.text[offset - column + 1 : offset]
        return line - 1, len(before.encode(self._encoding, "surrogatepass")) // self._bytes

    def offset(self, line: int, units: int) -> int:
        """The offset of a position; beyond the end of a line or text, that end."""
        starts = self._source.line_starts
        if line >= len(starts):
            return len(self._source.text)
        end = starts[line + 1] - 1 if line + 1 < len(starts) else len(self._source.text)
        data = self._source.text[starts[line] : end].encode(self._encoding, "surrogatepass")
        before = data[: max(0, units) * self._bytes]
        return starts[line] + len(before.decode(self._encoding, "replace"))
