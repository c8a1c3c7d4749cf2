"""How far long work is, for whoever shows it: a command with a bar on its terminal, or nobody.

with reporting(bar):        # a command; nothing is said outside
    report(3, 20)           # the work: 3 of 20 parts are done
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Bar = Callable[[int, int], None]
"""Called with how many parts are done, and how many there are."""

_open: ContextVar[Bar | None] = ContextVar("progress", default=None)


def report(done: int, total: int) -> None:
    """Say how many parts of some work are done."""
    bar = _open.get()
    if bar is not None:
        bar(done, total)


@contextmanager
def reporting(bar: Bar) -> Iterator[None]:
    """Let `report` call a bar."""
    token = _open.set(bar)
    try:
        yield
    finally:
        _open.reset(token)
