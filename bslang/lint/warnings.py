"""Warnings of a checked file, as diagnostics that point into it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bslang.budget import share
from bslang.lint.fixes import Fixes
from bslang.resolve.module import layout_name
from bslang.resolve.origins import Origin
from bslang.resolve.program import Program, Resolved
from bslang.syntax import tree
from bslang.syntax.diagnostics import Diagnostic
from bslang.syntax.source import Source

_OF_WHOLE = ("W401", "W402")
"""Warnings about whole layouts: what only others are made of need not be one."""


_PART = 0.4
"""The part of a budget that the search for warnings may take."""


def warnings(source: Source, program: Program, length: int | None = None) -> list[Diagnostic]:
    """What is odd about the layouts that a file defines, each once, in the order of the file.

    length: in tokens; left out, one for each layout that is large beside its numbers.
    """
    from bslang.lint.findings import findings

    budget = share(_PART)
    parts, fixes = _used(program), Fixes(program)
    parameters = {p.name.text for d in program.definitions.values() for p in d.parameters}
    found: dict[tuple[object, ...], Diagnostic] = {}
    for name, resolved in layouts(source, program):
        with budget.opened():
            of_layout = findings(resolved.row_major, resolved.block, length)
        for finding in of_layout:
            if finding.code in _OF_WHOLE and name in parts:
                continue
            origin = resolved.origins.of(finding.subject)
            if origin and origin.source != source:
                continue  # the library's
            # Another value of a parameter may be right; that a default counts blocks stays so.
            if origin and finding.code != "W405" and _words(origin) & parameters:
                continue
            label = "" if finding.code in _OF_WHOLE else "here"
            span = origin.span if origin else None
            key = (finding.code, span or finding.message)
            fix = None
            if finding.written is not None and span:
                fix = fixes.in_tokens(finding.written, finding.hint, span)
            said = Diagnostic(
                finding.code, finding.message, source, span, label, finding.hint, fix=fix
            )
            found.setdefault(key, said)
        if budget.exhausted:
            break
    return sorted(found.values(), key=lambda d: d.span.start if d.span else -1)


def layouts(source: Source, program: Program) -> Iterator[tuple[str | None, Resolved]]:
    """The public layouts of a file whose parameters all have defaults."""
    if program.layout is not None:
        yield None, program.pick(None, layout_name(source), {})
    for name in program.names:
        if all(p.default is not None for p in program.definitions[name].parameters):
            yield name, program.pick(name, name, {})


def _used(program: Program) -> set[str]:
    """The definitions that others of the file are made of."""
    bodies = [(name, d.body) for name, d in program.definitions.items()]
    bodies += [("", program.layout.body)] if program.layout else []
    names = {
        name: {n.text for n in tree.nodes(b) if isinstance(n, tree.Name)} for name, b in bodies
    }
    return {word for name, words in names.items() for word in words if word != name}


def _words(origin: Origin) -> set[str]:
    written = origin.source.text[origin.span.start : origin.span.stop]
    return set(re.findall(r"[A-Za-z_]\w*", written))
