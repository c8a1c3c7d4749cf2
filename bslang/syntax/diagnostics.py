"""Diagnostics: what is wrong, where, and what to write instead."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bslang.errors import BslangError, printable, shortened
from bslang.limits import MAX_ERRORS
from bslang.syntax.fix import Fix
from bslang.syntax.source import Source, Span

MORE = "E192"
"""The code of the note that there are more errors than are shown."""


@dataclass(frozen=True)
class Diagnostic:
    """One error or warning of a spec.

    code: as in `E101`, or `W201` for a warning; message: one line in the user's terms, lower case;
    label: a few words under the carets; hint: what to write instead; fix: the same as edits of the
    source, whose hint then takes the place of `hint`. Without a span the message concerns the whole
    source.
    """

    code: str
    message: str
    source: Source
    span: Span | None = None
    label: str = ""
    hint: str = ""
    limit: bool = False
    fix: Fix | None = None

    def __post_init__(self) -> None:
        if self.fix is not None:
            object.__setattr__(self, "hint", self.fix.hint)

    @property
    def severity(self) -> str:
        return "warning" if self.code.startswith("W") else "error"

    def render(self) -> str:
        """Plain ASCII text of several lines, without a line end after the last."""
        lines = [f"{self.severity}[{self.code}]: {printable(shortened(self.message))}"]
        if self.span is None:
            lines.append(f" --> {printable(shortened(self.source.name))}")
        else:
            lines += excerpt(self.source, [self.span], self.label)
        if self.hint:
            gutter = " " * (len(lines[-1]) - len(lines[-1].lstrip(" "))) if self.span else " "
            lines += [f"{gutter}|"] * (self.span is not None) + [
                f"{gutter}= help: {printable(shortened(self.hint))}"
            ]
        return "\n".join(lines)


def excerpt(source: Source, spans: Sequence[Span], label: str = "") -> list[str]:
    """The lines that show spans, in order, that begin on one line: where, the text, carets, a label."""
    row, column = source.position(spans[0].start)
    text = source.line(row)
    gutter = " " * len(str(row))
    start = column - 1
    last = min(max(span.stop for span in spans) - spans[0].start, len(text) - start)
    shown, offset = _window(text, start, last)
    # Tabs stay tabs under the text, so that the carets stand where the reader sees them.
    marks = ["\t" if char == "\t" else " " for char in shown]
    marks += " " * (offset + 1 - len(marks))  # what is missing stands behind the end of the line
    for span in spans:
        first = span.start - spans[0].start + offset
        width = max(1, min(span.stop - span.start, len(shown) - first))
        marks[first : first + width] = "^" * width
    return [
        f"{gutter}--> {printable(source.name)}:{row}:{column}",
        f"{gutter} |",
        f"{row} | {printable(shown)}",
        f"{gutter} | {''.join(marks).rstrip()} {label}".rstrip(),
    ]


def _window(text: str, start: int, width: int, room: int = 100) -> tuple[str, int]:
    """The part of a line around a span, and where the span begins in it; long lines are cut."""
    if len(text) <= room:
        return text, start
    begin = max(0, min(start - room // 4, len(text) - room))
    return text[begin : begin + room], start - begin


class SpecError(BslangError):
    """A spec with errors, in the order of the file; the note that there are more comes last."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(
            sorted(
                diagnostics,
                key=lambda d: (d.code == MORE, d.source.name, d.span.start if d.span else -1),
            )
        )
        super().__init__("\n\n".join(d.render() for d in self.diagnostics))

    def _render_traceback_(self, *_: object) -> list[str]:
        """What IPython and Jupyter show: the diagnostics, whose place is in the spec and not in our code."""
        return str(self).splitlines()

    @property
    def complete(self) -> bool:
        """Whether these are all errors of the spec."""
        return all(d.code != MORE for d in self.diagnostics)

    @property
    def exit_status(self) -> int:  # type: ignore[override]  # depends on what is wrong
        return 3 if all(d.limit for d in self.diagnostics) else 1


class Findings:
    """Errors of a source as they are found: each once, and MAX_ERRORS at most."""

    def __init__(self, found: Iterable[Diagnostic] = ()) -> None:
        self._found = dict.fromkeys(found)

    def add(self, found: Diagnostic) -> None:
        """Note an error. Raises SpecError for one more than MAX_ERRORS."""
        if found not in self._found and len(self._found) >= MAX_ERRORS:
            note = f"Only the first {MAX_ERRORS} errors are shown. Fix these and run again."
            raise SpecError([*self._found, Diagnostic(MORE, note, found.source, limit=True)])
        self._found[found] = None

    def all(self) -> tuple[Diagnostic, ...]:
        """What was found, in order."""
        return tuple(self._found)

    def raise_any(self) -> None:
        """Raise SpecError if there is any error."""
        if self._found:
            raise SpecError(self._found)
