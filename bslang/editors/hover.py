"""What a place of a document means: documentation, and for a pattern its density and a picture."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from math import prod

from bslang import compiler
from bslang.budget import limited
from bslang.editors.diagnose import problems_at
from bslang.editors.document import Document
from bslang.editors.names import Kind, Symbol, children
from bslang.errors import LimitError, shortened
from bslang.ir.ordered import ordered
from bslang.ir.pattern import Pattern
from bslang.ir.signature import arguments
from bslang.ir.text import value_text
from bslang.patterns import BY_NAME
from bslang.resolve.calls import signature
from bslang.resolve.evaluator import Evaluator
from bslang.resolve.module import DEFAULT_BLOCK, ORDERS
from bslang.resolve.program import Resolved
from bslang.syntax import tree
from bslang.syntax.codes import CODES
from bslang.syntax.comments import comment_above
from bslang.syntax.diagnostics import Findings, SpecError
from bslang.syntax.source import Span

BLOCKS = 16
"""Blocks, of the longer side, that a pattern is drawn for."""

_CLIMBS = 8  # expressions around a place that are tried for one that is a pattern

_NUMBERS = {
    "n": "The number of block rows, those of queries.",
    "m": "The number of block columns, those of keys.",
    "len_q": "The number of query positions, in tokens.",
    "len_k": "The number of key positions, in tokens.",
    "head": "The head that a layout is lowered for, from 0.",
    "layer": "The layer that a layout is lowered for, from 0.",
}


@dataclass(frozen=True)
class Hover:
    """Markdown about a part of a document."""

    text: str
    span: Span


def hover(document: Document, offset: int) -> Hover | None:
    """What is known of the place; None for none."""
    wrong = problems_at(document, offset)
    parts = [_explained(code) for code in dict.fromkeys(p.diagnostic.code for p in wrong)]
    spans = []
    if found := document.at(offset):
        spans.append(found.span)
        parts.append(documentation(found.symbol))
    statement = document.statement(offset)
    if isinstance(statement, tree.OrderSetting):
        spans.append(statement.span)
        parts.append(_order(document, statement))
    with limited(anew=True):
        measured = _measured(document, offset)
    if measured:
        spans.append(measured.span)
        parts.append(measured.text)
    spans += [problem.span for problem in wrong]
    text = "\n\n".join(part for part in parts if part)
    return Hover(text, spans[0]) if text else None


def _order(document: Document, setting: tree.OrderSetting) -> str:
    """What an order of tokens is, and how many tokens and tiles this one has."""
    about, order = ORDERS.get(setting.name.text, ""), document.module.order
    if order is None:
        return about
    tiles = prod(-(-side // tile) for side, tile in zip(order.sides, order.tile, strict=False))
    counts = f"{order.length:,} tokens" + (f" in {tiles:,} tiles" if order.tile else "")
    return f"{_code(f'order {order}')}\n\n{about} {counts}; `layout.permute` puts tokens into this order."


def _explained(code: str) -> str:
    return f"**{code}**: {CODES[code].title}. {CODES[code].remedy}"


def documentation(symbol: Symbol) -> str:
    """What a name stands for, as Markdown."""
    match symbol.kind:
        case Kind.PRIMITIVE:
            return _primitive(symbol.name)
        case Kind.ARGUMENT:
            arg = next(a for a in arguments(BY_NAME[symbol.owner]) if a.name == symbol.name)
            default = "" if arg.required else f", {value_text(arg.default)} if left out"
            default = default if arg.default is not None else ""
            return f"`{symbol.name}` of `{symbol.owner}`: {arg.help}; {arg.kind.value}{default}."
        case Kind.DEFINITION:
            return _definition(symbol)
        case Kind.PARAMETER:
            assert symbol.source and symbol.node
            written = symbol.source.text[symbol.node.span.start : symbol.node.span.stop]
            return f"`{shortened(written)}`: a parameter of `{symbol.owner}`."
        case Kind.NUMBER:
            return f"`{symbol.name}`: {_NUMBERS[symbol.name]}"
        case Kind.ALIAS:
            assert isinstance(symbol.node, tree.Import)
            return f"`{symbol.name}`: the file `{symbol.node.path.value}`."
        case Kind.PATH:
            return f"`{symbol.place}`" if symbol.place else ""
        case _:
            return f"`{symbol.name}`: {symbol.kind.value}."


def _primitive(name: str) -> str:
    primitive = BY_NAME[name]
    body, _, example = (inspect.getdoc(primitive) or "").rpartition("Example: `")
    body = re.sub(r"(?<!\n)\n(?!\n)", " ", body.strip())
    rows = [f"- `{arg.name}`: {arg.help}" for arg in arguments(primitive)]
    example = f"Example: `{example.rstrip('`')}`"
    parts = [_code(signature(primitive)), body, "\n".join(rows), example]
    return "\n\n".join(part for part in parts if part)


def _definition(symbol: Symbol) -> str:
    assert symbol.source and symbol.span and symbol.node
    text = symbol.source.text
    written = text[symbol.node.span.start : symbol.node.span.stop]
    comment = comment_above(text, symbol.node.span.start)
    return f"{_code(shortened(written))}\n\n{comment}".rstrip()


def _code(text: str, language: str = "bsl") -> str:
    return f"```{language}\n{text}\n```"


# ---- pictures ------------------------------------------------------------------------------------


def _measured(document: Document, offset: int) -> Hover | None:
    """The density and picture of the smallest pattern around an offset."""
    statement = document.statement(offset)
    if isinstance(statement, tree.Definition):
        definition = statement
        body = not _inside(statement.name, offset)
        if body and not _inside(statement.body, offset):
            return None  # among the parameters
    elif isinstance(statement, tree.Layout):
        name = tree.Name(statement.span, "<layout>")
        definition, body = tree.Definition(statement.span, name, (), statement.body), True
    else:
        return None
    nodes = _around(definition.body, offset) if body else [definition.body]
    for node in nodes[:_CLIMBS]:
        if text := _drawn(document, definition, node):
            return Hover(text, node.span)
    return None


def _inside(node: tree.Node, offset: int) -> bool:
    return node.span.start <= offset <= node.span.stop


def _around(node: tree.Expression, offset: int) -> list[tree.Expression]:
    """The expressions that an offset lies in, smallest first; of a predicate none."""
    found: list[tree.Expression] = []
    level: list[tree.Node] = [node]
    while level:
        inner = [part for part in level if _inside(part, offset)][:1]
        found += [part for part in inner if isinstance(part, _PATTERNS)]
        level = [] if not inner or isinstance(inner[0], tree.SetBuilder) else [*children(inner[0])]
    return found[::-1]


_PATTERNS = (
    tree.Name, tree.Call, tree.Prefix, tree.Chain, tree.Transposed, tree.SetBuilder, tree.Heads,
)  # fmt: skip


def _drawn(document: Document, definition: tree.Definition, node: tree.Expression) -> str:
    """Density and picture of an expression of a definition, with default parameters; "" for no pattern."""
    module = document.module
    block = module.setting.sides if module.setting else DEFAULT_BLOCK
    name = definition.name.text
    part = tree.Definition(node.span, tree.Name(node.span, name), definition.parameters, node)
    findings = Findings()
    evaluator = Evaluator(module, block, findings)
    try:
        pattern = evaluator.definition(module, part, {})
        findings.raise_any()
    except SpecError:
        return ""
    if not isinstance(pattern, Pattern):
        return ""
    order = module.order
    try:
        if order is None:
            made, length = Resolved(name, pattern, block, evaluator.origins), BLOCKS * max(block)
        else:
            pattern, length = ordered(pattern, order), order.length
            made = Resolved(name, pattern, block, evaluator.origins, order)
        return _picture(made, length)
    except SpecError as error:
        return f"At this length: {error.diagnostics[0].message}."
    except (LimitError, MemoryError):
        return "Too large to draw."


def _picture(resolved: Resolved, length: int) -> str:
    from bslang.picture.picture import Picture
    from bslang.picture.text import SHADED, Look, draw, plain

    graph = compiler.lower(resolved, length, length)
    n, m = graph.grid.n, graph.grid.m
    picture = plain(draw(Picture.of([graph], BLOCKS, BLOCKS), Look(SHADED)))
    blocks = int((graph.stop - graph.start).sum())
    said = f"{blocks / (n * m):.1%} of {n} x {m} blocks at {length:,} tokens"
    return f"{said}\n\n{_code(picture, 'text')}"
