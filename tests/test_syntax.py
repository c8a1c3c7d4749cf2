"""The parser: what binds to what, where things stand, and that a pattern's text means the pattern."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from bslang import compiler
from bslang.ir.pattern import Pattern
from bslang.limits import MAX_NESTING
from bslang.resources import resource
from bslang.syntax import tree
from bslang.syntax.diagnostics import Diagnostic, SpecError
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


# ---- statements and lines ------------------------------------------------------------------------

FILE = """\
# A file; with a comment ( that opens nothing
block 32

near(w = 3, s) = last(w)   # ) nor closes anything
wide = (near(9, s=1)   # goes on
        | global(
            0, -1,     # indices
          )
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
    assert shape(wide.body) == "(near[=9, s=1] | global[=0, =(-1)])"
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
    assert str(compiler.resolve(compiler.source_of(path)).pattern) == "causal"


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
    named = set(re.findall(r"^([A-Z]+):", grammar, re.MULTILINE))
    signs = {"(": "LPAR", ")": "RPAR", ",": "COMMA", "=": "EQUAL", ":": "COLON"}
    rules = re.sub(r"^([A-Z]+:|//).*$", "", grammar, flags=re.MULTILINE)
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


# ---- the text of a pattern -----------------------------------------------------------------------

PATTERNS = [
    "all",
    "none | causal",
    "window(3)",
    "window(7, step=2)",
    "window(3, wrap=true)",
    "window(6, clamp=true)",
    "window(left=2, right=0)",
    "window(left=inf, right=1)",
    "window(left=512t, right=0)",
    "window(right=n // 2)",
    "last(1) & last(inf)",
    "last(512t)",
    "rows(0, -1) | cols(2:5, ::3)",
    "cols(0:4t) - rows(-8t:)",
    "cols(0t:64t:4t)",
    "cols(:) ^ rows(n - 4:, 2:n:n)",
    "global(0, -1)",
    "diagonals(0, 1, 7)",
    "diagonals(-3:4, 5::2)",
    "diagonals(64t, 0t:32t:8t)",
    "random(2)",
    "random(isqrt(n), seed=7)",
    "random(3, seed=-1, within=causal - window(3))",
    "random(2, within=random(4, seed=1) | last(2))",
    "chunks(4)",
    "chunks(1, 3, back=inf, ahead=2)",
    "chunks(100t, 28t)",
    "strided(4) | strided(8, 3)",
    "every(4, offset=3)",
    "every(64t)",
    "~causal",
    "~~causal.T.T",
    "~(causal | all).T",
    "(~causal).T",
    "all - (causal - (last(2) - last(1)))",
    "all - causal - last(2)",
    "(all | causal) & (last(2) ^ last(1)) - none",
    "all & causal ^ none | last(1) & last(2)",
    "last(n - 1 - (m - 1))",
    "last(-n + 100)",
    "last(2 ** (n % 3) * (m + 1))",
    "last((n - 100) ** 2 ** 2)",
    "last(min(n, m, 7) + max(abs(n - 9), log2(n)))",
    "last(1 + (n > 8) + (m <= 4) * (n == m) - (n != m))",
    "last(n * 64t) | last((n + 1) * 2t)",
    "last((n < 3) < 2)",
]


@pytest.mark.parametrize("text", PATTERNS)
def test_the_text_of_a_pattern_means_the_pattern(text: str) -> None:
    pattern = _pattern(text)
    again = _pattern(str(pattern))
    assert again == pattern
    assert str(again) == str(pattern)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("  window( 3 ,step = 1_0 )# c", "window(3, step=10)"),
        ("((all)) | (none | causal)", "all | none | causal"),
        ("all - causal - last(2)", "all - (causal | last(2))"),
        ("every(4, offset=3)", "every(4, 3)"),
        ("last(2 + 3 * 4)", "last(14)"),
        ("window(w=3, clamp=false)", "window(3)"),
        ("cols(0:4t)", "cols(0t:4t)"),
        ("last(n + 0) | last(1 * m)", "last(n) | last(m)"),
    ],
)
def test_canonical_text(text: str, canonical: str) -> None:
    assert str(_pattern(text)) == canonical


@pytest.mark.parametrize(
    "level",
    [
        "~({})",
        "({} - causal).T",
        "all - causal - ({})",
        "random(2, within={})",
        "last(n * 1t) & ({})",
    ],
)
def test_what_is_accepted_can_be_written_out_and_read_again(level: str) -> None:
    """A generated module holds its pattern as text: what passes the limits must still pass as text."""
    text, deepest = "causal", "causal"
    for _ in range(MAX_NESTING):
        text = level.format(text)
        try:
            deepest = str(_pattern(text))
        except SpecError as error:
            assert {d.code for d in error.diagnostics} == {"E191"}
            break
    else:
        pytest.fail("no limit was passed")
    assert str(_pattern(deepest)) == deepest


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        ("window(3) | global(0, -1) | random(2, seed=7)", "b3f46e2965540397"),
        ("(last(16) | cols(0:4t)) & causal", "1f8a0e89f759f3bb"),
        ("block 128x64\ncausal", "cd110a9b96da98fb"),
    ],
)
def test_digests_never_change(text: str, digest: str) -> None:
    """They name layouts in caches and checkpoints: equal text and block, equal digest, in any release."""
    resolved = compiler.resolve(Source("<test>", text))
    assert compiler.digest(resolved) == digest
    canonical = compiler.resolve(Source("<test>", str(resolved.pattern)), block=resolved.block)
    assert compiler.digest(canonical) == digest
    other = compiler.resolve(Source("<test>", text), block=32)
    assert compiler.digest(other) != digest


def _pattern(text: str) -> Pattern:
    return compiler.resolve(Source("<test>", text)).pattern
