"""`heads`: another pattern for each range of heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bslang.budget import READING, spend
from bslang.errors import PatternError
from bslang.ir.expr import Number
from bslang.ir.pattern import Pattern

_BRANCH = 30  # steps of the budget for a branch that is looked at


@dataclass(frozen=True)
class Branch:
    """One line of `heads`: the heads start, start + step, ... below `stop` (None: without end)."""

    start: int
    stop: int | None
    step: int
    pattern: Pattern

    def holds(self, head: int) -> bool:
        """Whether a head is among them."""
        below = self.stop is None or head < self.stop
        return head >= self.start and below and (head - self.start) % self.step == 0

    @property
    def heads(self) -> str:
        """The heads as they are written: `3`, `0:4` or `0::2`."""
        if self.stop == self.start + 1 and self.step == 1:
            return str(self.start)
        stop = "" if self.stop is None else self.stop
        step = "" if self.step == 1 else f":{self.step}"
        return f"{self.start}:{stop}{step}"

    def __str__(self) -> str:
        return f"{self.heads} -> {self.pattern}"


@dataclass(frozen=True)
class Heads(Pattern):
    """Another pattern for each range of heads; the ranges are disjoint."""

    branches: tuple[Branch, ...]

    @property
    def parts(self) -> tuple[Pattern, ...]:
        return tuple(branch.pattern for branch in self.branches)

    def names(self) -> frozenset[str]:
        return super().names() | {"head"}

    def choose(self, head: int) -> Pattern:
        """The pattern of one head. Raises PatternError where none is given."""
        spend(_BRANCH * len(self.branches), READING)
        for branch in self.branches:
            if branch.holds(head):
                return branch.pattern
        given = "; ".join(branch.heads for branch in self.branches)
        raise PatternError(
            f"`heads` gives no pattern for head {head}, only for {given}",
            hint=f"add `{head}: -> ...`",
            subject=self,
        )

    def at(self, env: Mapping[str, Number]) -> Pattern:
        if isinstance(head := env.get("head"), int):
            return self.choose(head).at(env)
        return Heads(tuple(replace(b, pattern=b.pattern.at(env)) for b in self.branches))

    def __str__(self) -> str:
        return f"heads {{ {'; '.join(map(str, self.branches))} }}"


def told_apart(pattern: Pattern) -> int:
    """How many heads it takes so that every branch of `heads` in a pattern has one; 0 without any."""
    branches = pattern.branches if isinstance(pattern, Heads) else ()
    own = [b.start + 1 if b.stop is None else b.stop for b in branches]
    return max([0, *own, *map(told_apart, pattern.parts)])
