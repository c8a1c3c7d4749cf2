"""One statement of text to its syntax tree, by the grammar in grammar/bsl.lark.

The tree is built while parsing (an embedded transformer), so no Lark tree exists and nothing
recurses over one. Nothing is checked here beyond what the grammar says.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import Any

from lark import Lark, TextSlice, Token, Transformer
from lark import __version__ as lark_version
from lark.exceptions import UnexpectedCharacters, UnexpectedToken
from lark.grammar import Rule
from lark.lexer import Lexer, LexerState, LexerThread, LineCounter, TerminalDef

from bslang._version import __version__
from bslang.cache import private_dir, sealed, unsealed, write
from bslang.resources import resource
from bslang.syntax import tree
from bslang.syntax.source import Span

TERMINALS = {
    "BSL": "`bsl`",
    "BLOCK": "`block`",
    "ORDER": "`order`",
    "IMPORT": "`import`",
    "AS": "`as`",
    "HEADS": "`heads`",
    "INF": "`inf`",
    "TRUE": "`true`",
    "FALSE": "`false`",
    "TRANSPOSE": "`.T`",
    "MEMBER": "a name of an imported file",
    "ARROW": "`->`",
    "AT": "`@`",
    "STARS": "`**`",
    "STAR": "`*`",
    "SLASHES": "`//`",
    "PERCENT": "`%`",
    "PLUS": "`+`",
    "MINUS": "`-`",
    "TILDE": "`~`",
    "COMPARE": "a comparison",
    "AMPERSAND": "`&`",
    "CARET": "`^`",
    "PIPE": "`|`",
    "NAME": "a name",
    "LABEL": "a label such as `time[q]`",
    "SHAPE": "a shape such as 128x64",
    "TOKENS": "a number of tokens",
    "INTEGER": "a number",
    "TEXT": "a text in quotes",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "SEMICOLON": "`;`",
    "COMMA": "`,`",
    "COLON": "`:`",
    "EQUAL": "`=`",
    "COMMENT": "a comment",
    "$END": "the end of the line",
}
"""How messages name the terminals of the grammar."""

_VALUES = {"NAME", "INTEGER", "TOKENS", "INF", "TRUE", "FALSE", "LPAR", "MINUS", "TILDE"}
_VALUES |= {"TEXT", "LBRACE", "HEADS", "LABEL"}
_OPERATORS = {"PIPE", "CARET", "AMPERSAND", "COMPARE", "PLUS", "MINUS", "STAR", "SLASHES"}
_OPERATORS |= {"PERCENT", "STARS", "AT", "TRANSPOSE", "MEMBER"}


class ParseError(Exception):
    """A statement that the grammar refuses: where, what was found there, and what was expected."""

    def __init__(self, span: Span, found: str, expected: list[str]) -> None:
        super().__init__(found)
        self.span, self.found, self.expected = span, found, expected


def parse_statement(
    text: str, span: Span
) -> (
    tree.Version | tree.BlockSetting | tree.OrderSetting | tree.Import | tuple[tree.Expression, ...]
):
    """Parse the statement at `span`: a version, a setting, an import, or the expressions on each side of `=`.

    An expression alone comes as a tuple of one. Raises ParseError.
    """
    try:
        parsed: Any = _lark().parse(TextSlice(text, span.start, span.stop))
    except UnexpectedToken as error:
        if error.token.type == "$END":
            end = span.start + len(text[span.start : span.stop].rstrip())
            place, found = Span(end, end + 1), "the end of the line"
        else:
            place = _span([error.token])
            found = f"`{error.token}`"
        raise ParseError(place, found, _named(error.accepts or set())) from None
    except UnexpectedCharacters as error:
        assert error.pos_in_stream is not None  # the lexer sets it
        place = Span(error.pos_in_stream, error.pos_in_stream + 1)
        raise ParseError(place, f"{error.char!r}", []) from None
    return parsed  # type: ignore[no-any-return]  # Lark's is untyped


def _named(terminals: set[str]) -> list[str]:
    """Terminals in a reader's words; those that begin a value, and the operators, put together."""
    rest = set(terminals)
    names = []
    if len(rest & _VALUES) > 3:
        names += ["a pattern", "a number"]
        rest -= _VALUES
    if len(rest & _OPERATORS) > 3:
        names.append("an operator")
        rest -= _OPERATORS
    return names + sorted(TERMINALS[terminal] for terminal in rest)


