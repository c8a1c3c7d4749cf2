"""Linear forms a * query + b * key + c of numbers in a predicate, and where comparisons of them hold."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from bslang.ir.expr import COMPARISONS, Number, Op, Var
from bslang.ir.grid import Grid, Ints
from bslang.ir.pattern import Decided
from bslang.ir.runs import Runs
from bslang.limits import MAX_NUMBER


def linear(number: Number, names: tuple[str, str]) -> tuple[int, int, int] | None:
    """(a, b, c) where a number is a * query + b * key + c; None where it is no such form."""
    if isinstance(number, Var) and number.name in names:
        return (1, 0, 0) if number.name == names[0] else (0, 1, 0)
    if isinstance(number, int):
        return 0, 0, int(number)
    if not isinstance(number, Op) or number.op not in ("+", "-", "*"):
        return None
    left, right = (linear(arg, names) for arg in number.args)
    if left is None or right is None:
        return None
    if number.op == "*":
        if any(left[:2]) and any(right[:2]):
            return None
        form, factor = (left, right[2]) if any(left[:2]) else (right, left[2])
        made = form[0] * factor, form[1] * factor, form[2] * factor
    else:
        sign = 1 if number.op == "+" else -1
        a, b, c = (x + sign * y for x, y in zip(left, right, strict=True))
        made = a, b, c
    return made if max(map(abs, made)) <= MAX_NUMBER else None


def depends_on(number: Number, names: tuple[str, str]) -> str | None:
    """What alone a number depends on: neither index, one of them, or their difference."""
    form = linear(number, names)
    if form is not None:
        a, b, _ = form
        if a == b == 0:
            return "neither"
        if a == 0 or b == 0:
            return "row" if b == 0 else "col"
        return "difference" if a == -b else None
    if not isinstance(number, Op):
        return "neither"  # a name that is bound when lowering, to one number for all pairs
    if number.op in COMPARISONS:  # only what stands between the two sides counts
        between = Op("-", number.args)
        if linear(between, names) is not None:
            return depends_on(between, names)
    forms = {depends_on(arg, names) for arg in number.args} - {"neither"}
    return (forms.pop() if forms else "neither") if len(forms) < 2 else None


def against_zero(number: Number, names: tuple[str, str]) -> tuple[str, tuple[int, int, int]] | None:
    """A comparison of linear forms as (operator, (a, b, c)): a * query + b * key + c against 0."""
    if isinstance(number, Op) and number.op in COMPARISONS:
        form = linear(Op("-", number.args), names)
        return None if form is None else (number.op, form)
    return None


def where_holds(predicate: Number, names: tuple[str, str], start: int, stop: int) -> Runs | None:
    """Where a comparison of linear forms holds while the first name runs from start to stop - 1."""
    sides = against_zero(predicate, names)
    if sides is None:
        return None
    op, (a, _, c) = sides
    if a == 0:
        return None
    if op in ("==", "!="):
        at = -c // a if -c % a == 0 else start - 1
        low, high = at, at
    else:
        if op in (">", ">="):
            a, c = -a, -c
        c += op in ("<", ">")  # a * x + c <= 0
        low, high = (start, -c // a) if a > 0 else (-(c // a), stop - 1)
    low, high = max(low, start), min(high, stop - 1)
    some = low <= high
    width = stop - start
    ends = np.array([low - start] * some), np.array([high + 1 - start] * some)
    held = Runs(width, *(end.astype(np.int64) for end in ends))
    whole = Runs(width, np.array([0]), np.array([width]))
    return whole - held if op == "!=" else held


def half_planes(grid: Grid, tokens: bool, op: str, form: tuple[int, int, int]) -> Decided:
    """The blocks where a * query + b * key + c compares with 0, for a and b that are not 0."""
    a, b, c = form
    if op in ("==", "!="):
        met = reduce(
            lambda x, y: Decided(x.must & y.must, x.may & y.may),
            (half_planes(grid, tokens, sign, form) for sign in ("<=", ">=")),
        )
        if op == "!=":
            domain = Runs.domain(grid)
            met = Decided(domain - met.may, domain - met.must)
        return Decided(met.must, met.may, exact=not tokens)
    if op in (">", ">="):
        a, b, c = -a, -b, -c
    c += op in ("<", ">")  # a * query + b * key + c <= 0
    rows = np.arange(grid.q.first, grid.n, dtype=np.int64)
    low, high = grid.q.spans() if tokens else (rows, rows)
    least, most = (a * low + c, a * high + c) if a > 0 else (a * high + c, a * low + c)
    cut = grid.k.touched if tokens else _cells(grid)
    cover = grid.k.covered if tokens else _cells(grid)

    def keys(value: Ints) -> tuple[Ints, Ints]:
        """The keys with b * key <= -value."""
        far = np.full_like(value, grid.k.size(tokens))
        return (-far, -value // b) if b > 0 else (-(value // b), far)

    may = Runs.of_rows(grid.m, rows, *cut(*keys(least))) & Runs.domain(grid)
    must = Runs.of_rows(grid.m, rows, *cover(*keys(most))) & Runs.domain(grid)
    return Decided(must, may)


def _cells(grid: Grid) -> Any:
    return lambda low, high: (np.maximum(low, 0), np.minimum(high + 1, grid.m))
