"""One program of a kernel on a simulated machine: partitions and copies, in an order by chance.

A partition is a thread that runs until it passes the turn on, at every operation that others can
notice. Who is next is drawn with weights that differ by orders of magnitude and from seed to seed:
under some seed one partition, or all copies, lag far behind the rest. A fault ends the program.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from threading import Lock, Thread
from typing import Any

from pipeline.clocks import Actor, join
from pipeline.values import Fault

KERNELS = "<kernels"
"""How the file names of simulated sources begin."""


class Stopped(BaseException):
    """Another partition has failed."""


class Partition(Actor):
    """Warps that run one function."""

    def __init__(self, number: int, name: str, warps: int) -> None:
        super().__init__(number)
        self.name, self.warps = name, warps
        self.turn = Lock()
        self.turn.acquire()
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
        self.failure: BaseException | None = None
        self.ends: list[Callable[[], None]] = []  # what is asked of it at the end
        self.current = self.main = self.partition("the program", warps)

    def fail(self, what: str) -> Fault:
        return Fault(f"{self.current.name} ({place()}): {what}")

    def weight(self, of: object) -> float:
        return self.weights.setdefault(of, 10 ** self.chance.uniform(-2, 2))

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
        self.pass_turn()
        own.turn.acquire()
        if self.failure is not None:
            raise Stopped

    def wait(self, ready: Callable[[], bool], waits: Callable[[], str]) -> None:
        own, at = self.current, place()
        own.ready, own.waits = ready, lambda: f"{own.name} ({at}) waits for {waits()}"
        self.step()
        own.ready, own.waits = (lambda: True), lambda: ""

    def pass_turn(self) -> None:
        """Give the turn to whoever is drawn; copies that are drawn before end."""
        while True:
            ready = [each for each in self.partitions if not each.done and each.ready()]
            names: list[Any] = [*ready, *(["copies"] if self.copies else [])]
            if not names:
                self.stuck()
                return
            chosen = self.chance.choices(names, [self.weight(each) for each in names])[0]
            if isinstance(chosen, Partition):
                self.current = chosen
                chosen.turn.release()
                return
            copy = self.copies.pop(self.chance.randrange(len(self.copies)))
            try:
                copy.finish(copy)
            except BaseException as failure:
                self.stop(failure)
                return

    def stuck(self) -> None:
        waiting = [each.waits() for each in self.partitions if not each.done]
        self.stop(Fault("deadlock: " + "; ".join(waiting)))

    def stop(self, failure: BaseException) -> None:
        """Wake everyone to end; the main partition raises the failure."""
        if self.failure is None:
            self.failure = failure
            for each in self.partitions:
                if each.turn.locked():
                    each.turn.release()

    # ---- partitions -------------------------------------------------------------------------

    def specialize(self, works: list[tuple[Partition, Callable[[], Any]]]) -> Any:
        """Run functions beside one another, each with its partition; the result of the first."""
        results: dict[int, Any] = {}
        threads = []

        def run(own: Partition, work: Callable[[], Any]) -> None:
            own.turn.acquire()
            try:
                if self.failure is None:
                    results[own.number] = work()
            except Stopped:
                pass
            except BaseException as failure:
                self.stop(failure)
            own.done = True
            if self.failure is None:
                self.pass_turn()

        for own, work in works:
            join(own.clock, self.main.clock)
            threads.append(Thread(target=run, args=(own, work), daemon=True))
            threads[-1].start()
        self.main.clock[self.main.number] += 1
        try:
            self.wait(lambda: all(own.done for own, _ in works), lambda: "its partitions")
        finally:
            for thread in threads:
                thread.join()
        for own, _ in works:
            join(self.main.clock, own.clock)
        return results.get(works[0][0].number)

    def run(self, kernel: Callable[[], Any]) -> None:
        """Run the kernel, and ask at its end what it left undone."""
        try:
            kernel()
            while self.copies:
                copy = self.copies.pop()
                copy.finish(copy)
            for end in self.ends:
                end()
        except Stopped:
            pass
        if self.failure is not None:
            raise self.failure
