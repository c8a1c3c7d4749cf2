"""A spec as an editor has it: text that may be wrong anywhere, and what the compiler knows of it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from bslang.budget import limited
from bslang.editors.names import Names, Occurrence, Symbol
from bslang.resolve.module import Module, load
from bslang.resolve.program import Program
from bslang.syntax import tree
from bslang.syntax.diagnostics import Diagnostic, Findings, SpecError
from bslang.syntax.reader import read
from bslang.syntax.source import Source


class Document:
    """One version of a spec's text. All of it is computed when it is first asked for, and kept.

    The files that it imports are read from the disk.
    """

    def __init__(self, source: Source) -> None:
        self.source = source

    @classmethod
    def of(cls, text: str, path: Path | None = None) -> Document:
        """The document of a text, with any line ends; path: where it is saved, or will be."""
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        if path is None:
            return cls(Source("<spec>", text))
        return cls(Source(path.name, text, path.resolve().parent))

    @property
    def file(self) -> tree.File | None:
        """The syntax tree; None where the text is too large, or has too many mistakes."""
        return self._read[0]

    @cached_property
    def _read(self) -> tuple[tree.File | None, tuple[Diagnostic, ...]]:
        try:
            with limited(anew=True):
                return read(self.source), ()
        except SpecError as error:
            return None, error.diagnostics

    @cached_property
    def names(self) -> Names | None:
        """What the file defines and imports; None where too much of it is wrong."""
        if self.file is None:
            return None
        try:
            with limited(anew=True):
                return Names(self.file, load(self.file, Findings()))
        except SpecError:
            return None

    @property
    def module(self) -> Module:
        """The file's definitions and imports; empty where too much is wrong."""
        return self.names.module if self.names else Module(self.source)

    @cached_property
    def occurrences(self) -> tuple[Occurrence, ...]:
        """Every name of the file that stands for something."""
        return tuple(self.names.occurrences()) if self.names else ()

    def at(self, offset: int) -> Occurrence | None:
        """The name at an offset, or that ends there."""
        near = [o for o in self.occurrences if o.span.start <= offset <= o.span.stop]
        return max(near, key=lambda o: o.span.start, default=None)

    def uses(self, symbol: Symbol) -> list[Occurrence]:
        """Where the file names a symbol, its declaration included."""
        return [o for o in self.occurrences if o.symbol == symbol]

    @property
    def program(self) -> Program | None:
        """The checked file; None where it has errors."""
        return self._checked[0]

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """All errors of the file, and of those that it imports."""
        return self._checked[1]

    @cached_property
    def _checked(self) -> tuple[Program | None, tuple[Diagnostic, ...]]:
        if self.file is None:
            return None, self._read[1]
        try:
            with limited(anew=True):
                return Program(self.file), ()
        except SpecError as error:
            return None, error.diagnostics

    def statement(self, offset: int) -> tree.Statement | None:
        """The statement that an offset lies in."""
        for statement in self.file.statements if self.file else ():
            if statement.span.start <= offset <= statement.span.stop:
                return statement
        return None
