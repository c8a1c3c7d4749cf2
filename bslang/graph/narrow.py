"""Narrowing: parts of a pattern with much work are lowered only where the others leave blocks open.

`last(64t) & {q, k : (q * 7 + k) % 5 < 2}` has two open blocks in each row, and the formula is asked of these.
Which parts have much work they say themselves (`Primitive.work`); what has little is lowered whole, and once.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TypeVar

from bslang.errors import PatternError
from bslang.ir.fold import Fold
from bslang.ir.grid import Grid
from bslang.ir.heads import Heads
from bslang.ir.pattern import Decided, Inside, Lower, Pattern, Primitive, Transpose
from bslang.ir.runs import Runs

T = TypeVar("T")

SHARE = 2
"""A part that has so many times the work of looking at the runs left open is lowered for these alone."""

MUCH = 64
"""Runs for each row beyond which a part is not lowered where it changes nothing, as `strided(168t)` beside
`strided(24t)`."""


class Known:
    """What one lowering has found of the primitives of its pattern, on each grid.

    nonempty, inside: as primitives take them (`Lower`, `Inside`).
    """

    def __init__(self, nonempty: Lower, inside: Inside) -> None:
        self.nonempty, self.inside = nonempty, inside
        self._bound: dict[tuple[Primitive, Grid], Primitive] = {}
        self._decided: dict[tuple[Primitive, Grid], Decided] = {}
        self._within: dict[tuple[Primitive, Grid], list[tuple[Runs, Decided]]] = {}
        self._exact: dict[tuple[Primitive, Grid], bool] = {}

    def bound(self, primitive: Primitive, grid: Grid) -> Primitive:
        """A primitive with its numbers evaluated."""
        key = (primitive, grid)
        if key not in self._bound:
            bound = primitive.bind(grid.env())
            try:
                bound.fits(grid)
            except PatternError as error:
                error.subject = primitive
                raise
            self._bound[key] = bound
        return self._bound[key]

    def primitive(self, primitive: Primitive, grid: Grid, within: Runs | None = None) -> Decided:
        """What a primitive says of the blocks of a grid; of some of them only, where all are much work."""
        key = (primitive, grid)
        if key not in self._decided:
            bound = self.bound(primitive, grid)
            if within is not None and bound.work(grid) > SHARE * within.start.size:
                return self._narrowed(key, bound, within)
            self._decided[key] = bound.decided(grid, self.nonempty, self.inside)
            self._exact[key] = self._decided[key].exact
        return self._decided[key]

    def _narrowed(self, key: tuple[Primitive, Grid], bound: Primitive, within: Runs) -> Decided:
        for asked, found in self._within.get(key, ()):
            if not within - asked:
                return found
        found = bound.blocks_within(key[1], self.nonempty, within)
        self._within.setdefault(key, []).append((within, found))
        self._exact[key] = self._exact.get(key, True) and found.exact
        return found

    def exact(self, primitive: Primitive, grid: Grid) -> bool:
        """Whether every block that a primitive leaves undecided is known to have pairs of both kinds."""
        if (primitive, grid) not in self._exact:
            self.primitive(primitive, grid)
        return self._exact[primitive, grid]


class _Work(Fold[int]):
    """About how many runs and pairs of blocks lowering a pattern goes through, beside a few for each row."""

    def __init__(self, grid: Grid, known: Known) -> None:
        self.grid, self.known = grid, known

    def primitive(self, pattern: Primitive) -> int:
        meant = pattern.expand()
        if meant is not pattern:
            return self(meant)
        return self.known.bound(pattern, self.grid).work(self.grid)

    def _most(self, pattern: Pattern) -> int:
        return max(self.parts(pattern))

    union = intersection = xor = difference = complement = _most

    def transpose(self, pattern: Transpose) -> int:
        return _Work(self.grid.transposed(), self.known)(pattern.part)

    def heads(self, pattern: Heads) -> int:
        return self(pattern.choose(self.grid.head))


class Narrowed(Fold[T]):
    """A walk that lowers parts with little work first, and others where these leave blocks open.

    within: the blocks that count, None for all. What is found of other blocks may be anything.
    """

    def __init__(self, grid: Grid, known: Known, within: Runs | None = None) -> None:
        self.grid, self.known, self.within = grid, known, within
        self.domain = Runs.domain(grid)

    @abstractmethod
    def must(self, found: T) -> Runs:
        """The blocks that are surely true."""

    @abstractmethod
    def may(self, found: T) -> Runs:
        """The blocks that are not surely false."""

    @abstractmethod
    def on(self, grid: Grid, within: Runs | None) -> Narrowed[T]:
        """The same walk on a grid, for some of its blocks."""

    def primitive(self, pattern: Primitive) -> T:
        meant = pattern.expand()
        return self(meant) if meant is not pattern else self.leaf(pattern)

    @abstractmethod
    def leaf(self, pattern: Primitive) -> T:
        """What a primitive that stands for no other pattern comes to."""

    def of_any(self, pattern: Pattern) -> list[T]:
        """What the operands of a union come to: blocks that are surely in one are settled."""
        return self._opened(
            pattern,
            lambda place, found: self.domain - self.must(found),
            lambda part, other: part.part_of(other),
        )

    def of_all(self, pattern: Pattern) -> list[T]:
        """What the operands of an intersection come to: blocks that are surely not in one are settled."""
        return self._opened(
            pattern,
            lambda place, found: self.may(found),
            lambda part, other: other.part_of(part),
        )

    def of_difference(self, pattern: Pattern) -> list[T]:
        """What the two operands of a difference come to."""
        return self._opened(
            pattern,
            lambda place, found: self.may(found) if place == 0 else self.domain - self.must(found),
            lambda part, other: False,
        )

    def _opened(
        self,
        pattern: Pattern,
        open_after: Callable[[int, T], Runs],
        idle_beside: Callable[[Primitive, Primitive], bool],
    ) -> list[T]:
        """open_after: the blocks that what was found of an operand, by its place, leaves to the others;
        idle_beside: whether a primitive changes nothing beside another."""
        measure = _Work(self.grid, self.known)
        work = [measure(part) for part in pattern.parts]
        found: dict[int, T] = {}
        walk = self
        idle = self._idle(pattern, work, idle_beside)
        order = sorted(
            (place for place in range(len(work)) if place not in idle), key=work.__getitem__
        )
        for turn, place in enumerate(order):
            found[place] = walk(pattern.parts[place])
            if turn + 1 < len(order) and work[order[-1]] > 0:
                left = open_after(place, found[place])
                walk = self.on(self.grid, left if walk.within is None else walk.within & left)
        return [found[place] for place in sorted(found)]

    def _idle(
        self, pattern: Pattern, work: list[int], beside: Callable[[Primitive, Primitive], bool]
    ) -> set[int]:
        """The operands with work that need not be lowered, since others have less."""
        some = [
            (place, part) for place, part in enumerate(pattern.parts) if isinstance(part, Primitive)
        ]
        return {
            place
            for place, part in some
            if work[place] > MUCH * self.grid.n
            and any(work[at] < work[place] and beside(part, other) for at, other in some)
        }

    def mirrored(self, pattern: Transpose) -> T:
        """What the part of a transpose comes to, on the transposed grid."""
        within, grid = self.within, self.grid.transposed()
        if within is not None:
            much = _Work(grid, self.known)(pattern.part) > SHARE * within.start.size
            within = within.transpose(self.grid.n) if much else None
        return self.on(grid, within)(pattern.part)

    def heads(self, pattern: Heads) -> T:
        return self(pattern.choose(self.grid.head))
