"""bslang check: is a spec right, and what does it define?"""

from __future__ import annotations

from typing import Annotated

import typer

from bslang import compiler
from bslang.cli.common import BlockOption, JsonOption, block_option, print_json, read_spec
from bslang.syntax.diagnostics import Diagnostic, SpecError

Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE...", help="Spec files; `-` reads standard input.", show_default=False
    ),
]


def check(files: Files, block: BlockOption = None, json: JsonOption = False) -> None:
    """Check spec files and report every error in them."""
    found: list[Diagnostic] = []
    checked = []
    for file in files:
        try:
            source, name = read_spec(file)
            program = compiler.program(source, block_option(block))
            if name is not None:
                compiler.resolve(source, name, block=block_option(block))
        except SpecError as error:
            found.extend(error.diagnostics)
            continue
        unnamed = [] if program.layout is None else [compiler.layout_name(source)]
        layouts = [*unnamed, *program.names]
        checked.append({"file": source.name, "layouts": layouts, "block": list(program.block)})
        if not json:
            rows, columns = program.block
            defines = ", ".join(layouts) or "no layout"
            print(f"{source.name}: ok; {defines}; block {rows}x{columns}")
    if json:
        print_json({"checked": checked, "diagnostics": [_as_dict(d) for d in found]})
    elif found:
        raise SpecError(found)
    if found:
        raise typer.Exit(SpecError(found).exit_status)


def _as_dict(diagnostic: Diagnostic) -> dict[str, object]:
    row = column = None
    if diagnostic.span is not None:
        row, column = diagnostic.source.position(diagnostic.span.start)
    return {
        "file": diagnostic.source.name,
        "line": row,
        "column": column,
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        "message": diagnostic.message,
        "hint": diagnostic.hint,
    }
