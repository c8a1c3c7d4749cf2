"""The files that a spec is made of, and when they change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path

from bslang.limits import MAX_FILES
from bslang.resolve.sources import Unreadable, below, source_of
from bslang.syntax import tree
from bslang.syntax.diagnostics import SpecError
from bslang.syntax.reader import read

Stamps = dict[Path, tuple[int, int] | None]


def stamps(paths: Iterable[Path]) -> Stamps:
    """When each file was changed (ns) and its size (bytes), None where it is missing; those that the specs
    among them name in quotes, and so on, are looked at too."""
    found: Stamps = {}
    left = list(paths)
    while left and len(found) < MAX_FILES:
        path = left.pop()
        if path in found:
            continue
        found[path] = None
        with suppress(OSError):
            status = path.stat()
            found[path] = status.st_mtime_ns, status.st_size
            left += _named_by(path)
    return found


def _named_by(path: Path) -> Iterator[Path]:
    try:
        source = source_of(path)
        texts = list(_texts(read(source).statements))
    except SpecError:  # no spec, or one that cannot be read just now
        return
    for text in texts:
        with suppress(Unreadable):
            yield below(source, text)


def _texts(node: object) -> Iterator[str]:
    if isinstance(node, tree.Text):
        yield node.value
    elif isinstance(node, tuple):
        for item in node:
            yield from _texts(item)
    elif is_dataclass(node):
        for f in fields(node):
            yield from _texts(getattr(node, f.name))
