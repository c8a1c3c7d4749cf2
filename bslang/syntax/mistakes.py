"""What the parser refuses, as a diagnostic: what stands there, what could, and the likeliest slip."""

from __future__ import annotations

import re
import unicodedata

from bslang.syntax.diagnostics import Diagnostic
from bslang.syntax.parser import ParseError
from bslang.syntax.source import Source, Span

_OTHER_SIGNS = {"and": "&", "or": "|", "not": "~", "||": "|", "&&": "&", "!": "~", ":=": "="}
_OTHER_SIGNS |= {"=>": ">=", "=<": "<=", "<>": "!="}
_OTHER_SIGNS |= {"\N{LESS-THAN OR EQUAL TO}": "<=", "\N{GREATER-THAN OR EQUAL TO}": ">="}
_OTHER_SIGNS |= {"\N{NOT EQUAL TO}": "!=", "\N{NOT SIGN}": "~", "\N{MINUS SIGN}": "-"}
_OTHER_SIGNS |= {"\N{EN DASH}": "-", "\N{EM DASH}": "-"}
_OTHER_SIGNS |= {"\N{UNION}": "|", "\N{INTERSECTION}": "&", "\N{SET MINUS}": "-"}
_OTHER_SIGNS |= {"\N{LEFT DOUBLE QUOTATION MARK}": '"', "\N{RIGHT DOUBLE QUOTATION MARK}": '"'}
_DEFINITION = "write `name = pattern` or `name(parameter = default) = pattern`"
_SET = "a set of blocks is written as in `{i, j : i < j}`, and one of tokens as in `{q, k : k < q}`"
_HEADS = "heads are written as in `heads { 0:4 -> window(3); 4: -> causal }`"
_IMPORT = 'write `import "common.bsl"`, or `import "common.bsl" as c`'
_OTHER_WORDS = {"def": _DEFINITION, "let": _DEFINITION, "lambda": _SET}
_OTHER_WORDS |= dict.fromkeys(("from", "include", "use", "using", "require"), _IMPORT)
_STRAY = {
    "[": "put arguments in parentheses, and several numbers too: `(1, 2)`",
    ";": "one statement per line",
    '"': "no quotes are needed here",
    "'": "use double quotes for texts",
    ".": "`p.T` transposes a pattern, and `c.p` is that of a file imported as `c`; no more dots",
    "/": "`//` divides, rounding down",
}

_BRACKET = re.compile(r'"[^"\n]*"|#[^\n]*|[(){}]')


def mistake(source: Source, statement: Span, error: ParseError) -> Diagnostic:
    """The diagnostic of a statement that the grammar refuses."""
    text, place = source.text, error.span.start
    word = re.compile(r"\w*", re.ASCII).match(text, place)
    if not error.expected and word and word[0]:  # digits that run into letters: 64x, 3abc
        span, message = Span(place, word.end()), f"`{word[0]}` is neither a name nor a number"
    elif not error.expected and text[place] == '"':
        span, message = error.span, 'this `"` is never closed'
    elif not error.expected:
        span, message = error.span, f"{_named(text[place : place + 1])} is not part of the language"
    else:
        could = ", ".join(error.expected[:-1])
        could = f"{could} or {error.expected[-1]}" if could else error.expected[-1]
        span, message = error.span, f"expected {could}, found {error.found}"
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


def _innermost(before: str) -> str:
    """The text from the innermost open bracket on, with the name right before it; empty outside of any."""
    opened: list[int] = []
    for sign in _BRACKET.finditer(before):
        if sign[0] in "({":
            opened.append(sign.start())
        elif sign[0] in ")}":
            del opened[-1:]
    return _last_word(before[: opened[-1]]) + before[opened[-1] :] if opened else ""


def _last_word(text: str) -> str:
    """The name at the end of a text, empty if there is none."""
    found = re.search(r"([A-Za-z_]\w*)\s*$", text[-200:], re.ASCII)
    return found[1] if found else ""


def _hint(before: str, rest: str, expected: list[str]) -> str:
    """What to write instead, where the text on both sides of the mistake lets it be guessed."""
    found = (re.match(r"\w+|.", rest, re.ASCII) or [""])[0]
    called = _last_word(before)
    last = called or before.rstrip()[-1:]
    inside = _innermost(before)
    in_heads = inside.startswith("heads{") or called == "heads"
    for sign in (found, last, last + found, rest[:2]):
        if sign in _OTHER_SIGNS and not (in_heads and sign == "=>"):
            meant = f"write `{_OTHER_SIGNS[sign]}`"
            return f"{meant} instead of `{sign}`" if sign.isascii() else meant
    if re.match(r"block\b", before):
        return "write `block 64`, or `block 128x64` (queries x keys)"
    if re.match(r"order\b", before):
        return (
            "write `order tiles(8, 32, 32; 4, 8, 8)` or `order morton(64, 64)`; sizes count tokens"
        )
    if re.match(r"bsl\b", before):
        return "the version of the language is written as in `bsl 1`"
    if re.match(r"import\b", before):
        return _IMPORT
    if in_heads:
        return _HEADS
    if inside.startswith("{") and ":" not in inside:
        return _SET
    if found == "[" and inside.startswith("{"):
        return "a label of the query is written `doc[q]`, of the key `doc[k]`, of the batch row `doc[b]`"
    if last in _OTHER_WORDS:
        return _OTHER_WORDS[last]
    if found == '"' and not expected:
        return "a text ends on the line where it begins"
    if found == "=" and last in ("inf", "true", "false"):
        return f"`{last}` is a word of the language; choose another name"
    if found == "=" and last in ("<", ">", "=", "!"):
        return f"write `{last}=` without a space"
    if found == "=" and inside:
        return "write `==` to compare"
    if found == "=" and "=" in before:
        return "one statement per line"
    if found == ")" and "`)`" not in expected and "the end of the line" in expected:
        return "no parenthesis is open here"
    if (found == "t" and last.isdigit()) or (found[:1].isdigit() and not expected):
        return "a number of tokens is written as in `64t`"
    if found[:1].isdigit() and called:
        return f"put arguments in parentheses: `{last}({found})`"
    if not before and rest[:2] in ("//", "/*", "--"):
        return "a comment begins with `#`"
    if rest[:2] == "..":
        return "a range is written as in `0:4`"
    if found == "." and last.isdigit():
        return "numbers are integers"
    if found.isidentifier() and "the end of the line" in expected:
        return "one statement per line; an operator such as `|` joins two patterns"
    if found.isidentifier() and "an operator" in expected and not re.match(r"\w+\(", inside):
        return "an operator such as `|` joins two patterns"
    if "`)`" in expected and "`,`" in expected:
        return "put a comma between arguments, or close the parenthesis"
    return _STRAY.get(found, "")
