"""The parser: what binds to what, where things stand, and that a pattern's text means the pattern."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from bslang import compiler
from bslang.resolve.sources import source_of
from bslang.resources import resource
from bslang.syntax import tree
from bslang.syntax.diagnostics import Diagnostic
from bslang.syntax.parser import TERMINALS
from bslang.syntax.reader import read
from bslang.syntax.source import Source, Span


def parsed(text: str) -> tree.Expression:
    """The one expression of a program."""
    (layout,) = statements(text)
    assert isinstance(layout, tree.Layout)
    return layout.body


def statements(text: str) -> tuple[tree.Statement, ...]:
    file = read(Source("<test>", text))
    assert file.errors == ()
    return file.statements


def shape(node: tree.Expression | None) -> str:
    """An expression with every operator in parentheses of its own."""
    match node:
        case None:
            return ""
        case tree.Name():
            return node.text
        case tree.Integer():
            return f"{node.value}{'t' * node.tokens}"
        case tree.Infinity():
            return "inf"
        case tree.Boolean():
            return str(node.value).lower()
        case tree.Prefix():
            return f"({node.op}{shape(node.operand)})"
        case tree.Transposed():
            return f"({shape(node.operand)}.T)"
        case tree.Range():
            return ":".join(map(shape, (node.start, node.stop, node.step)))
        case tree.Text():
            return f'"{node.value}"'
        case tree.Tuple():
            return f"<{', '.join(map(shape, node.items))}>"
        case tree.SetBuilder():
            first, second = node.variables
            return f"{{{first.text} {second.text} {shape(node.predicate)}}}"
        case tree.Heads():
            branches = (f"{shape(b.heads)} {shape(b.pattern)}" for b in node.branches)
            return f"heads{{{'; '.join(branches)}}}"
        case tree.Call():
            inside = (f"{a.name.text if a.name else ''}={shape(a.value)}" for a in node.arguments)
            return f"{node.function.text}[{', '.join(inside)}]"
        case tree.Chain():
            parts = [shape(node.operands[0])]
            for op, operand in zip(node.ops, node.operands[1:], strict=True):
                parts += [op, shape(operand)]
            return f"({' '.join(parts)})"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a | b ^ c & d - e", "(a | (b ^ (c & (d - e))))"),
        ("a - b & c ^ d | e", "((((a - b) & c) ^ d) | e)"),
        ("a | b | c", "(a | b | c)"),
        ("a - b - c", "(a - b - c)"),
        ("a - (b - c)", "(a - (b - c))"),
        ("~a.T", "(~(a.T))"),
        ("(~a).T", "((~a).T)"),
        ("~a - b", "((~a) - b)"),
        ("~~a & -b", "((~(~a)) & (-b))"),
        ("a.T.T | b", "(((a.T).T) | b)"),
        ("f(3).T", "(f[=3].T)"),
        ("1 + 2 * 3", "(1 + (2 * 3))"),
        ("1 * 2 + 3 // 4 % 5", "((1 * 2) + (3 // 4 % 5))"),
        ("-2 ** 2", "(-(2 ** 2))"),
        ("2 ** -1", "(2 ** (-1))"),
        ("2 ** 3 ** 4", "(2 ** (3 ** 4))"),
        ("-n + m", "((-n) + m)"),
        ("a + 1 < b * 2", "((a + 1) < (b * 2))"),
        ("a < b & c == d", "((a < b) & (c == d))"),
        ("a & b < c", "(a & (b < c))"),
        ("1 // 2 // 3 * 4", "(1 // 2 // 3 * 4)"),
        ("a @ b @ c", "(a @ b @ c)"),
        ("a @ b - c & d", "(((a @ b) - c) & d)"),
        ("~a @ b.T", "((~a) @ (b.T))"),
        ("a @ b ** 2", "(a @ (b ** 2))"),
        ("a.T ** 2", "((a.T) ** 2)"),
        ("0 <= a < b == c", "(0 <= a < b == c)"),
        ("(0 <= a) < b", "((0 <= a) < b)"),
    ],
)
def test_precedence(text: str, expected: str) -> None:
    assert shape(parsed(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("f()", "f[]"),
        ("f(1, x=2t, inf, y=true,)", "f[=1, x=2t, =inf, y=true]"),
        ("f(:, 1:, :2, 1:2, ::3, 1:2:3, :2:3)", "f[=::, =1::, =:2:, =1:2:, =::3, =1:2:3, =:2:3]"),
        ("f(-4:, n - 1:m + 1)", "f[=(-4)::, =(n - 1):(m + 1):]"),
        ("f(a | b, within=~c)", "f[=(a | b), within=(~c)]"),
        ("1_000", "1000"),
        ("007", "7"),
        ("0000000000000000000000000005t", "5t"),
        ("infinity | inform | truest | blocks", "(infinity | inform | truest | blocks)"),
        ("t | x64 | T", "(t | x64 | T)"),
        ("c.sinks | c.near(3).T", "(c.sinks | (c.near[=3].T))"),
        ("c.T | c.T.T | c.Tall", "((c.T) | ((c.T).T) | c.Tall)"),
        ('table("a # b).npy")  # c', 'table[="a # b).npy"]'),
        ('f("")', 'f[=""]'),
        ("grid(4, radius=(1, inf))", "grid[=4, radius=<1, inf>]"),
        ("f((1, (2), (3, 4),))", "f[=<1, 2, <3, 4>>]"),
        ("{i, j : i < j}", "{i j (i < j)}"),
        ("{q,k:q-k<64t}.T", "({q k ((q - k) < 64t)}.T)"),
        ("~{i, j : i == j} & a", "((~{i j (i == j)}) & a)"),
        ("heads { 0:4 -> a; 4: -> b | c }", "heads{0:4: a; 4:: (b | c)}"),
        ("heads { 0 -> a; 1:9:2 -> b; : -> c; }", "heads{0 a; 1:9:2 b; :: c}"),
        ("heads { 0 -> heads { : -> a } }.T", "(heads{0 heads{:: a}}.T)"),
        ("headstrong | as | importing", "(headstrong | as | importing)"),
    ],
)
def test_atoms_and_arguments(text: str, expected: str) -> None:
    assert shape(parsed(text)) == expected


@pytest.mark.parametrize(
    ("text", "sides"),
    [("block 64", (64, 64)), ("block 128x64", (128, 64)), ("  block\t1_024 # big", (1024, 1024))],
)
def test_block_setting(text: str, sides: tuple[int, int]) -> None:
    (setting,) = statements(text)
    assert isinstance(setting, tree.BlockSetting)
    assert setting.sides == sides


@pytest.mark.parametrize("text", ["bsl 1", "  bsl\t01 # the first", "# a comment\n\nbsl 1"])
def test_version(text: str) -> None:
    version, layout = statements(f"{text}\nbsl_1 | bsl2")
    assert isinstance(version, tree.Version)
    assert version.number == 1
    assert isinstance(layout, tree.Layout)


@pytest.mark.parametrize(
    ("text", "path", "name"),
    [
        ('import "common.bsl"', "common.bsl", None),
        ('import "a b/c.bsl" as c', "a b/c.bsl", "c"),
        ('import"as.bsl"as as  # as', "as.bsl", "as"),
    ],
)
def test_imports(text: str, path: str, name: str | None) -> None:
    (found,) = statements(text)
    assert isinstance(found, tree.Import)
    assert found.path.value == path
    assert (found.name and found.name.text) == name


# ---- statements and lines ------------------------------------------------------------------------

FILE = """\
# A file; with a comment ( that opens nothing
block 32

