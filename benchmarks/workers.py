"""Work in processes of their own, several at a time: one that dies or takes too long is the end of its task,
and of no other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from os import environ
from pickle import PicklingError
from typing import Any, TypeVar

T = TypeVar("T")


class TaskError(Exception):
    """Why a task has no result: what it raised, or how its process ended. last: whether the process can take
    no more tasks."""

    def __init__(self, why: str, *, last: bool = True) -> None:
        super().__init__(why)
        self.last = last


class DeadError(Exception):
    """Raised by a task after which its process is of no use, as that of a GPU's context after a fault."""


class Workers:
    """Processes, each with a task at a time; further tasks wait.

    environment: variables that processes have beside those of this one.
    """

    def __init__(self, count: int, environment: Mapping[str, str] | None = None) -> None:
        self._threads = ThreadPoolExecutor(count)
        self._local = threading.local()
        self._environment = dict(environment or {})
        self._running: set[_Worker] = set()
        self._closed = False

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(
        self, function: Callable[..., T], *arguments: Any, timeout: float | None = None
    ) -> Future[T]:
        """Call a function of a module in a process; its future may raise TaskError.

        timeout: seconds that it may run; its process is ended then.
        """
        return self._threads.submit(self._call, function, arguments, timeout)

    def close(self) -> None:
        """End all processes, and the tasks that are in them."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in list(self._running):
            worker.end()
        self._threads.shutdown()

    def _call(
        self, function: Callable[..., T], arguments: tuple[Any, ...], timeout: float | None
    ) -> T:
        worker = getattr(self._local, "worker", None)
        if worker is None:
            worker = self._local.worker = _Worker(self._environment)
            self._running.add(worker)
        try:
            if self._closed:
                raise TaskError("it was stopped")
            found: T = worker.call(function, arguments, timeout)
            return found
        except TaskError as error:
            if error.last:
                worker.end()
                self._running.discard(worker)
                self._local.worker = None
            raise


_STARTING = threading.Lock()


class _Worker:
    """A process that waits for tasks."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        context = get_context("spawn")
        self.ours, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_serve, args=(theirs,), daemon=True)
        with _STARTING:  # a process inherits the variables that stand when it starts
            before = dict(environ)
            environ.update(environment)
            try:
                self.process.start()
            finally:
                environ.clear()
                environ.update(before)
        theirs.close()

    def call(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], timeout: float | None
    ) -> Any:
        """What the function returns; raises TaskError where it raises."""
        try:
            self.ours.send((function, arguments))
            if not self.ours.poll(timeout):
                raise TaskError(f"it took longer than {timeout:g} s")
            good, value, last = self.ours.recv()
        except (AttributeError, TypeError, PicklingError) as error:  # nothing was sent
            raise TaskError(f"it cannot be sent: {reason(error)}", last=False) from error
        except (EOFError, OSError):
            self.process.join(5)
            raise TaskError(f"its process ended with {self.process.exitcode}") from None
        if not good:
            raise TaskError(value, last=last)
        return value

    def end(self) -> None:
        self.process.kill()
        self.process.join()


def _serve(pipe: Connection) -> None:
    """Call what comes, until the other end is gone."""
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        try:
            answer: tuple[bool, Any, bool] = True, function(*arguments), False
        except Exception as error:  # whatever a task raises is its result
            answer = False, reason(error), isinstance(error, DeadError)
        pipe.send(answer)


def reason(error: BaseException) -> str:
    """What an error says, in one line."""
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
