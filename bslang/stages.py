"""Every stage of the pipeline as text, for `bslang compile --emit`. The same input gives the same text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from itertools import pairwise

from bslang import compiler
from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.inputs import Label
from bslang.ir.fold import Fold
from bslang.ir.heads import Heads
from bslang.ir.hooks import FLAGS
from bslang.ir.pattern import Pattern, Primitive
from bslang.ir.ranges import Cells
from bslang.resolve.program import Resolved
from bslang.schedule.schedule import PARTIAL, Schedule, Table
from bslang.syntax import tree
from bslang.syntax.source import Source

# ---- the syntax tree -----------------------------------------------------------------------------


def tree_text(source: Source, statements: Iterable[tree.Statement]) -> str:
    """The statements of a file, a node a line, each with its place in the source (line:column)."""
    lines = (line for statement in statements for line in _node(source, statement, "", 0))
    return _columns(lines)


def _node(source: Source, node: tree.Node, role: str, depth: int) -> Iterator[tuple[str, ...]]:
    """A node, and what is inside; role: the field of the node around it."""
    values: list[str] = []
    inside: list[tuple[str, tree.Node]] = []
    for field in fields(node):
        value = getattr(node, field.name)
        several = value if isinstance(value, tuple) else (value,)
        if field.name == "span" or value is None:
            continue
        if all(isinstance(item, tree.Node) for item in several):
            inside += [(field.name, item) for item in several]
        elif isinstance(value, bool) and not isinstance(node, tree.Boolean):
            values += [field.name] * value
        else:
            values += map(repr, several)
    start, stop = (
        ":".join(map(str, source.position(at))) for at in (node.span.start, node.span.stop)
    )
    label = f"{role}: " if role else ""
    yield f"{start}-{stop}", f"{'  ' * depth}{label}{' '.join((type(node).__name__, *values))}"
    for name, part in inside:
        yield from _node(source, part, name, depth + 1)


# ---- the pattern ---------------------------------------------------------------------------------


def pattern_text(resolved: Resolved) -> str:
    """The canonical text, and its structure: an operator or a primitive a line, and where it was written.

    Of a primitive: the unit of its arguments, and its flags.
    """
    rows, columns = resolved.block
    head = f"{resolved.name}: {resolved.about}"
    digest = f"block {rows}x{columns}, digest {compiler.digest(resolved)}"
    return f"{head}\n{digest}\n\n{_columns(_Structure(resolved, 0)(resolved.pattern))}"


def _given(awaited: Label | Cells) -> str:
    """What a primitive awaits of a call, in words."""
    return f"{'label' if isinstance(awaited, Label) else 'selection'} {awaited.name}"


class _Structure(Fold[Iterator[tuple[str, ...]]]):
    def __init__(self, resolved: Resolved, depth: int, role: str = "") -> None:
        self.resolved, self.depth, self.role = resolved, depth, role

    def primitive(self, pattern: Primitive) -> Iterator[tuple[str, ...]]:
        unit = "tokens" if pattern.tokens else "blocks"
        label = [_given(each) for each in pattern.awaited()]
        flags = [flag for flag in FLAGS if getattr(pattern, flag)]
        yield self._line(pattern, str(pattern), ", ".join([unit, *label, *flags]))
        for name, value in vars(pattern).items():
            if isinstance(value, Pattern):
                yield from self._inside(name)(value)

    def _operator(self, pattern: Pattern) -> Iterator[tuple[str, ...]]:
        yield self._line(pattern, type(pattern).__name__.lower())
        for part in pattern.parts:
            yield from self._inside("")(part)

    union = intersection = xor = difference = complement = transpose = _operator

    def heads(self, pattern: Heads) -> Iterator[tuple[str, ...]]:
        yield self._line(pattern, "heads")
        for branch in pattern.branches:
            yield from self._inside(branch.heads)(branch.pattern)

    def _inside(self, role: str) -> _Structure:
        return _Structure(self.resolved, self.depth + 1, role)

    def _line(self, pattern: Pattern, text: str, flags: str = "") -> tuple[str, ...]:
        origin = self.resolved.origins.of(pattern)
        place = ""
        if origin is not None:
            line, column = origin.source.position(origin.span.start)
            place = f"{origin.source.name}:{line}:{column}"
        role = f"{self.role}: " if self.role else ""
        return f"{'  ' * self.depth}{role}{text}", place, flags


# ---- the block graph -----------------------------------------------------------------------------


def graph_text(resolved: Resolved, graph: BlockGraph) -> str:
    """The runs of each block row: the columns start:stop of full blocks, or of a residual's partial ones."""
    kinds = {FULL: "full", **{kind: f"residual {kind}" for kind in range(len(graph.residuals))}}
    runs = list(zip(graph.start.tolist(), graph.stop.tolist(), graph.kind.tolist(), strict=True))
    bounds = graph.indptr.tolist()
    rows = [("row", "runs")]
    for row, (first, last) in enumerate(pairwise(bounds)):
        texts = (f"{start}:{stop} {kinds[kind]}" for start, stop, kind in runs[first:last])
        rows.append((str(row), ", ".join(texts)))
    return f"{_about(resolved, graph)}\n\n{_columns(rows)}"


