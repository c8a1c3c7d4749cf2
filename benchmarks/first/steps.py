"""Steps with a budget each, whose tasks may fail, hang or die; every outcome is a line of JSON at once.

A run that was cut short goes on where it stopped: tasks with an outcome in the file are not done again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.workers import TaskError, Workers

GOOD, WRONG, FAILED, LATE = "good", "wrong", "failed", "no time left"
"""Outcomes: as it should be; computed, and wrong; nothing came of it; never begun."""

LEAST = 2.0
"""Seconds that must be left of a step for a task to begin."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """A function of a module, called in a worker, that returns what is to be written down; it is wrong
    if that has "wrong". seconds: that it may take at most."""

    name: str
    function: Callable[..., Record]
    arguments: tuple[Any, ...] = ()
    seconds: float = 60.0


@dataclass(frozen=True)
class Step:
    """Tasks, found when the step begins, and the seconds for all of them. What earlier steps leave over is
    added. processes: how many run at a time; one where they are timed; environment: variables of theirs."""

    name: str
    seconds: float
    tasks: Callable[[], Iterable[Task]]
    processes: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Log:
    """Outcomes in a file, a line of JSON each, and those of an earlier run that are in it."""

    path: Path
    done: dict[tuple[str, str], Record] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ValueError where the file has something else."""
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return
        text = self.path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        if whole != text:  # a line that was cut off
            self.path.write_text(whole, encoding="utf-8")
        for line in whole.splitlines():
            self._note(json.loads(line))

    def put(self, step: str, task: str, outcome: str, **more: Any) -> Record:
        record = {"step": step, "task": task, "outcome": outcome, **more}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, default=str) + "\n")
        self._note(record)
        return record

    def _note(self, record: Record) -> None:
        if record["outcome"] != LATE:
            self.done[record["step"], record["task"]] = record


def run(
    steps: Iterable[Step],
    workers: Callable[[int, Mapping[str, str]], Workers],
    log: Log,
    say: Callable[[Record], object],
    seconds: float,
    patience: float = 1.0,
    now: Callable[[], float] = time.monotonic,
) -> None:
    """Do the steps in order, within so many seconds in all; no task is the end of another.

    workers: makes some processes with variables of the environment; say: told of each outcome; patience:
    the seconds of tasks times this.
    """
    steps = list(steps)
    share = seconds / sum(step.seconds for step in steps)
    begin = end = now()
    for step in steps:
        end += step.seconds * share
        with workers(step.processes, step.environment) as pool:
            _step(step, pool, log, say, end, lambda: now() - begin, patience, now)


def _step(
    step: Step,
    pool: Workers,
    log: Log,
    say: Callable[[Record], object],
    end: float,
    since: Callable[[], float],
    patience: float,
    now: Callable[[], float],
) -> None:
    try:
        tasks = [each for each in step.tasks() if (step.name, each.name) not in log.done]
    except Exception as error:  # what a step is about to do may be broken, too
        say(log.put(step.name, "its tasks", FAILED, why=_said(error), at=round(since(), 1)))
        return
    ahead, running = tasks[::-1], dict[Future[Record], tuple[Task, float]]()
    while ahead or running:
        while ahead and len(running) < step.processes and end - now() >= LEAST:
            task = ahead.pop()
            began = now()
            most = min(task.seconds * patience, end - began)
            made = pool.submit(task.function, *task.arguments, timeout=most)
            running[made] = task, began
        if not running:
            break
        for made in wait(running, return_when=FIRST_COMPLETED).done:
            task, began = running.pop(made)
            about = {"seconds": round(now() - began, 2), "at": round(since(), 1)}
            try:
                found = made.result()
                outcome = WRONG if found.get("wrong") else GOOD
                say(log.put(step.name, task.name, outcome, **about, **found))
            except (TaskError, CancelledError) as error:
                say(log.put(step.name, task.name, FAILED, **about, why=_said(error)))
    for task in ahead[::-1]:
        say(log.put(step.name, task.name, LATE, at=round(since(), 1)))


def _said(error: BaseException) -> str:
    return str(error) if isinstance(error, TaskError) else f"{type(error).__name__}: {error}"
