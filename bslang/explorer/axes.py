"""What a reader may set: the length, head and layer, and the parameters of a definition."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bslang.analysis.heads import given_heads
from bslang.ir.heads import told_apart
from bslang.ir.pattern import Pattern
from bslang.limits import MAX_NUMBER

LENGTH, HEAD, LAYER, PARAMETER = "seq-len", "head", "layer", "parameter"
"""Kinds of axes; the first three are the names of theirs, and no parameter can be called so."""

DOCUMENTS = "documents"
"""The kind of an axis whose values are lengths of documents, as in `100,200,300`, or "" for none given."""

MOST_HEADS = 8
"""Heads that a page tells apart, of those that a layout does."""

LAYERS = 4
"""Layers that a page tells apart, where a layout does."""

_SMALL = 8  # numbers up to here are varied one by one
_NUMBER = re.compile(r"(-?[0-9][0-9_]*)(t?)")


@dataclass(frozen=True)
class Axis:
    """A slider: values in order, as a spec writes them, and the place of the one to begin with."""

    name: str
    kind: str
    values: tuple[str, ...]
    start: int = 0

    def thinned(self, most: int) -> Axis:
        """At most so many of the values, those nearest to the first one shown, itself among them."""
        size = len(self.values)
        first = min(max(0, self.start - most // 2), max(0, size - most))
        return Axis(self.name, self.kind, self.values[first : first + most], self.start - first)


def lengths(tokens: Sequence[int]) -> Axis:
    """The lengths of a page, in tokens; the page begins with the one in the middle."""
    values = tuple(map(str, sorted(set(tokens))))
    return Axis(LENGTH, LENGTH, values, (len(values) - 1) // 2)


def heads_and_layers(pattern: Pattern) -> list[Axis]:
    """An axis for each of the two that a layout depends on."""
    counts = {HEAD: min(given_heads(pattern), MOST_HEADS), LAYER: LAYERS}
    return [
        Axis(name, name, tuple(map(str, range(count))))
        for name, count in counts.items()
        if name in pattern.names() and count > 1
    ]


def documents(names: Sequence[str], given: Sequence[str], length: int) -> list[Axis]:
    """An axis for each label: no documents to begin with, then some that the caller gave.

    names: as `documents.written`; given: lengths as a reader types them; without any, some that fill a
    sequence of `length` tokens.
    """
    parts = (part for part in (length // 8, length // 4, length // 2) if part > 0)
    choices = given or [",".join(map(str, parts)) or "1"]
    return [Axis(name, DOCUMENTS, tuple(dict.fromkeys(("", *choices)))) for name in names]


def beyond(pattern: Pattern) -> list[str]:
    """Heads and layers that a layout may tell apart and a page does not, in words."""
    names, named = pattern.names(), told_apart(pattern)
    heads = HEAD in names and not 0 < named <= MOST_HEADS
    found = [f"heads from {MOST_HEADS} on"] if heads else []
    return [*found, f"layers from {LAYERS} on"] if LAYER in names else found


def parameters(written: Mapping[str, str], means: Callable[[str, str], bool]) -> list[Axis]:
    """An axis for each parameter that can be varied.

    written: the value of each, as the spec or the caller writes it; what is neither a number nor a truth
    stays as it is. means: whether a value of a parameter means something beside the others' own.
    """
    found = []
    for name, value in written.items():
        others = (other for other in _around(value) if other == value or means(name, other))
        values = tuple(others)
        if len(values) > 1:
            found.append(Axis(name, PARAMETER, values, values.index(value)))
    return found


def _around(text: str) -> list[str]:
    """Values around one, in order, itself among them; nothing where it is no number and no truth."""
    if text in ("true", "false"):
        return ["false", "true"]
    found = _NUMBER.fullmatch(text)
    if found is None:
        return []
    value, unit = int(found[1]), found[2]
    if abs(value) <= _SMALL:
        near = list(range(0 if value >= 0 else value - 2, 2 * max(value, 0) + 5))
    else:
        near = sorted({value * part // 4 for part in (1, 2, 3, 4, 6, 8, 16)})
    kept = (number for number in near if abs(number) <= MAX_NUMBER)
    return [text if number == value else f"{number}{unit}" for number in kept]
