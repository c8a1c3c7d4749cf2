"""What a terminal is given: text of a spec or of a file's name must not give it orders."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from bslang.errors import printable


class Printable:
    """A text stream that writes what does not print as `?`; lines and tabs stay.

    Bytes that are written to its `buffer` are data, and go through. rich, whose colours are orders of
    ours, writes to `rich_proxied_file`; what it is given is made printable before.
    """

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream

    def write(self, text: str) -> int:
        """Write a text; the number of its letters."""
        self.rich_proxied_file.write(printable(text, "\n\t"))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


@contextmanager
def printable_streams() -> Iterator[None]:
    """Standard output and error as Printable."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (Printable(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def quiet_end() -> None:
    """Write nothing more to standard error when the process ends: Triton's bindings report there what they
    still hold of kernels in Gluon, which is nothing to a user."""
    if "triton.experimental.gluon" in sys.modules:
        atexit.register(lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 2))
