"""Text that goes over several lines where it must: built by the formatter, printed here.

Doc = str | Break | Wrap | Group. A group stands on one line where it fits and has no comments; where it
does not, all its own breaks end lines, and the groups inside of it are asked one by one. This is
Oppen's pretty printing in the form of Wadler ("A prettier printer", 2003).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

WIDTH = 100
"""Columns that a line may take."""

_INDENT = "    "


@dataclass(frozen=True)
class Comment:
    """A comment; trailing: whether something stands before it on its line."""

    text: str
    trailing: bool


@dataclass(frozen=True)
class Break:
    """Where a line may end, at `flat` otherwise; the next line is indented by `depth` steps.

    comments: those that stand there, on lines that are indented by `inner` steps. With any, the line
    does end.
    """

    flat: str
    depth: int
    inner: int
    comments: tuple[Comment, ...] = ()


@dataclass(frozen=True)
class Wrap:
    """Text that is there only where its group goes over several lines: parentheses."""

    text: str


class Group:
    """Parts that stand on one line together, or else each on its own.

    width: of all on one line; head: of what stands before its first break; open: whether it has one;
    forced: whether a comment breaks it.
    """

    __slots__ = ("forced", "head", "open", "parts", "width")

    def __init__(self, parts: Iterable[Doc]) -> None:
        self.parts = tuple(parts)
        self.width = self.head = 0
        self.open = self.forced = False
        for part in self.parts:
            width, head, is_open, forced = _measure(part)
            self.head += 0 if self.open else head
            self.width += width
            self.open |= is_open
            self.forced |= forced


Doc: TypeAlias = str | Break | Wrap | Group


def _measure(doc: Doc) -> tuple[int, int, bool, bool]:
    """(width, head, open, forced) of a doc, as of a group."""
    match doc:
        case str():
            return len(doc), len(doc), False, False
        case Break():
            return len(doc.flat), 0, True, bool(doc.comments)
        case Wrap():
            return 0, 0, False, False
        case Group():
            return doc.width, doc.head, doc.open, doc.forced


def printed(doc: Doc) -> str:
    """The text of a doc, each line at most WIDTH wide where that can be, without a line end at the end."""
    out: list[str] = []
    column = 0
    rest: list[tuple[Doc, bool]] = [(doc, False)]
    while rest:
        doc, flat = rest.pop()
        match doc:
            case Group():
                flat = flat or (not doc.forced and column + doc.width + _tail(rest) <= WIDTH)
                rest.extend((part, flat) for part in reversed(doc.parts))
                continue
            case Break() if not flat:
                out += _ended(doc)
                text = _INDENT * doc.depth
                column = 0
            case Break():
                text = doc.flat
            case Wrap():
                text = "" if flat else doc.text
            case str():
                text = doc
        out.append(text)
        column += len(text)
    return "".join(out)


def _tail(rest: list[tuple[Doc, bool]]) -> int:
    """The width of what must follow on the same line: all up to the next place where it may end."""
    width = 0
    for doc, _ in reversed(rest):
        _, head, is_open, _ = _measure(doc)
        width += head
        if is_open or width > WIDTH:
            break
    return width


def _ended(place: Break) -> Iterator[str]:
    """The end of a line with its comments: the first behind it, where it stood behind something."""
    for index, comment in enumerate(place.comments):
        yield "  " if comment.trailing and not index else f"\n{_INDENT * place.inner}"
        yield comment.text
    yield "\n"
