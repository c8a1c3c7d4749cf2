"""Draw the icon of the VS Code extension: BigBird, as the compiler's own pictures show it.

    python editors/generate_icon.py

A test fails where the file is not what this draws.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

from bslang import compiler
from bslang.picture.colours import colour
from bslang.picture.picture import NO_TERM, Picture
from bslang.syntax.source import Source

FILE = Path(__file__).resolve().parent / "vscode" / "icon.png"
SPEC = "window(3) | global(0) | random(1, seed=3)"
SIDE = 128  # pixels
BLOCKS, CELL, GAP = 9, 14, 2
GROUND = (0x16, 0x18, 0x1D)
EMPTY = (0x2E, 0x32, 0x3B)


def pixels() -> np.ndarray:
    """uint8 (128, 128, 3)."""
    resolved = compiler.resolve(Source("icon", SPEC))
    graph = compiler.lower(resolved, *[BLOCKS * resolved.block[0]] * 2)
    (panel,) = Picture.of([graph], BLOCKS, BLOCKS, resolved.pattern).panels
    drawn = np.empty((SIDE, SIDE, 3), dtype=np.uint8)
    drawn[:] = GROUND
    margin = (SIDE - BLOCKS * CELL + GAP) // 2
    for (row, column), term in np.ndenumerate(panel.term):
        top, left = margin + row * CELL, margin + column * CELL
        fill = EMPTY if term == NO_TERM else tuple(bytes.fromhex(colour(int(term))[1:]))
        drawn[top : top + CELL - GAP, left : left + CELL - GAP] = fill
    return drawn


def png(image: np.ndarray) -> bytes:
    """A PNG file of an image, uint8 (height, width, 3)."""
    height, width, _ = image.shape
    rows = b"".join(b"\0" + row.tobytes() for row in image)  # no filter
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


if __name__ == "__main__":
    FILE.write_bytes(png(pixels()))
    print(FILE)
