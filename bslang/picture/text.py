"""Pictures in characters: plain, or as pieces of text with the colours that a terminal gives them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from bslang.picture.colours import colour, paled
from bslang.picture.picture import NO_TERM, Panel, Picture, level

Piece: TypeAlias = tuple[str, str]
"""Characters, and their colour: "" for none, "#rrggbb", or "#rrggbb on #rrggbb"."""

Line: TypeAlias = list[Piece]

PLAIN = ".-+*#"
SHADED = "·░▒▓█"
_LETTERS = "abcdefghijklmnopqrstuvwxyz?"
_GAP = 2
_LEAST = 8  # cells on a side of a panel, however small the window


@dataclass(frozen=True)
class Look:
    """How cells look.

    inks: a character for each level, empty to full; letters: whether that of its term stands in place
    of it; colours: whether terms have colours; halves: whether a character holds two cells, one above
    the other, rather than a cell two characters.
    """

    inks: str = PLAIN
    letters: bool = False
    colours: bool = False
    halves: bool = False

    @property
    def terms(self) -> bool:
        """Whether terms are told apart."""
        return self.letters or self.colours

    def of(self, term: int, level: int) -> Piece:
        """A cell of two characters."""
        ink = letter(term) if self.letters else self.inks[level]
        return ink * 2, colour(term) if self.colours and term != NO_TERM else ""


@dataclass(frozen=True)
class Room:
    """How panels share a window: `per_line` beside each other, `lines` x `columns` characters each."""

    per_line: int
    lines: int
    columns: int

    @classmethod
    def of(cls, panels: int, lines: int, columns: int) -> Room:
        """Room for so many panels, in so many lines of the window and columns of it."""
        most = max(1, min(panels, (columns + _GAP) // (2 * _LEAST + _GAP)))
        stacked = -(-panels // most)
        per_line = -(-panels // stacked)
        free = lines // stacked - (2 if panels > 1 else 0)  # a caption, and a line between
        wide = (columns - _GAP * (per_line - 1)) // per_line
        return cls(per_line, max(_LEAST, free), max(2 * _LEAST, wide))

    def cells(self, halves: bool) -> tuple[int, int]:
        """The most cells of a panel, down and across."""
        return (2 * self.lines, self.columns) if halves else (self.lines, self.columns // 2)


def draw(picture: Picture, look: Look, per_line: int = 1) -> list[Line]:
    """The panels, `per_line` beside each other, and what the cells mean."""
    lines: list[Line] = []
    several = len(picture.panels) > 1
    wide = picture.cells.across * (1 if look.halves else 2)
    column = max([wide, *(len(_caption(panel)) for panel in picture.panels if several)])
    between: Line = [(" " * (column - wide + _GAP), "")]
    for begin in range(0, len(picture.panels), per_line):
        panels = picture.panels[begin : begin + per_line]
        if several:
            captions = (_caption(panel).ljust(column + _GAP) for panel in panels)
            lines.append([("".join(captions).rstrip(), "")])
        drawn = [(_halves if look.halves else _rows)(picture, panel, look) for panel in panels]
        beside = _beside(picture, look)
        for row, text in zip(zip(*drawn, strict=True), beside, strict=True):
            cells = [piece for pieces in row for piece in between + pieces][1:]
            lines.append([*cells, (f" {text}", "")] if text else cells)
        lines.append([])
    return lines + list(_key(picture, look))


def _beside(picture: Picture, look: Look) -> list[str]:
    """What stands beside each line of cells."""
    beside = list(picture.beside) or [""] * picture.cells.down
    if not look.halves:
        return beside
    pairs = zip(beside[0::2], [*beside[1::2], ""], strict=False)
    return [upper or lower for upper, lower in pairs]


def _caption(panel: Panel) -> str:
    return f"head {panel.head}"


def plain(lines: list[Line]) -> str:
    """The lines without their colours."""
    return "\n".join("".join(text for text, _ in line) for line in lines)


def letter(term: int) -> str:
    """The letter of a term of the legend."""
    return "." if term == NO_TERM else _LETTERS[min(term, len(_LETTERS) - 1)]


def _rows(picture: Picture, panel: Panel, look: Look) -> list[Line]:
    levels = level(picture.tone(panel), len(look.inks) - 1)
    rows = zip(panel.term.tolist(), levels.tolist(), strict=True)
    return [[look.of(*cell) for cell in zip(*row, strict=True)] for row in rows]


def _halves(picture: Picture, panel: Panel, look: Look) -> list[Line]:
    """Two cells a character: a half block has the colour of the upper cell, its ground that of the lower."""
    rows = [
        ["" if term == NO_TERM else paled(term, share) for term, share in zip(*row, strict=True)]
        for row in zip(panel.term.tolist(), picture.tone(panel).tolist(), strict=True)
    ]
    if len(rows) % 2:
        rows.append([""] * len(rows[0]))
    return [
        [_half(*pair) for pair in zip(upper, lower, strict=True)]
        for upper, lower in zip(rows[0::2], rows[1::2], strict=True)
    ]


def _half(upper: str, lower: str) -> Piece:
    if not lower:
        return ("▀", upper) if upper else (" ", "")
    return ("▀", f"{upper} on {lower}") if upper else ("▄", lower)


def _key(picture: Picture, look: Look) -> Iterator[Line]:
    """What a cell is, and a line for each term."""
    if look.letters:
        yield [(f"{picture.scale}, .. empty", "")]
    elif look.halves:
        yield [(f"{picture.scale}; the fuller, the stronger its colour", "")]
    else:
        one = {0: "empty", 2: "partial", 4: "full"}
        group = {
            0: "empty",
            1: "",
            2: "",
            3: "fuller",
            4: "fullest" if picture.fullest < 1 else "full",
        }
        inks = group if picture.cells.many else one
        key = "  ".join(f"{look.inks[i] * 2} {meaning}".rstrip() for i, meaning in inks.items())
        yield [(f"{picture.scale}:  {key}", "")]
    if look.terms:
        full = len(look.inks) - 1
        for place, entry in enumerate(picture.legend):
            yield [look.of(place, full), (f" {entry}", "")]
    yield from ([(line, "")] for line in picture.lines)
