"""Names that stand for nothing: what is said of them, and what was probably meant."""

from __future__ import annotations

from bslang.patterns import BY_NAME
from bslang.patterns.builder import BLOCKS, TOKENS
from bslang.resolve.context import Context, Scope
from bslang.resolve.module import BOUND_WHEN_LOWERED
from bslang.resolve.suggest import closest
from bslang.resolve.values import FUNCTIONS
from bslang.syntax import tree


def report(context: Context, node: tree.Name, scope: Scope) -> None:
    """Report a name that is not known."""
    name, module = node.text, context.module
    if "." in name or name in module.files:
        _member(context, node)
        return
    numbers = [*BOUND_WHEN_LOWERED, *scope]
    functions = [f for f in FUNCTIONS if len(name) > 2 and name in f]  # sqrt, log
    close = closest(name, [*functions, *numbers, *BY_NAME, *module.definitions, *module.imports])
    files = module.files.items()
    close = next((f"{file}.{name}" for file, m in files if m and name in m.public), close)
    hint = f"known patterns: {', '.join(BY_NAME)}; known numbers: {', '.join(numbers)}"
    if name in (*BLOCKS, *TOKENS):
        hint = "`i, j` are the blocks of `{i, j : ...}`, and `q, k` the tokens of `{q, k : ...}`"
    context.report(
        "E201",
        f"unknown name `{name}`",
        node.span,
        label="not a pattern, definition or parameter",
        hint=f"did you mean `{close}`?" if close else hint,
    )


def _member(context: Context, node: tree.Name) -> None:
    """Report a name `file.name`; of a file that could not be read, no more is said."""
    file, dot, own = node.text.partition(".")
    files = context.module.files
    if not dot:
        message = f"`{file}` is a file, not a pattern"
        hint = f"write what is meant of it, as in `{file}.name`"
    elif file not in files:
        message = f"no file is imported as `{file}`"
        close = closest(file, files)
        hint = f"did you mean `{close}`?" if close else f'write `import "{file}.bsl" as {file}`'
        if own in context.module.imports:
            hint = f"write `{own}` alone: its file is imported without `as`"
        if own in ("t", "transpose"):
            hint = f"the transposed pattern is `{file}.T`"
    elif module := files[file]:
        message = f"`{module.source.name}` defines no `{own}`"
        close = closest(own, module.public)
        hint = f"did you mean `{close}`?" if close else f"it has: {', '.join(module.public)}"
        if own in module.definitions:
            hint = "a name that begins with `_` is private to its file"
    else:
        return
    context.report("E201", message, node.span, hint=hint)
