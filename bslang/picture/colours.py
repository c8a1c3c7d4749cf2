"""Colours of terms, that colour-blind readers tell apart, on light ground and on dark.

The hues are those of M. Okabe and K. Ito, "Color Universal Design" (2002, revised 2008), without black.
"""

from __future__ import annotations

PALETTE = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#f0e442")
_GREY = "#808080"  # as far from a light ground as from a dark one
_PALEST = 0.25


def colour(term: int) -> str:
    """The colour of a term of the legend, as #rrggbb; beyond the last, they begin again."""
    return PALETTE[term % len(PALETTE)]


def paled(term: int, tone: float) -> str:
    """The colour of a cell that is drawn with a tone of 0 to 1: the less, the more grey is in it."""
    share = _PALEST + (1 - _PALEST) * tone
    pairs = zip(_channels(colour(term)), _channels(_GREY), strict=True)
    return "#" + "".join(f"{round(share * full + (1 - share) * grey):02x}" for full, grey in pairs)


def _channels(hexadecimal: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(hexadecimal[1:]))