near(w = 3, s) = last(w)   # ) nor closes anything
wide = (near(9, s=1)   # goes on
        | global(
            0, -1,     # indices
          )
        | {i, j :      # a brace goes on, too
            i < j
          }
       )
wide.T
"""


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("last", [True, False], ids=["ended", "open"])
def test_statements_end_with_lines_outside_of_parentheses(end: str, last: bool) -> None:
    text = FILE if last else FILE.rstrip("\n")
    block, near, wide, layout = statements(text.replace("\n", end))
    assert isinstance(block, tree.BlockSetting)
    assert isinstance(near, tree.Definition)
    assert [(p.name.text, p.default and shape(p.default)) for p in near.parameters] == [
        ("w", "3"),
        ("s", None),
    ]
    assert isinstance(wide, tree.Definition)
    assert shape(wide.body) == "(near[=9, s=1] | global[=0, =(-1)] | {i j (i < j)})"
    assert isinstance(layout, tree.Layout)
    assert shape(layout.body) == "(wide.T)"


@pytest.mark.parametrize(
    "text", ["", "\n", "  \n\t\n", "# nothing", "# nothing\n\n#\n", "\r\n\r\n"]
)
def test_nothing_is_no_statement(text: str) -> None:
    assert statements(text) == ()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\xef\xbb\xbfcausal", "byte order mark"),
        (b"block 64\r\ncausal\r\n", "CRLF"),
        (b"block 64\rcausal\r", "CR"),
        (b"# comment\r(causal\r)", "CR in parentheses"),
        ("# für Alice\ncausal".encode(), "text that is not ASCII in a comment"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_of_every_system_are_read(data: bytes, name: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.bsl"
    path.write_bytes(data)
    assert str(compiler.resolve(source_of(path)).pattern) == "causal"


def test_spans_cover_what_was_written() -> None:
    def check(node: tree.Node) -> None:
        written = FILE[node.span.start : node.span.stop]
        inside = [child for child in vars(node).values() if isinstance(child, tree.Node)]
        for value in vars(node).values():
            inside += (
                [v for v in value if isinstance(v, tree.Node)] if isinstance(value, tuple) else []
            )
        inside.sort(key=lambda child: child.span.start)
        for child in inside:
            assert node.span.start <= child.span.start < child.span.stop <= node.span.stop
            check(child)
        for left, right in pairwise(inside):
            assert left.span.stop <= right.span.start
        if isinstance(node, tree.Name):
            assert written == node.text
        if isinstance(node, tree.Integer):
            assert int(written.rstrip("t")) == node.value
        assert written == written.strip()

    for statement in statements(FILE):
        check(statement)


def test_a_span_in_parentheses_includes_them() -> None:
    body = parsed("  (a | b).T  # c")
    assert isinstance(body, tree.Transposed)
    assert body.operand.span == Span(2, 9)
    assert body.span == Span(2, 11)


@pytest.mark.parametrize("text", ["a\nbc\n", "a\nbc", "a\r\nbc\r\n"])
def test_positions(text: str) -> None:
    source = Source("<test>", text)
    assert source.position(0) == (1, 1)
    assert source.position(text.index("c")) == (2, 2)
    assert (source.line(1), source.line(2)) == ("a", "bc")
    last = source.position(len(text))
    assert last == ((3, 1) if text.endswith("\n") else (2, 3))


def test_a_broken_statement_hides_no_other() -> None:
    file = read(Source("<test>", "a = )\nb = window(3)\nc = (all |\nd = 3 3\ncausal"))
    assert [error.code for error in file.errors] == ["E101", "E103", "E101"]
    kinds = [type(s).__name__ for s in file.statements]
    assert kinds == ["Broken", "Definition", "Broken", "Broken", "Layout"]
    assert [s.name for s in file.statements if isinstance(s, tree.Broken)] == ["a", "c", "d"]


# ---- diagnostics ---------------------------------------------------------------------------------


def test_every_terminal_has_a_name_for_people() -> None:
    grammar = resource("grammar", "bsl.lark").read_text(encoding="utf-8")
    named = set(re.findall(r"^([A-Z]+)(?:\.2)?:", grammar, re.MULTILINE))
    signs = {"(": "LPAR", ")": "RPAR", ",": "COMMA", "=": "EQUAL", ":": "COLON"}
    signs |= {"{": "LBRACE", "}": "RBRACE", ";": "SEMICOLON"}
    rules = re.sub(r"^([A-Z.2]+:|//).*$", "", grammar, flags=re.MULTILINE)
    used = {signs[sign] for sign in re.findall(r'"([^"]+)"', rules)}
    assert used == set(signs.values())
    assert set(TERMINALS) == named | used | {"$END"}


@pytest.mark.parametrize(
    ("text", "start", "stop", "lines"),
    [
        ("ab\tcd", 3, 5, ["1 | ab\tcd", "  |   \t^^"]),
        ("x" * 300, 150, 160, [f"1 | {'x' * 100}", f"  | {' ' * 25}{'^' * 10}"]),
        ("x" * 300, 290, 310, [f"1 | {'x' * 100}", f"  | {' ' * 90}{'^' * 10}"]),
        ("a\x1b[31mb\0", 0, 1, ["1 | a?[31mb?", "  | ^"]),
        ("\n" * 99 + "ab", 100, 101, ["100 | ab", "    |  ^"]),
        ("ab\ncd", 0, 5, ["1 | ab", "  | ^^"]),
        ("ab", 2, 3, ["1 | ab", "  |   ^"]),
    ],
    ids=[
        "tab",
        "long line",
        "end of a long line",
        "control characters",
        "line 100",
        "two lines",
        "end",
    ],
)
def test_excerpt(text: str, start: int, stop: int, lines: list[str]) -> None:
    rendered = Diagnostic("E000", "message", Source("<test>", text), Span(start, stop)).render()
    assert rendered.splitlines()[3:] == lines


def test_a_message_is_no_longer_than_anyone_reads() -> None:
    source = Source("<test>", "x" * 100_000)
    rendered = Diagnostic("E000", source.text, source, Span(0, 100_000), "", source.text).render()
    assert len(rendered) < 1500
