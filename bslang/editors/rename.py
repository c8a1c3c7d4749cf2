"""Other names for what a file names itself, where the new text then means the same."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bslang.editors.document import Document
from bslang.editors.names import Kind, Occurrence, Symbol, place_of
from bslang.errors import BslangError
from bslang.syntax.source import Source, Span

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OWN = (Kind.DEFINITION, Kind.PARAMETER, Kind.ALIAS)


class Refused(BslangError):
    """A rename that is none; the message says why, and what to do."""


def renameable(document: Document, offset: int) -> Occurrence:
    """The name at an offset that can be renamed. Raises Refused."""
    found = document.at(offset)
    if found is None:
        raise Refused("there is no name here")
    symbol = found.symbol
    if symbol.kind not in _OWN:
        raise Refused(f"`{symbol.name}` is {symbol.kind.value}, and cannot be renamed")
    if symbol.place != place_of(document.source):
        raise Refused(f"`{symbol.name}` is named in {symbol.place}; rename it there")
    if document.file is None or document.file.errors:
        raise Refused("fix the syntax errors of this file first: names in them would be missed")
    return found


def renamed(
    document: Document, offset: int, name: str, others: Iterable[Document] = ()
) -> list[Span]:
    """The places that get a new name. Raises Refused.

    others: documents that may import this one; where one of them uses the name, nothing is renamed.
    """
    symbol = renameable(document, offset).symbol
    if not _NAME.fullmatch(name):
        raise Refused(f"{name!r} is not a valid name: use letters, digits and `_`, no digit first")
    for other in others:
        if place_of(other.source) != place_of(document.source) and other.uses(symbol):
            raise Refused(
                f"{other.source.name} uses `{symbol.name}` too; rename it by hand there first"
            )
    spans = [o.span for o in document.uses(symbol)]
    after = Document(_replaced(document.source, spans, name))
    if len(after.errors) > len(document.errors):
        known = {found.message for found in document.errors}
        said = next((f.message for f in after.errors if f.message not in known), "it is not free")
        raise Refused(f"`{symbol.name}` cannot be called `{name}`: {said}")
    if _meaning(after) != _meaning(document):
        raise Refused(f"`{name}` means something else where `{symbol.name}` is used")
    return spans


def _replaced(source: Source, spans: list[Span], name: str) -> Source:
    text, end = "", 0
    for span in sorted(spans, key=lambda s: s.start):
        text += source.text[end : span.start] + name
        end = span.stop
    return Source(source.name, text + source.text[end:], source.folder)


def _meaning(document: Document) -> list[object]:
    """For each name of a file, what it stands for: a name of the file, by its number, or another's."""
    here = place_of(document.source)
    numbers: dict[Symbol, int] = {}

    def meant(symbol: Symbol) -> object:
        if symbol.place == here and symbol.kind in _OWN:
            return symbol.kind, numbers.setdefault(symbol, len(numbers))
        return symbol

    return [meant(occurrence.symbol) for occurrence in document.occurrences]
