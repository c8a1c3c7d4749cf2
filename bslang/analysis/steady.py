"""Layouts that look the same at every length but at their ends: `last(4096t) | cols(0)`, `chunks(16)`.

A layout is *steady* with a period p and a reach r, in tokens, if whether query q sees key k follows from
three things:

- the place of q: how far it is from the first or the last token where that is less than r, else q % p;
- the place of k, likewise;
- k - q where that is less than r in size, else its sign.

At lengths that differ by multiples of p and are long enough for r, such layouts differ only in how often
they repeat what they have in the middle. What is counted of them then follows from short ones (extend.py).

Whether a layout is steady is read from its predicate as a formula. Each number in it is a sum of a linear
form of q, k and the length, and of a rest that is bounded and repeats with the period. A comparison of two
such numbers depends on the sign of their difference: far from where its linear form is 0, the rest changes
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, product
from math import lcm

import numpy as np

from bslang.errors import BslangError
from bslang.ir.bounds import bounds
from bslang.ir.expr import COMPARISONS, Number, Op, Term, Var
from bslang.ir.grid import At, Grid
from bslang.ir.pattern import Pattern
from bslang.ir.predicate import SYMBOLIC, holds
from bslang.limits import MAX_NUMBER

MOST_PIECES = 64
"""Linear forms that one number may be piece by piece, as `min(q, 7)` is two."""

_ZERO = Fraction(0)

_POSITIONS = dict.fromkeys(("q", "k"), (0, MAX_NUMBER)) | dict.fromkeys(
    ("len_q", "len_k", "n", "m"), (1, MAX_NUMBER)
)
"""The bounds of what a predicate may ask."""


@dataclass(frozen=True)
class Steady:
    """What is known of a steady layout, in tokens.

    period, reach: as above. shift: pairs that move along the diagonal by a multiple of it, and the length
    with them, stay in the layout or out of it; None where the ends of the sequence matter, as in `cols(0)`.
    """

    period: int
    reach: int
    shift: int | None


def steady(pattern: Pattern, grid: Grid) -> Steady | None:
    """What is known of a layout on a grid; None where it is not known to be steady.

    The grid has as many queries as keys, and square blocks; it is one of a head and a layer, whatever
    its length.
    """
    whole = (grid.q.start, grid.q.stop) == (0, grid.q.length)
    if grid.q != grid.k or not whole or pattern.awaits_call:
        return None
    names = {"head": grid.head, "layer": grid.layer}
    try:
        meant = pattern.at(names)
        for part in meant.primitives():
            inner = any(isinstance(value, Pattern) for value in vars(part).values())
            if part.drawn or inner or part.only_length() is not None:
                return None
        side = grid.q.block
        said = holds(meant, At.symbolic((side, side)), {**SYMBOLIC, **names})
        walk = _Walk(side)
        walk.truth(said.number if isinstance(said, Term) else said)
    except (_UnsteadyError, BslangError):  # errors are those of the layout at its own length
        return None
    return Steady(walk.period, walk.reach, walk.shift or None)


class _UnsteadyError(Exception):
    """The predicate is not known to be steady."""


@dataclass(frozen=True)
class _Piece:
    """q, k, length times coefficients, and a rest from `low` to `high` that repeats with a period."""

    q: Fraction
    k: Fraction
    length: Fraction
    low: Fraction
    high: Fraction
    period: int = 1

    @classmethod
    def rest(cls, low: int, high: int, period: int = 1) -> _Piece:
        return cls(_ZERO, _ZERO, _ZERO, Fraction(low), Fraction(high), period)

    @property
    def linear(self) -> tuple[Fraction, Fraction, Fraction]:
        return self.q, self.k, self.length

    @property
    def known(self) -> Fraction | None:
        """The number itself where it is the same for all pairs."""
        return self.low if not any(self.linear) and self.low == self.high else None

    def times(self, factor: Fraction) -> _Piece:
        q, k, length = (each * factor for each in self.linear)
        low, high = sorted((self.low * factor, self.high * factor))
        return _Piece(q, k, length, low, high, self.period)

    def plus(self, other: _Piece) -> _Piece:
        q, k, length = (a + b for a, b in zip(self.linear, other.linear, strict=True))
        period = lcm(self.period, other.period)
        return _Piece(q, k, length, self.low + other.low, self.high + other.high, period)


_Pieces = tuple[_Piece, ...]


def _is_certain(op: str, left: Number, right: Number) -> bool:
    """Whether a comparison, `>=` or `<=`, holds for all positions, as `k >= 0` does."""
    try:
        (least, most), (low, high) = (bounds(each, _POSITIONS) for each in (left, right))
    except (ValueError, ArithmeticError):
        return False
    return bool(least >= high if op == ">=" else most <= low)


class _Walk:
    """A walk over a predicate that collects what its comparisons ask of the period and the reach."""

    def __init__(self, side: int) -> None:
        self.side = side
        self.period, self.reach = side, side
        self.shift = 1  # 0 for none
        self._known: dict[Number, _Pieces | None] = {}

    def truth(self, number: Number) -> None:
        """A truth value: raises _UnsteadyError where it is not known to be steady."""
        if not isinstance(number, Op) or number in self._known:
            return
        self._known[number] = None
        if number.op in COMPARISONS:
            left, right = map(self.pieces, number.args)
            if number.args[0] != number.args[1]:  # whatever it is, it equals itself
                self._compare(
                    left, right, _is_certain(">=", number, 1) or _is_certain("<=", number, 0)
                )
        elif number.op in ("&", "|", "^", "not"):
            for arg in number.args:
                self.truth(arg)
        else:
            raise _UnsteadyError

    def _compare(self, left: _Pieces, right: _Pieces, certain: bool = False) -> None:
        """Whichever pieces two numbers are, the sign of their difference is steady.

        certain: whether all positions give one result.
        """
        for a, b in product(left, right):
            apart = a.plus(b.times(Fraction(-1)))
            self.period = lcm(self.period, apart.period)
            if not certain:
                along = sum(apart.linear) == 0
                self.shift = lcm(self.shift, apart.period) if self.shift and along else 0
            sizes = {abs(each) for each in apart.linear if each}
            # Of a place, of the distance of two (or of one from the end), or of the length alone.
            signs = sum(each > 0 for each in apart.linear) - sum(each < 0 for each in apart.linear)
            count = sum(1 for each in apart.linear if each)
            if count and (len(sizes) > 1 or count > 2 or (count == 2 and signs)):
                raise _UnsteadyError
            if count:
                most = max(abs(apart.low), abs(apart.high)) / sizes.pop()
                self.reach = max(self.reach, int(most) + 1)

    def pieces(self, number: Number) -> _Pieces:
        """The linear forms that a number may be, with their rests."""
        if isinstance(number, int | np.integer):  # an argument may have come by way of NumPy
            return (_Piece.rest(int(number), int(number)),)
        if isinstance(number, Var):
            return (self._variable(number.name),)
        assert isinstance(number, Op)
        found = self._known.get(number)
        if found is None:
            found = tuple(dict.fromkeys(islice(self._operation(number), MOST_PIECES + 1)))
            if len(found) > MOST_PIECES:
                raise _UnsteadyError
            self._known[number] = found
        return found

    def _variable(self, name: str) -> _Piece:
        one = Fraction(1)
        if name in ("q", "k"):
            return _Piece(one * (name == "q"), one * (name == "k"), _ZERO, _ZERO, _ZERO)
        if name in ("len_q", "len_k"):
            return _Piece(_ZERO, _ZERO, one, _ZERO, _ZERO)
        if name in ("n", "m"):  # rounded up
            return _Piece(_ZERO, _ZERO, one / self.side, _ZERO, 1 - one / self.side, self.side)
        raise _UnsteadyError

    def _operation(self, number: Op) -> Iterator[_Piece]:
        op = number.op
        if op == "int":
            self.truth(number.args[0])
            yield _Piece.rest(0, 1)
            return
        args = [self.pieces(arg) for arg in number.args]
        if op in ("+", "-"):
            sign = Fraction(1 if op == "+" else -1)
            yield from (a.plus(b.times(sign)) for a, b in product(*args))
        elif op == "*":
            yield from (self._product(a, b) for a, b in product(*args))
        elif op in ("//", "%"):
            yield from (self._divided(op, a, b) for a, b in product(*args))
        elif op in ("min", "max"):
            yield from self._chosen(op, number.args, args)
        elif op == "abs":
            opposite = tuple(piece.times(Fraction(-1)) for piece in args[0])
            yield from self._chosen("max", (number.args[0], 0), (args[0], opposite))
        elif op == "rank":
            for edge in args[1:]:
                self._compare(args[0], edge)
            yield _Piece.rest(0, len(args) - 1)
        else:
            raise _UnsteadyError

    def _chosen(
        self, op: str, numbers: tuple[Number, ...], pieces: Sequence[_Pieces]
    ) -> Iterator[_Piece]:
        """The pieces of the one of two numbers that is the smaller or the larger: of both, unless all
        positions choose one."""
        first, second = (">=", "<=") if op == "max" else ("<=", ">=")
        if _is_certain(first, *numbers):
            yield from pieces[0]
        elif _is_certain(second, *numbers):
            yield from pieces[1]
        else:
            self._compare(pieces[0], self.pieces(numbers[1]))
            yield from (*pieces[0], *pieces[1])

    def _product(self, a: _Piece, b: _Piece) -> _Piece:
        for factor, piece in ((a.known, b), (b.known, a)):
            if factor is not None:
                return piece.times(factor)
        if any(a.linear) or any(b.linear):
            raise _UnsteadyError
        corners = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
        period = lcm(a.period, b.period)
        return _Piece(_ZERO, _ZERO, _ZERO, min(corners), max(corners), period)

    def _divided(self, op: str, a: _Piece, b: _Piece) -> _Piece:
        divisor = b.known
        if divisor is None or divisor < 1:
            raise _UnsteadyError
        by = int(divisor)
        # Where a place moves by so much, the number grows by a multiple of the divisor.
        period = lcm(a.period, by * lcm(*(each.denominator for each in a.linear)))
        if op == "%":
            return _Piece.rest(0, by - 1, period)
        whole = a.times(Fraction(1, by))
        return _Piece(*whole.linear, whole.low - 1 + Fraction(1, by), whole.high, period)
