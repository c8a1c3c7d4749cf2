"""Writing a spec: comments, definitions, and which layer has which."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bslang.syntax.format import formatted
from bslang.syntax.source import Source

_COLUMNS = 98
_RUNS = 16  # of layers in one condition; beyond it, comments alone say which layers they are


@dataclass(frozen=True)
class Definition:
    """`name(parameter) = body` under a comment; an empty body where there is no counterpart.

    parameter: with its default, as in `g = 1t`.
    """

    name: str
    body: str
    about: str
    parameter: str = ""

    def text(self) -> str:
        """The definition, or the comment alone where there is none."""
        parameters = f"({self.parameter})" if self.parameter else ""
        written = f"{self.name}{parameters} = {self.body}\n" if self.body else ""
        return comment(self.about) + written

    def call(self) -> str:
        """The definition where another uses it, which has the same parameter."""
        return f"{self.name}({self.parameter.partition(' ')[0]})" if self.parameter else self.name


def document(
    about: Iterable[str], definitions: Iterable[Definition], block: int | None = None
) -> str:
    """A whole spec. about: paragraphs of the comment at its beginning; block: in tokens."""
    head = "#\n".join(map(comment, about))
    setting = [] if block is None else [f"block {block}\n"]
    text = "\n".join([head, *setting, *(definition.text() for definition in definitions)])
    return formatted(Source("imported.bsl", text))


def comment(text: str) -> str:
    """A text as lines of a comment."""
    # Free text of a configuration, and of a file's name, stays on lines that begin with `#`.
    text = "".join(char if char.isprintable() else " " for char in text)
    # Names in code are not broken at their hyphens, nor are expressions at anything but blanks.
    lines = textwrap.wrap(text, _COLUMNS, break_on_hyphens=False, break_long_words=False)
    return "".join(f"# {line}\n" for line in lines)


def by_layer(model: str, layers: Sequence[Definition]) -> list[Definition]:
    """One definition for each distinct one of the layers, and one named `model` that picks by `layer`."""
    distinct: dict[Definition, list[int]] = {}
    for number, layer in enumerate(layers):
        distinct.setdefault(layer, []).append(number)
    if len(distinct) == 1:
        (only,) = distinct
        return [replace(only, name=model, about=f"All layers: {only.about}")]
    found = [
        replace(one, about=f"{_spoken(numbers)}: {one.about}") for one, numbers in distinct.items()
    ]
    picked = {
        one: _condition(numbers, len(layers)) for one, numbers in distinct.items() if one.body
    }
    if len(picked) > 1 and all(picked.values()):
        terms = (f"{one.call()} & {{i, j : {holds}}}" for one, holds in picked.items())
        about = (
            "All of them, by `layer`: `layout.at_layer(number)` in Python, `--layer` for `show`."
        )
        found.append(Definition(model, " | ".join(terms), about, next(iter(picked)).parameter))
    return found


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending numbers as runs [start, stop)."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number:
            runs[-1] = (runs[-1][0], number + 1)
        else:
            runs.append((number, number + 1))
    return runs


def _spoken(numbers: Sequence[int]) -> str:
    runs = _runs(numbers)
    spoken = ", ".join(str(a) if b == a + 1 else f"{a}-{b - 1}" for a, b in runs)
    return f"Layer {spoken}" if len(numbers) == 1 else f"Layers {spoken}"


def _period(numbers: Sequence[int], count: int) -> str:
    """The condition of layers that come round: one of every so many, or all others; "" for none."""
    have = set(numbers)
    for period in range(2, count // 2 + 1):
        rests = {number % period for number in have}
        if have != {number for number in range(count) if number % period in rests}:
            continue
        if len(rests) == 1:
            return f"layer % {period} == {rests.pop()}"
        if len(rests) == period - 1:
            (other,) = set(range(period)) - rests
            return f"layer % {period} != {other}"
    return ""


def _condition(numbers: Sequence[int], count: int) -> str:
    """A predicate of `layer` that holds for these of `count` layers; "" where it would be long."""

    def within(start: int, stop: int) -> str:
        if stop == start + 1:
            return f"layer == {start}"
        if start == 0:
            return f"layer < {stop}"
        return f"layer >= {start}" if stop == count else f"{start} <= layer < {stop}"

    runs = _runs(numbers)
    listed = "" if len(runs) > _RUNS else " | ".join(within(*run) for run in runs)
    return _period(numbers, count) or listed
