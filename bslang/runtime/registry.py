"""Layouts by the name that operators know them by.

A layout is named by its key: canonical text, block, targets, layer and first head. So an exported program
says what it computes, and another process can make the layout again.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from threading import RLock

from bslang.errors import BslangError
from bslang.runtime.runnable import Runnable


@dataclass(frozen=True)
class Key:
    """What a key says of its layout."""

    spec: str
    block: tuple[int, int]
    targets: tuple[str, ...]
    layer: int
    first_head: int = 0

    def __str__(self) -> str:
        number = f"; layer {self.layer}" if self.layer else ""
        number += f"; heads from {self.first_head}" if self.first_head else ""
        return (
            f"block {self.block[0]}x{self.block[1]}; {self.spec}; {', '.join(self.targets)}{number}"
        )

    @classmethod
    def parse(cls, text: str) -> Key:
        """The inverse of `str`. Raises ValueError for what is not a key."""
        found = re.fullmatch(_KEY, text, re.DOTALL)
        if found is None:
            raise ValueError(f"{text!r} is not the key of a layout")
        targets = tuple(found["targets"].split(", "))
        numbers = int(found["layer"] or 0), int(found["head"] or 0)
        return cls(found["spec"], (int(found[1]), int(found[2])), targets, *numbers)


_KEY = (
    r"block (\d+)x(\d+); (?P<spec>.*); (?P<targets>[a-z]+(?:, [a-z]+)*)(?:; layer (?P<layer>\d+))?"
    r"(?:; heads from (?P<head>\d+))?"
)


class Registry:
    """The layouts of this process that are in use, by key. It keeps none of them alive.

    Several may have one key, as those of two modules of a model: operators then take the one made last.
    """

    def __init__(self) -> None:
        self._layouts: dict[str, list[weakref.ref[Runnable]]] = {}
        self._lock = RLock()  # a layout may be collected, and forgotten, while another is added
        self.rebuild: Callable[[Key], Runnable] | None = None
        """Makes a layout that no one has made in this process; the compiler's side sets it."""

    def add(self, layout: Runnable) -> None:
        """Make a layout known to the operators."""
        # The reference first: making it may collect others, which are forgotten then.
        reference = weakref.ref(layout, partial(self._forget, layout._key))
        with self._lock:
            others = [other for other in self._layouts.get(layout._key, ()) if other() is not None]
            self._layouts[layout._key] = [*others, reference]

    def find(self, key: str) -> Runnable:
        """The layout of a key. Raises RuntimeError where there is none and none can be made."""
        for reference in reversed(self._layouts.get(key, ())):
            if (layout := reference()) is not None:
                return layout
        try:  # a program that another process exported
            if self.rebuild is None:
                raise ValueError("bslang.layouts is not imported")
            return self.rebuild(Key.parse(key))
        except (BslangError, ValueError) as error:
            message = f"no layout {key!r} in this process; compile or import it first ({error})"
            raise RuntimeError(message) from None

    def __iter__(self) -> Iterator[str]:
        """The keys of the layouts in use."""
        return iter(list(self._layouts))

    def __contains__(self, key: str) -> bool:
        return key in self._layouts

    def _forget(self, key: str, reference: weakref.ref[Runnable]) -> None:
        with self._lock:
            left = [other for other in self._layouts.get(key, ()) if other is not reference]
            if left:
                self._layouts[key] = left
            else:
                self._layouts.pop(key, None)


LAYOUTS = Registry()
"""Those of this process."""
