"""What the parser refuses, as a diagnostic: what stands there, what could, and the likeliest slip."""

from __future__ import annotations

import re
import unicodedata

from bslang.syntax.diagnostics import Diagnostic
from bslang.syntax.parser import ParseError
from bslang.syntax.source import Source, Span

_OTHER_SIGNS = {"and": "&", "or": "|", "not": "~", "||": "|", "&&": "&", "!": "~", ":=": "="}
_STRAY = {
    "[": "arguments stand in parentheses",
    ";": "one statement a line",
    '"': "nothing is quoted here",
    "'": "nothing is quoted here",
    ".": "numbers are whole; `p.T` transposes a pattern",
    "/": "`//` divides, rounding down",
}


def mistake(source: Source, statement: Span, error: ParseError) -> Diagnostic:
    """The diagnostic of a statement that the grammar refuses."""
    text, place = source.text, error.span.start
    word = re.compile(r"\w*", re.ASCII).match(text, place)
    if not error.expected and word and word[0]:  # digits that run into letters: 64x, 3abc
        span, message = Span(place, word.end()), f"`{word[0]}` is neither a name nor a number"
    elif not error.expected:
        span, message = error.span, f"{_named(text[place : place + 1])} is not part of the language"
    else:
        could = ", ".join(error.expected[:-1])
        could = f"{could} or {error.expected[-1]}" if could else error.expected[-1]
        span, message = error.span, f"{error.found} here, where {could} could stand"
    before = text[statement.start : place]
    hint = _hint(before, text[place : statement.stop], error.expected)
    if place == statement.start and not before and _goes_on(source, place):
        hint = "to go on over several lines, put the whole expression in parentheses"
    return Diagnostic("E101", message, source, span, hint=hint)


def _named(char: str) -> str:
    if char.isascii() and char.isprintable():
        return f"`{char}`" if char != "`" else "a backquote"
    return f"the character {unicodedata.name(char, f'U+{ord(char):04X}')}"


def _goes_on(source: Source, place: int) -> bool:
    """Whether a statement that begins with an operator seems to go on with the one before it."""
    return source.text[place] in "|&^-@" and bool(source.text[:place].strip())


def _hint(before: str, rest: str, expected: list[str]) -> str:
    """What to write instead, where the text on both sides of the mistake lets it be guessed."""
    found = (re.match(r"\w+|.", rest, re.ASCII) or [""])[0]
    called = re.search(r"([A-Za-z_]\w*)\s*$", before, re.ASCII)
    last = called[1] if called else before.rstrip()[-1:]
    for sign in (found, last, last + found, rest[:2]):
        if sign in _OTHER_SIGNS:
            return f"write `{_OTHER_SIGNS[sign]}` instead of `{sign}`"
    if re.match(r"block\b", before):
        return "write `block 64`, or `block 128x64` (queries x keys)"
    if found == "=" and last in ("inf", "true", "false"):
        return f"`{last}` is a word of the language; choose another name"
    if found == "=" and "=" in before:
        return "one statement a line"
    if found == ")" and "`)`" not in expected and "the end of the line" in expected:
        return "no parenthesis is open here"
    if found[:1].isdigit() and called:
        return f"arguments stand in parentheses: `{last}({found})`"
    if found[:1].isdigit() and not expected:
        return "a number of tokens is written as in `64t`"
    if found in ("<", ">", "=", "!") and re.search(r"[<>=!]=?", before) and expected:
        return "compare two numbers at a time"
    if found.isidentifier() and "the end of the line" in expected:
        return "one statement a line; an operator such as `|` joins two patterns"
    if "`)`" in expected and "`,`" in expected:
        return "put a comma between arguments, or close the parenthesis"
    if found.isidentifier() and "an operator" in expected:
        return "an operator such as `|` joins two patterns"
    return _STRAY.get(found, "")
