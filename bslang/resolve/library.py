"""What spec files offer: their public definitions with parameters and documentation."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Context
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bslang.resolve.module import layout_name
from bslang.resolve.sources import LIBRARY, source_of
from bslang.resources import resource
from bslang.syntax import tree
from bslang.syntax.comments import comment_above
from bslang.syntax.reader import read
from bslang.syntax.source import Source


@dataclass(frozen=True)
class Entry:
    """A layout that can be picked: `file:name`.

    parameters: as they are declared, `w = 3`; comment: the lines above it; text: its definition.
    """

    file: str
    name: str
    parameters: tuple[str, ...]
    comment: str
    text: str

    @property
    def summary(self) -> str:
        """The first line of its comment."""
        return self.comment.partition("\n")[0]

    @property
    def form(self) -> str:
        """How it is called: `bigbird(w = 3, r = 3)`."""
        return f"{self.name}({', '.join(self.parameters)})" if self.parameters else self.name


def entries(source: Source) -> list[Entry]:
    """The layouts of a file, in order; statements with mistakes are left out."""
    found = []
    for statement in read(source).statements:
        if isinstance(statement, tree.Definition):
            name, parameters = statement.name.text, statement.parameters
        elif isinstance(statement, tree.Layout):
            name, parameters = layout_name(source), ()
        else:
            continue
        if not name.startswith("_"):
            declared = tuple(_of(source, parameter) for parameter in parameters)
            comment = comment_above(source.text, statement.span.start)
            found.append(Entry(source.name, name, declared, comment, _of(source, statement)))
    return found


def library() -> list[Entry]:
    """Every layout of the library."""
    names = sorted(path.name for path in resource("std").glob("*.bsl"))
    return [entry for name in names for entry in entries(_published(name))]


@cache
def by_name() -> Mapping[str, tuple[Entry, ...]]:
    """What a name is of in the library: one layout, or those of the file that is called like it.

    Where two files have a layout, it is that of the file called like it, or of the first.
    """
    found = Context().run(library)  # on no budget: it is read once, whichever spec asks first
    files = {e.file: tuple(other for other in found if other.file == e.file) for e in found}
    named = {Path(file).stem: layouts for file, layouts in files.items()}
    named |= {entry.name: (entry,) for entry in reversed(found)}
    return named | {e.name: (e,) for e in found if Path(e.file).stem == e.name}


def _published(name: str) -> Source:
    """A file of the library, whatever lies in the current folder."""
    return source_of(Path(LIBRARY) / name)


def _of(source: Source, node: tree.Node) -> str:
    return source.text[node.span.start : node.span.stop]