@cache
def _lark() -> Lark:
    """The parser. Its tables are kept in a file: they cost more than a spec's whole way to generated code.

    The file is JSON, so that it is data whoever wrote it; Lark's own cache would be unpickled.
    """
    grammar = resource("grammar", "bsl.lark").read_text(encoding="utf-8")
    name = hashlib.sha256(f"{__version__} {lark_version} {grammar}".encode()).hexdigest()[:16]
    try:
        file = private_dir("grammar") / f"{name}.json"
    except OSError:
        return _parser(_tables(grammar))
    tables = unsealed(file)
    if tables is None:
        tables = _tables(grammar)
        with suppress(OSError):
            write(file.parent, {file.name: sealed(tables)})
    return _parser(tables)


def _tables(grammar: str) -> bytes:
    """The LALR tables of the grammar, as JSON."""
    made = Lark(
        grammar,
        parser="lalr",
        lexer="contextual",
        keep_all_tokens=True,  # spans are computed from them
        maybe_placeholders=False,
    )
    data, memo = made.memo_serialize([TerminalDef, Rule])
    return json.dumps({"data": data, "memo": memo}).encode()


def _parser(tables: bytes) -> Lark:
    made = json.loads(tables, object_hook=_with_numbers)
    made["data"]["options"] |= {"transformer": _Builder(), "_plugins": {"LexerThread": _Lexing}}
    return Lark.load(made)


def _with_numbers(value: dict[str, Any]) -> dict[str, Any] | dict[int, Any]:
    """An object of JSON whose keys are numbers again where they all look like some, as Lark wrote them."""
    if all(map(str.isdecimal, value)):
        return {int(key): each for key, each in value.items()}
    return value


def terminals() -> dict[str, str]:
    """The regular expressions of the grammar's terminals by name, in the order in which they are tried.

    Blanks between tokens have a name that begins with `__`.
    """

    def rank(terminal: TerminalDef) -> tuple[int, int, int]:  # Lark's
        pattern = terminal.pattern
        return -terminal.priority, -pattern.max_width, -len(pattern.value)

    return {t.name: t.pattern.to_regexp() for t in sorted(_lark().terminals, key=rank)}


class _Lexing(LexerThread):
    """Lexes from the start of a statement; Lark would count the lines of all the text before it."""

    @classmethod
    def from_text(cls, lexer: Lexer, text_or_slice: str | TextSlice[str]) -> _Lexing:
        text = TextSlice.cast_from(text_or_slice)
        counter = LineCounter("\n")  # type: ignore[no-untyped-call]  # Lark's
        counter.char_pos = text.start
        return cls(lexer, LexerState(text, counter))


def _span(children: list[Any]) -> Span:
    def of(child: Any) -> Any:
        if not isinstance(child, Token):
            return child.span
        assert child.start_pos is not None and child.end_pos is not None  # the lexer sets them
        return Span(child.start_pos, child.end_pos)

    first: Span = of(children[0])
    return first.to(of(children[-1]))


def _number(text: str) -> int:
    # Longer ones are past every limit; int() itself refuses some thousand digits.
    digits = text.replace("_", "").lstrip("0")
    return int(digits[:20] or "0")


def _nodes(children: list[Any]) -> tuple[Any, ...]:
    return tuple(child for child in children if not isinstance(child, Token))


