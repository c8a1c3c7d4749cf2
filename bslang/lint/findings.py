"""Warnings: what a layout is right to say and is hardly meant to.

W401 a query without keys; W402 later tokens beside `causal`; W403 an operand that changes nothing;
W404 random draws that come to little; W405 blocks where tokens were probably meant. Heads are looked at
together: what only some of them have, as where they share the rows of a sequence out, is no cause for a
warning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce

import numpy as np

from bslang.analysis.pairs import asked, combined, first_pair
from bslang.errors import LimitError, PatternError
from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.graph.lower import lower
from bslang.graph.residual import Join, fold_difference, fold_intersection, fold_union
from bslang.ir.expr import Op
from bslang.ir.fold import Fold
from bslang.ir.grid import Grid
from bslang.ir.heads import Heads
from bslang.ir.pattern import (
    Difference,
    Intersection,
    Pattern,
    Primitive,
    Transpose,
    Union,
)
from bslang.ir.runs import Bools, Runs
from bslang.ir.signature import INFINITE, Count, Range, arguments
from bslang.limits import MAX_HEADS
from bslang.lint.units import Slip, slips

_HEADS = 8  # heads, and layers, that are looked at where a layout depends on them
_FEW, _MANY = 64, 2048  # blocks on a side of the layouts that are looked at
_OPERANDS = 32  # operands of one operator that are compared
_KEPT = 0.75  # share of its draws that `random` is expected to keep


@dataclass(frozen=True)
class Finding:
    """What is odd about a part of a layout; hint: what to write instead; written: the part, put right."""

    code: str
    subject: Pattern
    message: str
    hint: str
    written: Primitive | None = None


def findings(
    pattern: Pattern,
    block: tuple[int, int],
    length: int | None = None,
) -> list[Finding]:
    """What is odd about a layout; only its units where it is undefined at that length, or costs more than the
    budget that is open.

    length: in tokens; left out, the size of a grid, or one that is large beside the numbers of the layout.
    """
    found = [_units(slip, block, length) for slip in slips(pattern, block, length)]
    if length is None:
        length = only_length(pattern, block) or telling_length(pattern, block)
        if length is None or length > _MANY * max(block):
            return found
    return found + _of_graphs(pattern, block, length)


def _units(slip: Slip, block: tuple[int, int], length: int | None) -> Finding:
    passes = "" if length is None else f", more than the sequence of {length:,}"
    sides = "x".join(map(str, block))
    message = f"{slip.blocks:,} counts blocks of {sides} here: {slip.tokens:,} tokens{passes}"
    hint = f"for {slip.blocks:,} tokens write `{slip.written}`"
    return Finding("W405", slip.subject, message, hint, slip.written)


def _of_graphs(pattern: Pattern, block: tuple[int, int], length: int) -> list[Finding]:
    """What the block graphs of a layout show, at one length."""
    by_head: list[tuple[list[Finding], set[Pattern]]] = []
    keyless: Bools | None = None
    try:
        for head in _heads(pattern):
            grid = Grid.of(length, length, block, head=head, layer=head)
            looking = _Looking(grid)
            graph = lower(pattern, grid)
            by_head.append((list(looking.at(pattern, graph)), looking.seen))
            without = _without_keys(graph)
            keyless = without if keyless is None else keyless & without
    except (PatternError, LimitError):
        return []
    assert keyless is not None
    found = [_no_key(pattern, keyless)] if keyless.any() else []
    every = dict.fromkeys(finding for some, _ in by_head for finding in some)
    for finding in every:
        # Every head that has the part at all must show it.
        shows = [{f.subject for f in some if f.code == finding.code} for some, _ in by_head]
        if all(
            finding.subject in shown or finding.subject not in seen
            for shown, (_, seen) in zip(shows, by_head, strict=True)
        ) and not any(f.code == finding.code and f.subject == finding.subject for f in found):
            found.append(finding)
    return found


def only_length(pattern: Pattern, block: tuple[int, int]) -> int | None:
    """The length in tokens that the first grid of a pattern is made for; None without one."""
    for part in pattern.primitives():
        only = part.only_length()
        if only is not None and isinstance(only.value, int):
            return only.value if only.tokens else only.value * block[1]
    return None


def telling_length(pattern: Pattern, block: tuple[int, int]) -> int | None:
    """A length in tokens at which the numbers of a pattern are small; None where it would be too long."""
    side = max(block)
    blocks = [-(-abs(n) // side) if tokens else abs(n) for n, tokens in _numbers(pattern)]
    enough = max([_FEW, *(4 * count for count in blocks)])
    return side * enough if enough <= _MANY else None


def _numbers(pattern: Pattern) -> Iterator[tuple[int, bool]]:
    """Every number of a pattern that stands for a place or a width, and whether it counts tokens."""

    def inside(value: object, tokens: bool) -> Iterator[tuple[int, bool]]:
        if isinstance(value, Count):
            yield from inside(value.value, value.tokens)
        elif isinstance(value, (tuple, Range, Op)):
            parts = value if isinstance(value, tuple) else getattr(value, "args", None)
            for part in value.given if isinstance(value, Range) else parts or ():
                yield from inside(part, tokens)
        elif isinstance(value, int) and not isinstance(value, bool) and abs(value) < INFINITE:
            yield value, tokens

    for primitive in pattern.primitives():
        seeds = {argument.name for argument in arguments(primitive) if argument.seed}
        for name, value in vars(primitive).items():
            if name not in seeds:
                yield from inside(value, primitive.tokens)


def _heads(pattern: Pattern) -> Sequence[int]:
    if not pattern.names() & {"head", "layer"}:
        return (0,)
    firsts = (
        branch.start
        for node in _nodes(pattern)
        if isinstance(node, Heads)
        for branch in node.branches
    )
    # Layers are told apart by numbers: those that a predicate of `layer` has are looked at too.
    told = (
        number
        for primitive in pattern.primitives()
        if "layer" in primitive.names()
        for number, _ in _numbers(primitive)
        if 0 <= number < MAX_HEADS
    )
    return sorted({*range(_HEADS), *list(firsts)[:_OPERANDS], *list(told)[:_OPERANDS]})


def _nodes(pattern: Pattern) -> Iterator[Pattern]:
    yield pattern
    for part in pattern.parts:
        yield from _nodes(part)


# ---- rows without keys -----------------------------------------------------------------------------


def _without_keys(graph: BlockGraph) -> Bools:
    """Which queries see no key: bool (queries,). None where the call decides."""
    grid = graph.grid
    empty = np.ones((grid.n, grid.q.block), dtype=bool)
    empty[graph.row[graph.kind == FULL]] = False
    if any(residual.awaits_call for residual in graph.residuals):
        empty[graph.row] = False
    rows = np.flatnonzero(empty.any(axis=1))
    among = Runs.of_rows(grid.m, rows, np.zeros_like(rows), np.full_like(rows, grid.m))
    for part in asked(graph, among, in_rows=True):
        np.logical_and.at(empty, part.cells // grid.m, ~part.mask.any(axis=2))
    return empty.ravel()[: grid.q.length]


def _no_key(pattern: Pattern, empty: Bools) -> Finding:
    queries = np.flatnonzero(empty)
    first, last = int(queries[0]), int(queries[-1])
    if queries.size == empty.size:
        what = "no query sees any key"
    elif queries.size == 1:
        what = f"query {first} sees no key"
    elif queries.size == last - first + 1:
        what = f"queries {first} to {last} see no key"
    else:
        what = f"{queries.size} queries see no key; the first is {first}"
    hint = "the output of such a query is 0"
    return Finding("W401", pattern, f"{what} (of {empty.size} tokens)", hint)


# ---- the others -------------------------------------------------------------------------------------


class _Looking:
    """Looks for what is odd in the parts of a layout, on the grid of one head."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.seen: set[Pattern] = set()  # what this head has

    def at(self, pattern: Pattern, graph: BlockGraph) -> Iterator[Finding]:
        """What is odd about a layout and its parts, but for queries without keys."""
        self.seen.add(pattern)
        guard = _Guard(self.grid.head)(pattern)
        if guard is not None and not pattern.awaits_call:
            pair = first_pair(graph, ahead=True)
            if pair is not None:
                yield Finding(
                    "W402",
                    pattern,
                    f"query {pair[0]} sees key {pair[1]}, which comes later, though a part is `{guard}`",
                    f"`&` binds tighter than `|`: write `(...) & {guard}` around everything that must be "
                    "causal",
                )
        yield from _Idle(self)(pattern)
        yield from _Draws(self, lambda part: part)(pattern)

    def lower(self, pattern: Pattern) -> BlockGraph:
        return lower(pattern, self.grid)


