"""The pipeline, in order. A reader who knows this file knows the project.

    spec text --read--> syntax tree --resolve--> pattern --lower--> block graph --schedule--> tables
                                             pattern --emit--> module

Lowering needs a length and emitting does not: one generated module serves every length, and asks
`scheduler` for the tables of each new one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from bslang.errors import PatternError
from bslang.ir.grid import Grid
from bslang.ir.pattern import Primitive
from bslang.limits import MAX_BLOCK, MAX_FILE_BYTES, MAX_NUMBER
from bslang.resolve.program import Program, Resolved
from bslang.syntax import tree
from bslang.syntax.diagnostics import Diagnostic, SpecError
from bslang.syntax.reader import read
from bslang.syntax.source import Source

# What only some commands need is imported where it is used, so that `bslang check` starts fast.
if TYPE_CHECKING:
    from bslang.graph.blockgraph import BlockGraph
    from bslang.schedule.schedule import Schedule

LANGUAGE = 1
"""Version of the bsl language; part of every digest."""

SUFFIXES = (".bsl", ".bslang")
"""Suffixes of spec files."""


def source_of(path: Path) -> Source:
    """Read a spec file. Raises SpecError where it is missing, no file, or no UTF-8 text."""
    name = str(path)
    try:
        with path.open("rb") as file:
            return source_from(name, file)
    except FileNotFoundError:
        near = ", ".join(str(p) for p in _specs_in(path.parent))
        hint = f"specs there: {near}" if near else "no spec file lies in that folder"
        if "(" in name:
            hint = "`-` reads an expression from standard input, and `bslang.compile` takes one"
        raise SpecError([Diagnostic("E001", "no such file", Source(name, ""), hint=hint)]) from None
    except IsADirectoryError:
        near = ", ".join(str(p) for p in _specs_in(path))
        hint = f"specs in it: {near}" if near else "no spec file lies in it"
        message = "this is a folder, not a spec"
        raise SpecError([Diagnostic("E001", message, Source(name, ""), hint=hint)]) from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        message = f"this file cannot be read: {getattr(error, 'strerror', error)}"
        raise SpecError([Diagnostic("E001", message, Source(name, ""))]) from None


def source_from(name: str, file: BinaryIO) -> Source:
    """Read a spec from an open file. Raises SpecError where it is no UTF-8 text, OSError."""
    # No more is read than shows that it is too much: the file may have no end.
    data = file.read(MAX_FILE_BYTES + 4)
    try:
        text = data.decode("utf-8-sig", "strict" if len(data) <= MAX_FILE_BYTES else "replace")
    except UnicodeDecodeError as error:
        message = f"this file is not UTF-8 text (byte {error.start})"
        raise SpecError([Diagnostic("E002", message, Source(name, ""))]) from None
    return Source(name, text.replace("\r\n", "\n").replace("\r", "\n"))


def _specs_in(folder: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES)
    return []


def split_name(file: str) -> tuple[Path, str | None]:
    """`patterns.bsl:bigbird` as its path and definition; the definition is None where none is named."""
    path, colon, name = file.rpartition(":")
    if colon and name.isidentifier() and not is_file(Path(file)):
        return Path(path), name
    return Path(file), None


def is_file(path: Path) -> bool:
    """Whether a file can be seen there; a path that nobody can look at is none."""
    with suppress(OSError, ValueError):
        return path.is_file()
    return False


def program(source: Source, block: int | tuple[int, int] | None = None) -> Program:
    """Parse and check a whole source. block: sides that replace the spec's own, in tokens.

    Raises SpecError with every error of the source, ValueError for a block that is none.
    """
    return Program(read(source), None if block is None else block_sides(block))


def block_sides(block: int | tuple[int, int]) -> tuple[int, int]:
    """Sides (query, key) of a block given as a number or a pair; ValueError where it is none."""
    sides = block if isinstance(block, tuple) else (block, block)
    if len(sides) != 2 or not all(type(s) is int and 1 <= s <= MAX_BLOCK for s in sides):
        raise ValueError(
            f"block is a number of tokens from 1 to {MAX_BLOCK}, or a pair (query, key) of them; "
            f"got {block!r}"
        )
    return sides


def resolve(
    source: Source,
    name: str | None = None,
    *,
    block: int | tuple[int, int] | None = None,
    parameters: Mapping[str, object] | None = None,
) -> Resolved:
    """A definition of a source as a pattern; `name` as for `Program.pick`.

    parameters: values by name: int, bool, or text such as "512t" or "inf". Raises SpecError.
    """
    given = {}
    errors: list[Diagnostic] = []
    for key, value in (parameters or {}).items():
        try:
            given[key] = _parameter(key, value)
        except SpecError as error:
            errors += error.diagnostics
    if errors:
        raise SpecError(errors)
    return program(source, block).pick(name, layout_name(source), given)


def _parameter(name: str, value: object) -> tuple[Source, tree.Expression]:
    if isinstance(value, int) and abs(value) > MAX_NUMBER:
        message = f"numbers go up to {MAX_NUMBER} (MAX_NUMBER)"
        raise SpecError([Diagnostic("E304", message, Source(f"parameter {name}", ""), limit=True)])
    text = str(value).lower() if isinstance(value, (bool, float)) else str(value)
    source = Source(f"parameter {name}", text)
    file = read(source)
    if file.errors:
        raise SpecError(file.errors)
    statements = file.statements
    if len(statements) != 1 or not isinstance(statements[0], tree.Layout):
        message = f"{text!r} is no value; a parameter is a number, `inf`, `true` or `false`"
        raise SpecError([Diagnostic("E208", message, source)])
    return source, statements[0].body


def layout_name(source: Source) -> str:
    """The name of a layout that its file does not name: the file's own, as an identifier."""
    stem = Path(source.name).stem if Path(source.name).suffix in SUFFIXES else "layout"
    name = re.sub(r"\W", "_", stem, flags=re.ASCII)
    return name if name.isidentifier() else f"layout_{name}"


