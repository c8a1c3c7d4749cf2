"""A whole source to a `tree.File`: cut it into statements, parse each, note every mistake."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields

from bslang._version import LANGUAGE, __version__
from bslang.budget import READING, OverBudget, spend
from bslang.limits import MAX_FILE_BYTES, MAX_NESTING, MAX_WORDS
from bslang.syntax import tree
from bslang.syntax.diagnostics import Diagnostic, Findings, SpecError
from bslang.syntax.mistakes import mistake
from bslang.syntax.parser import ParseError, parse_statement
from bslang.syntax.source import Source, Span

_COMMENT = re.compile(r"#[^\n]*")
_WORD_STEPS = 2500  # steps of the budget for a word
_WORD = re.compile(r"\w+|[^\w\s]")
_TEXT = r'"[^"\n]*"'
_OUTSIDE, _INSIDE = re.compile(_TEXT + r"|[\n#({)}]"), re.compile(_TEXT + r"|[#({)}]")
"""What bounds or nests statements, outside and inside of parentheses, and texts, where nothing does."""

_NEXT_STATEMENT = re.compile(r"\n(?=[A-Za-z_])")
_DEFINES = re.compile(r"([A-Za-z_]\w*)\b[^=]*=", re.ASCII)
_RECOVERIES = 10
"""Parentheses without an end after which the rest of a file is read again."""


class _Refused(Exception):
    """A statement that is none; carries its diagnostic."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic)
        self.diagnostic = diagnostic


def read(source: Source) -> tree.File:
    """Parse a source; what is wrong in its statements stands in the file's `errors`.

    Raises SpecError where it is too large, has too many mistakes to go on, or is written in a version of
    the language that is not known: what else it says would mean nothing then.
    """
    _hold_size(source)
    statements: list[tree.Statement] = []
    findings = Findings()
    for span, problem in _statements(source):
        try:
            if problem is not None:
                raise _Refused(problem)
            statement = _statement(source, span)
            if isinstance(statement, tree.Version):
                _hold_version(source, statement, first=not statements)
            statements.append(statement)
        except _Refused as refused:
            findings.add(refused.diagnostic)
            name = _DEFINES.match(source.text[span.start : span.stop])
            statements.append(tree.Broken(span, name[1] if name else None))
    return tree.File(source, tuple(statements), findings.all())


def _hold_size(source: Source) -> None:
    def refuse(size: int, things: str, limit: str, most: int) -> None:
        if size > most:
            message = f"this file has more than {most} {things} ({limit})"
            raise SpecError([Diagnostic("E190", message, source, limit=True)])

    size = len(source.text.encode("utf-8", errors="replace"))
    refuse(size, "bytes", "MAX_FILE_BYTES", MAX_FILE_BYTES)
    words = sum(1 for _ in _WORD.finditer(_COMMENT.sub("", source.text)))
    refuse(words, "names, numbers and signs", "MAX_WORDS", MAX_WORDS)
    try:
        spend(_WORD_STEPS * words, READING)
    except OverBudget as error:
        message, hint = error.said, error.remedy
        raise SpecError([Diagnostic(error.code, message, source, hint=hint, limit=True)]) from None


def _hold_version(source: Source, version: tree.Version, first: bool) -> None:
    """Raises SpecError for a version that is not known, _Refused for one that stands too late."""
    if not first:
        message = "the version of the language must be the first statement"
        raise _Refused(Diagnostic("E214", message, source, version.span, hint="move it to the top"))
    if not 1 <= version.number <= LANGUAGE:
        known = "version 1" if LANGUAGE == 1 else f"versions 1 to {LANGUAGE}"
        message = (
            f"this file is written in version {version.number} of the language, and bslang {__version__} "
            f"knows {known}"
        )
        hint = "a newer bslang may know it: `bslang --version` says which this is"
        raise SpecError([Diagnostic("E214", message, source, version.span, hint=hint)])


