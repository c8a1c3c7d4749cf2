"""One program of a kernel on a simulated machine: partitions and copies, in an order by chance.

A partition is a coroutine that runs until it passes the turn on, at every operation that others can
notice. Who is next is drawn with weights that differ by orders of magnitude and from seed to seed:
under some seed one partition, or all copies, lag far behind the rest. A fault ends the program.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from greenlet import getcurrent, greenlet

from pipeline.clocks import Actor, join
from pipeline.values import Fault

KERNELS = "<kernels"
"""How the file names of simulated sources begin."""


class Partition(Actor):
    """Warps that run one function."""

    def __init__(self, number: int, name: str, warps: int) -> None:
        super().__init__(number)
        self.name, self.warps = name, warps
        self.fiber = getcurrent()
        self.done = False
        self.ready: Callable[[], bool] = lambda: True
        self.waits: Callable[[], str] = lambda: ""
        self.products: list[Any] = []
        self.stores: list[Any] = []
        self.unfenced: list[Any] = []


class Copy(Actor):
    """A copy of the machine's own, which ends at some time after it began."""

    def __init__(self, number: int, finish: Callable[[Copy], None]) -> None:
        super().__init__(number)
        self.finish = finish


def place() -> str:
    """Where in the kernels' source this thread is."""
    frame = sys._getframe()
    while frame is not None and not frame.f_code.co_filename.startswith(KERNELS):
        frame = frame.f_back  # type: ignore[assignment]
    return f"{frame.f_code.co_name}, line {frame.f_lineno}" if frame is not None else "the launch"


class Machine:
    """What one program runs on."""

    def __init__(self, seed: int, warps: int, program: int) -> None:
        self.chance = random.Random(f"{seed} {program}")
        self.late = self.chance.random() < 0.5  # products are computed when they are waited for
        self.program = program
        self.actors = 0
        self.partitions: list[Partition] = []
        self.copies: list[Copy] = []
        self.weights: dict[object, float] = {}
        self.ends: list[Callable[[], None]] = []  # what is asked of it at the end
        self.current = self.main = self.partition("the program", warps)

    def fail(self, what: str) -> Fault:
        return Fault(f"{self.current.name} ({place()}): {what}")

    def weight(self, of: object) -> float:
        if of not in self.weights:
            self.weights[of] = 10 ** self.chance.uniform(-2, 2)
        return self.weights[of]

    def writer(self) -> int:
        """The number of the current partition among those of all programs, from 1 on."""
        return self.program * 4096 + self.current.number

    def number(self) -> int:
        self.actors += 1
        return self.actors

    def partition(self, name: str, warps: int) -> Partition:
        made = Partition(self.number(), name, warps)
        self.partitions.append(made)
        return made

    def copy(self, finish: Callable[[Copy], None]) -> Copy:
        """Begin a copy, which knows what its issuer knows."""
        copy = Copy(self.number(), finish)
        join(copy.clock, self.current.clock)
        self.copies.append(copy)
        return copy

    # ---- turns ------------------------------------------------------------------------------

    def step(self) -> None:
        """Let others go before what the current partition does next."""
        own = self.current
        while True:
            self.current = self._drawn()
            if self.current is not own:
                self.current.fiber.switch()  # until it is our turn, or a partition that we began ends
            if self.current is own:
                return

    def wait(self, ready: Callable[[], bool], waits: Callable[[], str]) -> None:
        own, at = self.current, place()
        own.ready, own.waits = ready, lambda: f"{own.name} ({at}) waits for {waits()}"
        self.step()
        own.ready, own.waits = (lambda: True), lambda: ""

    def _drawn(self) -> Partition:
        """Whose turn it is; copies that are drawn before end."""
        while True:
            ready = [each for each in self.partitions if not each.done and each.ready()]
            names: list[Any] = [*ready, *(["copies"] if self.copies else [])]
            if not names:
                waiting = [each.waits() for each in self.partitions if not each.done]
                raise Fault("deadlock: " + "; ".join(waiting))
            chosen = self.chance.choices(names, [self.weight(each) for each in names])[0]
            if isinstance(chosen, Partition):
                return chosen
            copy = self.copies.pop(self.chance.randrange(len(self.copies)))
            copy.finish(copy)

    # ---- partitions -------------------------------------------------------------------------

    def specialize(self, works: list[tuple[Partition, Callable[[], Any]]]) -> Any:
        """Run functions beside one another, each with its partition; the result of the first."""
        results: dict[int, Any] = {}

        def run(own: Partition, work: Callable[[], Any]) -> None:
            results[own.number] = work()
            own.done = True

        for own, work in works:
            join(own.clock, self.main.clock)
            own.fiber = greenlet(partial(run, own, work))
        self.main.clock[self.main.number] += 1
        self.wait(lambda: all(own.done for own, _ in works), lambda: "its partitions")
        for own, _ in works:
            join(self.main.clock, own.clock)
        return results[works[0][0].number]

    def run(self, kernel: Callable[[], Any]) -> None:
        """Run the kernel, and ask at its end what it left undone."""
        kernel()
        while self.copies:
            copy = self.copies.pop()
            copy.finish(copy)
        for end in self.ends:
            end()
