"""Write the pages that are made from the code: docs/primitives.md and docs/errors.md.

    python docs/generate.py

A test fails where a page is not what this writes.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from bslang import compiler
from bslang.cli.show import picture
from bslang.ir.pattern import Primitive
from bslang.ir.signature import arguments
from bslang.patterns import PRIMITIVES
from bslang.resolve.calls import signature
from bslang.syntax.codes import CODES
from bslang.syntax.diagnostics import SpecError
from bslang.syntax.source import Source

HERE = Path(__file__).resolve().parent
BLOCKS = 12


def primitives() -> str:
    """Each primitive with its documentation, arguments, and a picture of its example."""
    parts = [
        "# Primitives",
        f"Made from the code by docs/generate.py. Pictures show {BLOCKS} blocks of 64 tokens.",
    ]
    parts += [_primitive(primitive) for primitive in PRIMITIVES]
    return "\n\n".join(parts) + "\n"


def _primitive(primitive: type[Primitive]) -> str:
    text = inspect.getdoc(primitive) or ""
    body, _, example = text.rpartition("Example: `")
    example = example.rstrip("`")
    parts = [
        f"## {primitive.name}",
        f"`{signature(primitive)}`",
        re.sub(r"(?<!\n)\n(?!\n)", " ", body.strip()),
    ]
    rows = [
        f"| `{arg.name}` | {arg.help} | {'required' if arg.required else _default(arg.default)} |"
        for arg in arguments(primitive)
    ]
    if rows:
        parts.append("\n".join(["| argument | | default |", "|---|---|---|", *rows]))
    resolved = compiler.resolve(Source("<example>", example))
    length = BLOCKS * resolved.block[0]
    drawn = picture(compiler.lower(resolved, length, length), BLOCKS, BLOCKS, shaded=False)
    parts.append(f"```text\n{example}\n\n{drawn.rpartition(chr(10) * 2)[0]}\n```")
    return "\n\n".join(parts)


def _default(default: object) -> str:
    return "" if default is None else f"`{str(default).lower()}`"


def errors() -> str:
    """Each code with its meaning, its remedy, and what the compiler says of its example."""
    parts = ["# Errors", "Made from the code by docs/generate.py."]
    for code, (title, remedy, example) in CODES.items():
        parts += [f"## {code}", f"{title}.", remedy]
        if example:
            parts.append(f"```text\n{_said(example)}\n```")
    return "\n\n".join(parts) + "\n"


def _said(example: str) -> str:
    try:
        compiler.resolve(Source("spec.bsl", example))
    except SpecError as error:
        return error.diagnostics[0].render()
    raise AssertionError(f"{example!r} has no error")


PAGES = {"primitives.md": primitives, "errors.md": errors}

if __name__ == "__main__":
    for name, write in PAGES.items():
        (HERE / name).write_text(write(), encoding="utf-8")
        print(HERE / name)
