"""The pipeline, in order. A reader who knows this file knows the project.

    spec text --read--> syntax tree --resolve--> pattern --lower--> block graph --schedule--> tables
                                             pattern --emit--> module

Lowering needs a length and emitting does not: one generated module serves every length, and its layout
asks `tables` for those of each new one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bslang._version import LANGUAGE
from bslang.budget import OverBudget, limited
from bslang.codegen.targets import target_names
from bslang.errors import PatternError
from bslang.ir.grid import Grid
from bslang.ir.order import Order
from bslang.ir.pattern import Pattern
from bslang.limits import MAX_BLOCK, MAX_NUMBER
from bslang.resolve.module import layout_name
from bslang.resolve.program import Program, Resolved
from bslang.resolve.sources import SUFFIXES, is_file
from bslang.resources import code_stamp
from bslang.syntax import tree
from bslang.syntax.diagnostics import Diagnostic, SpecError
from bslang.syntax.reader import read
from bslang.syntax.source import Source

# What only some commands need is imported where it is used, so that `bslang check` starts fast.
if TYPE_CHECKING:
    from bslang.graph.blockgraph import BlockGraph
    from bslang.ir.oracle import Labels, Selections
    from bslang.ir.runs import Bools
    from bslang.schedule.schedule import Schedule


def verifying() -> bool:
    """Whether stages are verified where they meet: with BSLANG_VERIFY=1 in the environment, as in all tests.

    What one hands on then has the form that the next takes for granted, or VerifierError is raised.
    """
    return os.environ.get("BSLANG_VERIFY", "0") not in ("", "0")


def split_name(file: str) -> tuple[Path, str | None]:
    """`patterns.bsl:bigbird` as its path and definition; the definition is None where none is named."""
    path, colon, name = file.rpartition(":")
    if colon and name.isidentifier() and not is_file(Path(file)):
        return Path(path), name
    return Path(file), None


def names_file(text: str) -> bool:
    """Whether a text is the name of a spec file, or of a definition in one, by its suffix."""
    return split_name(text)[0].suffix in SUFFIXES


def program(
    source: Source, block: int | tuple[int, int] | None = None, order: str | None = None
) -> Program:
    """Parse and check a whole source. block: sides that replace the spec's own, in tokens; order: that of
    tokens that replaces the spec's own, as it is written after the word `order`.

    Raises SpecError with every error of the source or the order, ValueError for an invalid block.
    """
    sides = None if block is None else block_sides(block)
    return Program(read(source), sides, order=None if order is None else _order(order))


def _order(text: str) -> Order:
    """An order of tokens. Raises SpecError."""
    found = Program(read(Source("<order>", f"order {text}\nnone"))).order
    assert found is not None  # the setting is there, and right
    return found


def block_sides(block: int | tuple[int, int]) -> tuple[int, int]:
    """Sides (query, key) of a block given as a number or a pair; ValueError where it is none."""
    sides = block if isinstance(block, tuple) else (block, block)
    if len(sides) != 2 or not all(type(s) is int and 1 <= s <= MAX_BLOCK for s in sides):
        raise ValueError(
            f"block must be a number of tokens from 1 to {MAX_BLOCK}, or a pair (query, key) of them; "
            f"got {block!r}"
        )
    return sides


def resolve(
    source: Source,
    name: str | None = None,
    *,
    block: int | tuple[int, int] | None = None,
    order: str | None = None,
    parameters: Mapping[str, object] | None = None,
) -> Resolved:
    """A definition of a source as a pattern; `name` as for `Program.pick`, block and order as for `program`.

    parameters: values by name: int, bool, or text such as "512t" or "inf". Raises SpecError.
    """
    given = _given(parameters)
    return program(source, block, order).pick(name, layout_name(source), given)


def pick(program: Program, name: str | None, parameters: Mapping[str, object]) -> Resolved:
    """A definition of a program as a pattern; as `resolve`."""
    return program.pick(name, layout_name(program.source), _given(parameters))


def _given(parameters: Mapping[str, object] | None) -> dict[str, tuple[Source, tree.Expression]]:
    """The values of parameters, read. Raises SpecError."""
    given = {}
    errors: list[Diagnostic] = []
    for key, value in (parameters or {}).items():
        try:
            given[key] = _parameter(key, value)
        except SpecError as error:
            errors += error.diagnostics
    if errors:
        raise SpecError(errors)
    return given


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
        message = f"{text!r} is not a value; a parameter is a number, `inf`, `true` or `false`"
        raise SpecError([Diagnostic("E208", message, source)])
    return source, statements[0].body


def grid(
    resolved: Resolved, len_q: int, len_k: int, align: str = "end", *, head: int = 0, layer: int = 0
) -> Grid:
    """The grid of one head of a call; raises ValueError as `Grid.of`, SpecError where an order of tokens is
    of other lengths."""
    here = Grid.of(len_q, len_k, resolved.block, align, head=head, layer=layer)
    if resolved.order is not None:
        with _pointing(resolved, here):
            resolved.order.fits(here.q.stop, here.k.stop, here.q.start)
    return here


def lower(
    resolved: Resolved, len_q: int, len_k: int, align: str = "end", *, head: int = 0, layer: int = 0
) -> BlockGraph:
    """The block graph of one head of a layout at a length, in tokens.

    Raises SpecError where the pattern is undefined at this length, LimitError, ValueError.
    """
    from bslang.graph.lower import lower as _lower

    here = grid(resolved, len_q, len_k, align, head=head, layer=layer)
    with _pointing(resolved, here):
        graph = _lower(resolved.pattern, here)
    if verifying():
        from bslang.graph.verify import verify

        verify(graph)
    return graph


def mask(
    resolved: Resolved,
    len_q: int,
    len_k: int,
    align: str = "end",
    *,
    head: int = 0,
    layer: int = 0,
    labels: Labels | None = None,
    selections: Selections | None = None,
) -> Bools:
    """Which pairs of one head belong, bool (len_q, len_k): asked of every pair, by the dense meaning.

    labels: integers (len_q,) and (len_k,) by name, where the pattern has run-time labels; selections: bool
    (rows, columns) by name, the cells of the queries and keys that are there. It shares no code with
    lowering. Raises SpecError where the pattern is undefined at this length, ValueError.
    """
    from bslang.ir.oracle import dense

    here = grid(resolved, len_q, len_k, align, head=head, layer=layer)
    with _pointing(resolved, here):
        return dense(resolved.row_major, here, labels, selections, resolved.order)


def heads(resolved: Resolved) -> int:
    """A number of heads at which a layout shows what it does: one for each branch of `heads` at least,
    4 where more than those mean something, and 16 at most."""
    from bslang.ir.heads import told_apart

    least = told_apart(resolved.pattern)
    try:
        resolved.pattern.at({"head": 3})
    except PatternError:
        return min(max(1, least), 16)
    return min(max(4, least), 16)


@contextmanager
def _pointing(resolved: Resolved, here: Grid) -> Iterator[None]:
    """Turns PatternError into a SpecError that points at the term that means nothing on this grid."""
    try:
        yield
    except OverBudget as error:
        source = Source(resolved.name, resolved.spec)
        origin = resolved.origins.of(resolved.pattern)
        source, span = (origin.source, origin.span) if origin else (source, None)
        found = Diagnostic(error.code, error.said, source, span, hint=error.remedy, limit=True)
        raise SpecError([found]) from None
    except PatternError as error:
        subject = error.subject
        origin = resolved.origins.of(subject) if isinstance(subject, Pattern) else None
        source = origin.source if origin else Source(resolved.name, resolved.spec)
        span = origin.span if origin else None
        label = f"at this length n = {here.n} and m = {here.m}"
        raise SpecError(
            [Diagnostic("E401", error.message, source, span, label, error.hint)]
        ) from None


def schedule(*graphs: BlockGraph, head_graph: Sequence[int] | None = None) -> Schedule:
    """The tables that kernels walk; head_graph: which graph each head has, where heads differ."""
    from bslang.schedule.schedule import schedule as _schedule

    if not verifying():
        return _schedule(*graphs, head_graph=head_graph)
    from bslang.schedule.verify import verify

    return _schedule(*graphs, head_graph=head_graph, verifier=verify)


def digest(resolved: Resolved) -> str:
    """A name for what a layout means: equal for equal canonical text and block (16 hex digits)."""
    rows, columns = resolved.block
    text = f"bsl {LANGUAGE}\nblock {rows}x{columns}\n{resolved.spec}\n"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def heads_alike(resolved: Resolved, heads: Iterable[int], layer: int = 0) -> list[list[int]]:
    """The heads in groups whose pattern is the same once `head` and `layer` are known."""
    groups: dict[Pattern | int, list[int]] = {}
    for head in heads:
        try:
            pattern: Pattern | int = resolved.pattern.at({"head": head, "layer": layer})
        except PatternError:
            pattern = head  # lowering says what is wrong, and where
        groups.setdefault(pattern, []).append(head)
    return list(groups.values())


def emit(
    resolved: Resolved, targets: Iterable[str] | None = None, march: str = ""
) -> dict[str, str | bytes]:
    """The generated files, by name: `NAME.py`, what its targets put beside it, and the tables it reads.

    march: the processor for which somebody builds the C++, so that the module asks for the library
    `NAME.MARCH.so`; for "" it builds the C++ itself. Raises TargetError for an unknown target, and for
    a processor without the cpu target.
    """
    if verifying():
        from bslang.resolve.verify import verify

        verify(resolved)
    from bslang.codegen.emit import emit as _emit

    name, pattern, block = resolved.name, resolved.pattern, resolved.block
    matrices = resolved.tables
    with limited():
        files = _emit(
            name, pattern, block, resolved.spec, digest(resolved), targets, bool(matrices), march
        )
    return files | {matrix.name: matrix.file() for matrix in matrices.values()}


def targets(wanted: Iterable[str] | None = None) -> tuple[str, ...]:
    """Targets by name, in order; every one for None, as of a layout that is compiled for no particular one.

    Raises TargetError for an unknown one.
    """
    return target_names(wanted)


def emission(resolved: Resolved, targets: Iterable[str] | None = None) -> str:
    """A name for all that `emit` depends on, bslang's own code included (32 hex digits).

    Raises TargetError for an unknown target.
    """
    what = (resolved.name, digest(resolved), target_names(targets), code_stamp())
    content = hashlib.sha256(repr(what).encode())
    for matrix in resolved.tables.values():
        content.update(matrix.name.encode() + hashlib.sha256(matrix.file()).digest())
    return content.hexdigest()[:32]


def tables(
    resolved: Resolved, len_q: int, len_k: int, align: str, heads: Sequence[int], layer: int
) -> Schedule:
    """The tables of some heads of a layout at a length; heads with one set share theirs.

    Raises as `lower`.
    """
    pattern = resolved.pattern

    def graph(head: int) -> BlockGraph:
        return lower(resolved, len_q, len_k, align, head=head, layer=layer)

    if "head" not in pattern.names():
        return schedule(graph(0))
    groups = heads_alike(resolved, heads, layer)
    number = {head: place for place, group in enumerate(groups) for head in group}
    graphs = (graph(group[0]) for group in groups)
    return schedule(*graphs, head_graph=[number[head] for head in heads])
