"""What a document holds, statement by statement."""

from __future__ import annotations

from dataclasses import dataclass

from bslang.editors.document import Document
from bslang.resolve.module import layout_name
from bslang.syntax import tree
from bslang.syntax.comments import comment_above
from bslang.syntax.source import Span


@dataclass(frozen=True)
class Entry:
    """A statement; kind: "definition", "layout", "import", "block", "order" or
    "version"; detail: what a comment says of it."""

    name: str
    kind: str
    span: Span
    name_span: Span
    detail: str = ""


def outline(document: Document) -> list[Entry]:
    """The statements of a document that are right, in order."""
    found = []
    for statement in document.file.statements if document.file else ():
        span, text = statement.span, document.source.text
        said = comment_above(text, span.start).partition("\n")[0]
        match statement:
            case tree.Definition():
                entry = Entry(statement.name.text, "definition", span, statement.name.span, said)
            case tree.Layout():
                entry = Entry(layout_name(document.source), "layout", span, span, said)
            case tree.Import():
                path = statement.path
                entry = Entry(path.value or '""', "import", span, path.span)
            case tree.Version():
                entry = Entry(text[span.start : span.stop], "version", span, span)
            case tree.BlockSetting():
                entry = Entry(text[span.start : span.stop], "block", span, span)
            case tree.OrderSetting():
                entry = Entry(text[span.start : span.stop], "order", span, span)
            case _:
                continue
        found.append(entry)
    return found
