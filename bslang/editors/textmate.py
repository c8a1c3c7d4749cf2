"""The TextMate grammar of the language, as VS Code and others read it, from the compiler's own tables.

editors/generate_textmate.py writes it into the VS Code extension, and a test holds it up to date.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from bslang.editors.tokens import keywords
from bslang.patterns import BY_NAME
from bslang.resolve.module import BOUND_WHEN_LOWERED
from bslang.resolve.sources import SUFFIXES
from bslang.resolve.values import FUNCTIONS
from bslang.syntax.parser import terminals

SCOPE = "source.bslang"

KEYWORD_SCOPES = {
    "BSL": "keyword.other",
    "BLOCK": "keyword.other",
    "ORDER": "keyword.other",
    "IMPORT": "keyword.control.import",
    "AS": "keyword.control.import",
    "HEADS": "keyword.control",
    "INF": "constant.language",
    "TRUE": "constant.language",
    "FALSE": "constant.language",
}
"""The scope of each word of the grammar, without the language at its end."""

_TERMINAL_SCOPES = {
    "COMMENT": "comment.line.number-sign",
    "TEXT": "string.quoted.double",
    "SHAPE": "constant.numeric.shape",
    "TOKENS": "constant.numeric.tokens",
    "INTEGER": "constant.numeric.integer",
    "LABEL": "variable.other.label",
}
_PUNCTUATION = "(){},;:"
_DEFINES = r"^([A-Za-z_][A-Za-z0-9_]*)(?=\s*(\([^#]*\))?\s*=(?!=))"
_GIVES = r"\b([A-Za-z_][A-Za-z0-9_]*)(?=\s*=(?!=))"


def grammar() -> dict[str, Any]:
    """The grammar as a value that JSON can hold. Of several patterns, the first that matches counts."""
    kinds = terminals()
    patterns = [
        # A number begins a word: the 2 of `w2` is none.
        _rule((r"\b" if scope.startswith("constant") else "") + kinds[name], scope)
        for name, scope in _TERMINAL_SCOPES.items()
    ]
    patterns += [_rule(_words([word]), KEYWORD_SCOPES[name]) for word, name in keywords().items()]
    patterns += [
        _rule(_DEFINES, "entity.name.function"),
        _rule(_GIVES, "variable.parameter"),
        _rule(_words(BY_NAME), "support.function.primitive"),
        _rule(_words(FUNCTIONS), "support.function.number"),
        _rule(_words(BOUND_WHEN_LOWERED), "variable.language"),
        _rule(kinds["TRANSPOSE"], "keyword.operator"),
        _rule(kinds["MEMBER"], "variable.other.member"),
        _rule(_signs(), "keyword.operator"),
        _rule(f"[{re.escape(_PUNCTUATION)}]", "punctuation"),
    ]
    return {
        "name": "bslang",
        "scopeName": SCOPE,
        "fileTypes": [suffix.lstrip(".") for suffix in SUFFIXES],
        "patterns": patterns,
    }


def _rule(regex: str, scope: str) -> dict[str, str]:
    return {"match": regex, "name": f"{scope}.bslang"}


def _words(words: Iterable[str]) -> str:
    return rf"\b({'|'.join(words)})\b"


def _signs() -> str:
    """The operators: the terminals that are left."""
    known = {*_TERMINAL_SCOPES, *KEYWORD_SCOPES, "NAME", "MEMBER", "TRANSPOSE"}
    left = {name: regex for name, regex in terminals().items() if name not in known}
    return "|".join(
        regex
        for name, regex in left.items()
        if not name.startswith("__") and regex.lstrip("\\") not in _PUNCTUATION
    )
