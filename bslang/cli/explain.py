"""bslang explain: what a diagnostic code means, by an example."""

from __future__ import annotations

from typing import Annotated

import typer

from bslang.errors import BslangError
from bslang.resolve.suggest import closest
from bslang.syntax.codes import CODES

CodeArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[CODE]", help="As in E101; without one, all codes.", show_default=False
    ),
]


def explain(code: CodeArgument = None) -> None:
    """Explain a diagnostic code: what is wrong, an example, and what to write instead."""
    if code is None:
        for name, meaning in CODES.items():
            print(f"{name}  {meaning.title}")
        return
    name = code.upper()
    if name not in CODES:
        close = closest(name, CODES)
        hint = f"did you mean {close}?" if close else "`bslang explain` lists them"
        raise BslangError(f"there is no code {code}; {hint}")
    print(explained(name))


def explained(name: str) -> str:
    """The explanation of a code, with what the compiler says of its example."""
    from bslang.cli.check import diagnostics

    code = CODES[name]
    parts = [f"{name}: {code.title}", code.remedy]
    if code.example:
        said = next(d for d in diagnostics(code.example) if d.code == name)
        parts += [f"This is wrong:\n\n{_indented(said.render())}"]
    if code.fixed:
        parts += [f"This is right:\n\n{_indented(code.fixed)}"]
    return "\n\n".join(parts)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())