def grid(
    resolved: Resolved, len_q: int, len_k: int, align: str = "end", *, head: int = 0, layer: int = 0
) -> Grid:
    """The grid of one head of a call; raises ValueError as `Grid.of`."""
    return Grid.of(len_q, len_k, resolved.block, align, head=head, layer=layer)


def lower(
    resolved: Resolved, len_q: int, len_k: int, align: str = "end", *, head: int = 0, layer: int = 0
) -> BlockGraph:
    """The block graph of one head of a layout at a length, in tokens.

    Raises SpecError where the pattern means nothing at this length, LimitError, ValueError.
    """
    from bslang.graph.lower import lower as _lower

    here = grid(resolved, len_q, len_k, align, head=head, layer=layer)
    try:
        return _lower(resolved.pattern, here)
    except PatternError as error:
        subject = error.subject
        origin = resolved.origins.get(str(subject)) if isinstance(subject, Primitive) else None
        source = origin.source if origin else Source(resolved.name, str(resolved.pattern))
        span = origin.span if origin else None
        label = f"at this length n = {here.n} and m = {here.m}"
        raise SpecError(
            [Diagnostic("E401", error.message, source, span, label, error.hint)]
        ) from None


def schedule(graph: BlockGraph) -> Schedule:
    """The tables that kernels walk."""
    from bslang.schedule.schedule import schedule as _schedule

    return _schedule(graph)


def digest(resolved: Resolved) -> str:
    """A name for what a layout means: equal for equal canonical text and block (16 hex digits)."""
    rows, columns = resolved.block
    text = f"bsl {LANGUAGE}\nblock {rows}x{columns}\n{resolved.pattern}\n"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def emit(resolved: Resolved, targets: Iterable[str] | None = None) -> dict[str, str]:
    """The generated files, by name: `NAME.py` and what its targets put beside it.

    Raises TargetError for an unknown target.
    """
    text = Source("<canonical>", str(resolved.pattern))
    # A module asks for tables by its text: were that another pattern, its masks would be too.
    assert resolve(text, block=resolved.block).pattern == resolved.pattern, text
    from bslang.codegen.emit import emit as _emit

    return _emit(resolved.name, resolved.pattern, resolved.block, digest(resolved), targets)


Scheduler: TypeAlias = "Callable[[int, int, str], Schedule]"
"""scheduler(len_q, len_k, align): the tables of a layout for a new length."""


@lru_cache(maxsize=64)
def scheduler(spec: str, block: tuple[int, int]) -> Scheduler:
    """What a generated module asks for tables, given its own canonical text."""
    resolved = resolve(Source("<spec>", spec), block=block)

    def tables(len_q: int, len_k: int, align: str) -> Schedule:
        return schedule(lower(resolved, len_q, len_k, align))

    return tables
