"""Where the parts of a pattern were written. The pattern itself knows no source."""

from __future__ import annotations

from dataclasses import dataclass

from bslang.ir.pattern import Pattern
from bslang.syntax.source import Source, Span


@dataclass(frozen=True)
class Origin:
    """A place in a spec."""

    source: Source
    span: Span


class Origins:
    """The origins of patterns: of each object that was made, and of what is written like it.

    Equal patterns may stand in several places, each an object of its own; operators that join nested
    chains keep the objects that they join.
    """

    def __init__(self) -> None:
        self._of: dict[
            int, tuple[Pattern, Origin]
        ] = {}  # holds the patterns, so that ids stay theirs
        self._by_text: dict[str, Origin] = {}

    def add(self, pattern: Pattern, origin: Origin) -> None:
        """Note where a pattern was written; the first place of an object, and of a text, counts."""
        self._of.setdefault(id(pattern), (pattern, origin))
        self._by_text.setdefault(str(pattern), origin)

    def of(self, pattern: Pattern) -> Origin | None:
        """Where a part of the resolved pattern, or one that is written like it, stands."""
        known = self._of.get(id(pattern))
        return known[1] if known else self._by_text.get(str(pattern))
