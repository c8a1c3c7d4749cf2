"""A whole source to a `tree.File`: cut it into statements, parse each, report every mistake."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields

from bslang.limits import MAX_FILE_BYTES, MAX_NESTING
from bslang.syntax import tree
from bslang.syntax.diagnostics import Diagnostic, SpecError
from bslang.syntax.parser import ParseError, parse_statement
from bslang.syntax.source import Source, Span

_OPEN, _CLOSE = "([{", ")]}"
_OTHER_WORDS = {"and": "&", "or": "|", "not": "~", "||": "|", "&&": "&", "!": "~"}


def read(source: Source) -> tree.File:
    """Parse a source. Raises SpecError with all of its syntax errors."""
    size = len(source.text.encode("utf-8", errors="replace"))
    if size > MAX_FILE_BYTES:
        message = (
            f"this file has {size} bytes; bslang reads up to {MAX_FILE_BYTES} (MAX_FILE_BYTES)"
        )
        raise SpecError([Diagnostic("E190", message, source, limit=True)])
    statements: list[tree.Statement] = []
    errors: list[Diagnostic] = []
    for span in _statements(source, errors):
        try:
            parsed = parse_statement(source.text, span)
        except ParseError as error:
            errors.append(_syntax_error(source, error))
            continue
        deep = _too_deep(parsed if isinstance(parsed, tuple) else (parsed,))
        if deep is not None:
            errors.append(
                Diagnostic(
                    "E191",
                    f"expressions are nested more than {MAX_NESTING} deep here (MAX_NESTING)",
                    source,
                    deep.span,
                    hint="give parts of it names of their own",
                    limit=True,
                )
            )
        elif isinstance(parsed, tree.BlockSetting):
            statements.append(parsed)
        elif len(parsed) == 1:
            statements.append(tree.Layout(parsed[0].span, parsed[0]))
        else:
            definition = _definition(source, parsed[0], parsed[1], errors)
            if definition is not None:
                statements.append(definition)
    if errors:
        raise SpecError(errors)
    return tree.File(source, tuple(statements))


def _statements(source: Source, errors: list[Diagnostic]) -> Iterator[Span]:
    """The spans between line ends that stand outside of parentheses and hold more than comments."""
    text = source.text
    start = position = 0
    opened: list[int] = []
    while position <= len(text):
        at_end = position == len(text)
        char = "\n" if at_end else text[position]
        if char == "#":
            position = _line_end(text, position)
            continue
        if char in _OPEN:
            opened.append(position)
        elif char in _CLOSE and opened:
            opened.pop()
        broken = None
        if len(opened) > MAX_NESTING:
            broken = Diagnostic(
                "E191",
                f"parentheses are nested more than {MAX_NESTING} deep here (MAX_NESTING)",
                source,
                Span(position, position + 1),
                limit=True,
            )
        elif at_end and opened:
            place = opened[0]
            broken = Diagnostic(
                "E103",
                f"this `{text[place]}` is never closed",
                source,
                Span(place, place + 1),
                hint="add the closing parenthesis",
            )
        if broken is not None:
            # Go on where a new statement seems to begin, so that the others are still checked.
            errors.append(broken)
            following = _NEXT_STATEMENT.search(text, opened[0])
            if following is None:
                return
            start = position = following.end()
            opened = []
            continue
        if char == "\n" and not opened:
            line = text[start:position]
            if re.sub(r"#[^\n]*", "", line).strip():
                yield Span(start + len(line) - len(line.lstrip()), position)
            start = position + 1
        position += 1


_NEXT_STATEMENT = re.compile(r"\n(?=[A-Za-z_])")


def _line_end(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end


def _syntax_error(source: Source, error: ParseError) -> Diagnostic:
    found = source.text[error.span.start : error.span.stop] or " "
    hint = ""
    row = source.position(error.span.start)[0]
    before = source.line(row)[: source.position(error.span.start)[1] - 1]
    for word, operator in _OTHER_WORDS.items():
        if source.text.startswith(word, error.span.start):
            hint = f"write `{operator}` instead of `{word}`"
    if not hint and not before.strip() and found in ("|", "&", "^", "-", "@"):
        hint = "to go on over several lines, put the whole expression in parentheses"
    elif not hint and found[0].isdigit() and (called := re.search(r"([A-Za-z_]\w*)\s*$", before)):
        hint = f"arguments stand in parentheses: `{called[1]}({found})`"
    elif not hint and found == "=" and "=" in before:
        hint = "one statement a line"
    elif not hint and "`)`" in error.expected and "`,`" in error.expected:
        hint = "put a comma between arguments, or close the parenthesis"
    expected = f", where {_either(error.expected)} could stand" if error.expected else ""
    message = f"{error.found} here{expected}"
    if not error.expected:
        message = f"{found!r} is not part of the language"
    return Diagnostic("E101", message, source, error.span, hint=hint)


def _either(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _definition(
    source: Source, head: tree.Expression, body: tree.Expression, errors: list[Diagnostic]
) -> tree.Definition | None:
    if isinstance(head, tree.Name):
        return tree.Definition(head.span.to(body.span), head, (), body)
    if isinstance(head, tree.Call):
        parameters = []
        for argument in head.arguments:
            if argument.name is not None and not isinstance(argument.value, tree.Range):
                parameters.append(tree.Parameter(argument.span, argument.name, argument.value))
            elif isinstance(argument.value, tree.Name):
                parameters.append(tree.Parameter(argument.span, argument.value, None))
            else:
                errors.append(
                    Diagnostic(
                        "E102",
                        "a parameter is a name, with or without `= default`",
                        source,
                        argument.span,
                        hint="write `name(r = 2, seed) = ...`",
                    )
                )
                return None
        return tree.Definition(head.span.to(body.span), head.function, tuple(parameters), body)
    errors.append(
        Diagnostic(
            "E102",
            "only a name can be defined",
            source,
            head.span,
            hint="write `name = pattern` or `name(parameter = default) = pattern`",
        )
    )
    return None


def _too_deep(roots: tuple[tree.Node, ...]) -> tree.Node | None:
    """A node nested more than MAX_NESTING deep, if there is one; walks without recursion."""
    level: list[tree.Node] = list(roots)
    for _ in range(MAX_NESTING):
        level = [child for node in level for child in _children(node)]
        if not level:
            return None
    return level[0]


def _children(node: tree.Node) -> Iterator[tree.Node]:
    for field in fields(node):
        value = getattr(node, field.name)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, tree.Node):
                yield item
