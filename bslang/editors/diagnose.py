"""What is wrong in a document, and what is odd: as `bslang check` says it, at places of the document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from bslang.budget import limited
from bslang.editors.document import Document
from bslang.editors.names import place_of, target
from bslang.errors import shortened
from bslang.lint.warnings import warnings
from bslang.syntax import tree
from bslang.syntax.diagnostics import Diagnostic, SpecError
from bslang.syntax.fix import Fix
from bslang.syntax.source import Span


@dataclass(frozen=True)
class Problem:
    """A diagnostic, and where a document shows it: that of another file stands at its import."""

    diagnostic: Diagnostic
    span: Span
    elsewhere: bool = False

    @property
    def text(self) -> str:
        """The message with its label and hint."""
        found = self.diagnostic
        where = f"{found.source.name}: " if self.elsewhere else ""
        label = f" ({found.label})" if found.label and found.label != "here" else ""
        hint = f"\nhelp: {shortened(found.hint)}" if found.hint else ""
        return f"{where}{shortened(found.message)}{label}{hint}"


@lru_cache(maxsize=16)
def problems(document: Document) -> tuple[Problem, ...]:
    """Every error of a document, or the warnings of one that has none."""
    found = document.errors
    if document.program is not None:
        try:
            with limited(anew=True):
                found = tuple(warnings(document.source, document.program))
        except SpecError as error:
            found = error.diagnostics
    return tuple(_placed(document, diagnostic) for diagnostic in found)


def _placed(document: Document, diagnostic: Diagnostic) -> Problem:
    if diagnostic.source != document.source:
        return Problem(diagnostic, _import_of(document, diagnostic), elsewhere=True)
    return Problem(diagnostic, diagnostic.span or _first_line(document))


def _import_of(document: Document, diagnostic: Diagnostic) -> Span:
    """The import that brings a diagnostic in: of the file itself, or else the first import."""
    statements = document.file.statements if document.file else ()
    paths = [s.path for s in statements if isinstance(s, tree.Import)]
    for path in paths:
        source = target(document.source, path)
        if source and place_of(source) == place_of(diagnostic.source):
            return path.span
    return paths[0].span if paths else _first_line(document)


def _first_line(document: Document) -> Span:
    end = document.source.text.find("\n")
    return Span(0, end if end >= 0 else len(document.source.text))


def problems_at(document: Document, offset: int) -> list[Problem]:
    """The problems that the document shows at an offset."""
    return [
        found
        for found in problems(document)
        if found.span.start <= offset < max(found.span.stop, found.span.start + 1)
    ]


def fixes(document: Document, start: int, stop: int) -> Iterator[tuple[Problem, Fix]]:
    """The problems that touch [start, stop] and that an edit of the document fixes."""
    for found in problems(document):
        fix = found.diagnostic.fix
        if fix and not found.elsewhere and found.span.start <= stop and start <= found.span.stop:
            yield found, fix
