"""Pictures as PNG, drawn by matplotlib."""

from __future__ import annotations

import io

import numpy as np

from bslang.ir.grid import Grid
from bslang.missing import installed
from bslang.picture.colours import colour
from bslang.picture.picture import MOST_ENTRIES, NO_TERM, PANELS, Panel, Picture, Shares

_INCHES, _DPI = 4.0, 160


def png(picture: Picture, grid: Grid, title: str) -> bytes:
    """A PNG file with the panels side by side, axes that count blocks, and the legend below.

    The same picture gives the same file under one version of matplotlib. Raises
    MissingPackageError without matplotlib.
    """
    with installed():
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch
    count, legend = len(picture.panels), picture.legend[:MOST_ENTRIES]
    across, down = min(count, PANELS), -(-count // PANELS)
    size = (
        _INCHES * across + 0.5,
        (_INCHES + 0.3) * down + 0.2 * (len(legend) + len(picture.lines)) + 0.5,
    )
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    if picture.cells.many:
        title += f"\n{picture.scale}"
    figure.suptitle(_words(title), fontsize=10)
    for place, panel in enumerate(picture.panels):
        axes = figure.add_subplot(down, across, place + 1)
        bottom = grid.q.first + picture.cells.shape[0]
        axes.imshow(
            _pixels(picture, panel), interpolation="nearest", aspect="auto" if grid.n != grid.m else "equal",
            extent=(0, picture.cells.shape[1], bottom, grid.q.first),
        )  # fmt: skip
        axes.set_xlabel(f"block of {grid.k.block} keys")
        axes.set_ylabel(f"block of {grid.q.block} queries")
        for row, text in enumerate(picture.beside):
            where = picture.cells.shape[1], grid.q.first + (row + 0.5) * picture.cells.per_row
            axes.annotate(text, where, (3, 0), textcoords="offset points", fontsize=6, va="center")
        if count > 1:
            axes.set_title(f"head {panel.head}", fontsize=9)
    handles = [Patch(color=colour(i), label=_words(str(entry))) for i, entry in enumerate(legend)]
    handles += [Patch(alpha=0, label=_words(line)) for line in picture.lines]
    figure.legend(handles=handles, loc="outside lower center", fontsize=8, frameon=False)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _words(text: str) -> str:
    """Text that matplotlib prints as it is: a `$` would begin a formula."""
    return text.replace("$", r"\$")


def _pixels(picture: Picture, panel: Panel) -> Shares:
    """float64 (down, across, 3): the colours of the cells on white, the emptier the paler."""
    shown = panel.term != NO_TERM
    hues = [tuple(bytes.fromhex(colour(term)[1:])) for term in range(int(panel.term.max()) + 1)]
    hue = np.array([*hues, (255, 255, 255)], dtype=np.float64)[panel.term] / 255
    share = np.where(shown, 0.2 + 0.8 * picture.tone(panel), 0)[..., None]
    pixels: Shares = share * hue + (1 - share)
    return pixels
