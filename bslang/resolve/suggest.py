"""The name that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice

from bslang.budget import READING, afford

_LONGEST, _MOST = 60, 200  # names compared: comparing costs the product of their lengths


def closest(name: str, known: Iterable[str]) -> str:
    """The known name that is most like a wrong one; "" where none is, or too many would be compared."""
    if len(name) > _LONGEST:
        return ""
    near = [*islice((other for other in known if abs(len(other) - len(name)) <= 4), _MOST)]
    same = [other for other in near if folded(other) == folded(name)]
    same.sort(key=lambda other: other != name)
    if not same and not afford(6 * len(name) * sum(map(len, near)), READING):
        return ""
    return next(iter(same or get_close_matches(name, near, 1)), "")


def folded(name: str) -> str:
    """A name without what is easily mistaken in it: `BigBird` and `big_bird` are alike."""
    return name.lower().replace("_", "")
