"""Timing several contestants fairly: round by round, every ratio taken within a round.

A machine that others use too is now fast and now slow, and a mean over it says little. In a round
each contestant runs once, so that what slows one down slows all, and the ratio of two times of one
round is left almost as it was. The figures are the median of these ratios, with their quartiles.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

Call = Callable[[], object]
Times = dict[str, tuple[float, ...]]
"""Seconds a call, one for each round, by contestant."""

MOST_WARM_UP = 8
"""Calls before the first that is timed, at most."""

LONG_SECONDS = 1.0
"""What takes longer is warmed up once."""

PAUSE_SECONDS = 0.01


class Watch(Protocol):
    """How calls are timed.

    least: seconds; what takes less is called several times a round, until it takes that long.
    warm_rounds: rounds before those that count.
    """

    @property
    def least(self) -> float: ...

    @property
    def warm_rounds(self) -> int: ...

    def __call__(self, call: Call, repeats: int) -> float:
        """Seconds a call, over so many calls."""
        ...

    def rest(self) -> None:
        """What is done between contestants."""
        ...


@dataclass(frozen=True)
class Clock:
    """The watch of calls that have done their work when they return."""

    now: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], None] = time.sleep
    least: float = 0.05
    warm_rounds: int = 0

    def __call__(self, call: Call, repeats: int) -> float:
        begin = self.now()
        for _ in range(repeats):
            call()
        return (self.now() - begin) / repeats

    def rest(self) -> None:
        # OpenMP's threads spin for a while after their work, and would disturb the next contestant.
        self.sleep(PAUSE_SECONDS)


@dataclass(frozen=True)
class Spread:
    """The median of some values, and their quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


CLOCK = Clock()


def alternate(calls: Mapping[str, Call], rounds: int, watch: Watch = CLOCK) -> Times:
    """Time all calls in every round, each round beginning with another; they are warmed up first.

    Raises what a call raises.
    """
    names = list(calls)
    repeats = {name: _repeats(calls[name], watch) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(watch.warm_rounds + rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            watch.rest()
            times[name].append(watch(calls[name], repeats[name]))
    return {name: tuple(values[watch.warm_rounds :]) for name, values in times.items()}


def _repeats(call: Call, watch: Watch) -> int:
    """Calls a round; warms up, until a call is not much faster than those before it.

    The first call may build what later ones use, and in a virtual machine the first few touch memory
    that the host has yet to find.
    """
    best = seconds = math.inf
    for number in range(MOST_WARM_UP):
        seconds = watch(call, 1)
        if seconds > LONG_SECONDS or (number and seconds > 0.95 * best):
            break
        best = min(best, seconds)
    return max(1, math.ceil(watch.least / max(seconds, 1e-9)))


def ratio(times: Times, above: str, below: str) -> Spread:
    """Time of one contestant over that of another, of each round: how many times as long it takes."""
    return Spread.of([a / b for a, b in zip(times[above], times[below], strict=True)])


def rate_ratio(times: Times, mine: str, my_work: float, other: str, other_work: float) -> Spread:
    """Rate (work over time) of one contestant over that of another, of each round."""
    share = my_work / other_work
    return Spread.of([share * b / a for a, b in zip(times[mine], times[other], strict=True)])