def _statements(source: Source) -> Iterator[tuple[Span, Diagnostic | None]]:
    """The spans between line ends that stand outside of parentheses and hold more than comments.

    A span with a diagnostic is where parentheses have no end, or too many are open; reading goes on
    where a new statement seems to begin.
    """
    text = source.text
    start = position = recoveries = 0
    opened: list[int] = []
    while position <= len(text):
        border = (_INSIDE if opened else _OUTSIDE).search(text, position)
        place = border.start() if border else len(text)
        char = text[place] if border else "\n"
        position = place + 1
        problem = None
        if border and char == '"':
            position = border.end()
        elif char == "#":
            end = text.find("\n", place)
            position = len(text) if end < 0 else end
        elif char in "({":
            opened.append(place)
            if len(opened) > MAX_NESTING:
                message = f"parentheses are nested more than {MAX_NESTING} deep here (MAX_NESTING)"
                problem = Diagnostic("E191", message, source, Span(place, place + 1), limit=True)
        elif char in ")}":
            del opened[-1:]
        elif not opened:
            line = text[start:place]
            if _COMMENT.sub("", line).strip():
                yield Span(start + len(line) - len(line.lstrip()), place), None
            start = position
        elif place == len(text):
            sign = text[opened[0]]
            message, hint = f"this `{sign}` is never closed", f"add `{')' if sign == '(' else '}'}`"
            span = Span(opened[0], opened[0] + 1)
            problem = Diagnostic("E103", message, source, span, hint=hint)
            recoveries += 1
        if problem is not None:
            following = _NEXT_STATEMENT.search(text, opened[0])
            line = text[start : opened[0]]
            yield Span(start + len(line) - len(line.lstrip()), position - 1), problem
            if following is None or recoveries > _RECOVERIES:
                return
            start = position = following.end()
            opened = []


def _statement(source: Source, span: Span) -> tree.Statement:
    """Parse one statement. Raises _Refused."""
    try:
        parsed = parse_statement(source.text, span)
    except ParseError as error:
        raise _Refused(mistake(source, span, error)) from None
    deep = _too_deep(parsed if isinstance(parsed, tuple) else (parsed,))
    if deep is not None:
        message = f"expressions are nested more than {MAX_NESTING} deep here (MAX_NESTING)"
        raise _Refused(Diagnostic("E191", message, source, deep.span, limit=True))
    if isinstance(parsed, tree.Version | tree.BlockSetting | tree.OrderSetting | tree.Import):
        return parsed
    if len(parsed) == 1:
        return tree.Layout(parsed[0].span, parsed[0])
    return _definition(source, *parsed)


def _definition(source: Source, head: tree.Expression, body: tree.Expression) -> tree.Definition:
    span = head.span.to(body.span)
    if isinstance(head, tree.Name) and "." not in head.text:
        return tree.Definition(span, head, (), body)
    if isinstance(head, tree.Call) and "." not in head.function.text:
        parameters = tuple(_parameter(source, argument) for argument in head.arguments)
        return tree.Definition(span, head.function, parameters, body)
    hint = "write `name = pattern` or `name(parameter = default) = pattern`"
    raise _Refused(Diagnostic("E102", "only a name can be defined", source, head.span, hint=hint))


def _parameter(source: Source, argument: tree.Argument) -> tree.Parameter:
    if argument.name is not None and not isinstance(argument.value, tree.Range):
        return tree.Parameter(argument.span, argument.name, argument.value)
    if isinstance(argument.value, tree.Name) and "." not in argument.value.text:
        return tree.Parameter(argument.span, argument.value, None)
    message, hint = "a parameter is a name, with or without a default", "write `r` or `r = 2`"
    raise _Refused(Diagnostic("E102", message, source, argument.span, hint=hint))


def _too_deep(roots: tuple[tree.Node, ...]) -> tree.Node | None:
    """An expression nested more than MAX_NESTING deep, if there is one; walks without recursion."""
    level: list[tree.Node] = list(roots)
    for _ in range(MAX_NESTING):
        level = [child for node in level for child in _children(node)]
        if not level:
            return None
    return level[0]


def _children(node: tree.Node) -> Iterator[tree.Node]:
    """The expressions right inside of a node; an argument is none, its value is."""
    for field in fields(node):
        value = getattr(node, field.name)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, tree.Argument):
                yield item.value
            elif isinstance(item, tree.Node):
                yield item
