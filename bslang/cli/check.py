"""bslang check: is a spec right, and what does it define?"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bslang import compiler
from bslang.cli.common import (
    BlockOption,
    JsonOption,
    LengthOption,
    as_dict,
    block_option,
    print_diagnostic,
    print_json,
)
from bslang.cli.spec import read_spec, spec_files
from bslang.errors import LimitError
from bslang.lint.warnings import layouts, warnings
from bslang.resolve.module import layout_name
from bslang.resolve.program import Program
from bslang.syntax.diagnostics import Diagnostic, SpecError
from bslang.syntax.source import Source

Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE...",
        help="Spec files, folders of them, or expressions; `-` reads standard input.",
        show_default=False,
    ),
]


Strict = Annotated[bool, typer.Option("--strict", help="Exit with 1 if there are warnings.")]


def check(
    files: Files,
    seq_len: LengthOption = None,
    block: BlockOption = None,
    strict: Strict = False,
    json: JsonOption = False,
) -> None:
    """Check spec files: report every error, and warn about probable mistakes."""
    found: list[Diagnostic] = []
    warned: list[Diagnostic] = []
    checked = []
    for file in spec_files(files):
        try:
            source, name = read_spec(file)
            program = compiler.program(source, block_option(block))
            if name is not None:
                compiler.resolve(source, name, block=block_option(block))
            if seq_len is not None:
                _lowered(source, program, seq_len)
        except SpecError as error:
            found.extend(error.diagnostics)
            continue
        of_file = warnings(source, program, seq_len)
        warned.extend(of_file)
        unnamed = [] if program.layout is None else [layout_name(source)]
        names = [*unnamed, *program.names]
        checked.append({"file": source.name, "layouts": names, "block": list(program.block)})
        if not json:
            rows, columns = program.block
            defines = ", ".join(names) or "no layout"
            count = len(of_file)
            also = f"; {count} warning{'s' * (count != 1)}" if count else ""
            print(f"{source.name}: ok; {defines}; block {rows}x{columns}{also}")
    if json:
        print_json({"checked": checked, "diagnostics": [as_dict(d) for d in [*found, *warned]]})
        if found:
            raise typer.Exit(SpecError(found).exit_status)
    for diagnostic in () if json else warned:
        print_diagnostic(diagnostic)
        print(file=sys.stderr)
    if found:
        raise SpecError(found)
    if strict and warned:
        raise typer.Exit(1)


def _lowered(source: Source, program: Program, length: int) -> None:
    """Raises SpecError for every layout that is undefined at a length."""
    found: list[Diagnostic] = []
    for _, resolved in layouts(source, program):
        try:
            compiler.lower(resolved, length, length)
        except SpecError as error:
            found += error.diagnostics
        except LimitError:
            pass  # of what it costs, not of what it means
    if found:
        raise SpecError(found)


def diagnostics(text: str) -> list[Diagnostic]:
    """The errors of a spec, or the warnings of one that has none."""
    source = Source("spec.bsl", text)
    try:
        program = compiler.program(source)
        compiler.resolve(source)
    except SpecError as error:
        return list(error.diagnostics)
    return warnings(source, program)
