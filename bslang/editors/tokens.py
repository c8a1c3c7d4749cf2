"""Text to tokens, by the terminals of the grammar, whatever the text is.

The parser asks which terminals could stand at a place; here none is asked, so that a text with
mistakes has tokens too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from bslang.syntax.parser import terminals
from bslang.syntax.source import Span

MISTAKE = "MISTAKE"
"""The kind of what is no token of the language."""

_WORD = re.compile(r"[a-z]+")


class Token(NamedTuple):
    """kind: the name of its terminal, or MISTAKE; blanks have a name that begins with `__`."""

    kind: str
    text: str
    span: Span


@cache
def keywords() -> dict[str, str]:
    """The words of the grammar, each with the name of its terminal."""
    return {regex: name for name, regex in terminals().items() if _WORD.fullmatch(regex)}


@cache
def _pattern() -> re.Pattern[str]:
    words = keywords().values()
    kinds = {name: regex for name, regex in terminals().items() if name not in words}
    kinds[MISTAKE] = r"\w+|[\s\S]"
    return re.compile("|".join(f"(?P<{name}>{regex})" for name, regex in kinds.items()))


def tokens(text: str) -> Iterator[Token]:
    """Every token of a text, blanks and comments included: joined, they are the text."""
    for found in _pattern().finditer(text):
        kind = str(found.lastgroup)
        kind = keywords().get(found[0], kind) if kind == "NAME" else kind
        yield Token(kind, found[0], Span(*found.span()))
