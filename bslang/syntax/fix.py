"""Fixes: what to write instead, as edits of the source that an editor can make."""

from __future__ import annotations

from dataclasses import dataclass

from bslang.syntax.source import Span


@dataclass(frozen=True)
class Edit:
    """Text that takes the place of a span; an empty span inserts it."""

    span: Span
    text: str


@dataclass(frozen=True)
class Fix:
    """What was probably meant. It is a guess: bslang offers it, and changes no file by itself.

    title: what it does, for menus, as in "Change `windw` to `window`"; hint: the same as advice, for
    messages; edits: in the order of the source, apart from one another.
    """

    title: str
    hint: str
    edits: tuple[Edit, ...]

    def applied(self, text: str) -> str:
        """The text of the source after the edits."""
        for edit in reversed(self.edits):
            text = text[: edit.span.start] + edit.text + text[edit.span.stop :]
        return text


def question(other: str) -> str:
    """The hint that another word, path or name was probably meant."""
    return f"did you mean `{other}`?"


def meant(written: str, other: str, span: Span) -> Fix | None:
    """The fix that puts another word, path or name where one is written; None without another."""
    if not other:
        return None
    edits = (Edit(span, other),)
    return Fix(f"Change `{written}` to `{other}`", question(other), edits)
