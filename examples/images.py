"""Classify images pixel by pixel: attention to neighbouring tiles, along both axes, and dense.

The images are pieces of 32 x 32 pixels of three photographs of 512 x 512: a brick pavement, grass, and
gravel, as the package scikit-image ships them (CC0, as `skimage.data` says of each). What is to be told
is which a piece is of; the rightmost 160 columns of each are held out. Every pixel is a token: 1,024 of
them, ordered by tiles of 4 x 4, so that a block of the layout is a tile. A pixel is embedded by a
convolution of the 5 x 5 pixels around it, and learned embeddings of its row and its column; what lies
further away comes in by attention. The layouts are those of examples/images.bsl.

    python examples/images.py
    python examples/images.py --quick
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from common import (
    HERE,
    Attention,
    Contestant,
    Task,
    Transformer,
    arguments,
    compete,
    console,
    package_file,
    plot,
    report,
)
from torch import Tensor, nn

import bslang

QUICK = {"steps": 20, "batch": 6, "dim": 16, "layers": 1, "heads": 2}
SIDE, TILE = 32, 4
LENGTH = SIDE * SIDE
TEXTURES = "brick", "grass", "gravel"
HELD_OUT = 5 * SIDE  # columns

Batch = tuple[Tensor, Tensor]  # images (batch, 32, 32) and places in TEXTURES (batch,)


def photographs() -> Tensor:
    """fp32 (3, 512, 512), from 0 to 1."""
    files = [package_file("skimage", f"data/{name}.png") for name in TEXTURES]
    from matplotlib.image import imread

    return torch.stack([torch.from_numpy(imread(file)) for file in files])


def even(pieces: Tensor) -> Tensor:
    """Pieces (..., 32, 32) of mean 0 and deviation 1 each: how bright one is says nothing."""
    pieces = pieces - pieces.mean((-2, -1), keepdim=True)
    return pieces / pieces.std((-2, -1), keepdim=True)


def some(pictures: Tensor, count: int, random: torch.Generator) -> Batch:
    """Pieces from random places of the pictures (3, height, width), about as many of each."""
    of = torch.arange(count) % len(pictures)
    high, wide = (size - SIDE + 1 for size in pictures.shape[1:])
    tops = torch.randint(high, (count,), generator=random)
    lefts = torch.randint(wide, (count,), generator=random)
    places = zip(of, tops, lefts, strict=True)
    return even(torch.stack([pictures[i, y : y + SIDE, x : x + SIDE] for i, y, x in places])), of


def all_of(pictures: Tensor) -> list[Batch]:
    """Every piece of the pictures, none over another: a batch for each row of them."""
    pieces = pictures.unfold(1, SIDE, SIDE).unfold(2, SIDE, SIDE)  # (3, rows, columns, 32, 32)
    of = torch.arange(len(pictures)).repeat_interleave(pieces.shape[2])
    return [(even(row.flatten(0, 1)), of) for row in pieces.unbind(1)]


def by_tiles(pixels: Tensor) -> Tensor:
    """(..., 32, 32) to (..., 1024), tile by tile; both are row-major, and so is a tile."""
    tiles = SIDE // TILE
    parts = pixels.view(*pixels.shape[:-2], tiles, TILE, tiles, TILE)
    return parts.transpose(-3, -2).flatten(-4)


class Pixels(nn.Module):
    """Embeds the surroundings of each pixel, its row and its column."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.near = nn.Conv2d(1, dim, kernel_size=5, padding=2)
        self.row, self.column = nn.Embedding(SIDE, dim), nn.Embedding(SIDE, dim)
        for embedding in (self.row, self.column):
            nn.init.normal_(embedding.weight, std=0.1)  # else they drown what is in the image
        self.register_buffer(
            "place", by_tiles(torch.arange(LENGTH).view(SIDE, SIDE)), persistent=False
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """(batch, 32, 32) to (batch, 1024, dim), in the order of tiles."""
        where = self.row(self.place // SIDE) + self.column(self.place % SIDE)
        return by_tiles(self.near(pixels[:, None])).transpose(1, 2) + where


def logits(model: nn.Module, batch: Batch) -> Tensor:
    """(batch, 3): what the pixels say, on average."""
    return model(batch[0]).mean(1)


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean loss in nats an image."""
    return F.cross_entropy(logits(model, batch), batch[1])


def accuracy(model: nn.Module, batch: Batch) -> float:
    return float((logits(model, batch).argmax(1) == batch[1]).float().mean())


def main() -> None:
    """Read, train three times, compare."""
    options = arguments(__doc__, QUICK, steps=120, batch=8, dim=32, layers=2, heads=4, lr=3e-3)
    pictures = photographs()
    train, held_out = pictures[..., :-HELD_OUT], all_of(pictures[..., -HELD_OUT:])
    tested = sum(len(of) for _, of in held_out)
    console.print(
        f"data: {', '.join(TEXTURES)}, three photographs (package scikit-image; CC0 licence)\n"
    )

    def model(attention: Attention) -> nn.Module:
        unrotated = torch.zeros(LENGTH)  # a pixel's place is in its embedding
        embed = Pixels(options.dim)
        return Transformer(attention, embed, len(TEXTURES), options, unrotated, near=(0, 0))

    def batch(random: torch.Generator) -> Batch:
        return some(train, options.batch, random)

    task = Task(model, loss, batch, held_out, accuracy)
    contestants = [
        Contestant.sparse(name, bslang.load(f"{HERE / 'images.bsl'}:{name}"), LENGTH, options.heads)
        for name in ("neighbours", "axial")
    ]
    runs = compete(task, [*contestants, Contestant.dense(LENGTH, 16, causal=False)], options)
    report(runs, f"loss in nats an image, accuracy on {tested} images not trained on")
    plot(runs, f"textures, {LENGTH:,} pixels", "nats an image", Path(options.output, "images.png"))


if __name__ == "__main__":
    main()
