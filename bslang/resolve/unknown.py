"""Names that stand for nothing: what is said of them, and what was probably meant."""

from __future__ import annotations

import re
from pathlib import Path

from bslang.patterns import BY_NAME
from bslang.patterns.predicates import BLOCKS, TOKENS
from bslang.resolve.context import Context, Scope
from bslang.resolve.library import by_name
from bslang.resolve.module import BOUND_WHEN_LOWERED
from bslang.resolve.suggest import closest, folded
from bslang.resolve.values import FUNCTIONS
from bslang.syntax import tree
from bslang.syntax.fix import Edit, Fix, meant
from bslang.syntax.source import Span

_INDICES = (*BLOCKS, *TOKENS)

_USUAL = {
    "slidingwindow": "window",
    "sliding": "window",
    "band": "window",
    "full": "all",
    "dense": "all",
}
"""Usual names, folded, of what is called otherwise here."""


def report(context: Context, node: tree.Name, written: tree.Name | tree.Call, scope: Scope) -> None:
    """Report a name that is not known. written: the name, or the call in which it stands."""
    name, module = node.text, context.module
    if "." in name or name in module.files:
        _member(context, node)
        return
    if name in _INDICES and context.comparison and not context.predicate_of:
        _without_braces(context, context.comparison, BLOCKS if name in BLOCKS else TOKENS)
        return
    numbers = [*BOUND_WHEN_LOWERED, *scope]
    functions = [f for f in FUNCTIONS if len(name) > 2 and name in f]  # sqrt, log
    known = [*functions, *numbers, *BY_NAME, *module.definitions, *module.imports]
    close = closest(name, [*known, *(() if context.predicate_of else _of_library(name))])
    files = module.files.items()
    close = next((f"{file}.{name}" for file, m in files if m and name in m.public), close)
    close = _USUAL.get(folded(name), close)
    hint = f"known patterns: {', '.join(BY_NAME)}; known numbers: {', '.join(numbers)}"
    fix = meant(name, close, node.span)
    if close and "." not in close and close not in known:
        hint, fix = _import(context, close, written)
    elif context.predicate_of and (
        _of_index(written) or (context.predicate_of == "tokens" and not fix)
    ):
        hint, fix = f"labels of the query and the key are written `{name}[q]` and `{name}[k]`", None
    if name in _INDICES and not fix:
        hint = "`i, j` are the blocks of `{i, j : ...}`, and `q, k` the tokens of `{q, k : ...}`"
    context.report(
        "E201",
        f"unknown name `{name}`",
        node.span,
        label="not a pattern, definition or parameter",
        hint=hint,
        fix=fix,
    )


def _of_library(name: str) -> list[str]:
    """Names of the library to compare with one. One is always like some short name; that must be the same."""
    return [other for other in by_name() if len(other) > 4 or folded(other) == folded(name)]


def _import(context: Context, name: str, written: tree.Name | tree.Call) -> tuple[str, Fix | None]:
    """How what the library has under a name is imported and called, with the arguments that were written;
    as a fix too, where the library has one layout of that name."""
    function = written.function if isinstance(written, tree.Call) else written
    given = _text(context, Span(function.span.stop, written.span.stop))
    layouts, module = by_name()[name], context.module
    file = layouts[0].file
    taken = {*module.files, *module.definitions, *module.imports}
    alias = "std" if "std" not in taken else f"std_{Path(file).stem}"
    calls = ", ".join(f"`{alias}.{layout.name}{given}`" for layout in layouts)
    calls = f"one of {calls}" if len(layouts) > 1 else calls
    has = "it" if folded(function.text) == folded(name) else f"`{name}`"
    line = f'import "{file}" as {alias}'
    hint = f"the library has {has}: write `{line}`, and {calls}"
    if len(layouts) > 1:
        return hint, None
    used = Edit(function.span, f"{alias}.{layouts[0].name}")
    return hint, Fix(
        f"Add `{line}`", hint, (Edit(Span(module.start, module.start), f"{line}\n"), used)
    )


def _of_index(written: tree.Name | tree.Call) -> bool:
    """Whether a call is one of `doc(q)` and `doc(k)`, a label of a token or block."""
    values = [a.value for a in written.arguments] if isinstance(written, tree.Call) else []
    return len(values) == 1 and isinstance(values[0], tree.Name) and values[0].text in _INDICES


def _without_braces(context: Context, comparison: tree.Chain, pair: tuple[str, str]) -> None:
    """Report a comparison of indices outside of a set-builder; once for both, since errors are kept once."""
    names = ", ".join(pair)
    context.report(
        "E201",
        f"`{names}` exist only inside a set-builder",
        comparison.span,
        hint=f"write `{{{names} : {_text(context, comparison.span)}}}`",
    )


def _text(context: Context, span: Span) -> str:
    """What is written there, on one line."""
    text = context.module.source.text[span.start : span.stop]
    return " ".join(re.sub(r"#[^\n]*", "", text).split())


def _member(context: Context, node: tree.Name) -> None:
    """Report a name `file.name`; of a file that could not be read, no more is said."""
    file, dot, own = node.text.partition(".")
    files, start, stop, fix = context.module.files, node.span.start, node.span.stop, None
    if not dot:
        message = f"`{file}` is a file, not a pattern"
        hint = f"name a definition in it, as in `{file}.name`"
    elif file not in files:
        message = f"no file is imported as `{file}`"
        fix = meant(file, closest(file, files), Span(start, start + len(file)))
        hint = f'write `import "{file}.bsl" as {file}`'
        if own in by_name():
            hint = f'write `import "{by_name()[own][0].file}" as {file}`'
        if own in context.module.imports:
            hint, fix = f"write `{own}` alone: its file is imported without `as`", None
        if own in ("t", "transpose"):
            hint, fix = f"the transposed pattern is `{file}.T`", None
    elif module := files[file]:
        message = f"`{module.source.name}` defines no `{own}`"
        fix = meant(own, closest(own, module.public), Span(stop - len(own), stop))
        hint = f"it has: {', '.join(module.public)}"
        if own in module.definitions:
            hint, fix = "a name that begins with `_` is private to its file", None
    else:
        return
    context.report("E201", message, node.span, hint=hint, fix=fix)
