"""Which loop of a kernel's source a loop of its machine code comes from."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_Loop = ast.For | ast.While


@dataclass(frozen=True)
class Origin:
    """A loop of the source: its first line, and the comment over it, or over the loop around it."""

    line: int
    comment: str


def origin(
    source: str, kernel: str, lines: Iterable[int], inlined: Iterable[Sequence[int]] = ()
) -> Origin | None:
    """The innermost loop of a kernel that most of some lines of it lie in; None where there is none.

    source: of the module; lines: of the instructions; those outside of the kernel say nothing. inlined: the
    lines on the way to each: a loop of a function that the kernel calls is found by these, where the
    kernel's own loops are not it (its partitions are such functions).
    """
    tree = ast.parse(source)
    body = next(
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == kernel
    )
    votes = Counter(line for line in lines if _holds(body, line))
    most = sum(votes.values()) / 2
    around = [
        node
        for node in ast.walk(body)
        if isinstance(node, _Loop) and sum(n for at, n in votes.items() if _holds(node, at)) > most
    ]
    around.sort(key=lambda node: node.lineno, reverse=True)  # the innermost first
    around = around or _called(tree, inlined)
    if not around:
        return None
    rows = source.splitlines()
    comments = (_comment(rows, node.lineno - 1) for node in around)
    text = next(filter(None, comments), rows[around[0].lineno - 1].strip().rstrip(":"))
    return Origin(around[0].lineno, text)


def _called(tree: ast.Module, inlined: Iterable[Sequence[int]]) -> list[ast.For | ast.While]:
    """The loops of any function that most instructions lie in, the innermost first."""
    votes = Counter(tuple(lines) for lines in inlined if lines)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, _Loop):
            held = sum(n for lines, n in votes.items() if any(_holds(node, at) for at in lines))
            if held > sum(votes.values()) / 2:
                found.append((held, -node.lineno, node))
    return [node for _, _, node in sorted(found, key=lambda each: each[:2])]


def _holds(node: ast.stmt, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)


def _comment(rows: list[str], row: int) -> str:
    """The nearest comment over a row, behind the last empty line, in one line."""
    found: list[str] = []
    for line in map(str.strip, reversed(rows[:row])):
        if line.startswith("#"):
            found.append(line.lstrip("# "))
        elif found or not line:
            break
    return " ".join(reversed(found))
