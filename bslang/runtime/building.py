"""The note that kernels are being built, for users who wonder what a first call waits for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Timer

PATIENCE = 1.0
"""Seconds after which the note appears."""

SAID = Event()
"""Set once this process has said it."""


@contextmanager
def building(what: str) -> Iterator[None]:
    """Say on standard error what is being built, if it takes more than PATIENCE, once per process.

    what: the kernels, in words. Only a person is told: nothing is written unless standard error is a terminal
    or a notebook, nor with BSLANG_QUIET=1 in the environment.
    """
    if SAID.is_set() or not _someone_reads():
        yield
        return
    timer = Timer(PATIENCE, _say, [what])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _someone_reads() -> bool:
    if os.environ.get("BSLANG_QUIET", "0") not in ("", "0") or sys.stderr is None:
        return False
    # A notebook's stream is one of ipykernel's, and no terminal.
    return sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel.")


def _say(what: str) -> None:
    if SAID.is_set():
        return
    SAID.set()
    later = "later runs find them in the cache (BSLANG_QUIET=1 hides this note)"
    with suppress(OSError, ValueError):  # a stream that was closed meanwhile
        print(f"bslang: building {what}; {later}", file=sys.stderr, flush=True)
