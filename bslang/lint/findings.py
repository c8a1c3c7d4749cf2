"""Warnings: what a layout is right to say and is hardly meant to.

W401 a query without keys; W402 later tokens beside `causal`; W403 an operand that changes nothing;
W404 random draws that come to little. Heads are looked at together: what only some of them have, as
where they share the rows of a sequence out, is no cause for a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from bslang.analysis.pairs import asked, combined, first_pair
from bslang.errors import LimitError, PatternError
from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.graph.lower import lower
from bslang.graph.residual import Fold, fold_difference, fold_intersection, fold_union
from bslang.ir.expr import Op
from bslang.ir.grid import Grid
from bslang.ir.heads import Heads
from bslang.ir.pattern import (
    Complement,
    Difference,
    Intersection,
    Pattern,
    Primitive,
    Transpose,
    Union,
)
from bslang.ir.runs import Bools, Runs
from bslang.ir.signature import INFINITE, Count, Range
from bslang.limits import MAX_HEADS

_HEADS = 8  # heads, and layers, that are looked at where a layout depends on them
_FEW, _MANY = 64, 2048  # blocks on a side of the layouts that are looked at
_OPERANDS = 32  # operands of one operator that are compared
_KEPT = 0.75  # share of its draws that `random` is expected to keep


@dataclass(frozen=True)
class Finding:
    """What is odd about a part of a layout; hint: what to write instead."""

    code: str
    subject: Pattern
    message: str
    hint: str


class Budget:
    """How much is lowered in search of warnings: they may not cost more than the check itself."""

    def __init__(self, layouts: int = 400, runs: int = 2**21) -> None:
        self._layouts, self._runs = layouts, runs

    @property
    def spent(self) -> bool:
        return self._layouts <= 0 or self._runs <= 0

    def lower(self, pattern: Pattern, grid: Grid) -> BlockGraph:
        """As `lower`; LimitError where the budget is spent."""
        if self.spent:
            raise LimitError("Budget", 0, "the search for warnings")
        graph = lower(pattern, grid)
        self._layouts -= 1
        self._runs -= graph.start.size
        return graph


def findings(
    pattern: Pattern,
    block: tuple[int, int],
    length: int | None = None,
    budget: Budget | None = None,
) -> list[Finding]:
    """What is odd about a layout; nothing where it means nothing at that length, or costs too much.

    length: in tokens; left out, one that is large beside the numbers of the layout.
    """
    length = length or telling_length(pattern, block)
    budget = budget or Budget()
    if length is None:
        return []
    by_head: list[tuple[list[Finding], set[Pattern]]] = []
    keyless: Bools | None = None
    try:
        for head in _heads(pattern):
            grid = Grid.of(length, length, block, head=head, layer=head)
            looking = _Looking(budget, grid)
            graph = budget.lower(pattern, grid)
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
        for name, value in vars(primitive).items():
            if name != "seed":
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
    """Which queries see no key: bool (queries,). None where labels decide."""
    grid = graph.grid
    empty = np.ones((grid.n, grid.q.block), dtype=bool)
    empty[graph.row[graph.kind == FULL]] = False
    if _labelled(*graph.residuals):
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

    def __init__(self, budget: Budget, grid: Grid) -> None:
        self._budget, self._grid = budget, grid
        self.seen: set[Pattern] = set()  # what this head has

    def at(self, pattern: Pattern, graph: BlockGraph) -> Iterator[Finding]:
        """What is odd about a layout and its parts, but for queries without keys."""
        self.seen.add(pattern)
        if _has_causal_part(pattern, self._grid.head) and not _labelled(pattern):
            pair = first_pair(graph, ahead=True)
            if pair is not None:
                yield Finding(
                    "W402",
                    pattern,
                    f"query {pair[0]} sees key {pair[1]}, which comes later, though a part is `causal`",
                    "`&` binds tighter than `|`: write `(...) & causal` around all that has to be causal",
                )
        yield from self._idle(pattern)
        yield from self._draws(pattern, lambda part: part)

    def _idle(self, pattern: Pattern) -> Iterator[Finding]:
        """Operands that change nothing."""
        if isinstance(pattern, Heads):
            yield from self._idle(pattern.choose(self._grid.head))
            return
        if isinstance(pattern, Primitive):
            return
        self.seen.update(pattern.parts)
        if not _labelled(pattern) and len(pattern.parts) <= _OPERANDS:
            if isinstance(pattern, Union):
                yield from self._needless(pattern, "adds nothing to", fold_union, "leave it out")
            elif isinstance(pattern, Intersection):
                yield from self._needless(
                    pattern, "takes nothing away from", fold_intersection, "leave it out"
                )
            elif isinstance(pattern, Difference):
                yield from self._untouched(pattern)
        for part in pattern.parts:
            if not isinstance(pattern, Transpose):
                yield from self._idle(part)

    def _needless(self, pattern: Pattern, verb: str, fold: Fold, hint: str) -> Iterator[Finding]:
        """Operands of a union within the others, and of an intersection that hold all of the others."""
        left = [(part, self._budget.lower(part, self._grid)) for part in pattern.parts]
        for part, graph in reversed(left[:]):
            others = [entry for entry in left if entry[1] is not graph]
            if not others or (_is_causal(part) and fold is fold_intersection):
                continue  # `& causal` may stand there to be safe
            rest = reduce(lambda a, b: combined(a, b, fold), (other for _, other in others))
            more, less = (graph, rest) if fold is fold_union else (rest, graph)
            if first_pair(combined(more, less, fold_difference)) is None:
                left = others
                among = " and ".join(f"`{other}`" for other, _ in others[:3])
                among += " ..." if len(others) > 3 else ""
                yield Finding("W403", part, f"`{part}` {verb} {among}", hint)

    def _untouched(self, pattern: Difference) -> Iterator[Finding]:
        """Operands of a difference that meet nothing of what they are taken from."""
        left = self._budget.lower(pattern.left, self._grid)
        rights = pattern.right.parts if isinstance(pattern.right, Union) else (pattern.right,)
        self.seen.update(rights)
        for right in rights[:_OPERANDS]:
            met = combined(left, self._budget.lower(right, self._grid), fold_intersection)
            if first_pair(met) is None:
                message = f"`{right}` takes nothing away from `{pattern.left}`"
                yield Finding("W403", right, message, "leave it out")

    def _draws(
        self, pattern: Pattern, contribution: Callable[[Pattern], Pattern]
    ) -> Iterator[Finding]:
        """Random parts that keep little of what they draw; contribution: what the rest leaves of a part."""
        if isinstance(pattern, Heads):
            yield from self._draws(pattern.choose(self._grid.head), contribution)
        elif isinstance(pattern, Union):
            for part in pattern.parts:
                yield from self._draws(part, contribution)
        elif isinstance(pattern, Difference):
            right = pattern.right
            yield from self._draws(
                pattern.left, lambda part: contribution(Difference.of(part, right))
            )
        elif isinstance(pattern, Intersection):
            for place, operand in enumerate(pattern.parts):
                rest = pattern.parts[:place] + pattern.parts[place + 1 :]

                def kept(part: Pattern, rest: tuple[Pattern, ...] = rest) -> Pattern:
                    return contribution(Intersection.of(part, *rest))

                yield from self._draws(operand, kept)
        elif isinstance(pattern, Primitive) and pattern.name == "random":
            self.seen.add(pattern)
            yield from self._short(pattern, contribution(pattern))

    def _short(self, random: Primitive, contribution: Pattern) -> Iterator[Finding]:
        k = vars(random.bind(self._grid.env()))["k"]
        drawn = self._budget.lower(random, self._grid).blocks_by_row
        kept = self._budget.lower(contribution, self._grid).blocks_by_row
        rows = int((drawn > 0).sum())
        if not rows or kept.sum() >= _KEPT * k * rows:
            return
        message = f"`{random}` keeps {kept.sum() / rows:.1f} blocks a row, where {k} are asked for"
        if drawn.sum() < _KEPT * k * rows:
            hint = "`within` has fewer blocks than that: draw fewer, or widen it"
        else:
            hint = "the rest is taken away around it: draw from what stays, as in `random(2, within=causal)`"
        yield Finding("W404", random, message, hint)


def _is_causal(pattern: Pattern) -> bool:
    return isinstance(pattern, Primitive) and pattern.name == "causal"


def _has_causal_part(pattern: Pattern, head: int) -> bool:
    """Whether `causal` stands somewhere in it to keep keys from being seen."""
    if isinstance(pattern, Heads):
        return _has_causal_part(pattern.choose(head), head)
    if isinstance(pattern, Difference):
        return _has_causal_part(pattern.left, head)
    if isinstance(pattern, (Complement, Transpose)):
        return False
    inside = (value for value in vars(pattern).values() if isinstance(value, Pattern))
    return _is_causal(pattern) or any(
        _has_causal_part(part, head) for part in (*pattern.parts, *inside)
    )


def _labelled(*patterns: Pattern) -> bool:
    return any(p.labelled for pattern in patterns for p in pattern.primitives())
