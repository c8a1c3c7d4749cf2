"""All that a page knows: its subjects, each with the views of as many settings as fit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Any

from bslang.budget import share
from bslang.errors import LimitError
from bslang.explorer import axes
from bslang.explorer.axes import Axis
from bslang.explorer.subject import Subject
from bslang.explorer.view import AHEAD, DIM, View
from bslang.limits import MAX_PAGE_BYTES
from bslang.picture.colours import PALETTE

MOST_SETTINGS = 600
"""Settings of a subject that are lowered ahead of time."""

_PART = 0.7  # the part of a budget that all settings but the first may take
_MASKS = 0.25  # the part of a page that token masks may take

_PER_AXIS = (9, 7, 5, 3)
_FIXED = 200_000  # bytes of a page without views and sources, at most

Data = dict[str, Any]


def dump(value: object) -> str:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"))


@dataclass
class Views:
    """The views of a subject by the values of its axes, equal ones held once.

    pooled: whether `masks` has the token masks of all views, each once, and views have places among these.
    """

    pooled: bool = True
    keys: dict[str, int] = field(default_factory=dict)
    texts: dict[str, int] = field(default_factory=dict)
    views: list[View] = field(default_factory=list)
    masks: dict[str, int] = field(default_factory=dict)
    size: int = 0
    of_masks: int = 0

    def add(self, setting: Sequence[str], view: View, room: int) -> bool:
        """Hold a view, unless it needs more than `room` bytes; its masks only as far as a part of it goes."""
        view = self._with_masks(view, round(_MASKS * room))
        key, text = "|".join(setting), dump(view)
        size = len(key) + 12 + (0 if text in self.texts else len(text))
        if self.size + size > room:
            return False
        if text not in self.texts:
            self.texts[text] = len(self.views)
            self.views.append(view)
        self.keys[key] = self.texts[text]
        self.size += size
        return True

    def _with_masks(self, view: View, room: int) -> View:
        if not self.pooled or not view.get("masks"):
            return view
        bits = [dump(mask) for mask in view["masks"]["bits"]]
        new = [text for text in bits if text not in self.masks]
        of = list(view["masks"]["of"])
        if self.of_masks + sum(map(len, new)) + len(dump(of)) > room:
            return view | {"masks": None}
        for text in new:
            self.masks[text] = len(self.masks)
        places = [self.masks[text] for text in bits]
        of[::2] = [place if place < 0 else places[place] for place in of[::2]]
        self.of_masks += sum(map(len, new)) + len(dump(of))
        self.size += sum(len(text) + 1 for text in new)
        return view | {"masks": {"of": of}}


def data(subjects: Sequence[Subject], *, served: bool = False) -> Data:
    """What the page is filled with, as plain values for JSON; the same subjects give the same.

    served: whether a server answers for further settings, so that only the first of each is here.
    Raises as `Subject.view` of the first setting; LimitError where that alone makes the page too large.
    """
    left_out: list[str] = []
    layouts = []
    sources = sum(len(dump(subject.source.text)) for subject in subjects)
    room = (MAX_PAGE_BYTES - _FIXED - sources) // len(subjects)
    for subject in subjects:
        chosen = subject.axes if served else _fitting(subject, left_out)
        views = _views(subject, chosen, room, left_out, only_first=served)
        layouts.append({
            "label": subject.label,
            "name": subject.resolved.name,
            "axes": [vars(axis) for axis in chosen],
            "keys": views.keys,
            "views": views.views,
            "masks": [json.loads(text) for text in views.masks],
            "source": {"name": subject.source.name, "text": subject.source.text},
            "diagnostics": subject.diagnostics(),
        })  # fmt: skip
    return {
        "title": " and ".join(subject.label for subject in subjects),
        "served": served,
        "dim": DIM,
        "palette": PALETTE,
        "left_out": left_out,
        "layouts": layouts,
    }


def _fitting(subject: Subject, left_out: list[str]) -> list[Axis]:
    """The axes with so few values that no more than MOST_SETTINGS are combined; says what is missing."""
    left_out += [f"{more} of {subject.label}" for more in axes.beyond(subject.resolved.pattern)]
    chosen = list(subject.axes)
    fixed = [axis for axis in chosen if axis.kind != axes.PARAMETER]
    varied = [axis for axis in chosen if axis.kind == axes.PARAMETER]
    while True:
        for most in _PER_AXIS:
            chosen = [*fixed, *(axis.thinned(most) for axis in varied)]
            if prod(len(axis.values) for axis in chosen) <= MOST_SETTINGS:
                return chosen
        if not varied:
            return [axis.thinned(3) for axis in fixed]
        last = varied.pop()
        stays = f"`{last.name}` of {subject.label} stays {last.values[last.start]}"
        left_out.append(f"{stays}: more than {MOST_SETTINGS} settings would have to be lowered")


def _views(
    subject: Subject, chosen: Sequence[Axis], room: int, left_out: list[str], *, only_first: bool
) -> Views:
    found = Views(pooled=not only_first)
    settings = list(_nearest_first(chosen))
    further = share(_PART)
    for place, setting in enumerate(settings[:1] if only_first else settings):
        named = dict(zip((axis.name for axis in chosen), setting, strict=True))
        if place == 0:  # what there is to begin with must mean something
            view = subject.view(named)
        else:  # elsewhere the page says why it does not
            with further.opened():
                view = subject.view_or_errors(named, AHEAD)
        if not further.exhausted and found.add(setting, view, room):
            continue
        if place == 0:
            raise LimitError("MAX_PAGE_BYTES", MAX_PAGE_BYTES, f"the picture of {subject.label}")
        missing = f"{len(settings) - place:,} of {len(settings):,} settings of {subject.label}"
        why = f"the page would pass {MAX_PAGE_BYTES:,} bytes (MAX_PAGE_BYTES)"
        if further.exhausted:
            why = f"they take too long (over {further.allowed:,} steps); --serve computes them on request"
        left_out.append(f"{missing}: {why}")
        break
    return found


def _nearest_first(chosen: Sequence[Axis]) -> Iterator[tuple[str, ...]]:
    """Every combination of values, those that are nearest to the first one first."""
    places = product(*(range(len(axis.values)) for axis in chosen))

    def distance(place: tuple[int, ...]) -> tuple[int, int]:
        steps = [abs(here - axis.start) for here, axis in zip(place, chosen, strict=True)]
        return sum(step > 0 for step in steps), sum(steps)

    for place in sorted(places, key=distance):
        yield tuple(axis.values[here] for here, axis in zip(place, chosen, strict=True))