class _Guard(Fold["Primitive | None"]):
    """The first part that keeps later keys from being seen; None without any."""

    def __init__(self, head: int) -> None:
        self.head = head

    def _first(self, parts: Iterable[Pattern]) -> Primitive | None:
        return next((found for found in map(self, parts) if found is not None), None)

    def _among(self, pattern: Pattern) -> Primitive | None:
        return self._first(pattern.parts)

    union = intersection = xor = _among

    def primitive(self, pattern: Primitive) -> Primitive | None:
        inside = (value for value in vars(pattern).values() if isinstance(value, Pattern))
        return pattern if pattern.guards_future else self._first(inside)

    def difference(self, pattern: Difference) -> Primitive | None:
        return self(pattern.left)

    def _none(self, pattern: Pattern) -> None:
        return None

    complement = transpose = _none

    def heads(self, pattern: Heads) -> Primitive | None:
        return self(pattern.choose(self.head))


class _Idle(Fold[Iterator[Finding]]):
    """Operands that change nothing."""

    def __init__(self, looking: _Looking) -> None:
        self.looking = looking

    def union(self, pattern: Union) -> Iterator[Finding]:
        if self._comparable(pattern):
            yield from self._needless(pattern, "adds nothing to", fold_union)
        yield from self._inside(pattern)

    def intersection(self, pattern: Intersection) -> Iterator[Finding]:
        if self._comparable(pattern):
            yield from self._needless(pattern, "removes nothing from", fold_intersection)
        yield from self._inside(pattern)

    def difference(self, pattern: Difference) -> Iterator[Finding]:
        if self._comparable(pattern):
            yield from self._untouched(pattern)
        yield from self._inside(pattern)

    def _inside(self, pattern: Pattern) -> Iterator[Finding]:
        self.looking.seen.update(pattern.parts)
        for part in pattern.parts:
            yield from self(part)

    xor = complement = _inside

    def primitive(self, pattern: Primitive) -> Iterator[Finding]:
        return iter(())

    def transpose(self, pattern: Transpose) -> Iterator[Finding]:
        self.looking.seen.add(pattern.part)
        return iter(())

    def heads(self, pattern: Heads) -> Iterator[Finding]:
        return self(pattern.choose(self.looking.grid.head))

    def _comparable(self, pattern: Pattern) -> bool:
        return not pattern.awaits_call and len(pattern.parts) <= _OPERANDS

    def _needless(self, pattern: Pattern, verb: str, join: Join) -> Iterator[Finding]:
        """Operands of a union within the others, and of an intersection that hold all of the others."""
        left = [(part, self.looking.lower(part)) for part in pattern.parts]
        for part, graph in reversed(left[:]):
            others = [entry for entry in left if entry[1] is not graph]
            guards = isinstance(part, Primitive) and part.guards_future
            if not others or (guards and join is fold_intersection):
                continue  # `& causal` may stand there to be safe
            rest = reduce(lambda a, b: combined(a, b, join), (other for _, other in others))
            more, less = (graph, rest) if join is fold_union else (rest, graph)
            if first_pair(combined(more, less, fold_difference)) is None:
                left = others
                among = " and ".join(f"`{other}`" for other, _ in others[:3])
                among += " ..." if len(others) > 3 else ""
                yield Finding("W403", part, f"`{part}` {verb} {among}", "leave it out")

    def _untouched(self, pattern: Difference) -> Iterator[Finding]:
        """Operands of a difference that meet nothing of what they are taken from."""
        left = self.looking.lower(pattern.left)
        rights = pattern.right.parts if isinstance(pattern.right, Union) else (pattern.right,)
        self.looking.seen.update(rights)
        for right in rights[:_OPERANDS]:
            met = combined(left, self.looking.lower(right), fold_intersection)
            if first_pair(met) is None:
                message = f"`{right}` removes nothing from `{pattern.left}`"
                yield Finding("W403", right, message, "leave it out")


