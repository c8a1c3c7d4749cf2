"""What patterns await of a call, and what a call's ranges say of a whole residual."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from bslang.inputs import BOTH, Inputs, Label, Selection
from bslang.ir.expr import Number
from bslang.ir.fold import Fold
from bslang.ir.heads import Heads
from bslang.ir.pattern import (
    Complement,
    Difference,
    Intersection,
    Pattern,
    Primitive,
    Transpose,
    Union,
    Xor,
)
from bslang.ir.ranges import Cells, Known, Ranges, all_of, any_of, none_of


class Conflict(Exception):
    """A name that a layout reads in two ways that no one value has. subject: what reads it otherwise than
    parts before it."""

    def __init__(self, message: str, hint: str, subject: Primitive) -> None:
        super().__init__(message)
        self.message, self.hint, self.subject = message, hint, subject


def inputs(block: tuple[int, int], *patterns: Pattern) -> Inputs:
    """What the calls of some patterns give, in the order of its first appearance. Raises Conflict."""
    found = _Found(block)
    for pattern in patterns:
        _Inputs(found, False)(pattern)
    return Inputs(tuple(found.labels.values()), tuple(found.selections))


def label_names(*patterns: Pattern) -> tuple[str, ...]:
    """Names of the run-time labels that patterns compare, in the order of their first appearance."""
    given = (each for p in patterns for part in p.primitives() for each in part.awaited())
    return tuple(dict.fromkeys(each.name for each in given if isinstance(each, Label)))


def equal_names(*patterns: Pattern) -> tuple[str, ...]:
    """Names of the labels of which some part asks only which are equal, as documents are."""
    given = (each for p in patterns for part in p.primitives() for each in part.awaited())
    found = (each.name for each in given if isinstance(each, Label) and not each.ordered)
    return tuple(dict.fromkeys(found))


def said(*patterns: Pattern) -> str:
    """What patterns await of a call, in words: "labels", "selections", "labels and selections"; empty for
    nothing."""
    given = {type(x) for p in patterns for part in p.primitives() for x in part.awaited()}
    names = {Label: "labels", Cells: "selections"}
    return " and ".join(name for kind, name in names.items() if kind in given)


@dataclass
class _Found:
    block: tuple[int, int]
    labels: dict[str, Label] = field(default_factory=dict)
    selections: dict[Selection, None] = field(default_factory=dict)

    def add(self, given: Label | Cells, turned: bool, subject: Primitive) -> None:
        if isinstance(given, Cells):
            self._select(given.selection(self.block, turned), subject)
            return
        sides = {"q": "k", "k": "q"}.get(given.sides, given.sides) if turned else given.sides
        known = self.labels.get(given.name)
        if known is None:
            self.labels[given.name] = replace(given, sides=sides)
            return
        if (known.sides == "b") != (sides == "b"):
            name = given.name
            raise Conflict(
                f"`{name}[b]` is a number of the batch row, and `{name}` has one for each token elsewhere",
                "give them two names",
                subject,
            )
        both = known.sides if known.sides == sides else BOTH
        self.labels[given.name] = Label(given.name, both, known.ordered or given.ordered)

    def _select(self, made: Selection, subject: Primitive) -> None:
        for other in self.selections:
            if other.name == made.name and (other.rows, other.cols) != (made.rows, made.cols):
                raise Conflict(
                    f"`{made.name}` is read in cells of {other.rows}x{other.cols} tokens and of "
                    f"{made.rows}x{made.cols}, and a call gives one value",
                    "give them two names, or the same `rows` and `cols`",
                    subject,
                )
        self.selections[made] = None


class _Inputs(Fold[None]):
    def __init__(self, found: _Found, turned: bool) -> None:
        self.found, self.turned = found, turned

    def primitive(self, pattern: Primitive) -> None:
        for part in pattern.primitives():
            for given in part.awaited():
                self.found.add(given, self.turned, part)

    def _each(self, pattern: Pattern) -> None:
        for part in pattern.parts:
            self(part)

    union = intersection = xor = complement = _each

    def difference(self, pattern: Difference) -> None:
        self._each(pattern)

    def heads(self, pattern: Heads) -> None:
        self._each(pattern)

    def transpose(self, pattern: Transpose) -> None:
        _Inputs(self.found, not self.turned)(pattern.part)


# ---- blocks at the call --------------------------------------------------------------------------


def known(residual: Pattern, ranges: Ranges, env: Mapping[str, Number]) -> Known:
    """Whether surely every pair of a block of a residual belongs, and whether any may: truth values over
    the names of `ranges`, numbers being bound in `env`."""
    return _Known(ranges, env)(residual)


class _Known(Fold[Known]):
    def __init__(self, ranges: Ranges, env: Mapping[str, Number]) -> None:
        self.ranges, self.env = ranges, env

    def primitive(self, pattern: Primitive) -> Known:
        return pattern.bind(self.env).known(self.ranges)

    def union(self, pattern: Union) -> Known:
        return any_of(self.parts(pattern))

    def intersection(self, pattern: Intersection) -> Known:
        return all_of(self.parts(pattern))

    def xor(self, pattern: Xor) -> Known:
        found, *others = self.parts(pattern)
        for other in others:
            apart = all_of([found, none_of(other)]), all_of([none_of(found), other])
            found = any_of(list(apart))
        return found

    def difference(self, pattern: Difference) -> Known:
        return all_of([self(pattern.left), none_of(self(pattern.right))])

    def complement(self, pattern: Complement) -> Known:
        return none_of(self(pattern.part))

    def transpose(self, pattern: Transpose) -> Known:
        env = self.env
        mirrored = {"n": env["m"], "m": env["n"], "len_q": env["len_k"], "len_k": env["len_q"]}
        return _Known(self.ranges.transposed(), {**env, **mirrored})(pattern.part)

    def heads(self, pattern: Heads) -> Known:
        raise AssertionError(f"`{pattern}` in a residual")
