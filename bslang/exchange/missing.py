"""Libraries of the extra `exchange`, which only some ways in and out need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def extra(library: str) -> Iterator[None]:
    """Around an import: where the library is not there, the ImportError says how to get it."""
    try:
        yield
    except ImportError:
        message = f"{library} is not installed; `pip install 'bslang[exchange]'` brings it"
        raise ImportError(message) from None
