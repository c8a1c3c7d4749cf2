"""What a page is told in words: diagnostics, messages and places in a source, as plain values."""

from __future__ import annotations

from typing import Any

from bslang.syntax.diagnostics import Diagnostic
from bslang.syntax.source import Source, Span


def diagnostic(found: Diagnostic) -> dict[str, Any]:
    """A diagnostic as plain values; `marks` as those of `marks`."""
    return {
        "code": found.code,
        "severity": found.severity,
        "message": found.message,
        "hint": found.hint,
        "file": found.source.name,
        "marks": marks(found.source, found.span),
        "text": found.render(),
    }


def message(text: str) -> dict[str, Any]:
    """An error that concerns no place, in the form of a diagnostic."""
    about = {"code": "", "severity": "error", "message": text, "hint": "", "file": "", "marks": []}
    return about | {"text": f"error: {text}"}


def marks(source: Source, span: Span | None) -> list[tuple[int, int, int]]:
    """The lines of a span: (line, first column, column after the last), all from 0."""
    if span is None:
        return []
    first, column = source.position(span.start)
    last, end = source.position(max(span.stop, span.start + 1))
    return [
        (
            line - 1,
            column - 1 if line == first else 0,
            end - 1 if line == last else len(source.line(line)),
        )
        for line in range(first, last + 1)
    ]
