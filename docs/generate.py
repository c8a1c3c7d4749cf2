"""Write the pages that are made from the code: primitives.md, operators.md, library.md and errors.md.

    python docs/generate.py

Their pictures, and those of README.md, go to docs/images. It writes the structs in the header of the C++ as
well. A test fails where one of these is not what this writes.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bslang import abi, compiler
from bslang.cli.check import diagnostics
from bslang.graph.blockgraph import FULL
from bslang.ir.pattern import Primitive
from bslang.ir.signature import arguments
from bslang.ir.text import value_text
from bslang.patterns import PRIMITIVES
from bslang.picture.svg import svg
from bslang.resolve.calls import signature
from bslang.resolve.library import library as library_entries
from bslang.resolve.program import Resolved
from bslang.resolve.sources import source_of
from bslang.syntax.codes import CODES
from bslang.syntax.source import Source

HERE = Path(__file__).resolve().parent
BLOCKS = 12

Images = dict[str, str]
"""The pictures of a page: SVG by path below docs/."""

PICTURES = (
    f"Pictures show {BLOCKS} blocks of 64 tokens: a row for each block of queries, a column for each "
    "block of keys, in the colour of the term that brings the block in, and paler where only some of its "
    "pairs belong."
)


def primitives(images: Images) -> str:
    """Each primitive with its documentation, arguments, and a picture of its example."""
    parts = ["# Primitives", f"Made from the code by docs/generate.py. {PICTURES}"]
    with TemporaryDirectory() as folder:
        # What the example of `table` reads: the lower triangle of every other diagonal.
        i, j = np.indices((BLOCKS, BLOCKS))
        np.save(Path(folder) / "mask.npy", (j <= i) & ((i - j) % 2 == 0))
        parts += [_primitive(primitive, Path(folder), images) for primitive in PRIMITIVES]
    return "\n\n".join(parts) + "\n"


def _primitive(primitive: type[Primitive], folder: Path, images: Images) -> str:
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
    resolved = compiler.resolve(Source("<example>", example, folder))
    parts.append(f"```bsl\n{example}\n```")
    parts.append(_picture(resolved, f"primitives/{primitive.name}", images))
    return "\n\n".join(parts)


def _picture(resolved: Resolved, path: str, images: Images, side: int = BLOCKS) -> str:
    """Draws a layout, and says in Markdown where the picture is and what is on it."""
    length = side * resolved.block[0]
    graph = compiler.lower(resolved, length, length)
    assert f"images/{path}.svg" not in images, f"two pictures would be {path}.svg"
    images[f"images/{path}.svg"] = svg(resolved.pattern, [graph], cells=side)
    blocks, full = graph.visited.size, graph.of_kind(FULL).size
    said = f"{blocks} of {side**2} blocks, {full} full and {blocks - full} partial"
    return f"![{path.rpartition('/')[2]}: {said}](images/{path}.svg)"


def _default(default: object) -> str:
    return "" if default is None else f"`{value_text(default)}`"


OPERATORS = {
    "Union": ("What is in either pattern.", "window(3) | cols(0)"),
    "Symmetric difference": ("What is in one pattern and not in the other.", "window(5) ^ last(4)"),
    "Intersection": ("What is in both patterns.", "every(3) & last(inf)"),
    "Difference": ("What is in the first pattern and not in the second.", "last(inf) - window(3)"),
    "Composition": (
        "Block i reaches block j through one in between: i sees it in the first pattern, and it sees j in "
        "the second. Parts count in blocks. Its cost is that of its runs: wide rows are joined in advance.",
        "diagonals(-3, 3) @ window(3)",
    ),
    "Complement": ("What is not in the pattern.", "~window(7)"),
    "Power": ("Composition with itself: what is reached in k hops.", "diagonals(-2, 0, 2) ** 2"),
    "Transpose": ("Keys become queries.", "(last(inf) & cols(0, 4)).T"),
    "Set-builder over blocks": (
        "Pairs of blocks for which a predicate holds.",
        "{i, j : j <= i & (i - j) % 3 < 2}",
    ),
    "Set-builder over tokens": (
        "Pairs of tokens for which a predicate holds, to the token.",
        "{q, k : 0 <= q - k < 150}",
    ),
    "Heads": (
        "Another pattern for each range of heads; this is head 0, and the picture of head 4 is that of "
        "`cols(0) | last(1)`.",
        "heads { 0:4 -> window(3); 4: -> cols(0) | last(1) }",
    ),
    "Parentheses": ("They group, and carry an expression over lines.", "(all -\n    window(5))"),
}
"""What joins or makes patterns and is no primitive: what it means, and an example."""


def operators(images: Images) -> str:
    """Each operator and form of the language with a picture."""
    parts = [
        "# Operators and forms",
        "Made from the code by docs/generate.py. Loosest first; [language.md](language.md) has the table. "
        f"{PICTURES}",
    ]
    for title, (meaning, example) in OPERATORS.items():
        resolved = compiler.resolve(Source("<example>", example))
        drawn = _picture(resolved, f"operators/{title.lower().replace(' ', '-')}", images)
        parts.append(f"## {title}\n\n{meaning}\n\n```bsl\n{example}\n```\n\n{drawn}")
    return "\n\n".join(parts) + "\n"


def library(images: Images) -> str:
    """Each file of the library, paragraph by paragraph, with a picture of what is defined there."""
    parts = [
        "# Published layouts",
        "Made from the library by docs/generate.py. Definitions are used as they stand, "
        "`bslang show std/bigbird.bsl:bigbird -D r=2`, or in a spec:",
        '```bsl\nimport "std/bigbird.bsl" as std\n\nmine = std.bigbird(r=2) & causal\n```',
        f"{PICTURES} Parameters are the default ones, and the head is head 0 where heads differ.",
    ]
    entries = library_entries()
    for file in dict.fromkeys(entry.file for entry in entries):
        source = source_of(Path(file))
        defined = {entry.text: entry.name for entry in entries if entry.file == file}
        parts.append(f"## {file}")
        for paragraph in source.text.strip().split("\n\n"):
            names = [name for text, name in defined.items() if paragraph.endswith(text)]
            parts.append(f"```bsl\n{paragraph}\n```")
            parts += [_published(source, name, images) for name in names]
    return "\n\n".join(parts) + "\n"


def _published(source: Source, name: str, images: Images) -> str:
    resolved = compiler.resolve(source, name)
    if any(part.labelled for part in resolved.pattern.primitives()):
        return "Which blocks these are is known at the call."
    return _picture(resolved, f"library/{Path(source.name).stem}-{name}", images)


def errors(images: Images) -> str:
    """Each code as `bslang explain` shows it."""
    parts = [
        "# Errors and warnings",
        "Made from the code by docs/generate.py; `bslang explain E101` prints one of these.",
    ]
    for name, code in CODES.items():
        parts += [f"## {name}", f"{code.title}.", code.remedy]
        if code.example:
            said = next(found for found in diagnostics(code.example) if found.code == name)
            parts.append(f"```text\n{said.render()}\n```")
        if code.mended:
            parts.append(f"Right:\n\n```bsl\n{code.mended}\n```")
    return "\n\n".join(parts) + "\n"


PAGES = {
    "primitives.md": primitives,
    "operators.md": operators,
    "library.md": library,
    "errors.md": errors,
}

FRONT = {
    "bigbird": "window(3) | global(0, -1) | random(2, seed=7)",
    "streaming": "(last(500t) | cols(0:4t)) & causal",
}
"""What README.md shows first: 24 blocks of each."""


def front() -> Images:
    """The pictures of README.md."""
    images: Images = {}
    for name, text in FRONT.items():
        _picture(compiler.resolve(Source("<example>", text)), f"readme/{name}", images, side=24)
    return images


def files(page: str) -> dict[str, str]:
    """A page and its pictures: text by path below docs/."""
    images: Images = {}
    text = PAGES[page](images)
    return {page: text, **images}


def declare() -> Path:
    """Writes the structs of `bslang.abi` to the header of the C++."""
    header = HERE.parent / "bslang" / "runtime" / "cpu" / "include" / "arguments.h"
    before, _, rest = header.read_text(encoding="utf-8").partition(abi.BEGIN)
    after = rest.partition(abi.END)[2]
    text = "".join((before, abi.BEGIN, abi.declarations(), abi.END, after))
    header.write_text(text, encoding="utf-8")
    return header


if __name__ == "__main__":
    print(declare())
    for old in HERE.glob("images/*/*.svg"):
        old.unlink()
    made = front()
    for page in PAGES:
        made |= files(page)
        print(HERE / page)
    for name, text in made.items():
        path = HERE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
