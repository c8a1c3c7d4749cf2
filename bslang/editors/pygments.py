"""The Pygments lexer of the language; its words and signs are those of the compiler."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from pygments import token
from pygments.lexer import Lexer

from bslang.editors.tokens import MISTAKE, Token, tokens
from bslang.patterns import BY_NAME
from bslang.resolve.module import BOUND_WHEN_LOWERED
from bslang.resolve.sources import SUFFIXES
from bslang.resolve.values import FUNCTIONS

_TYPES = {
    "COMMENT": token.Comment.Single,
    "TEXT": token.String.Double,
    "INTEGER": token.Number.Integer,
    "TOKENS": token.Number.Integer,
    "SHAPE": token.Number.Integer,
    "MEMBER": token.Name,
    "LABEL": token.Name.Variable,
    "TRANSPOSE": token.Operator,
    "IMPORT": token.Keyword.Namespace,
    "AS": token.Keyword.Namespace,
    "INF": token.Keyword.Constant,
    "TRUE": token.Keyword.Constant,
    "FALSE": token.Keyword.Constant,
    MISTAKE: token.Error,
}
"""Terminals that are not what they look like: words are keywords, and signs operators."""

_PUNCTUATION = "(){},;:"
_OF_LANGUAGE = dict.fromkeys(BY_NAME, token.Name.Builtin)
_OF_LANGUAGE |= dict.fromkeys(FUNCTIONS, token.Name.Builtin)
_OF_LANGUAGE |= dict.fromkeys(BOUND_WHEN_LOWERED, token.Name.Builtin.Pseudo)
_DEFINES = re.compile(r"\w+[ \t]*(\([^#\n]*\))?[ \t]*=(?!=)")
_GIVES = re.compile(r"\w+\s*=(?!=)")


class BslangLexer(Lexer):  # type: ignore[misc]  # Pygments ships no types
    """Colours for specs of block-sparse attention."""

    name = "bslang"
    aliases: ClassVar = ["bslang", "bsl"]
    filenames: ClassVar = [f"*{suffix}" for suffix in SUFFIXES]
    mimetypes: ClassVar = ["text/x-bslang"]

    def get_tokens_unprocessed(self, text: str) -> Iterator[tuple[int, token._TokenType, str]]:
        """(offset, type, text) of each token."""
        depth = 0
        for found in tokens(text):
            depth += (found.text in ("(", "{")) - (found.text in (")", "}"))
            yield found.span.start, _type(text, found, depth), found.text


def _type(text: str, found: Token, depth: int) -> token._TokenType:
    start = found.span.start
    if found.kind.startswith("__"):
        return token.Whitespace
    if found.kind in _TYPES:
        return _TYPES[found.kind]
    if found.kind == "NAME":
        if depth > 0 and _GIVES.match(text, start):
            return token.Name.Attribute  # an argument that is named, or a parameter
        if depth <= 0 and text[start - 1 : start] in ("", "\n") and _DEFINES.match(text, start):
            return token.Name.Function
        return _OF_LANGUAGE.get(found.text, token.Name)
    if found.text.isidentifier():
        return token.Keyword
    return token.Punctuation if found.text in _PUNCTUATION else token.Operator
