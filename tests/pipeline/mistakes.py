"""Mistakes in how a kernel waits: each of its operations in turn is left out, or done wrongly.

An operation is what one line of the source does, told apart by the lines that call its function: where
a helper waits for a barrier, each call of the helper waits.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from pipeline.machine import KERNELS

Given = tuple[tuple[Any, ...], dict[str, Any]]


class Site(NamedTuple):
    operation: str
    lines: tuple[tuple[str, int], ...]
    """The functions, and the lines in them, from the outermost on."""

    def __str__(self) -> str:
        where = " > ".join(f"{name}:{line}" for name, line in self.lines)
        return f"{self.operation} at {where}"


class Mistake(NamedTuple):
    site: Site
    missing: bool
    """Left out; else another phase, half the bytes, an arrival or a product more."""

    def __str__(self) -> str:
        return f"{'no' if self.missing else 'wrong'} {self.site}"


def site(operation: str) -> Site:
    lines, frame = [], sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename.startswith(KERNELS):
            lines.append((frame.f_code.co_name, frame.f_lineno))
        frame = frame.f_back  # type: ignore[assignment]
    return Site(operation, tuple(reversed(lines)))


def _at(number: int, name: str, change: Callable[[Any], Any]) -> Callable[[Given], Given]:
    def changed(given: Given) -> Given:
        places, named = list(given[0]), dict(given[1])
        if number < len(places):
            places[number] = change(places[number])
        else:
            named[name] = change(named.get(name, 1))
        return tuple(places), named

    return changed


WRONG: dict[str, Callable[[Given], Given]] = {
    "arrive": _at(1, "count", lambda count: count + 1),
    "expect": _at(1, "bytes_per_cta", lambda size: size // 2),
    "init": _at(1, "count", lambda count: count + 1),
    "wait": _at(1, "phase", lambda phase: phase ^ 1),
    "warpgroup_mma_wait": _at(0, "num_outstanding", lambda number: number + 1),
}


class Watched:
    """The operations of kernels, as they are done, or with a mistake."""

    def __init__(self) -> None:
        self.sites: dict[Site, None] = {}
        self.needed: set[Site] = set()
        """Waits for a phase that has to end, the arrivals that ended it, and what made such barriers: a wait
        for a buffer that was never filled waits for nothing, and the last arrivals may be in vain."""
        self.current: Site | None = None
        self.mistake: Mistake | None = None

    def __call__(self, run: Callable[..., Any], left_out: Any = None) -> Callable[..., Any]:
        """An operation; left_out: what takes its place where it is left out, nothing for None."""

        def operation(*given: Any, **named: Any) -> Any:
            found = self.current = site(run.__name__)
            self.sites[found] = None
            if self.mistake == (found, True):
                return left_out(*given, **named) if left_out is not None else None
            if self.mistake == (found, False):
                given, named = WRONG[run.__name__]((given, named))
            return run(*given, **named)

        return operation

    def mistakes(self) -> list[Mistake]:
        """All that can be made in what was run."""
        found = []
        for each in self.sites:
            needed = each.operation not in ("arrive", "init", "wait") or each in self.needed
            if needed:
                found.append(Mistake(each, True))
            if each.operation in WRONG and (needed or each.operation == "wait"):
                found.append(Mistake(each, False))
        return found