def _about(resolved: Resolved, graph: BlockGraph) -> str:
    """The layout, the length, the head and layer if it asks for them, and the residuals."""
    grid, names = graph.grid, resolved.pattern.names()
    which = "".join(f", {n} {getattr(grid, n)}" for n in ("head", "layer") if n in names)
    size = (
        f"{grid.k.length:,} tokens, block {grid.q.block}x{grid.k.block}: {grid.n} x {grid.m} blocks"
    )
    residuals = (f"residual {number}: {text}" for number, text in enumerate(graph.residuals))
    return "\n".join((f"{resolved.name}: {resolved.about}", f"{size}{which}", *residuals))


# ---- the tables ----------------------------------------------------------------------------------


def tables_text(resolved: Resolved, schedule: Schedule) -> str:
    """The tables of kernels, a program a line, in the order in which they are launched.

    Of each: its row and the blocks [first, last) of the other axis that are its part, the slot of its
    result, the first of its pointers, and its runs by class.
    """
    (graph,) = schedule.graphs
    values = ", ".join(f"p{place} = {x}" for place, x in enumerate(schedule.parameters[0]))
    about = [_about(resolved, graph), *([f"parameters of masks: {values}"] if values else [])]
    parts = {
        "rows: a program per block row, for the forward pass and dQ": schedule.rows,
        "cols: a program per block column, for dK and dV": schedule.cols,
        "split_rows: the same, heavy rows in parts, for GPUs": schedule.split_rows(),
        "split_cols: the same, heavy columns in parts, for GPUs": schedule.split_cols(),
    }
    texts = [f"{title}\n{_table(table, len(graph.residuals))}" for title, table in parts.items()]
    return "\n".join(("\n".join(about) + "\n", "\n".join(texts)))


def _table(table: Table, residuals: int) -> str:
    classes = ["full", "bounds", *(f"residual {number}" for number in range(residuals))]
    pointer, runs = table.pointer.tolist(), table.runs.tolist()
    lines = [("program", "row", "first", "last", "slot", "pointer", *classes)]
    for number, program in enumerate(table.programs.program.tolist()):
        at = number * (PARTIAL + residuals)
        bounds = pointer[at : at + len(classes) + 1]
        cells = (
            " ".join(f"{start}:{stop}" for start, stop in runs[first:last])
            for first, last in pairwise(bounds)
        )
        lines.append((*map(str, (number, *program, bounds[0])), *cells))
    text = _columns(lines)
    if table.programs.merges.size:
        merges = ((str(x) for x in merge) for merge in table.programs.merges.tolist())
        text += _columns([("merge of row", "first slot", "last slot"), *map(tuple, merges)])
    return text


def _columns(lines: Iterable[Sequence[str]]) -> str:
    """Lines of cells as text, the cells of a column below one another."""
    rows = list(lines)
    count = max((len(row) for row in rows), default=0)
    widths = [max(len(row[place]) for row in rows) for place in range(count)]
    texts = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "".join(f"{text}\n" for text in texts)
