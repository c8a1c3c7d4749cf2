"""What the server knows: the subjects as their files are now, and the answers to a page.

One thread at a time asks the compiler, which may take seconds; each request has a budget of its own.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bslang.budget import allow, limited
from bslang.errors import BslangError
from bslang.explorer.axes import LENGTH
from bslang.explorer.data import Data, data
from bslang.explorer.masks import within
from bslang.explorer.reasons import reasons
from bslang.explorer.said import diagnostic, message
from bslang.explorer.subject import Setting, Subject, natural, or_errors
from bslang.explorer.watch import Stamps, stamps
from bslang.limits import MAX_LENGTH, MAX_PAGE_ROWS
from bslang.syntax.diagnostics import SpecError

_LONG = (
    2**18
)  # tokens up to which a longer sequence may cost more, as in commands: a page does not wait
_DRAFTS = 4  # texts of a reader whose subjects are kept


def _view(subject: Subject, setting: Setting, asked: Asked) -> Data:
    return subject.view(setting)


def _tile(subject: Subject, setting: Setting, asked: Asked) -> Data:
    level, down, across = (
        natural(name, asked.text(name), 0, most)
        for name, most in (("level", 20), ("down", MAX_PAGE_ROWS), ("across", MAX_PAGE_ROWS))
    )
    return {"cells": subject.drawn(setting).cells(level, down, across)}


def _masks(subject: Subject, setting: Setting, asked: Asked) -> Data:
    top, bottom, left, right = (
        natural(name, asked.text(name), 0, MAX_PAGE_ROWS)
        for name in ("top", "bottom", "left", "right")
    )
    return within(subject.drawn(setting), (top, bottom), (left, right))


def _why(subject: Subject, setting: Setting, asked: Asked) -> Data:
    query, key = (natural(name, asked.text(name), 0, MAX_LENGTH) for name in ("query", "key"))
    return reasons(subject.drawn(setting), query, key)


def _layout(subject: Subject, setting: Setting, asked: Asked) -> Data:
    found: Data = data([subject], served=True)["layouts"][0]
    return found


QUESTIONS = {"view": _view, "tile": _tile, "masks": _masks, "why": _why, "layout": _layout}
"""What a page asks of a layout: the view of a setting, a tile of cells, masks, reasons, and a layout anew."""


class Asked:
    """What a page sent: a question's values by name. Raises ValueError for anything else."""

    def __init__(self, values: object) -> None:
        if not isinstance(values, Mapping):
            raise ValueError("a question is a JSON object")
        self.values = values

    def text(self, name: str) -> str:
        """A text or number, as text; "" where there is none."""
        value = self.values.get(name, "")
        return value if isinstance(value, str) else str(value) if type(value) is int else ""

    @property
    def setting(self) -> Setting:
        """A value for each axis, by its name."""
        found = self.values.get("setting", {})
        if isinstance(found, Mapping) and all(isinstance(text, str) for text in found.values()):
            return dict(found)
        raise ValueError("a setting has a text for each axis")


class Compiling:
    """The subjects as their files are now, and as a reader edits them in the page.

    Nobody waits for the compiler who does not need its answer.
    """

    def __init__(self, read: Callable[[], Sequence[Subject]], paths: Sequence[Path]) -> None:
        """read: reads the subjects anew; paths: their files."""
        self._read, self._paths = read, paths
        self._working = threading.Lock()  # held while the compiler is asked
        self._state = threading.Lock()  # held while what follows is read or set, and no longer
        self._seen: Stamps = {}
        self._subjects: Sequence[Subject] = ()
        self._data: Data = {}
        self._drafts: dict[tuple[Subject, str], Subject] = {}
        self.version = 0

    def refresh(self, wait: bool = False) -> int:
        """Compile again if a file has changed since; the number of times that this was done.

        wait: for a compiler that is busy; else it is asked the next time.
        """
        first = self.version == 0
        if (first or self._changed()) and self._working.acquire(blocking=wait or first):
            try:
                now = stamps(self._paths)
                if now != self._seen or self.version == 0:  # it was not done meanwhile
                    made, subjects = self._compiled()
                    with self._state:
                        self._seen, self._data, self._subjects = now, made, subjects
                        self.version += 1
            finally:
                self._working.release()
        return self.version

    def _changed(self) -> bool:
        now = stamps(self._paths)
        with self._state:
            return now != self._seen

    def data(self) -> Data:
        """What the page is filled with, or `errors` where a spec has any."""
        self.refresh(wait=True)
        with self._state:
            return self._data | {"version": self.version}

    def answer(self, question: str, values: object) -> Data:
        """What a page asks of the last specs without errors, or under `errors` why there is no answer.

        question: one of QUESTIONS. values: by name, with the place of its `layout`; `text`, where a
        reader has edited the spec, stands for that of the file.
        """

        self.refresh()

        def answered() -> Data:
            asked = Asked(values)
            with self._state:
                subjects = self._subjects
            place = asked.text("layout")
            if place not in map(str, range(len(subjects))):
                raise ValueError("there is no such layout here")
            with self._working, limited(anew=True):
                length = asked.setting.get(LENGTH, "")
                allow(min(_LONG, int(length)) if re.fullmatch("[0-9]{1,10}", length) else 0)
                subject = self._edited(subjects[int(place)], asked.values.get("text"))
                return QUESTIONS[question](subject, asked.setting, asked)

        return or_errors(answered)

    def _edited(self, subject: Subject, text: object) -> Subject:
        """A subject with a reader's text, if there is one; the last ones are kept."""
        if not isinstance(text, str) or text == subject.source.text:
            return subject
        key = (subject, text)
        found = self._drafts.pop(key, None) or subject.with_text(text)
        self._drafts[key] = found
        if len(self._drafts) > _DRAFTS:
            del self._drafts[next(iter(self._drafts))]
        return found

    def _compiled(self) -> tuple[Data, Sequence[Subject]]:
        """What the page is filled with, and the subjects: the ones before, where a spec has errors."""
        subjects: Sequence[Subject] = ()
        try:
            with limited(anew=True):
                subjects = self._read()
                allow(min(_LONG, max((n for each in subjects for n in each.lengths), default=0)))
                return data(subjects, served=True), subjects
        except SpecError as error:
            found = [diagnostic(d) for d in error.diagnostics]
            sources = {d.source.name: d.source.text for d in error.diagnostics}
        except BslangError as error:
            found = [message(str(error))]
            sources = {s.source.name: s.source.text for s in subjects}
        named = [{"name": name, "text": text} for name, text in sources.items()]
        title = " and ".join(str(path) for path in self._paths)
        empty = {"title": title, "served": True, "layouts": [], "left_out": [], "palette": []}
        return empty | {"errors": found, "sources": named}, self._subjects