class _Builder(Transformer[Token, Any]):
    """Grammar rules to nodes; each method is named by its rule."""

    def version(self, children: list[Any]) -> tree.Version:
        return tree.Version(_span(children), _number(children[1]))

    def setting(self, children: list[Any]) -> tree.BlockSetting:
        sides = [_number(side) for side in children[1].split("x")]
        return tree.BlockSetting(_span(children), (sides[0], sides[-1]))

    def sizes(self, children: list[Any]) -> tuple[tree.Integer, ...]:
        return tuple(self.integer([child]) for child in children if child.type == "INTEGER")

    def ordering(self, children: list[Any]) -> tree.OrderSetting:
        sides, *tile = (child for child in children if isinstance(child, tuple))
        ends = [children[0], children[-1]]
        return tree.OrderSetting(_span(ends), self.name(children[1:2]), sides, *tile or [()])

    def importing(self, children: list[Any]) -> tree.Import:
        name = None if children[3:] == [] else tree.Name(_span(children[3:]), str(children[3]))
        return tree.Import(_span(children), self.text(children[1:2]), name)

    def definition(self, children: list[Any]) -> tuple[tree.Expression, ...]:
        return _nodes(children)

    def _chain(self, children: list[Any]) -> tree.Chain:
        return tree.Chain(_span(children), tuple(children[0::2]), tuple(map(str, children[1::2])))

    union = xor = meet = comparison = sum = product = power = _chain

    def prefix(self, children: list[Any]) -> tree.Prefix:
        return tree.Prefix(_span(children), str(children[0]), children[1])

    def transpose(self, children: list[Any]) -> tree.Transposed:
        return tree.Transposed(_span(children), children[0])

    def name(self, children: list[Any]) -> tree.Name:
        return tree.Name(_span(children), "".join(children))

    def label(self, children: list[Any]) -> tree.Label:
        (token,) = children
        name, _, side = token.rstrip("]").partition("[")
        return tree.Label(_span(children), name, side.strip())

    def text(self, children: list[Any]) -> tree.Text:
        return tree.Text(_span(children), str(children[0])[1:-1])

    def integer(self, children: list[Any]) -> tree.Integer:
        return tree.Integer(_span(children), _number(children[0]), tokens=False)

    def tokens(self, children: list[Any]) -> tree.Integer:
        return tree.Integer(_span(children), _number(children[0][:-1]), tokens=True)

    def infinity(self, children: list[Any]) -> tree.Infinity:
        return tree.Infinity(_span(children))

    def boolean(self, children: list[Any]) -> tree.Boolean:
        return tree.Boolean(_span(children), children[0] == "true")

    def parenthesised(self, children: list[Any]) -> tree.Expression:
        inner: tree.Expression = replace(children[1], span=_span(children))
        return inner

    def several(self, children: list[Any]) -> tree.Tuple:
        return tree.Tuple(_span(children), _nodes(children))

    def set_builder(self, children: list[Any]) -> tree.SetBuilder:
        first, second = (tree.Name(_span([children[i]]), str(children[i])) for i in (1, 3))
        return tree.SetBuilder(_span(children), (first, second), children[5])

    def heads(self, children: list[Any]) -> tree.Heads:
        return tree.Heads(_span(children), _nodes(children))

    def branch(self, children: list[Any]) -> tree.Branch:
        return tree.Branch(_span(children), children[0], children[2])

    def call(self, children: list[Any]) -> tree.Call:
        function = self.name([child for child in children[:2] if child.type in ("NAME", "MEMBER")])
        arguments = next((child for child in children if isinstance(child, tuple)), ())
        return tree.Call(_span(children), function, arguments)

    def arguments(self, children: list[Any]) -> tuple[tree.Argument, ...]:
        return tuple(child for child in children if isinstance(child, tree.Argument))

    def keyword(self, children: list[Any]) -> tree.Argument:
        name = tree.Name(_span(children[:1]), str(children[0]))
        return tree.Argument(_span(children), name, children[2])

    def positional(self, children: list[Any]) -> tree.Argument:
        return tree.Argument(_span(children), None, children[0])

    def range(self, children: list[Any]) -> tree.Range:
        ends: list[tree.Expression | None] = [None, None, None]
        place = 0
        for child in children:
            if isinstance(child, Token):
                place += 1
            else:
                ends[place] = child
        return tree.Range(_span(children), *ends)
