"""Diagnostics: what is wrong, where, and what to write instead."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bslang.errors import BslangError
from bslang.syntax.source import Source, Span


@dataclass(frozen=True)
class Diagnostic:
    """One error or warning of a spec.

    code: as in `E101`, or `W201` for a warning; message: one line in the user's terms, lower case;
    label: a few words under the carets; hint: what to write instead. Without a span the message
    concerns the whole source.
    """

    code: str
    message: str
    source: Source
    span: Span | None = None
    label: str = ""
    hint: str = ""
    limit: bool = False

    @property
    def severity(self) -> str:
        return "warning" if self.code.startswith("W") else "error"

    def render(self) -> str:
        """Plain ASCII text of several lines, without a line end after the last."""
        lines = [f"{self.severity}[{self.code}]: {self.message}"]
        if self.span is None:
            lines.append(f" --> {self.source.name}")
        else:
            lines += self._excerpt(self.span)
        if self.hint:
            gutter = " " * (len(lines[-1]) - len(lines[-1].lstrip(" "))) if self.span else " "
            lines += [f"{gutter}|"] * (self.span is not None) + [f"{gutter}= help: {self.hint}"]
        return "\n".join(lines)

    def _excerpt(self, span: Span) -> list[str]:
        row, column = self.source.position(span.start)
        text = self.source.line(row)
        gutter = " " * len(str(row))
        width = max(1, min(span.stop - span.start, len(text) - column + 1))
        shown, offset = _window(text, column - 1, width)
        # Tabs stay tabs under the text, so that the carets stand where the reader sees them.
        pad = "".join("\t" if char == "\t" else " " for char in shown[:offset])
        carets = "^" * max(1, min(width, len(shown) - offset))
        return [
            f"{gutter}--> {self.source.name}:{row}:{column}",
            f"{gutter} |",
            f"{row} | {shown}",
            f"{gutter} | {pad}{carets} {self.label}".rstrip(),
        ]


def _window(text: str, start: int, width: int, room: int = 100) -> tuple[str, int]:
    """The part of a line around a span, and where the span begins in it; long lines are cut."""
    if len(text) <= room:
        return text, start
    begin = max(0, min(start - room // 4, len(text) - room))
    return text[begin : begin + room], start - begin


class SpecError(BslangError):
    """A spec with errors: all of them, in the order in which they stand in the file."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(
            sorted(diagnostics, key=lambda d: (d.source.name, d.span.start if d.span else -1))
        )
        super().__init__("\n\n".join(d.render() for d in self.diagnostics))

    @property
    def exit_status(self) -> int:  # type: ignore[override]  # depends on what is wrong
        return 3 if all(d.limit for d in self.diagnostics) else 1
