"""The language evaluated by plain Python integers, pair by pair, from the syntax tree of a spec.

It shares the reader with bslang and nothing else: neither its arithmetic on arrays nor its folding of
numbers. `belongs` raises Unsupported for what it leaves out, as drawn blocks and compositions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from bslang.ir.grid import Grid
from bslang.syntax import tree
from bslang.syntax.reader import read
from bslang.syntax.source import Source

Number = tuple[float, bool]
"""A number, and whether it counts tokens. All are ints but `inf`."""


class Unsupported(Exception):
    """A part of the language that is not evaluated here."""


@dataclass(frozen=True)
class Pair:
    """One query and one key: their positions, their blocks, and how many of each there are."""

    query: int
    key: int
    row: int
    column: int
    queries: int
    keys: int
    n: int
    m: int
    head: int = 0
    scope: Mapping[str, Number] = field(default_factory=dict)

    def transposed(self) -> Pair:
        return Pair(
            *(self.key, self.query, self.column, self.row, self.keys, self.queries, self.m, self.n),
            self.head,
            self.scope,
        )


def belongs(spec: str, grid: Grid) -> list[list[bool]]:
    """Whether each pair of a grid belongs to the last layout of a spec."""
    statements = read(Source("<plain>", spec)).statements
    definitions = {s.name.text: s for s in statements if isinstance(s, tree.Definition)}
    (layout,) = [s for s in statements if isinstance(s, tree.Layout)]
    (bq, bk), (q, k) = (grid.q.block, grid.k.block), (grid.q, grid.k)
    n, m = -(-q.length // bq), -(-k.length // bk)
    plain = _Plain(definitions)
    return [
        [
            plain.pattern(
                layout.body, Pair(x, y, x // bq, y // bk, q.length, k.length, n, m, grid.head)
            )
            for y in range(k.start, k.stop)
        ]
        for x in range(q.start, q.stop)
    ]


class _Plain:
    def __init__(self, definitions: Mapping[str, tree.Definition]) -> None:
        self.definitions = definitions

    # ---- patterns ----------------------------------------------------------------------------

    def pattern(self, node: tree.Expression, at: Pair) -> bool:
        if isinstance(node, tree.Transposed):
            return self.pattern(node.operand, at.transposed())
        if isinstance(node, tree.Prefix):
            return not self.pattern(node.operand, at)
        if isinstance(node, tree.SetBuilder):
            a, b = (variable.text for variable in node.variables)
            pair = (at.query, at.key) if a == "q" else (at.row, at.column)
            scope = {**at.scope, a: (pair[0], False), b: (pair[1], False)}
            return self.value(node.predicate, replace(at, scope=scope)) != 0
        if isinstance(node, tree.Heads):
            for branch in node.branches:
                if self.among(branch.heads, at.head, 10**6, at):
                    return self.pattern(branch.pattern, at)
            raise Unsupported
        if isinstance(node, tree.Chain):
            return self.joined(node, at)
        if isinstance(node, tree.Name):
            return self.called(node.text, (), at)
        if isinstance(node, tree.Call):
            return self.called(node.function.text, node.arguments, at)
        raise Unsupported

    def joined(self, node: tree.Chain, at: Pair) -> bool:
        if not set(node.ops) <= set("|&^-"):
            raise Unsupported
        result = self.pattern(node.operands[0], at)
        for op, operand in zip(node.ops, node.operands[1:], strict=True):
            other = self.pattern(operand, at)
            if op == "|":
                result = result or other
            elif op == "&":
                result = result and other
            elif op == "-":
                result = result and not other
            else:
                result = result != other
        return result

    def called(self, name: str, given: tuple[tree.Argument, ...], at: Pair) -> bool:
        if name in self.definitions:
            definition = self.definitions[name]
            scope: dict[str, Number] = {}
            for place, parameter in enumerate(definition.parameters):
                own = parameter.name.text
                values = [
                    argument.value
                    for index, argument in enumerate(given)
                    if (argument.name.text == own if argument.name else index == place)
                ]
                if values:
                    scope[own] = self.number(values[0], at)
                elif parameter.default is not None:
                    scope[own] = self.number(parameter.default, replace(at, scope={}))
            return self.pattern(definition.body, replace(at, scope=scope))
        if name in ("all", "none"):
            return name == "all"
        if name == "causal":
            return at.key <= at.query
        listed = [argument.value for argument in given if argument.name is None]
        named = {argument.name.text: argument.value for argument in given if argument.name}
        method = getattr(self, f"_{name}", None)
        if method is None:
            raise Unsupported
        tokens = any(self.counts_tokens(argument.value, at) for argument in given)
        i, j, rows, cols = (
            (at.query, at.key, at.queries, at.keys) if tokens else (at.row, at.column, at.n, at.m)
        )
        found: bool = method(i, j, rows, cols, listed, named, at)
        return found

    def counts_tokens(self, node: tree.Expression | None, at: Pair) -> bool:
        if isinstance(node, tree.Range):
            return any(self.counts_tokens(x, at) for x in (node.start, node.stop, node.step))
        if node is None or isinstance(node, tree.Boolean | tree.Tuple):
            return False
        return self.number(node, at)[1]

    # ---- numbers -----------------------------------------------------------------------------

    def value(self, node: tree.Expression, at: Pair) -> int:
        number = self.number(node, at)[0]
        if number == math.inf:
            raise Unsupported
        return int(number)

    def number(self, node: tree.Expression, at: Pair) -> Number:
        if isinstance(node, tree.Integer):
            return node.value, node.tokens
        if isinstance(node, tree.Infinity):
            return math.inf, False
        if isinstance(node, tree.Boolean):
            return (1 if node.value else 0), False
        if isinstance(node, tree.Name):
            if node.text in ("len_q", "len_k"):
                return (at.queries if node.text == "len_q" else at.keys), True
            known = {"n": at.n, "m": at.m, "head": at.head, "layer": 0}
            return at.scope[node.text] if node.text in at.scope else (known[node.text], False)
        if isinstance(node, tree.Prefix):
            number, tokens = self.number(node.operand, at)
            return (1 if number == 0 else 0, False) if node.op == "~" else (-number, tokens)
        if isinstance(node, tree.Call):
            numbers = [self.number(argument.value, at) for argument in node.arguments]
            return self.function(node.function.text, [int(x) for x, _ in numbers]), any(
                t for _, t in numbers
            )
        if isinstance(node, tree.Chain):
            return self.chain(node, at)
        raise Unsupported

    def function(self, name: str, x: list[int]) -> int:
        if name in ("min", "max"):
            return sorted(x)[0 if name == "min" else -1]
        if name == "abs":
            return x[0] if x[0] >= 0 else -x[0]
        found = 0
        while (found + 1) ** 2 <= x[0] if name == "isqrt" else 2 ** (found + 1) <= x[0]:
            found += 1
        return found

    def chain(self, node: tree.Chain, at: Pair) -> Number:
        numbers = [self.number(operand, at) for operand in node.operands]
        if node.ops[0] in ("<", "<=", ">", ">=", "==", "!="):
            pairs = zip(node.ops, numbers, numbers[1:], strict=False)
            return (1 if all(_compare(op, a[0], b[0]) for op, a, b in pairs) else 0), False
        value, tokens = int(numbers[0][0]), numbers[0][1]
        for op, (other, of_tokens) in zip(node.ops, numbers[1:], strict=True):
            value = _compute(op, value, int(other))
            tokens = (tokens and not of_tokens) if op == "//" else (tokens or of_tokens)
        return value, tokens

    # ---- primitives --------------------------------------------------------------------------

    def _last(self, i, j, rows, cols, listed, named, at):  # type: ignore[no-untyped-def]
        return 0 <= i - j < self.number((listed or [named.get("w")])[0], at)[0]

    def _every(self, i, j, rows, cols, listed, named, at):  # type: ignore[no-untyped-def]
        s, offset = self.spaced(listed, named, at)
        return j % s == offset % s

    def _strided(self, i, j, rows, cols, listed, named, at):  # type: ignore[no-untyped-def]
        s, offset = self.spaced(listed, named, at)
        return (i - j) % s == offset % s

    def spaced(
        self, listed: list[tree.Expression], named: Mapping[str, tree.Expression], at: Pair
    ) -> tuple[int, int]:
        offset = named["offset"] if "offset" in named else (*listed, None)[1]
        return self.value(listed[0], at), 0 if offset is None else self.value(offset, at)

    def _window(self, i, j, rows, cols, listed, named, at):  # type: ignore[no-untyped-def]
        if "clamp" in named:
            raise Unsupported
        step = self.value(named["step"], at) if "step" in named else 1
        if listed:
            left = right = float((self.value(listed[0], at) - 1) // 2)
        else:
            sides = (named.get("left"), named.get("right"))
            left, right = (0 if side is None else self.number(side, at)[0] for side in sides)
        if "wrap" not in named:
            return (j - i) % step == 0 and -left * step <= j - i <= right * step
        # After `cols` steps the same columns follow again.
        if left == math.inf:
            left = cols if right == math.inf else cols - right
        right = min(right, cols - left)
        return any((i + d * step) % cols == j for d in range(int(-left), int(right) + 1))

    def _diagonals(self, i, j, rows, cols, listed, named, at):  # type: ignore[no-untyped-def]
        return any(self.listed(item, i - j, at) for item in listed)

    def listed(self, item: tree.Expression, x: int, at: Pair) -> bool:
        if not isinstance(item, tree.Range):
            return x == self.value(item, at)
        if item.start is None or item.stop is None:
            raise Unsupported
        step = 1 if item.step is None else self.value(item.step, at)
        return x in range(self.value(item.start, at), self.value(item.stop, at), step)

    def _rows(self, i, j, rows, cols, listed, named, at):  # type: ignore[no-untyped-def]
        return any(self.among(item, i, rows, at) for item in listed)

    def _cols(self, i, j, rows, cols, listed, named, at):  # type: ignore[no-untyped-def]
        return any(self.among(item, j, cols, at) for item in listed)

    def _global(self, i, j, rows, cols, listed, named, at):  # type: ignore[no-untyped-def]
        given = i, j, rows, cols, listed, named, at
        return self._rows(*given) or self._cols(*given)

    def among(self, item: tree.Expression, index: int, size: int, at: Pair) -> bool:
        """Whether an index is one of Python's: negative ones count from the end."""
        if not isinstance(item, tree.Range):
            return index == self.value(item, at) % size
        ends = [None if x is None else self.value(x, at) for x in (item.start, item.stop)]
        step = 1 if item.step is None else self.value(item.step, at)
        return index in range(size)[ends[0] : ends[1] : step]

    def _chunks(self, i, j, rows, cols, listed, named, at):  # type: ignore[no-untyped-def]
        widths = [self.value(width, at) for width in listed]
        back, ahead = (
            self.number(named[side], at)[0] if side in named else 0 for side in ("back", "ahead")
        )
        return -back <= _chunk(j, widths) - _chunk(i, widths) <= ahead

    def _logsparse(self, i, j, rows, cols, listed, named, at):  # type: ignore[no-untyped-def]
        base = self.value(listed[0], at) if listed else 2
        return i - j in {0, *(base**x for x in range(40))}

    def _butterfly(self, i, j, rows, cols, listed, named, at):  # type: ignore[no-untyped-def]
        bits = self.value(listed[0], at) if listed else 40
        return i ^ j in {0, *(2**x for x in range(bits))}


def _chunk(index: int, widths: list[int]) -> int:
    number = 0
    while index >= widths[min(number, len(widths) - 1)]:
        index -= widths[min(number, len(widths) - 1)]
        number += 1
    return number


def _compare(op: str, a: float, b: float) -> bool:
    if op in ("==", "!="):
        return (a == b) is (op == "==")
    if op[0] == "<":
        return a < b or (op == "<=" and a == b)
    return a > b or (op == ">=" and a == b)


def _compute(op: str, a: int, b: int) -> int:
    if op == "&":
        return 1 if a and b else 0
    if op == "|":
        return 1 if a or b else 0
    if op == "^":
        return 1 if (a == 0) != (b == 0) else 0
    if op == "+":
        return a + b
    if op == "-":
        return a - b
    if op == "*":
        return a * b
    if op == "**":
        return int(a**b)
    return a // b if op == "//" else a % b