class _Draws(Fold[Iterator[Finding]]):
    """Random parts that keep little of what they draw; contribution: what the rest leaves of a part."""

    def __init__(self, looking: _Looking, contribution: Callable[[Pattern], Pattern]) -> None:
        self.looking, self.contribution = looking, contribution

    def primitive(self, pattern: Primitive) -> Iterator[Finding]:
        if pattern.drawn_per_row() is not None:
            self.looking.seen.add(pattern)
            yield from self._short(pattern)

    def union(self, pattern: Union) -> Iterator[Finding]:
        for part in pattern.parts:
            yield from self(part)

    def intersection(self, pattern: Intersection) -> Iterator[Finding]:
        for place, operand in enumerate(pattern.parts):
            rest = pattern.parts[:place] + pattern.parts[place + 1 :]
            yield from self._kept(partial(_and, rest), operand)

    def difference(self, pattern: Difference) -> Iterator[Finding]:
        return self._kept(lambda part: Difference.of(part, pattern.right), pattern.left)

    def _nothing(self, pattern: Pattern) -> Iterator[Finding]:
        return iter(())

    xor = complement = transpose = _nothing

    def heads(self, pattern: Heads) -> Iterator[Finding]:
        return self(pattern.choose(self.looking.grid.head))

    def _kept(self, kept: Callable[[Pattern], Pattern], part: Pattern) -> Iterator[Finding]:
        """Look inside an operand of which the others keep some."""
        return _Draws(self.looking, lambda inner: self.contribution(kept(inner)))(part)

    def _short(self, random: Primitive) -> Iterator[Finding]:
        wanted = random.bind(self.looking.grid.env()).drawn_per_row()
        assert isinstance(wanted, int)
        drawn = self.looking.lower(random).blocks_by_row
        kept = self.looking.lower(self.contribution(random)).blocks_by_row
        rows = int((drawn > 0).sum())
        if not rows or kept.sum() >= _KEPT * wanted * rows:
            return
        message = (
            f"`{random}` keeps {kept.sum() / rows:.1f} blocks per row of the {wanted} that it draws"
        )
        if drawn.sum() < _KEPT * wanted * rows:
            hint = "`within` has fewer blocks than that: draw fewer, or widen it"
        else:
            hint = "the rest is removed around it: draw from what remains, as in `random(2, within=causal)`"
        yield Finding("W404", random, message, hint)


def _and(rest: tuple[Pattern, ...], part: Pattern) -> Pattern:
    return Intersection.of(part, *rest)
