"""The formatter: a source printed from its syntax tree, in one style, with its comments.

Statements stay in order, with at most one blank line between two. One that is wider than WIDTH, or has
comments inside, goes over several lines within brackets, operators at the start of lines; the tree
decides which parentheses are needed, and others go. A comment stays behind what it stands behind, or on
a line of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import TypeVar

from bslang.syntax import tree
from bslang.syntax.diagnostics import SpecError
from bslang.syntax.lines import Break, Comment, Doc, Group, Wrap, printed
from bslang.syntax.reader import read
from bslang.syntax.source import Source

_SIGNS = re.compile(r'"[^"\n]*"|#[^\n]*|[(){}]')
_SPACE = re.compile(r"(?:\s|#[^\n]*)*")
_NUMBER = re.compile(r"[0-9_]+t?")
_SIDES = re.compile(r"[0-9][0-9_x]*")
_SETTING = re.compile(r"(?:bsl|block|order|import)\b")

_PRECEDENCE = {"|": 1, "^": 2, "&": 3, "+": 5, "-": 5, "*": 6, "@": 6, "//": 6, "%": 6, "**": 8}
_PRECEDENCE |= dict.fromkeys(("<", "<=", ">", ">=", "==", "!="), 4)
_PREFIX, _POSTFIX, _ATOM = 7, 9, 10

_Item = TypeVar("_Item", bound=tree.Node)


def formatted(source: Source) -> str:
    """The text of a source in the one style; formatting it again changes nothing.

    Raises SpecError where the source has mistakes, or would pass a limit.
    """
    before = _parsed(source)
    text = text_of(before)
    after = _parsed(Source(source.name, text, source.folder))
    # The last line of defence of a file that is about to be overwritten.
    assert meaning(after.statements) == meaning(before.statements), text
    return text


def text_of(file: tree.File) -> str:
    """The text of a file without mistakes, in the one style."""
    return _Printer(file).text()


def meaning(node: object) -> object:
    """A syntax tree, or several, without its spans: equal where the same was written."""
    if isinstance(node, tuple):
        return tuple(map(meaning, node))
    if isinstance(node, tree.Node):
        values = (getattr(node, field.name) for field in fields(node) if field.name != "span")
        return type(node), *map(meaning, values)
    return node


def _parsed(source: Source) -> tree.File:
    file = read(source)
    if file.errors:
        raise SpecError(file.errors)
    return file


def _precedence(node: tree.Expression) -> int:
    match node:
        case tree.Chain():
            return _PRECEDENCE[node.ops[0]]
        case tree.Prefix():
            return _PREFIX
        case tree.Transposed():
            return _POSTFIX
        case _:
            return _ATOM


def _is_open(node: tree.Expression) -> bool:
    """Whether it may be broken outside of brackets, so that it then needs some around it."""
    if isinstance(node, tree.Prefix):
        return _precedence(node.operand) >= _PREFIX and _is_open(node.operand)
    return isinstance(node, tree.Chain)


class _Printer:
    """Prints one file. Comments wait in order, for the next place after them where a line may end."""

    def __init__(self, file: tree.File) -> None:
        self.file, self.source = file, file.source.text
        self.comments: list[tuple[int, Comment]] = []
        self.next_comment = 0
        self.closing: dict[int, int] = {}
        """The offset of each opening bracket, with that of its closing one."""
        opened: list[int] = []
        for sign in _SIGNS.finditer(self.source):
            if sign[0] in "({":
                opened.append(sign.start())
            elif sign[0] in ")}":
                self.closing[opened.pop()] = sign.start()
            elif sign[0].startswith("#"):
                line = self.source.rfind("\n", 0, sign.start()) + 1
                trailing = bool(self.source[line : sign.start()].strip())
                self.comments.append((sign.start(), Comment(sign[0].rstrip(), trailing)))

    # ---- statements ----------------------------------------------------------------------------

    def text(self) -> str:
        """The whole file."""
        lines: list[str] = []
        end = 0

        def add(text: str, start: int, stop: int) -> None:
            nonlocal end
            if lines and self.source.count("\n", end, start) > 1:
                lines.append("")
            lines.append(text)
            end = stop

        def add_comments(before: int) -> None:
            nonlocal end
            while self._waiting(before):
                start, comment = self.comments[self.next_comment]
                self.next_comment += 1
                stop = start + len(comment.text)
                if comment.trailing:
                    lines[-1] += f"  {comment.text}"
                    end = stop
                else:
                    add(comment.text, start, stop)

        for statement in self.file.statements:
            add_comments(statement.span.start)
            add(self._statement(statement), statement.span.start, statement.span.stop)
        add_comments(len(self.source))
        return "".join(f"{line}\n" for line in lines)

    def _statement(self, statement: tree.Statement) -> str:
        match statement:
            case tree.Version():
                return f"bsl {statement.number}"
            case tree.BlockSetting():
                sides = _SIDES.search(self.source, statement.span.start)
                assert sides is not None  # the grammar has them
                return f"block {sides[0]}"
            case tree.OrderSetting():
                return printed(self._order(statement))
            case tree.Import():
                name = f" as {statement.name.text}" if statement.name else ""
                return f'import "{statement.path.value}"{name}'
            case tree.Definition():
                body = self._head(statement), " = ", self._body(statement.body)
                return printed(Group(body))
            case tree.Layout():
                text = printed(self._body(statement.body))
                return f"({text})" if _SETTING.match(text) else text
            case tree.Broken():
                raise AssertionError("a file with errors is not formatted")

    def _order(self, order: tree.OrderSetting) -> Doc:
        closed = self.closing[self._skip(order.name.span.stop)]
        sizes = order.sides + order.tile
        tiles = len(order.sides) if order.tile else None
        head = f"order {order.name.text}("
        return self._bracketed(head, sizes, self._expression, closed, 0, second=tiles)

    def _head(self, definition: tree.Definition) -> Doc:
        name = definition.name.text
        head: Doc = name
        if definition.parameters:
            opened = self._skip(definition.name.span.stop)
            closed = self.closing[opened]
            head = self._bracketed(f"{name}(", definition.parameters, self._parameter, closed, 0)
        return Group(["(", head, ")"]) if _SETTING.match(name) else head

    def _body(self, node: tree.Expression) -> Doc:
        """An expression to the end of its statement, in parentheses where it goes over several lines."""
        waiting = self.next_comment
        if not _is_open(node) and not self._waiting(self._start(node)):
            body = self._expression(node, 0)
            if not self._waiting(node.span.stop):
                return body
            self.next_comment = waiting
        first = self._break("", 1, self._start(node))
        body = self._expression(node, 1, alone=True)
        last = self._break("", 0, node.span.stop, closing=True)
        return Group([Wrap("("), first, body, last, Wrap(")")])

    # ---- expressions ---------------------------------------------------------------------------

    def _expression(
        self, node: tree.Expression, depth: int, alone: bool = False, least: int = 0
    ) -> Doc:
        """An expression on a line that is indented by `depth` steps.

        alone: whether nothing else stands between the brackets around it; least: the precedence
        below which it needs parentheses.
        """
        if _precedence(node) < least:
            closed = self.closing[node.span.start]
            return self._bracketed("(", [node], self._expression, closed, depth)
        match node:
            case tree.Name():
                return node.text
            case tree.Label():
                return f"{node.name}[{node.side}]"
            case tree.Integer():
                number = _NUMBER.match(self.source, self._start(node))
                assert number is not None  # the grammar has it
                return number[0]
            case tree.Infinity():
                return "inf"
            case tree.Boolean():
                return "true" if node.value else "false"
            case tree.Text():
                return f'"{node.value}"'
            case tree.Prefix():
                return Group([node.op, self._expression(node.operand, depth, least=_PREFIX)])
            case tree.Transposed():
                return Group([self._expression(node.operand, depth, least=_POSTFIX), ".T"])
            case tree.Chain():
                return self._chain(node, depth, depth if alone else depth + 1)
            case tree.Range():
                return self._range(node, depth)
            case tree.Tuple():
                closed = self.closing[self._start(node)]
                return self._bracketed("(", node.items, self._expression, closed, depth)
            case tree.Call():
                name = node.function.text
                if not node.arguments:
                    return f"{name}()"
                closed = self.closing[self._skip(node.function.span.stop)]
                return self._bracketed(f"{name}(", node.arguments, self._argument, closed, depth)
            case tree.SetBuilder():
                first, second = (variable.text for variable in node.variables)
                closed = self.closing[self._start(node)]
                return self._bracketed(
                    f"{{{first}, {second} :",
                    [node.predicate],
                    self._expression,
                    closed,
                    depth,
                    space=" ",
                )
            case tree.Heads():
                return self._heads(node, depth)

    def _chain(self, node: tree.Chain, depth: int, inner: int) -> Doc:
        own = _precedence(node)
        # Operands bind tighter; the right one of `**` is as in `2 ** -1` and `2 ** 3 ** 4`.
        right = _PREFIX if own == _PRECEDENCE["**"] else own + 1
        parts: list[Doc] = [self._expression(node.operands[0], depth, least=own + 1)]
        for op, operand in zip(node.ops, node.operands[1:], strict=True):
            parts += [self._break(" ", inner, self._start(operand)), f"{op} "]
            parts.append(self._expression(operand, inner, least=right))
        return Group(parts)

    def _range(self, node: tree.Range, depth: int) -> Doc:
        ends = [node.start, node.stop] if node.step is None else [node.start, node.stop, node.step]
        parts: list[Doc] = []
        for end in ends:
            parts += [":", "" if end is None else self._expression(end, depth)]
        return Group(parts[1:])

    def _heads(self, node: tree.Heads, depth: int) -> Doc:
        parts: list[Doc] = ["heads {"]
        for branch in node.branches:
            parts.append(self._break(" ", depth + 1, self._start(branch.heads)))
            parts += [self._expression(branch.heads, depth + 1), " -> "]
            parts += [self._expression(branch.pattern, depth + 1), ";"]
        closed = self.closing[self._skip(self._start(node) + len("heads"))]
        return Group([*parts[:-1], self._break(" ", depth, closed, closing=True), "}"])

    def _argument(self, argument: tree.Argument, depth: int, alone: bool) -> Doc:
        value = self._expression(argument.value, depth, alone and argument.name is None)
        return value if argument.name is None else Group([f"{argument.name.text}=", value])

    def _parameter(self, parameter: tree.Parameter, depth: int, alone: bool) -> Doc:
        if parameter.default is None:
            return parameter.name.text
        value = self._expression(parameter.default, depth)
        return Group([f"{parameter.name.text} = ", value])

    # ---- brackets and comments -----------------------------------------------------------------

    def _bracketed(
        self,
        opening: str,
        items: Sequence[_Item],
        item_doc: Callable[[_Item, int, bool], Doc],
        closed: int,
        depth: int,
        space: str = "",
        second: int | None = None,
    ) -> Doc:
        """Items between brackets, as many on a line as fit; the closing one stands at `closed`.

        item_doc(item, depth, alone); space: after the opening bracket, where the line goes on. second: the
        number of the item that begins a second list, after a `;`.
        """
        alone = len(items) == 1
        place = self._break(space, depth + 1, self._start(items[0]))
        parts: list[Doc] = [opening, place, item_doc(items[0], depth + 1, alone)]
        for number, item in enumerate(items[1:], 1):
            place = self._break(" ", depth + 1, self._start(item))
            sign = ";" if number == second else ","
            parts += [sign, Group([place, item_doc(item, depth + 1, alone)])]
        return Group([*parts, self._break("", depth, closed, closing=True), self.source[closed]])

    def _start(self, node: tree.Node) -> int:
        """Where a node begins, within the parentheses that were written around it."""
        if isinstance(node, tree.Argument):
            return self._start(node.name or node.value)
        if isinstance(node, tree.Parameter):
            return self._start(node.name)
        start, limit, opened = node.span.start, node.span.stop, node.span.start
        while self.source[start] == "(" and self._skip(self.closing[start] + 1) >= limit:
            opened, limit, start = start, self.closing[start], self._skip(start + 1)
        return opened if isinstance(node, tree.Tuple) else start  # its own are the innermost

    def _skip(self, place: int) -> int:
        """The place where text goes on after white space and comments."""
        found = _SPACE.match(self.source, place)
        assert found is not None  # it matches nothing at all, too
        return found.end()

    def _waiting(self, before: int) -> bool:
        """Whether the next comment stands before an offset."""
        return (
            self.next_comment < len(self.comments) and self.comments[self.next_comment][0] < before
        )

    def _break(self, flat: str, depth: int, before: int, closing: bool = False) -> Break:
        """A place where the line may end, with the comments that stand before an offset.

        closing: whether a closing bracket follows; comments stand with what it closes.
        """
        first = self.next_comment
        while self._waiting(before):
            self.next_comment += 1
        comments = tuple(comment for _, comment in self.comments[first : self.next_comment])
        return Break(flat, depth, depth + closing, comments)
