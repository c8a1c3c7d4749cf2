"""What was made last, by what it depends on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """The values that were used last, by key: at most `limit` of them, and those that someone holds.

    Several threads may ask: one makes the value of a key, others that ask for it wait, and those that ask for
    another one do not.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[Hashable, T] = OrderedDict()
        self._held: dict[Hashable, T] = {}
        self._makers: dict[Hashable, Lock] = {}
        self._lock = Lock()  # not held while a value is made, which may take long

    def get(self, key: Hashable, make: Callable[[], T], *, hold: bool = False) -> T:
        """The value of a key, made where it is not kept; hold: keep it from now on, however many follow."""
        if self._held and key in self._held:  # never dropped
            return self._held[key]
        found = self._get(key, make)
        if hold:
            with self._lock:
                found = self._held.setdefault(key, found)
                self._values.pop(key, None)
        return found

    def _get(self, key: Hashable, make: Callable[[], T]) -> T:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            maker = self._makers.setdefault(key, Lock())
        with maker:
            with self._lock:
                if key in self._values:  # made by another thread meanwhile
                    return self._values[key]
            try:
                made = make()
            except BaseException:
                with self._lock:
                    self._makers.pop(key, None)
                raise
            with self._lock:
                self._makers.pop(key, None)
                self._values[key] = made
                if len(self._values) > self._limit:
                    self._values.popitem(last=False)
        return made
