"""What has happened before what: a clock of each actor, a partition or a copy."""

from __future__ import annotations

from dataclasses import dataclass, field

Clock = dict[int, int]
"""Of each actor, how much of what it did has happened before."""


def join(into: Clock, other: Clock) -> None:
    for actor, time in other.items():
        into[actor] = max(into.get(actor, 0), time)


@dataclass
class Stamp:
    """Something that an actor did at a time of its own."""

    actor: int
    time: int

    def before(self, clock: Clock) -> bool:
        return clock.get(self.actor, 0) >= self.time


@dataclass(eq=False)
class Actor:
    number: int
    clock: Clock = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clock[self.number] = 1

    def now(self) -> Stamp:
        return Stamp(self.number, self.clock[self.number])

    def publish(self) -> Clock:
        """What has happened until now, for those that will wait for it, and nothing that comes later."""
        published = dict(self.clock)
        self.clock[self.number] += 1
        return published
