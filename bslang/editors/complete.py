"""What could stand at a place of a document, and the form of the call around it.

The statement at the cursor is rarely right, so it is read as tokens; all else is known from the tree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from bslang.editors.document import Document
from bslang.editors.hover import documentation
from bslang.editors.names import Kind, Symbol, arguments_of, global_symbol, parameter_symbols
from bslang.editors.tokens import Token, keywords, tokens
from bslang.ir.signature import arguments
from bslang.patterns import BY_NAME
from bslang.patterns.predicates import BLOCKS, TOKENS
from bslang.resolve.calls import argument_form
from bslang.resolve.module import BOUND_WHEN_LOWERED, ORDERS
from bslang.resolve.sources import LIBRARY, specs_in
from bslang.resolve.values import FUNCTIONS
from bslang.resources import resource
from bslang.syntax import tree
from bslang.syntax.reader import read
from bslang.syntax.source import Source

_STATEMENT = re.compile(r"\n(?=[A-Za-z_])")
_PATH = re.compile(r'\bimport\s*"([^"\n]*)\Z')
_MEMBER = re.compile(r"([A-Za-z_]\w*)\s*\.(\w*)\Z", re.ASCII)
_WORD = re.compile(r"\w*\Z")
_ORDER = re.compile(r"\s*order\s+\w*\Z")
_STARTERS = ("BSL", "BLOCK", "ORDER", "IMPORT")
_LONGEST, _NEAR = (
    20_000,
    500,
)  # characters that are looked at: of a statement, and for the last words


@dataclass(frozen=True)
class Item:
    """A completion. kind: that of its symbol; "keyword" or "file" for what has none.

    start: where the text that it takes the place of begins; that ends at the cursor.
    """

    label: str
    kind: Kind | str
    start: int
    detail: str = ""
    documentation: str = ""


@dataclass(frozen=True)
class Form:
    """How the function of a call is called.

    parts: the text of each argument, with its documentation; active: the place of the one at the cursor.
    """

    label: str
    parts: tuple[tuple[str, str], ...]
    active: int


@dataclass
class _Open:
    """A bracket that is open at the cursor. name: what is called; given: the arguments named so far."""

    sign: str
    name: str
    commas: int
    given: set[str]
    naming: str = ""


def completions(document: Document, offset: int) -> list[Item]:
    """What could stand at an offset, without what does not begin as what is written there."""
    written = _statement(document, offset)
    if found := _PATH.search(written[-_NEAR:]):
        start, paths = offset - len(found[1]), _paths(document)
        return [Item(path, "file", start) for path in paths if path.startswith(found[1])]
    read_so_far = [*tokens(written)]
    if read_so_far and (read_so_far[-1].kind == "COMMENT" or _in_text(read_so_far)):
        return []
    word = _WORD.search(written[-_NEAR:])
    assert word  # it may be empty
    if word[0][:1].isdigit():
        return []
    start = offset - len(word[0])
    if found := _MEMBER.search(written[-_NEAR:]):
        return [*_members(document, found[1], start)]
    if _ORDER.match(written[-_NEAR:]):
        found_orders = [name for name in ORDERS if name.startswith(word[0])]
        return [Item(each, "keyword", start, documentation=ORDERS[each]) for each in found_orders]
    brackets = _brackets(document, read_so_far)
    head = document.source.text[offset - len(written) :]
    items = [*_arguments(document, brackets, start), *_values(document, head, brackets, start)]
    if not written[: len(written) - len(word[0])].strip():
        items += [Item(w, "keyword", start) for w, name in keywords().items() if name in _STARTERS]
    items += [
        Item(w, "keyword", start)
        for w, name in keywords().items()
        if name not in (*_STARTERS, "AS")
    ]
    return [item for item in items if item.label.startswith(word[0])]


def form(document: Document, offset: int) -> Form | None:
    """The form of the call around an offset; None outside of any that is known."""
    brackets = _brackets(document, [*tokens(_statement(document, offset))])
    called = brackets[-1] if brackets and brackets[-1].sign == "(" else None
    symbol = global_symbol(document.module, called.name) if called and called.name else None
    if symbol is None or called is None:
        return None
    if symbol.kind is Kind.PRIMITIVE:
        declared = arguments(BY_NAME[symbol.name])
        parts = [(argument_form(a), a.help) for a in declared]
        variadic = bool(declared and declared[0].kind.variadic)
    elif isinstance(symbol.node, tree.Definition) and symbol.source:
        text, variadic = symbol.source.text, False
        parts = [(text[p.span.start : p.span.stop], "") for p in symbol.node.parameters]
    else:
        return None
    names = [*arguments_of(symbol)]
    active = 0 if variadic else called.commas
    if called.naming in names:
        active = names.index(called.naming) + len(parts) - len(names)
    label = f"{symbol.name}({', '.join(part for part, _ in parts)})"
    return Form(label, tuple(parts), active)


def _statement(document: Document, offset: int) -> str:
    """The text from the start of a statement to an offset."""
    text = document.source.text[max(0, offset - _LONGEST) : offset]
    starts = [m.end() for m in _STATEMENT.finditer(text)]
    return text[starts[-1] :] if starts else text


def _in_text(found: list[Token]) -> bool:
    """Whether a text in quotes is open behind the last token."""
    for token in reversed(found):
        if "\n" in token.text:
            return False
        if token.text == '"':
            return True
    return False


def _brackets(document: Document, found: list[Token]) -> list[_Open]:
    """The brackets that are open behind the last token, outermost first."""
    opened: list[_Open] = []
    solid = [t for t in found if not t.kind.startswith("__") and t.kind != "COMMENT"]
    for place, token in enumerate(solid):
        before = solid[place - 1] if place else None
        if token.text in ("(", "{"):
            name = before.text if before and before.kind in ("NAME", "HEADS", "MEMBER") else ""
            if before and before.kind == "MEMBER" and place > 1:
                name = solid[place - 2].text + name
            opened.append(_Open(token.text, name, 0, set()))
        elif token.text in (")", "}"):
            del opened[-1:]
        elif opened and token.text == ",":
            opened[-1].commas += 1
            opened[-1].naming = ""
        elif opened and token.text == "=" and before and before.kind == "NAME":
            opened[-1].naming = before.text
            opened[-1].given.add(before.text)
    return opened


def _paths(document: Document) -> Iterator[str]:
    for path in sorted(resource("std").glob("*.bsl")):
        yield f"{LIBRARY}{path.name}"
    if document.source.folder is not None:
        for path in specs_in(document.source.folder):
            if path.name != document.source.name:
                yield path.name


def _item(symbol: Symbol, start: int, label: str = "") -> Item:
    said = documentation(symbol)
    return Item(label or symbol.name, symbol.kind, start, symbol.kind.value, said)


def _members(document: Document, alias: str, start: int) -> Iterator[Item]:
    module = document.module.files.get(alias)
    for name in module.public if module else ():
        if symbol := global_symbol(document.module, f"{alias}.{name}"):
            yield _item(symbol, start)


def _arguments(document: Document, brackets: list[_Open], start: int) -> Iterator[Item]:
    if not brackets or brackets[-1].sign != "(" or brackets[-1].naming:
        return
    callee = global_symbol(document.module, brackets[-1].name)
    for name, symbol in (arguments_of(callee) if callee else {}).items():
        if name not in brackets[-1].given:
            yield _item(symbol, start, f"{name}=")


def _values(
    document: Document, statement: str, brackets: list[_Open], start: int
) -> Iterator[Item]:
    for parameter in _parameters(document, statement).values():
        yield _item(parameter, start)
    if any(bracket.sign == "{" and bracket.name != "heads" for bracket in brackets):
        for name in (*BLOCKS, *TOKENS):
            yield _item(Symbol(Kind.VARIABLE, name), start)
        found = (o.symbol for o in document.occurrences if o.symbol.kind is Kind.LABEL)
        for label in dict.fromkeys(found):
            for side in TOKENS:
                yield _item(label, start, f"{label.name}[{side}]")
    module = document.module
    names = [*module.definitions, *module.imports, *BY_NAME, *BOUND_WHEN_LOWERED, *FUNCTIONS]
    for name in dict.fromkeys(names):
        if symbol := global_symbol(module, name):
            yield _item(symbol, start)
    for alias in module.files:
        yield Item(alias, Kind.ALIAS, start, Kind.ALIAS.value)


def _parameters(document: Document, statement: str) -> dict[str, Symbol]:
    """The parameters that a statement declares before its `=`, whatever follows."""
    depth = 0
    for token in tokens(statement[:_LONGEST]):
        depth += (token.text in ("(", "{")) - (token.text in (")", "}"))
        if token.text == "=" and depth == 0:
            source = Source("<head>", f"{statement[: token.span.stop]} all")
            for found in read(source).statements:
                if isinstance(found, tree.Definition):
                    return parameter_symbols(source, found)
        elif depth <= 0 and "\n" in token.text:
            break
    return {}
