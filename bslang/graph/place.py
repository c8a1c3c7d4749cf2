"""Places: on which blocks, at any length, a primitive can be in which state.

On a block a primitive is true, false or undecided. Regions (`bslang.ir.region`) bound the blocks of each
state without a length, and so show which states exclude one another: no block has `last(500t)` true and
`causal` undecided, and none of 64 tokens has both ends of `last(500t)`.

It is sound at every length and alignment:

- A block, also a short one, is an interval of queries by an interval of keys. So its offsets (query minus
  key) are an interval too, and it lies in a whole block whose corner is a multiple of its sides.
- Slabs are bounds. A place may hold blocks that are in another state, never the reverse.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import gcd

from bslang.graph.residual import Leaf, mirrored
from bslang.ir.pattern import Primitive, Transpose
from bslang.ir.region import Interval, Region, Slab

Sides = tuple[int, int]
"""Of a block: queries and keys."""

FALSE, UNDECIDED, TRUE = range(3)
"""The states of a primitive on a block, in an order that a part of a set and the set keep."""


EVERYWHERE = Slab()


@dataclass(frozen=True)
class Place:
    """Blocks all of whose pairs lie in `slab`, and that hold a pair of each of `pairs`.

    states: how some primitives are decided there.
    """

    slab: Slab = EVERYWHERE
    pairs: frozenset[Slab] = frozenset()
    states: frozenset[tuple[Leaf, int]] = frozenset()

    def meet(self, other: Place, sides: Sides) -> Place | None:
        """The blocks of both places, None where there are surely none."""
        slab = self.slab & other.slab
        pairs = self.pairs | other.pairs
        for pair in sorted(pairs):
            near = slab and slab & pair
            if near is None or slab is None:
                return None
            slab = slab & around(near, sides)
        if slab is None or not all(pair & slab for pair in pairs):
            return None
        states = self.states | other.states
        if len(states) > max(len(self.states), len(other.states)) and _conflict(self, other):
            return None
        return Place(slab, pairs, states)

    def transposed(self) -> Place:
        pairs = frozenset(pair.transposed() for pair in self.pairs)
        states = frozenset((mirrored(leaf), state) for leaf, state in self.states)
        return Place(self.slab.transposed(), pairs, states)


@lru_cache(maxsize=256)
def region(leaf: Leaf, sides: Sides) -> Region:
    """The region of a leaf, in tokens."""
    if isinstance(leaf, Transpose):
        assert isinstance(leaf.part, Primitive)
        found = region(leaf.part, (sides[1], sides[0]))
        inside, outside = (
            tuple(slab.transposed() for slab in slabs) for slabs in (found.inside, found.outside)
        )
        return Region(inside, outside, found.exact)
    found = leaf.region()
    if leaf.tokens:
        return found
    inside, outside = (
        tuple(_in_tokens(slab, sides) for slab in slabs) for slabs in (found.inside, found.outside)
    )
    return Region(inside, outside, found.exact)


def part_of(a: Leaf, b: Leaf) -> bool:
    """Whether a leaf is part of another for a reason of its own, as chunks are of wider ones."""
    if isinstance(a, Transpose) and isinstance(b, Transpose):
        return part_of(mirrored(a), mirrored(b))
    return isinstance(a, Primitive) and isinstance(b, Primitive) and (a == b or a.part_of(b))


def places(leaf: Primitive, state: int, sides: Sides) -> list[Place]:
    """Where a primitive can be in a state."""
    found, states = region(leaf, sides), frozenset([(leaf, state)])
    if state != UNDECIDED:
        slabs = found.inside if state == TRUE else found.outside
        return [Place(slab, states=states) for slab in slabs]
    if not found.exact:
        return [Place(states=states)]
    both = (Place(pairs=frozenset(pair)) for pair in _pairs(found))
    near = (place.meet(Place(states=states), sides) for place in both)
    return [place for place in near if place is not None]


def around(slab: Slab, sides: Sides) -> Slab:
    """Bounds of the blocks that hold some pair of a slab."""
    (q0, q1), (k0, k1), (low, high) = slab.query, slab.key, slab.offset
    tall, wide = sides
    # From corner to corner of the blocks, offsets are multiples of this.
    step = gcd(tall, wide)
    first, last = -((tall - 1 - low) // step) * step, (high + wide - 1) // step * step
    return Slab(
        (q0 // tall * tall, q1 // tall * tall + tall - 1),
        (k0 // wide * wide, k1 // wide * wide + wide - 1),
        (first - wide + 1, last + tall - 1),
    )


def _pairs(found: Region) -> list[tuple[Slab, Slab]]:
    return [(yes, no) for yes in found.inside for no in found.outside]


def _conflict(a: Place, b: Place) -> bool:
    """Whether the states of two places contradict each other: a part is true where the whole is not."""
    return any(
        (one > two and part_of(first, second)) or (two > one and part_of(second, first))
        for first, one in a.states
        for second, two in b.states
    )


def _in_tokens(slab: Slab, sides: Sides) -> Slab:
    """Where the tokens of the blocks of a slab lie; numbers of blocks compare only where these are square."""

    def spread(interval: Interval, side: int) -> Interval:
        return interval[0] * side, interval[1] * side + side - 1

    (tall, wide), (low, high) = sides, slab.offset
    offset = (low * tall - tall + 1, high * tall + tall - 1) if tall == wide else Slab().offset
    return Slab(spread(slab.query, tall), spread(slab.key, wide), offset)
