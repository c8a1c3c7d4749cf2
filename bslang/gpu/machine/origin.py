"""Which loop of a kernel's source a loop of its machine code comes from."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

_Loop = ast.For | ast.While


@dataclass(frozen=True)
class Origin:
    """A loop of the source: its first line, and the comment over it, or over the loop around it."""

    line: int
    comment: str


def origin(source: str, kernel: str, lines: Iterable[int]) -> Origin | None:
    """The innermost loop of a kernel that most of some lines of it lie in; None where there is none.

    source: of the module; lines: of the instructions; those outside of the kernel say nothing.
    """
    body = next(
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef) and node.name == kernel
    )
    votes = Counter(line for line in lines if _holds(body, line))
    most = sum(votes.values()) / 2
    around = [
        node
        for node in ast.walk(body)
        if isinstance(node, _Loop) and sum(n for at, n in votes.items() if _holds(node, at)) > most
    ]
    if not around:
        return None
    around.sort(key=lambda node: node.lineno, reverse=True)  # the innermost first
    rows = source.splitlines()
    comments = (_comment(rows, node.lineno - 1) for node in around)
    text = next(filter(None, comments), rows[around[0].lineno - 1].strip().rstrip(":"))
    return Origin(around[0].lineno, text)


def _holds(node: ast.stmt, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)


def _comment(rows: list[str], row: int) -> str:
    """The comments over a row, from the last empty line on, in one line."""
    first = row
    while first and rows[first - 1].strip():
        first -= 1
    lines = (line.strip() for line in rows[first:row])
    return " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))
